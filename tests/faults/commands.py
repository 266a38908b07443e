"""The commands that write beside training: what each is called with, and what it must leave."""

import io
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from faults.runs import Faults, ended, start, tail, training
from icre.gallery.store import open_gallery
from icre.gallery.versions import leftovers
from small_runs import SMALL

# what a run says, and what names a process: no result
NO_RESULT = re.compile(
    r"log\.txt|answers\.jsonl|adding|events\..*|\..*|.*\.partial|demo\.partial\.json"
)
DATES = ("made", "changed", "date", "seal")

OUT, CONFIG = "<out>", "Demo/icre_r18.yml"
# a batch is a shard of the gallery: features differ in their last bits with the size of a batch
OPTIONS = (*SMALL, "TEST.IMS_PER_BATCH", "8")


class Command(NamedTuple):
    """A command that writes below a folder."""

    argv: list[str]  # words of `icre`; OUT stands for the folder
    given: Path | None = None  # the folder is a copy of this one when the command starts

    def prepare(self, out: Path) -> None:
        """The folder as it is before the command."""
        shutil.rmtree(out, ignore_errors=True)
        if self.given:
            shutil.copytree(self.given, out)
        else:
            out.mkdir(parents=True)

    def start(self, out: Path, log: Path) -> int:
        """Begin the command in a process; returns its id."""
        return start([word.replace(OUT, str(out)) for word in self.argv], log)

    def unbroken(self, out: Path, log: Path, faults: Faults) -> tuple[dict, dict]:
        """The `results` before and after the command, which nothing disturbs."""
        self.prepare(out)
        before = results(out)
        status = ended(self.start(out, log))
        faults.check(status == 0, f"{self.argv[0]} ended with {status}: {tail(log)}")
        return before, results(out)


def prepare(root: Path, folder: Path, faults: Faults) -> None:
    """In `folder`: `run` of a small ICRE, `galleries/gallery` and `exported` of its model."""
    folder.mkdir(parents=True)
    run, log = folder / "run", folder / "log.txt"
    index = _index(root, folder, folder / "galleries/gallery")
    for argv in (
        training(root, run, *OPTIONS, config=CONFIG),
        index,
        ["export", "--weights", str(run), "--out", str(folder / "exported")],
    ):
        status = ended(start(argv, log))
        faults.check(status == 0, f"{argv[0]} ended with {status}: {tail(log)}")


def _index(root: Path, folder: Path, gallery: Path | str) -> list[str]:
    """Half of the people, in two cameras, in shards of eight images."""
    weights = str(folder / "run/model_final.pth")
    inside = _folders(root, (1, 2), slice(0, 7))
    return ["search", "index", "--weights", weights, "--out", str(gallery), "--shard", "8", *inside]


def _folders(root: Path, cameras: tuple[int, ...], people: slice) -> list[str]:
    names = sorted(path.name for path in (root / "SYSU-MM01/cam1").iterdir())[people]
    found = [root / f"SYSU-MM01/cam{camera}/{name}" for camera in cameras for name in names]
    return [str(path) for path in found if path.is_dir()]


def commands(root: Path, folder: Path) -> dict[str, Command]:
    """Name -> command, with what `prepare` made in `folder`."""
    run, galleries = folder / "run", folder / "galleries"
    weights = str(run / "model_final.pth")
    scoring = training(
        root, Path(OUT), "--eval-only", *OPTIONS, "MODEL.WEIGHTS", weights, config=CONFIG
    )
    strangers = _folders(root, (3, 6), slice(7, None))
    known = next((root / "SYSU-MM01/cam3").rglob("*.jpg"))
    return {
        "score": Command(scoring),
        "extract": _command(
            f"extract --config-file {run}/config.yaml --weights {weights} --out {OUT}/features.npz"
        ),
        "metrics": _command(f"score {run} --json {OUT}/scores.json"),
        "report": _command(
            f"report {run} --out {OUT}/report.html --without attention cost embedding"
        ),
        "figure": _command(f"visualize distances {run} --out {OUT}/distances.png"),
        "export": _command(f"export --weights {weights} --out {OUT} --modality visible"),
        "gallery index": Command(_index(root, folder, f"{OUT}/gallery")),
        "gallery calibrate": _command(
            f"search calibrate {OUT}/gallery --people {' '.join(strangers)}", galleries
        ),
        "gallery add": _command(f"search add {OUT}/gallery {known} --shard 8", galleries),
        "gallery remove": _command(f"search remove {OUT}/gallery --camera 2", galleries),
        "gallery query": _command(
            f"search query {OUT}/gallery {known} --json {OUT}/answers.json --html {OUT}/a.html",
            galleries,
        ),
        "render": _command(
            f"render --layout regdb --root {OUT}/RegDB --ids 4 --test-ids 2 --size 32x16"
        ),
    }


def _command(text: str, given: Path | None = None) -> Command:
    return Command(text.split(), given)


def results(folder: Path) -> dict[str, object]:
    """Relative path -> what the file says, of all files that are results."""
    unnamed = _unnamed(folder)
    return {
        str(path.relative_to(folder)): _content(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path not in unnamed
        and not any(NO_RESULT.fullmatch(part) for part in path.relative_to(folder).parts)
    }


def _unnamed(folder: Path) -> set[Path]:
    """Files in galleries that their manifests do not name: of a writer that was killed."""
    left = [
        path
        for manifest in folder.rglob("gallery.json")
        for path in leftovers(open_gallery(manifest.parent))
    ]
    return {file for path in left for file in (path, *path.rglob("*"))}


def half_written(found: dict, before: dict, after: dict) -> list[str]:
    """The files of `results` that are neither the one before nor the one after a command."""
    return [
        path
        for path, content in found.items()
        if content not in (before.get(path, after.get(path)), after.get(path))
    ]


def _content(path: Path) -> object:
    """The content without dates; a file that cannot be read is no error here, but equals none."""
    data = path.read_bytes()
    try:
        if path.suffix == ".npz":
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return {name: arrays[name].tobytes() for name in arrays}
        if path.suffix == ".json":
            return _undated(json.loads(data))
        if path.suffix == ".jsonl":
            return [_undated(json.loads(line)) for line in data.splitlines()]
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        return error
    return data


def _undated(value: object) -> object:
    if isinstance(value, dict):
        return {k: _undated(v) for k, v in value.items() if k not in DATES}
    return [_undated(one) for one in value] if isinstance(value, list) else value
