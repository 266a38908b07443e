"""What a gallery remembers beside its images: what was removed from it, and where answers went.

Both files have a JSON object a line. A line that a killed process left half is passed over.
"""

import json
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from icre.gallery.manifest import VERSION
from icre.utils.files import replace_text

logger = logging.getLogger("fastreid.icre")

REMOVED, ANSWERS = "removed.jsonl", "answers.jsonl"


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def remember_answers(folder: Path, version: int, *paths: str | Path | None) -> None:
    """Note the regular files into which answers of a gallery were written.

    They may hold pictures of people who are removed later.
    """
    lines = [
        {"date": now(), VERSION: version, "path": os.path.realpath(path)}
        for path in paths
        if path and os.path.isfile(path)
    ]
    if not lines:
        return
    try:
        handle = os.open(folder / ANSWERS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:  # one write: lines of two processes do not mix
            os.write(handle, "".join(f"\n{json.dumps(line)}" for line in lines).encode())
        finally:
            os.close(handle)
    except OSError as error:
        logger.warning(
            "gallery %s cannot note where its answers are (%s): a later removal will not name %s",
            folder,
            error.strerror,
            ", ".join(line["path"] for line in lines),
        )


def written_answers(folder: Path) -> list[str]:
    """Files that hold answers of this gallery and still exist."""
    found = dict.fromkeys(str(line.get("path", "")) for line in _read(folder / ANSWERS))
    return [path for path in found if path and os.path.isfile(path)]


def removals(folder: Path, version: int) -> list[dict[str, Any]]:
    """The entries of the log of removals up to a version: date, version, reason, rows."""
    return [
        line
        for line in _read(folder / REMOVED)
        if isinstance(line.get(VERSION), int) and line[VERSION] <= version
    ]


def log_removal(folder: Path, version: int, reason: str, rows: list[dict[str, Any]]) -> None:
    """Append an entry for the version that will be published next.

    It is there before that version is; one of a version that never came is dropped.
    """
    entry = {"date": now(), VERSION: version, "reason": reason, "rows": rows}
    _write(folder / REMOVED, [*removals(folder, version - 1), entry])


def drop_after(folder: Path, version: int) -> None:
    """Drop entries of versions that were never published from the log of removals."""
    kept = removals(folder, version)
    if len(kept) < len(list(_read(folder / REMOVED))):
        _write(folder / REMOVED, kept)


def _write(path: Path, entries: list[dict[str, Any]]) -> None:
    replace_text(path, "".join(json.dumps(entry) + "\n" for entry in entries))


def _read(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_text(errors="surrogateescape")
    except OSError:
        return
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            yield entry
