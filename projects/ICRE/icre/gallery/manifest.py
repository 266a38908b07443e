"""gallery.json: reading and writing it, and checking its structure."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from icre.gallery import index as indexes
from icre.gallery.arrays import allow_open_files, cannot_read, sync_folder
from icre.gallery.calibration import Calibration
from icre.gallery.staging import may_be_staging, staging_folder
from icre.modality import NAMES
from icre.utils.errors import UserError, printable
from icre.utils.files import MAX_JSON, read_bytes, replace_text
from icre.utils.schema import Closed, Open, parse

MANIFEST, CONFIG = "gallery.json", "config.yaml"
# of format 1, whose whole content is in three files
IMAGES, FEATURES, INDEX = "images.csv", "features.npy", "index.faiss"
FORMAT = 2
CHECKSUM = "seal"  # key of the manifest's own checksum
VERSION = "version"  # grows by one with each change of the images

Status = tuple[int, int, int]


def add_checksum(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with the checksum of its other entries."""
    return manifest | {CHECKSUM: _checksum(manifest)}


def _checksum(manifest: dict[str, Any]) -> str:
    content = {key: value for key, value in manifest.items() if key != CHECKSUM}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def require_model(gallery: str, model: dict[str, Any], sha256: str, weights: str) -> None:
    """Raise UserError unless a gallery's features are of a checkpoint.

    Args:
        gallery: its name.
        model: its weights and their sha256.
        sha256, weights: of the checkpoint.
    """
    if sha256 != model["sha256"]:
        raise UserError(
            f"{weights} is not the model of gallery {gallery} (SHA-256 {sha256[:12]}..., the "
            f"gallery's is {model['sha256'][:12]}... from {model['weights']}): its features cannot "
            "be compared; name that file, or index again"
        )


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Replace a gallery's manifest; it is on the disk when this returns.

    Raises:
        UserError: `read_manifest` would refuse it, such as for a text that is no UTF-8.
    """
    text = json.dumps(add_checksum(manifest), indent=1) + "\n"
    _check(json.loads(text), f"gallery {folder} cannot be written: {MANIFEST}")
    replace_text(folder / MANIFEST, text)
    sync_folder(folder)


def skipped_entries(skipped: Sequence[tuple[str, str]]) -> list[list[str]]:
    """(path, reason) for the manifest; bytes of names that are no UTF-8 are escapes."""
    return [[printable(path), printable(reason)] for path, reason in skipped]


def status(folder: Path) -> Status | None:
    """What differs once a gallery's manifest was replaced, read by one `stat`; None: no gallery."""
    try:
        found = os.stat(folder / MANIFEST)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a gallery's manifest, of this format or of format 1.

    Raises:
        UserError: there is none, or it is damaged, of another format, or has an entry of a wrong
            type; says so for a gallery that is unfinished.
    """
    path = folder / MANIFEST
    if not path.is_file():
        if may_be_staging(staging_folder(folder)):
            raise UserError(
                f"gallery {folder} is unfinished: repeat the command that indexes it, "
                "it goes on where it was stopped"
            )
        if folder.is_dir() and (folder / CONFIG).exists():
            raise UserError(f"gallery {folder} is damaged: {MANIFEST} is missing; index again")
        raise UserError(f"{folder} is no gallery: make one with tools/search.py index")
    content = read_bytes(path, MAX_JSON)
    try:
        manifest = json.loads(content)
        intact = manifest[CHECKSUM] == _checksum(manifest)
    except (ValueError, KeyError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise UserError(
            f"gallery {folder} is damaged: {MANIFEST} is not as it was written; index again"
        )
    version = manifest.get("format")
    if version not in (1, FORMAT) or isinstance(version, bool):
        raise UserError(
            f"gallery {folder} has format {version}, this program reads 1 and {FORMAT}: index again"
        )
    try:
        _check(manifest, f"gallery {folder} is damaged: {MANIFEST}")
    except UserError as error:
        raise UserError(f"{error}; index again") from None
    return manifest


def _check(manifest: dict[str, Any], where: str) -> None:
    """Raise UserError, which begins with `where`, for a manifest of a wrong structure."""
    is_first = manifest["format"] == 1
    parse(_First if is_first else _Manifest, manifest, where)
    if not is_first:
        _check_sums(manifest, where)
    for name, stored in manifest["calibrations"].items():
        Calibration.from_dict(stored, f"{where}, calibrations of {name}: it")


def _check_sums(manifest: dict[str, Any], where: str) -> None:
    """Raise UserError where numbers of a manifest contradict each other."""
    total = sum(segment["images"] for segment in manifest["segments"])
    graph = manifest["index_file"]
    require = _Require(where)
    require(total == manifest["images"], f"images: its segments have {total}")
    names = [segment["name"] for segment in manifest["segments"]]
    require(len(set(names)) == len(names), "segments: one is there twice")
    if graph is not None:
        require(manifest["index"] != "flat", "index_file: a flat gallery has none")
        require(graph["rows"] <= min(graph["vectors"], total), "rows of index_file")
        is_whole = graph["rows"] == graph["vectors"]
        require(is_whole or graph["slots"] is not None, "slots of index_file")


class _Require:
    def __init__(self, where: str):
        self.where = where

    def __call__(self, condition: bool, what: str) -> None:
        if not condition:
            raise UserError(f"{self.where} has a wrong {what}")


_Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Segment_name = Annotated[str, Field(pattern="^[0-9]{1,12}-[0-9]{1,9}$")]
# no slash: all files are in the folder of their segment
_File_name = Annotated[str, Field(pattern="^[a-z][a-z0-9]*([.][a-z]+)+$")]


class _Model(Closed):
    weights: str
    sha256: _Hash


class _File(Closed):
    bytes: NonNegativeInt
    sha256: _Hash


class _Segment(Closed):
    name: _Segment_name
    images: PositiveInt
    attributes: list[Annotated[str, Field(min_length=1)]]
    files: dict[_File_name, _File]


class _Index(Closed):
    """The file of the index: `vectors` that it was built of, `rows` of these that are still there,
    which are the first of the gallery.
    """

    name: _Segment_name
    vectors: PositiveInt
    rows: NonNegativeInt
    file: _File
    slots: _File | None  # (vectors,) int64 row of each vector, -1 if removed; null: all in order


class _Change(Closed):
    """Images at the last calibration, and those that were added and removed since."""

    images: NonNegativeInt
    added: NonNegativeInt
    removed: NonNegativeInt


class _Common(Open):
    dimensions: PositiveInt
    index: Literal[tuple(indexes.KINDS)]
    made: str
    model: _Model
    skipped: list[Annotated[list[str], Field(min_length=2, max_length=2)]]
    calibrations: dict[Literal[NAMES], Any]


class _Manifest(_Common):
    """What `writing` puts into it."""

    version: PositiveInt
    images: NonNegativeInt
    changed: str
    calibrated: _Change
    config: _File
    segments: list[_Segment]
    index_file: _Index | None


class _First(_Common):
    """A manifest of format 1."""

    images: PositiveInt
    files: dict[Literal[IMAGES, FEATURES, INDEX, CONFIG], _Hash] = Field(min_length=4)


def read_until_stable(folder: Path, read: Callable[[dict[str, Any], Status | None], Any]) -> Any:
    """Call `read` with the manifest and its status, again if the gallery was changed meanwhile.

    A writer deletes the files of the old version once the new one is there; a file that is missing
    while the manifest stays is damage.

    Raises:
        FileNotFoundError: a file is missing.
        UserError: a file cannot be read.
    """
    allow_open_files()
    while True:
        before = status(folder)
        try:
            return read(read_manifest(folder), before)
        except FileNotFoundError:
            if status(folder) == before:
                raise
        except OSError as error:
            raise cannot_read(folder, error) from error
