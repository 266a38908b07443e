"""gallery.json: reading it, and checking its structure."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from icre.gallery import index as indexes
from icre.gallery.calibration import Calibration
from icre.gallery.staging import may_be_staging, staging_folder
from icre.modality import NAMES
from icre.utils.errors import UserError
from icre.utils.files import read_json
from icre.utils.schema import Closed, Open, parse

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
    where = f"gallery {folder} is damaged: {MANIFEST}"
    try:
        parse(_Manifest, manifest, where)
        for name, stored in manifest["calibrations"].items():
            Calibration.from_dict(stored, f"{where}, calibrations of {name}: it")
    except UserError as error:
        raise UserError(f"{error}; index again") from None
    return manifest


_Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Model(Closed):
    weights: str
    sha256: _Hash


class _Manifest(Open):
    """What `store.write` puts into it."""

    images: PositiveInt
    dimensions: PositiveInt
    index: Literal[tuple(indexes.KINDS)]
    made: str
    model: _Model
    skipped: list[Annotated[list[str], Field(min_length=2, max_length=2)]]
    calibrations: dict[Literal[NAMES], Any]
    files: dict[Literal[IMAGES, FEATURES, INDEX, CONFIG], _Hash] = Field(min_length=4)
