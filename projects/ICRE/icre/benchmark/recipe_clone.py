"""A copy of a public code's clone that trains on our data.

It differs from the clone in what `_edits` lists: paths, image size and, where other epochs are
asked for, the schedule in proportion.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icre.benchmark import recipe_shim
from icre.utils.errors import UserError

SHIM = Path(recipe_shim.__file__)


@dataclass(frozen=True)
class Code:
    """A public code.

    Attributes:
        source: of `icre.runs.public`.
        inner: folder of train.py in the clone.
        epochs: that its train.py trains.
        drops: after which of its finished epochs the learning rate drops.
        loader_path: whether its data_loader.py has a path of its own.
        warmup: its epochs of warm-up.
    """

    source: str
    inner: str
    epochs: int
    drops: tuple[int, int]
    loader_path: bool = False
    warmup: int = 10


CODES = {
    "agw": Code("agw", ".", 81, (20, 50), loader_path=True),
    "deen": Code("deen", "DEEN", 151, (20, 80)),
}


def prepare(
    clone: Path, data: Path, out: Path, code: Code, size: tuple[int, int], epochs: int | None
) -> Path:
    """A copy of the clone with its edits, and the data set where it looks for it.

    Args:
        clone, code: the public code.
        data: folder of SYSU-MM01/.
        out: gets the copy.
        size: height and width of the images.
        epochs: to train, in place of the code's.

    Returns:
        The folder of the copy's train.py.
    """
    source = clone / code.inner
    missing = [name for name in ("train.py", "model.py", "pre_process_sysu.py", "eval_metrics.py")
               if not (source / name).is_file()]  # fmt: skip
    if missing:
        raise UserError(f"--clone {clone}: no {missing[0]} in {source}, name a clone")
    folder = out / "clone"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(".git", "*.pyc"))
    (folder / "data").mkdir()
    for path in (data / "SYSU-MM01").resolve().iterdir():
        (folder / "data" / path.name).symlink_to(path)
    for name, edits in _edits(code, size, epochs).items():
        _edit(folder / name, edits)
    call([sys.executable, SHIM, "run", "pre_process_sysu.py"], folder, "pre_process_sysu.py")
    return folder


def _edits(code: Code, size: tuple[int, int], epochs: int | None) -> dict[str, dict[str, str]]:
    """File -> {pattern: replacement}: everything of the clone that is changed."""
    height, width = size
    path = {r"data_path = '[^']*(?i:sysu)[^']*'": "data_path = './data/'"}
    edits = {
        "pre_process_sysu.py": {
            **path,
            r"fix_image_width = \d+": f"fix_image_width = {width}",
            r"fix_image_height = \d+": f"fix_image_height = {height}",
        },
        "train.py": dict(path),
    }
    if code.loader_path:
        edits["data_loader.py"] = {r"data_dir = '[^']*(?i:sysu)[^']*'": "data_dir = './data/'"}
    if epochs:
        factor = epochs / code.epochs
        edits["train.py"] |= {
            rf"range\(start_epoch, {code.epochs} - start_epoch\)": f"range({epochs})",
            **{
                rf"epoch (<|>=) {number}\b": rf"epoch \1 {scaled(number, factor)}"
                # none is replaced twice
                for number in sorted({code.warmup, *code.drops}, reverse=factor > 1)
            },
            r"\(epoch \+ 1\) / 10": f"(epoch + 1) / {scaled(code.warmup, factor)}",
        }
    return edits


def scaled(epochs: int, factor: float) -> int:
    """Epochs of a schedule that is `factor` as long, one at least."""
    return max(round(epochs * factor), 1)


def _edit(path: Path, edits: dict[str, str]) -> None:
    text = path.read_text()
    for pattern, replacement in edits.items():
        text, count = re.subn(pattern, replacement, text)
        if not count:
            raise UserError(f"{path} has no {pattern!r}: the clone is of another version")
    path.write_text(text)


def call(words: Sequence[Any], folder: Path, what: str) -> str:
    """Run a command to its end; returns what it printed.

    Raises:
        UserError: its exit status is not 0; the last line of its errors.
    """
    print(f"running {what}", flush=True)
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, text=True, capture_output=True, check=False
    )
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        raise UserError(f"{what} failed ({done.returncode}): {lines[-1][:300]}")
    return done.stdout
