"""Finding images and what is known of them: of a gallery or of queries."""

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from icre.datasets.paths import parse_path
from icre.datasets.table_file import SUFFIXES, read_list, read_table
from icre.gallery.boxes import Found, read_boxes
from icre.gallery.pattern import Pattern
from icre.gallery.table import NO_TIME, ImageTable
from icre.gallery.times import parse_time
from icre.modality import NAMES
from icre.utils.errors import UserError, printable
from icre.utils.image import is_image
from icre.utils.remote import fetch, is_remote, remote_files

logger = logging.getLogger("fastreid.icre")

COLUMNS = ("path", "modality", "camera", "identity", "time")  # the others are attributes


def collect(
    sources: Sequence[str | Path],
    modality: str | None = None,
    pattern: Pattern | None = None,
    boxes: Path | None = None,
    remote: bool = False,
) -> ImageTable:
    """Find images, and read from their paths what a table does not say.

    Args:
        sources: image files; folders (with all folders below, sorted by name, and linked ones);
            lists (a text file of one path per line); and tables (see `read_table`; further columns
            are attributes). Paths in lists are relative to the current folder. An image that is
            named twice counts once.
        modality: a name of `icre.modality`, of all images that have none in a table; None: for a
            path in the layout of SYSU-MM01, RegDB or LLCM, the modality of that path.
        pattern: reads from each path what a table does not say.
        boxes: a file of boxes in the images, see `icre.gallery.boxes`: the rows are boxes, and an
            image without any is left out.
        remote: sources, and paths in lists and tables, may be URLs (s3://..., gs://...).

    Raises:
        UserError: names a source that is missing or holds no image, a line of a list that is no
            image file or contradicts an earlier one, an image of unknown modality, or a box of
            an image that is not among the sources, or a URL that is not allowed or cannot be read.
    """
    found: dict[str, dict[str, Any]] = {}
    for source in sources:
        if is_remote(str(source)):
            rows = list(_find_remote(str(source)) if remote else [({"path": str(source)}, "")])
        else:
            rows = list(_find_images(Path(source)))
        if not rows:
            raise UserError(f"{source} holds no image")
        for row, where in rows:
            if is_remote(row["path"]) and not remote:
                raise UserError(
                    f"{row['path']} is not on this machine: 'index' and 'add' read such images "
                    "with --cluster (local: this machine alone)"
                )
            image = _complete(row, modality, pattern, where)
            known = found.setdefault(image["path"], image)
            if known != image:
                column = next(name for name in image if known[name] != image[name])
                raise UserError(
                    f"{where}: {row['path']} was named before with {column} {known[column]!r}, "
                    f"here it has {image[column]!r}"
                )
    if boxes is None:
        return ImageTable.from_rows(list(found.values()))
    return ImageTable.from_rows(list(_boxed(found, read_boxes(boxes), boxes)))


def _boxed(
    images: dict[str, dict[str, Any]], boxes: list[Found], file: Path
) -> Iterator[dict[str, Any]]:
    """A row for each different box, in the order of the images."""
    by_name: dict[str, list[str]] = {}
    for path in images:
        parts = path.split("/")
        for start in range(len(parts)):
            by_name.setdefault("/".join(parts[start:]), []).append(path)
        stem = os.path.splitext(parts[-1])[0]
        if stem.isdecimal():  # COCO's image_id
            by_name.setdefault(str(int(stem)), []).append(path)
    rows: dict[tuple, dict[str, Any]] = {}
    for name, box, more, where in boxes:
        cleaned = os.path.normpath(name)
        paths = by_name.get(cleaned) or by_name.get(os.path.abspath(file.parent / cleaned), [])
        if len(paths) != 1:
            what = f"{len(paths)} of" if paths else "none of"
            raise UserError(f"{where}: image {name} is {what} the {len(images)} images given")
        image = images[paths[0]]
        known = {key: value for key, value in image.items() if key != "attributes"}
        row = known | _own(more, where) | {"box": box}
        row["attributes"] = image.get("attributes", {}) | _attributes(more)
        rows.setdefault((paths[0], *box), row)
    order = {path: number for number, path in enumerate(images)}
    yield from sorted(rows.values(), key=lambda row: order[row["path"]])


def contradictions(images: ImageTable) -> list[str]:
    """Paths in the layout of a data set that gives them another modality than their row has."""
    parsed = [parse_path(Path(path).as_posix()) for path in images.paths]
    return [
        path
        for path, known, modality in zip(images.paths, parsed, images.modalities)
        if known is not None and known.modality != modality
    ]


def _find_images(source: Path) -> Iterator[tuple[dict[str, str], str]]:
    """Yield (row of known columns, file and line for error messages) of each image of a source."""
    if source.is_dir():
        yield from (({"path": path}, str(source)) for path in _walk(source))
    elif not source.exists():
        raise UserError(f"{source} is missing: name an image, a folder of images, or a list")
    elif not source.is_file():
        raise UserError(f"{source} is no regular file: name an image, a folder, or a list")
    elif is_image(source.name):
        yield {"path": str(source)}, str(source)
    else:
        is_table = source.suffix.lower() in SUFFIXES
        yield from read_table(source, free=True) if is_table else read_list(source)


def _find_remote(source: str) -> Iterator[tuple[dict[str, str], str]]:
    """As `_find_images`, of the URL of an image, a folder, or a table of URLs."""
    name = source.rpartition("/")[2]
    if os.path.splitext(name)[1].lower() in SUFFIXES:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(fetch([source], Path(folder))[source])
            if not copy.is_file():
                raise UserError(f"{source} is missing")
            try:
                for row, where in read_table(copy, free=True):
                    yield row, where.replace(str(copy), source)
            except UserError as error:
                raise UserError(str(error).replace(str(copy), source)) from None
        return
    found = remote_files(source)
    images = [url for url in found if is_image(url.rpartition("/")[2])]
    yield from (({"path": url}, source) for url in images)
    _warn_skipped(source, sorted(set(found) - set(images)))


def _walk(source: Path) -> Iterator[str]:
    """Paths of the images in a folder and below; other files are counted in one warning.

    Links to folders outside `source` are followed, each target once; what is inside is found under
    its own name. Links to a folder that holds `source` would be loops.
    """
    root, seen, skipped = os.path.realpath(source), set(), []

    def wanted(path: str) -> bool:
        if os.path.islink(path):
            target = os.path.realpath(path)
            if os.path.commonpath([root, target]) in (root, target):
                return False
        status = os.stat(path)
        identity = status.st_dev, status.st_ino
        if identity in seen:
            return False
        seen.add(identity)
        return True

    def fail(error: OSError) -> None:
        raise UserError(f"cannot read folder {error.filename}: {error.strerror}")

    wanted(root)
    for folder, below, names in os.walk(source, followlinks=True, onerror=fail):
        visible = sorted(name for name in below if not name.startswith("."))
        below[:] = [name for name in visible if wanted(os.path.join(folder, name))]
        for name in sorted(name for name in names if not name.startswith(".")):
            if is_image(name):
                yield os.path.join(folder, name)
            else:
                skipped.append(os.path.join(folder, name))
    _warn_skipped(str(source), skipped)


def _warn_skipped(source: str, skipped: list[str]) -> None:
    if skipped:
        logger.warning(
            "%s: %d files are skipped, their names end as no image's, such as %s",
            printable(source),
            len(skipped),
            printable(skipped[0]),
        )


def _complete(
    row: dict[str, str], modality: str | None, pattern: Pattern | None, where: str
) -> dict[str, Any]:
    """Fill the missing columns of a row: what a table says, then the pattern, then the layout."""
    path = row["path"] if is_remote(row["path"]) else os.path.abspath(row["path"])
    known = parse_path(Path(path).as_posix())
    read = pattern.read(path) if pattern else {}
    in_path = read.get("modality") or (NAMES[known.modality] if known else None)
    if row.get("modality") == "" and in_path is None:
        raise UserError(f"{where}: modality is blank: write {' or '.join(NAMES)}")
    name = row.get("modality") or read.get("modality") or modality or in_path
    if name is None:
        raise UserError(
            f"{path}: its path does not say its modality: give --modality "
            f"{' or '.join(NAMES)}, or a .csv with the columns path and modality"
        )
    if name not in NAMES:
        raise UserError(f"{where}: modality {name!r} is none of {', '.join(NAMES)}")
    layout = (
        {"camera": str(known.camid), "identity": f"{known.layout} {known.pid}"} if known else {}
    )
    result = {
        "path": path,
        "modality": name,
        **{
            column: row.get(column) or read.get(column) or layout.get(column, "")
            for column in ("camera", "identity")
        },
        "time": read.get("time", NO_TIME),
        "attributes": _attributes(read) | _attributes(row),
    }
    return result | _own(row, where)


def _own(row: dict[str, str], where: str) -> dict[str, Any]:
    """What a row of a table says itself of modality, camera, identity and time."""
    result: dict[str, Any] = {
        name: row[name] for name in ("modality", "camera", "identity") if row.get(name)
    }
    if result.get("modality", NAMES[0]) not in NAMES:
        raise UserError(f"{where}: modality {row['modality']!r} is none of {', '.join(NAMES)}")
    if row.get("time"):
        result["time"] = parse_time(row["time"], where)
    return result


def _attributes(row: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in row.items() if name not in COLUMNS and value}
