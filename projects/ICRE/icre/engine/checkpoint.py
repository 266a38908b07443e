"""Checkpoints: written atomically, read without running code, checked against the model."""

import itertools
import os
from pathlib import Path
from typing import Any

import torch

import icre.compat  # noqa: F401

from fastreid.utils.checkpoint import Checkpointer

from icre.modeling.icre import rename_parameters
from icre.utils.checksum import add_checksum, strip_checksum
from icre.utils.errors import UserError
from icre.utils.files import replaced

LAST = "model_last"  # what a run resumes from; model_last_1 is the one before it, and so on


class SafeCheckpointer(Checkpointer):
    """fast-reid's Checkpointer, writing atomically and refusing what does not fit the model.

    fast-reid writes in place (a kill leaves half a file behind `last_checkpoint`), and skips
    parameters that do not match with a log line. Here only the classifier may differ in its number
    of identities, and only when nothing but the weights is loaded.
    """

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
        files = self._last_ones()
        kept = files[: self.keep] if self.continues else files[:1]
        for file in files[len(kept) :]:
            file.unlink(missing_ok=True)
        for newer, older in reversed(list(itertools.pairwise(kept))):
            if newer.is_file():
                os.replace(newer, older)
        self.continues = True

    def _last_ones(self) -> list[Path]:
        """Where LAST's checkpoints are or would be, from the newest to the oldest."""
        folder = Path(self.save_dir)
        older = [int(path.stem.rpartition("_")[2]) for path in folder.glob(f"{LAST}_[0-9]*.pth")]
        count = max([self.keep - 1, *older])
        return [folder / f"{LAST}.pth", *(folder / f"{LAST}_{n}.pth" for n in range(1, count + 1))]

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
        first = None
        for file in self._resumable():
            try:
                checkpoint = self.load(str(file))
            except UserError as error:
                self.logger.warning("%s; trying the one before", error)
                first = first or error
                continue
            if first and self.save_to_disk:
                self.tag_last_checkpoint(file.name)
            return checkpoint
        raise first

    def has_checkpoint(self) -> bool:
        """Whether `save_dir` holds a checkpoint to resume from."""
        return bool(self._resumable())

    def _resumable(self) -> list[Path]:
        """The tagged checkpoint, then LAST's; the tag itself may be damaged or missing."""
        folder, tag = Path(self.save_dir), Path(self.save_dir) / "last_checkpoint"
        tagged = tag.read_bytes().decode(errors="replace").strip() if tag.is_file() else ""
        names = {path.name for path in folder.glob("*.pth")}
        found = [file for file in self._last_ones() if file.name in names]
        first = folder / tagged if tagged in names else None
        return [first, *(file for file in found if file != first)] if first else found

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Point `last_checkpoint` at a file, atomically."""
        with replaced(Path(self.save_dir) / "last_checkpoint") as temporary:
            temporary.write_text(last_filename_basename)

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict:
        """Load weights, and what else is asked for; returns the rest of the checkpoint.

        Raises:
            UserError: the file is missing, damaged, holds code, or is of another model.
        """
        if path and not os.path.isfile(path):
            raise UserError(f"checkpoint {path} is missing: set MODEL.WEIGHTS to an existing file")
        self.path = path
        self.weights_only = checkpointables == []
        return super().load(path, checkpointables)

    def _load_file(self, f: str) -> dict:
        checkpoint = read_checkpoint(f)
        rename_parameters(checkpoint["model"])  # before fast-reid compares the shapes by name
        return checkpoint

    def _log_incompatible_keys(self, incompatible) -> None:
        wrong = [
            name
            for name, *shapes in incompatible.incorrect_shapes
            if not self._class_count(*shapes)
        ]
        # A skipped classifier is also reported as missing.
        skipped = {name for name, *_ in incompatible.incorrect_shapes}
        missing = [name for name in incompatible.missing_keys if name not in skipped]
        faults = {"wrong shape": wrong, "missing": missing, "unknown": incompatible.unexpected_keys}
        told = [f"{kind}: {', '.join(names[:3])}" for kind, names in faults.items() if names]
        if told:
            raise UserError(
                f"checkpoint {self.path} is of another model than this config's ({'; '.join(told)})"
            )
        for name, theirs, ours in incompatible.incorrect_shapes:
            self.logger.info("%s not loaded: %d identities, now %d", name, theirs[0], ours[0])

    def _class_count(self, theirs: tuple, ours: tuple) -> bool:
        """Whether two shapes differ in the number of identities alone, and that is allowed."""
        return self.weights_only and len(theirs) == len(ours) == 2 and theirs[1:] == ours[1:]


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


def read_checkpoint(path: str | Path) -> dict:
    """Everything in a checkpoint, on the CPU; nothing in it is run.

    Raises:
        UserError: the file is damaged, holds code, or is no checkpoint.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        reason = (str(error) or type(error).__name__).splitlines()[0].split(". ")[0][:150]
        raise UserError(f"checkpoint {path} cannot be read as plain tensors: {reason}") from None
    if not isinstance(checkpoint, dict) or "model" not in checkpoint:
        raise UserError(f"checkpoint {path} has no entry 'model': it was not written by fast-reid")
    return strip_checksum(checkpoint, str(path))
