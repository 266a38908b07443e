"""What is known of a public code's checkpoints, and reading one of them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from icre.utils.errors import UserError
from icre.utils.tensor_file import read_tensor_file

State = Mapping[str, Tensor]

# Test images as every one of these codes has them; SIZE_TEST and INTERPOLATION are each one's own.
COMMON = {
    "MODEL.META_ARCHITECTURE": "ICRE",
    "MODEL.BACKBONE.DEPTH": "50x",
    "MODEL.BACKBONE.FEAT_DIM": "2048",
    "MODEL.BACKBONE.LAST_STRIDE": "1",
    "MODEL.BACKBONE.POOL_PADDING": "1",
    "MODEL.BACKBONE.PRETRAIN": "False",
    "MODEL.MPFR.ENABLED": "False",
    "MODEL.SDCE.ENABLED": "False",
    "MODEL.HEADS.NAME": "ICREHead",
    "MODEL.HEADS.WITH_BNNECK": "True",
    "MODEL.LOSSES.NAME": "('CrossEntropyLoss',)",
    "MODEL.PIXEL_MEAN": str([255 * mean for mean in (0.485, 0.456, 0.406)]),
    "MODEL.PIXEL_STD": str([255 * std for std in (0.229, 0.224, 0.225)]),
    "TEST.IMS_PER_BATCH": "64",
}


@dataclass(frozen=True)
class Source:
    """A public code.

    Attributes:
        name: as `--source` takes it.
        title: paper and repository.
        entry: of the file that holds the weights; "": the file is the weights.
        classifier: name of the classifier's weight, (identities, features).
        required: a weight that tells this code's network from the others'.
        options: weights -> config key: value, of the network that they are of.
        rename: (weights, name) -> our name; None for what no feature depends on.
    """

    name: str
    title: str
    entry: str
    classifier: str
    required: str
    options: Callable[[State], dict[str, str]]
    rename: Callable[[State, str], str | None]


def read_public(path: str | Path, source: Source) -> tuple[list[str], dict[str, Tensor]]:
    """Read what a public code's training wrote.

    Args:
        path: of the file.
        source: whose it is.

    Returns:
        KEY VALUE words of a config, and the weights by the names of its model.

    Raises:
        UserError: no such file, damaged, holds code, or is of another network; names the file.
    """
    if not Path(path).is_file():
        raise UserError(f"checkpoint {path} is missing: name a file of {source.title}")
    try:
        content = read_tensor_file(path, skip_numpy=True)
    except ValueError as error:
        raise UserError(f"checkpoint {path} cannot be read as plain tensors: {error}") from None
    state = _weights(content, source, path)
    renamed: dict[str, Tensor] = {}
    try:
        options = source.options(state)
        if source.classifier in state:
            options["MODEL.HEADS.NUM_CLASSES"] = str(len(state[source.classifier]))
        for name, value in state.items():
            ours = source.rename(state, name)
            if ours is not None:
                renamed[ours] = value
    except (TypeError, ValueError, LookupError):  # names or shapes that its network cannot have
        raise UserError(
            f"checkpoint {path} has other weights than the network of {source.title}; choose "
            "another --source"
        ) from None
    return [word for pair in options.items() for word in pair], renamed


def _weights(content: object, source: Source, path: str | Path) -> dict[str, Tensor]:
    """The file's weights, without the prefix of a model inside DataParallel."""
    state = content
    if isinstance(content, dict) and source.entry:
        state = content.get(source.entry)
    is_state = isinstance(state, dict) and all(isinstance(one, Tensor) for one in state.values())
    if not (is_state and isinstance(state, dict)):
        where = f"no entry {source.entry!r} of tensors" if source.entry else "more than tensors"
        raise UserError(f"checkpoint {path} holds {where}: it is none that {source.title} writes")
    state = {str(name).removeprefix("module."): value for name, value in state.items()}
    if source.required not in state:
        raise UserError(
            f"checkpoint {path} has no weight {source.required}: its network is not that of "
            f"{source.title}; choose another --source"
        )
    return state


def renamer(patterns: Mapping[str, str]) -> Callable[[str], str | None]:
    """A function from their names to ours.

    Args:
        patterns: regular expression of a whole name -> ours, with its groups as \\1, \\2.

    Returns:
        name -> our name by the first pattern that fits; None if none does.
    """
    compiled = [(re.compile(pattern), ours) for pattern, ours in patterns.items()]

    def rename(name: str) -> str | None:
        for pattern, ours in compiled:
            found = pattern.fullmatch(name)
            if found:
                return found.expand(ours)
        return None

    return rename


def head(neck: str) -> dict[str, str]:
    """Patterns of a BNNeck and a classifier, for `renamer`."""
    return {rf"{neck}\.(.+)": r"heads.bottleneck.0.\1", r"classifier\.weight": "heads.weight"}


HEAD = head("bottleneck")
# Each of the three ResNets in a file of AGW's family is whole; this is what is used of them.
TWO_STREAMS = {
    r"visible_module\.visible\.((?:conv1|bn1)\..+)": r"backbone.stems.visible.\1",
    r"thermal_module\.thermal\.((?:conv1|bn1)\..+)": r"backbone.stems.infrared.\1",
    r"base_resnet\.base\.(layer[1-4]\..+)": r"backbone.stages.\1",
}
