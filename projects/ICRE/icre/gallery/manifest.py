"""gallery.json: reading it, and checking its structure."""

import hashlib
import json
from pathlib import Path
from typing import Any

from icre.gallery import index as indexes
from icre.gallery.calibration import Calibration
from icre.gallery.staging import may_be_staging, staging_folder
from icre.modality import NAMES
from icre.utils.errors import UserError
from icre.utils.files import read_json

MANIFEST, IMAGES, FEATURES, INDEX, CONFIG = (
    "gallery.json",
    "images.csv",
    "features.npy",
    "index.faiss",
    "config.yaml",
)
FORMAT = 1
CHECKSUM = "seal"  # key of the manifest's own checksum


def add_checksum(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with the checksum of its other entries."""
    return manifest | {CHECKSUM: _checksum(manifest)}


def _checksum(manifest: dict[str, Any]) -> str:
    content = {key: value for key, value in manifest.items() if key != CHECKSUM}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a gallery's manifest.

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
        if folder.is_dir() and (folder / INDEX).exists():
            raise UserError(f"gallery {folder} is damaged: {MANIFEST} is missing; index again")
        raise UserError(f"{folder} is no gallery: make one with tools/search.py index")
    try:
        manifest = read_json(path)
        intact = manifest[CHECKSUM] == _checksum(manifest)
    except (ValueError, KeyError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise UserError(
            f"gallery {folder} is damaged: {MANIFEST} is not as it was written; index again"
        )
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"gallery {folder} has format {manifest.get('format')}, this program reads "
            f"{FORMAT}: index again"
        )
    for key, valid in _ENTRIES.items():
        if key not in manifest or not valid(manifest[key]):
            raise UserError(
                f"gallery {folder} is damaged: {MANIFEST} has a wrong entry {key}; index again"
            )
    for name, stored in manifest["calibrations"].items():
        try:
            Calibration.from_dict(stored)
        except ValueError as error:
            raise UserError(
                f"gallery {folder} is damaged: {MANIFEST}, calibrations of {name}: {error}; "
                "index again"
            ) from None
    return manifest


def _is_number(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_hash(value: Any) -> bool:
    return _is_text(value) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _has(value: Any, keys: set[str]) -> bool:
    return type(value) is dict and set(value) == keys


_FILES = {IMAGES, FEATURES, INDEX, CONFIG}
# key -> whether a value has the type that `store.write` gives it
_ENTRIES = {
    "images": _is_number,
    "dimensions": _is_number,
    "index": lambda value: _is_text(value) and value in indexes.KINDS,
    "made": _is_text,
    "model": lambda value: (
        _has(value, {"weights", "sha256"})
        and _is_text(value["weights"])
        and _is_hash(value["sha256"])
    ),
    "skipped": lambda value: (
        type(value) is list
        and all(type(one) is list and len(one) == 2 and all(map(_is_text, one)) for one in value)
    ),
    "calibrations": lambda value: type(value) is dict and set(value) <= set(NAMES),
    "files": lambda value: _has(value, _FILES) and all(map(_is_hash, value.values())),
}
