"""Checkpoints: written atomically, read without running code, checked against the model."""

import itertools
import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import icre.compat  # noqa: F401

from fastreid.utils.checkpoint import Checkpointer

from icre.modeling.icre import rename_parameters
from icre.runs.public import SOURCES, read_public
from icre.runs.state import state_fault
from icre.utils.checksum import add_checksum, content_hash, strip_checksum
from icre.utils.choice import pick
from icre.utils.errors import UserError
from icre.utils.files import replaced
from icre.utils.tensor_file import read_tensor_file
from icre.utils.yaml import parse_yaml

LAST = "model_last"  # what a run resumes from; model_last_1 is the one before it, and so on
# parameters that no feature depends on: of heads' and auxiliary losses' classifiers
CLASSIFIER = re.compile(r"(\w*heads?\.weight|losses\..*)$")
OPTIONAL = ("grad_scaler",)  # a run may go on with another precision


class SafeCheckpointer(Checkpointer):
    """fast-reid's Checkpointer, writing atomically and refusing what does not fit the model.

    fast-reid writes in place (a kill leaves half a file behind `last_checkpoint`), and skips
    parameters that do not match with a log line. Here only the classifier may differ in its number
    of identities, and only when nothing but the weights is loaded.
    """

    path = ""  # of the checkpoint that was loaded last
    weights = ""  # checksum of its weights
    keep = 1  # how many of LAST's checkpoints are kept
    continues = False  # whether those in `save_dir` are of this run

    def save(self, name: str, **extra: Any) -> None:
        """Write `<save_dir>/<name>.pth` whole or not at all, then tag it as the last one.

        Older files of LAST are renamed to `model_last_1.pth` and so on, up to `keep` files.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: obj.state_dict() for key, obj in self.checkpointables.items()}
        content = add_checksum({"model": self.model.state_dict(), **states, **extra})
        target = Path(self.save_dir) / f"{name}.pth"
        with replaced(target) as temporary:
            _write(content, temporary)
            if name == LAST:
                self._rotate()
        self.tag_last_checkpoint(target.name)

    def _rotate(self) -> None:
        """Rename LAST's files by one; delete those beyond `keep`, or of an earlier run."""
        files = _last_ones(Path(self.save_dir), self.keep)
        kept = files[: self.keep] if self.continues else files[:1]
        for file in files[len(kept) :]:
            file.unlink(missing_ok=True)
        for newer, older in reversed(list(itertools.pairwise(kept))):
            if newer.is_file():
                os.replace(newer, older)
        self.continues = True

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict:
        """Resume from the newest readable checkpoint in `save_dir`, or load the weights in `path`.

        Raises:
            UserError: as `load` does; with `resume`, that of the newest where none can be read.
        """
        if self.save_dir and self.save_to_disk:
            for half in Path(self.save_dir).glob(".model_*.pth.*.pth"):  # of a kill while writing
                half.unlink(missing_ok=True)
        self.continues = resume and self.has_checkpoint()
        if not self.continues:
            return self.load(path, checkpointables=[])
        first: UserError | None = None
        for file in resumable(self.save_dir):
            try:
                checkpoint = self.load(str(file))
            except UserError as error:
                self.logger.warning("%s; trying the one before", error)
                first = first or error
                continue
            if first and self.save_to_disk:
                self.tag_last_checkpoint(file.name)
            return checkpoint
        assert first is not None  # there is a file, or it would not continue
        raise first

    def has_checkpoint(self) -> bool:
        """Whether `save_dir` holds a checkpoint to resume from."""
        return bool(resumable(self.save_dir))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Point `last_checkpoint` at a file, atomically."""
        with replaced(Path(self.save_dir) / "last_checkpoint") as temporary:
            temporary.write_text(last_filename_basename)

    def load(
        self,
        path: str,
        checkpointables: list[str] | None = None,
        classifier: bool = True,
        source: str = "",
    ) -> dict:
        """Load weights, and what else is asked for; returns the rest of the checkpoint.

        Everything is checked before anything is loaded.

        Args:
            path: of the checkpoint; empty: nothing is loaded.
            checkpointables: names of other entries to load; None: all that a run resumes from.
            classifier: whether it must be in the checkpoint; scoring and extraction do without.
            source: name of `icre.runs.public.SOURCES` if a public code wrote it.

        Raises:
            UserError: the file is missing, damaged, holds code, or is of another model.
        """
        self.path = path
        if not path:
            self.logger.info("No checkpoint found. Training model from scratch")
            return {}
        if not os.path.isfile(path):
            raise UserError(f"checkpoint {path} is missing: set MODEL.WEIGHTS to an existing file")
        self.logger.info("Loading checkpoint from %s", path)
        if source:
            checkpoint = {"model": read_public(path, pick("source", source, SOURCES))[1]}
        else:
            checkpoint = read_checkpoint(path)
        state = checkpoint.pop("model")
        rename_parameters(state)
        skipped = self._compare(state, checkpointables == [], classifier)
        others = self._others(checkpoint, checkpointables)
        self.weights = content_hash(state)
        for name, entry in others.items():
            try:
                self.checkpointables[name].load_state_dict(entry)
            except Exception as error:  # each raises its own kinds
                text = " ".join(str(error).split())[:150]
                raise UserError(f"checkpoint {path}: entry '{name}' is damaged ({text})") from None
        self.model.load_state_dict(
            {name: value for name, value in state.items() if name not in skipped}, strict=False
        )
        return checkpoint

    def _compare(self, state: dict, weights_only: bool, classifier: bool) -> set[str]:
        """Refuse weights of another model; returns the names that are not to be loaded.

        Args:
            state: name -> tensor of the checkpoint.
            weights_only: a classifier may be of another number of identities.
            classifier: as in `load`.
        """
        own = self.model.state_dict()
        differ = [name for name in state if name in own and not _alike(state[name], own[name])]
        classes = {
            name
            for name in differ
            if weights_only
            and CLASSIFIER.match(name)
            and state[name].dim() == own[name].dim()
            and state[name].shape[1:] == own[name].shape[1:]
        }
        missing = [name for name in own if name not in state]
        faults = {
            "wrong shape": [name for name in differ if name not in classes],
            "missing": [name for name in missing if classifier or not CLASSIFIER.match(name)],
            # of losses that this config leaves out, as of modules that are not trusted
            "unknown": [
                name
                for name in state
                if name not in own and (classifier or not name.startswith("losses."))
            ],
        }
        told = [
            f"{kind}: {', '.join(names[:3])} ({len(names)})"
            for kind, names in faults.items()
            if names
        ]
        if told:
            raise UserError(
                f"checkpoint {self.path} is of another model than this config's ({'; '.join(told)})"
            )
        for name in classes:
            theirs, ours = len(state[name]), len(own[name])
            self.logger.info("%s not loaded: %d identities, now %d", name, theirs, ours)
        return classes

    def _others(self, checkpoint: dict, asked: list[str] | None) -> dict[str, Any]:
        """Take the other entries to load out of a checkpoint, checked against this run's."""
        found = {}
        for name in self.checkpointables if asked is None else asked:
            if name not in checkpoint and name in OPTIONAL:
                continue
            if name not in checkpoint:
                raise UserError(
                    f"checkpoint {self.path} has no entry '{name}', so no run can be resumed from "
                    "it: name it as MODEL.WEIGHTS of a new run"
                )
            fault = state_fault(self.checkpointables[name], checkpoint[name])
            if fault:
                raise UserError(f"checkpoint {self.path}: entry '{name}' is damaged ({fault})")
            found[name] = checkpoint.pop(name)
        return found


def resumable(folder: str | Path) -> list[Path]:
    """Checkpoints to resume from: the tagged one, then LAST's from the newest to the oldest.

    The tag itself may be damaged or missing.
    """
    folder, tag = Path(folder), Path(folder) / "last_checkpoint"
    tagged = tag.read_bytes().decode(errors="replace").strip() if tag.is_file() else ""
    names = {path.name for path in folder.glob("*.pth")}
    found = [file for file in _last_ones(folder) if file.name in names]
    first = folder / tagged if tagged in names else None
    return [first, *(file for file in found if file != first)] if first else found


def _last_ones(folder: Path, keep: int = 1) -> list[Path]:
    """Where LAST's checkpoints are or would be, from the newest to the oldest."""
    numbers = [path.stem.rpartition("_")[2] for path in folder.glob(f"{LAST}_[0-9]*.pth")]
    count = max([keep - 1, *(int(number) for number in numbers if number.isdecimal())])
    return [folder / f"{LAST}.pth", *(folder / f"{LAST}_{n}.pth" for n in range(1, count + 1))]


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.is_floating_point() == other.is_floating_point()


def _write(content: dict, path: Path) -> None:
    """torch.save and fsync; a full disk raises OSError, which torch hides behind a RuntimeError."""
    with open(path, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        file.flush()
        os.fsync(file.fileno())


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write the entries of a checkpoint with their checksum, whole or not at all."""
    with replaced(path) as temporary:
        _write(add_checksum(content), temporary)


def read_checkpoint(path: str | Path) -> dict:
    """Everything in a checkpoint, on the CPU; nothing in it is run.

    Raises:
        UserError: the file is damaged, holds code or entries of wrong types, or is no checkpoint.
    """
    try:
        checkpoint = read_tensor_file(path)
    except ValueError as error:
        raise UserError(f"checkpoint {path} cannot be read as plain tensors: {error}") from None
    if not isinstance(checkpoint, dict) or "model" not in checkpoint:
        raise UserError(f"checkpoint {path} has no entry 'model': it was not written by fast-reid")
    for name, (fits, what) in ENTRIES.items():
        if name in checkpoint and not fits(checkpoint[name]):
            raise UserError(f"checkpoint {path}: entry '{name}' is damaged, it must be {what}")
    checkpoint = strip_checksum(checkpoint, str(path))
    state = checkpoint["model"]
    if all(name.startswith("module.") for name in state):  # of a model inside DataParallel
        checkpoint["model"] = {name.removeprefix("module."): x for name, x in state.items()}
    return checkpoint


def weights_hash(model: nn.Module) -> str:
    """Checksum of a model's parameters and buffers; that of a checkpoint is its `weights`."""
    return content_hash(getattr(model, "module", model).state_dict())


def training_config(checkpoint: dict) -> dict[str, Any]:
    """The config that a checkpoint was trained with, nested; empty if it carries none."""
    return parse_yaml(checkpoint.get("config", ""), "the checkpoint's config") or {}


def _is_config(value: Any) -> bool:
    try:
        config = parse_yaml(value, "config") if isinstance(value, str) else None
    except UserError:
        return False
    return isinstance(config, dict) and isinstance(config.get("DATASETS", {}), dict)


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(entry, Tensor) for name, entry in value.items()
    )


def _is_count(value: Any, minimum: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum


# entry of a checkpoint -> (check, what it must be)
ENTRIES = {
    "model": (_is_state_dict, "tensors by name"),
    "epoch": (lambda value: _is_count(value, -1), "the number of an epoch"),
    "iteration": (lambda value: _is_count(value, 0), "a number of steps"),
    "config": (_is_config, "a config as YAML"),
    "datasets": (
        lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
        "names of data sets",
    ),
    "regdb_split": (lambda value: value is None or _is_count(value, 1), "the number of a split"),
    "rng": (
        lambda value: isinstance(value, list) and all(isinstance(one, dict) for one in value),
        "random generators of each process",
    ),
    "identities": (
        lambda value: (
            isinstance(value, dict)
            and _is_count(value.get("count"), 0)
            and isinstance(value.get("sha256"), str)
        ),
        "a count and a checksum",
    ),
}
