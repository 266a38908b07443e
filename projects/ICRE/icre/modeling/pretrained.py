"""Find and load a backbone's pretrained weights: fast-reid's keys, files and addresses.

fast-reid's own loaders (fastreid/modeling/backbones/*.py) let a file pass that fits in part or not
at all. Here one rule holds for every backbone: a file that `MODEL.BACKBONE.PRETRAIN_PATH` names,
and fast-reid's files for its ResNet, must hold every entry of the backbone.
"""

import functools
import logging
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import icre.compat  # noqa: F401
from icre.compat import registered

from fastreid.config import CfgNode
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.backbones.resnet import model_urls
from fastreid.utils import comm

from icre.utils.errors import UserError
from icre.utils.tensor_file import read_tensor_file

logger = logging.getLogger("fastreid.icre")

KEY = "MODEL.BACKBONE.PRETRAIN_PATH"
RESNET = "build_resnet_backbone"
# Its loader resizes the position embedding of a file to the size of the images.
OWN_LOADER = ("build_vit_backbone",)
WRAPPERS = ("state_dict", "model", "net", "network", "model_state_dict", "model_state", "backbone")
NON_LOCAL = "NL_"  # no published file holds non-local blocks; they start as identities


def pretrained_file(cfg: CfgNode) -> Path:
    """Path of the weights that `cfg` asks for, downloaded first where they are not yet kept.

    Without `MODEL.BACKBONE.PRETRAIN_PATH` it is fast-reid's file for the backbone's depth and
    blocks, kept in `$TORCH_HOME/checkpoints` (`~/.cache/torch/checkpoints`).

    Raises:
        UserError: no such file and no way to download it, or fast-reid knows no weights for this
            kind of backbone.
    """
    node = cfg.MODEL.BACKBONE
    if node.PRETRAIN_PATH:
        path = Path(node.PRETRAIN_PATH).expanduser()
        if not path.is_file():
            raise UserError(f"{KEY}: no file {path}; correct the path or leave it empty")
        return path
    kind = "se_" * node.WITH_SE + "ibn_" * node.WITH_IBN + node.DEPTH
    if kind not in model_urls:
        raise UserError(
            f"{KEY} is empty and fast-reid has no weights for '{kind}'; it has "
            f"{', '.join(model_urls)}"
        )
    return _downloaded(model_urls[kind])


def _downloaded(url: str) -> Path:
    """Path of the kept copy of `url`; the main process downloads it where it is missing."""
    cache = os.getenv("XDG_CACHE_HOME", "~/.cache")
    home = Path(os.getenv("TORCH_HOME", f"{cache}/torch")).expanduser()
    path = home / "checkpoints" / url.rsplit("/", 1)[-1]
    failure = "another process could not download it"
    if not path.is_file() and comm.is_main_process():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path))
        except OSError as error:
            failure = str(error)
    comm.synchronize()
    if not path.is_file():
        raise UserError(
            f"no pretrained weights at {path} and {url} cannot be downloaded ({failure}); "
            f"put the file there, name it in {KEY}, or set MODEL.BACKBONE.PRETRAIN False"
        )
    return path


def load_pretrained(
    backbone: nn.Module, path: Path, size_key: str = "MODEL.BACKBONE.DEPTH"
) -> None:
    """Load the state dict in `path` into `backbone`, whole or not at all; one line says what.

    The state dict may lie in an entry such as `state_dict` or `model`, and its names may have a
    common prefix such as `module.` or `backbone.`; entries beside the backbone's are not used.

    Raises:
        UserError: the file is no plain state dict, or lacks entries of the backbone other than
            non-local blocks.
    """
    try:
        content = read_tensor_file(path)
    except ValueError as error:
        raise UserError(
            f"{KEY}: {path} is broken, or not a plain state dict of tensors ({error})"
        ) from None
    own = backbone.state_dict()
    state, prefix, unused = _find_entries(content, own, path)
    required = [name for name in own if not name.endswith(".num_batches_tracked")]
    missing = [name for name in required if name not in state]
    initial = [name for name in missing if name.startswith(NON_LOCAL)]
    layers = {name.split(".", 1)[0] for name in own}
    # entries of the backbone's own layers that it has no place for: a deeper or another network
    foreign = [
        name
        for name in unused
        if name.startswith(prefix)
        and name.removeprefix(prefix).split(".", 1)[0] in layers
        and not name.endswith(".num_batches_tracked")
    ]
    lacking = [name for name in missing if name not in initial]
    _refuse_other_network(own, state, lacking, foreign, path, size_key)
    backbone.load_state_dict(state, strict=False)
    logger.info(
        "Loaded pretrained weights: %d of the backbone's %d entries from %s%s; at their initial "
        "values: %s; not used: %s",
        len(required) - len(missing),
        len(required),
        path,
        f" (names begin with {prefix!r})" if prefix else "",
        _few(initial),
        _few(unused),
    )


def _find_entries(
    content: Any, own: dict[str, Tensor], path: Path
) -> tuple[dict[str, Tensor], str, list[str]]:
    """The backbone's entries of a file by the backbone's names, their prefix, other names."""
    state = _unwrap(content)
    if not state:
        raise UserError(f"{KEY}: {path} holds no state dict: neither at its top nor in an entry")
    found: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        for first in range(len(parts)):
            if ".".join(parts[first:]) in own:
                found["".join(f"{part}." for part in parts[:first])] += 1
    most = max(found.values(), default=0)
    prefixes = sorted((name for name in found if found[name] == most), key=len)
    prefix = prefixes[0] if prefixes else ""
    if most > len(own) // 2 and len(prefixes) > 1:
        raise UserError(
            f"{KEY}: {path} holds several networks, under {prefixes[0]!r} and {prefixes[1]!r}: "
            "keep the one that is meant"
        )
    inside = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
    entries = {name: value for name, value in inside.items() if name in own}
    return entries, prefix, [name for name in state if name.removeprefix(prefix) not in entries]


def _unwrap(content: Any) -> dict[str, Tensor]:
    """The tensors by name in a file's content, or in the entry of it that holds them."""
    for _ in range(4):
        if not isinstance(content, dict):
            return {}
        tensors = {
            name: value
            for name, value in content.items()
            if isinstance(name, str) and isinstance(value, Tensor)
        }
        inner = {name: value for name, value in content.items() if isinstance(value, dict)}
        named = [name for name in WRAPPERS if name in inner]
        if tensors and not named:
            return tensors
        named = named or list(inner)
        content = inner[named[0]] if named else None
    return {}


def _refuse_other_network(
    own: dict[str, Tensor],
    state: dict[str, Tensor],
    missing: list[str],
    foreign: list[str],
    path: Path,
    size_key: str,
) -> None:
    """Raise UserError if the file is of another network than the backbone, with the key.

    Args:
        own, state: entries of the backbone, and those of the file.
        missing, foreign: names that only the backbone, or only the file has.
        path: of the file.
        size_key: the key that chooses the network.
    """
    wrong = [name for name in state if state[name].shape != own[name].shape]
    kinds = [
        name
        for name in state
        if state[name].is_floating_point() != own[name].is_floating_point()
        or not torch.isfinite(state[name]).all()
    ]
    if wrong:
        name = wrong[0]
        fault = (
            f"{name} is {tuple(state[name].shape)}, the backbone needs {tuple(own[name].shape)}"
            f" ({len(wrong)} entries differ)"
        )
    elif missing:
        fault = f"{len(missing)} of the backbone's {len(own)} entries are missing: {_few(missing)}"
    elif foreign:
        fault = f"it has {len(foreign)} entries more than the backbone's layers: {_few(foreign)}"
    elif kinds:
        raise UserError(
            f"{KEY}: {kinds[0]} in {path} is no finite tensor of the backbone's kind of numbers "
            f"({len(kinds)} entries): get the file again"
        )
    else:
        return
    raise UserError(
        f"{KEY}: {path} is of another network: {fault}; {_cure(missing + foreign, size_key)}"
    )


def _cure(names: list[str], size_key: str) -> str:
    """The key to change, by the entries that only one of file and backbone has."""
    for key, parts in (("WITH_IBN", {"IN", "BN"}), ("WITH_SE", {"se"})):
        if size_key != "MODEL.BACKBONE.TIMM" and any(
            parts & set(name.split(".")) for name in names
        ):
            return f"change MODEL.BACKBONE.{key}, or name a file of such a network"
    return f"change {size_key}, or name the whole file of this network"


def _few(names: list[str]) -> str:
    """The first names and how many there are."""
    if not names:
        return "none"
    return f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''} ({len(names)})"


def _with_pretrained(
    name: str, build: Callable[[CfgNode], nn.Module]
) -> Callable[[CfgNode], nn.Module]:
    """A fast-reid backbone's builder with this module's loading."""

    @functools.wraps(build)
    def builder(cfg: CfgNode) -> nn.Module:
        node = cfg.MODEL.BACKBONE
        generator = torch.get_rng_state()
        backbone = _untrained(cfg, name, build)
        if not node.PRETRAIN:
            return backbone
        if name not in OWN_LOADER and (name == RESNET or node.PRETRAIN_PATH):
            load_pretrained(backbone, pretrained_file(cfg))
            return backbone
        torch.set_rng_state(generator)
        return _loaded_by_fastreid(cfg, build, backbone.state_dict())

    return builder


def _untrained(cfg: CfgNode, name: str, build: Callable[[CfgNode], nn.Module]) -> nn.Module:
    try:
        return build(without_pretrained(cfg))
    except (KeyError, ValueError) as error:  # fast-reid looks the depth up in a dict
        raise UserError(
            f"MODEL.BACKBONE.DEPTH {cfg.MODEL.BACKBONE.DEPTH}: fast-reid's {name} has no such "
            f"size ({error}); its source lists those that it has"
        ) from error
    except FileNotFoundError as error:  # fastreid/modeling/backbones/regnet/*/*.yaml
        raise UserError(
            f"MODEL.BACKBONE.NAME {name} needs {error.filename}, which the PyPI package of "
            "fast-reid lacks: take the network from timm (MODEL.BACKBONE.NAME build_timm_backbone)"
        ) from error


def _loaded_by_fastreid(
    cfg: CfgNode, build: Callable[[CfgNode], nn.Module], initial: dict[str, Tensor]
) -> nn.Module:
    """Let fast-reid load; what equals the same model's initial values was not in its file."""
    if cfg.MODEL.BACKBONE.PRETRAIN_PATH:
        pretrained_file(cfg)
    try:
        backbone = build(cfg)
    except Exception as error:  # gdown, torch.hub, torch.load and key errors
        text = " ".join(str(error).split())[:150]
        raise UserError(
            f"fast-reid cannot load pretrained weights for {cfg.MODEL.BACKBONE.NAME} "
            f"({type(error).__name__}: {text}): name a file in {KEY}, or set "
            "MODEL.BACKBONE.PRETRAIN False"
        ) from error
    weights = {name: value for name, value in backbone.state_dict().items() if value.dim() > 1}
    same = [name for name, value in weights.items() if torch.equal(value, initial[name])]
    if len(same) == len(weights):
        raise UserError(
            f"{KEY}: fast-reid found nothing for {cfg.MODEL.BACKBONE.NAME} in its pretrained "
            "file: name a file of this network, or set MODEL.BACKBONE.PRETRAIN False"
        )
    logger.info(
        "fast-reid loaded pretrained weights into %d of the backbone's %d weight tensors; at "
        "their initial values: %s",
        len(weights) - len(same),
        len(weights),
        _few(same),
    )
    return backbone


def without_pretrained(cfg: CfgNode) -> CfgNode:
    """A copy of a config in which no backbone loads weights."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.BACKBONE.PRETRAIN = False
    return cfg


def replace_loaders() -> None:
    """Give fast-reid's registered backbones this module's loading."""
    for name, build in registered(BACKBONE_REGISTRY).items():
        if build.__module__.startswith("fastreid.") and not hasattr(build, "__wrapped__"):
            BACKBONE_REGISTRY._obj_map[name] = _with_pretrained(name, build)


replace_loaders()
