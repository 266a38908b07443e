"""The result of examining a data set: counts, errors and warnings, as text or JSON."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from icre.datasets.base import Counts
from icre.modality import NAMES

SHOWN = 50  # errors and warnings that are printed; the JSON has them all
HEADERS = ("split", "modality", "camera", "identities", "published", "images", "published", "")


class Seen(NamedTuple):
    """An image that a split file lists."""

    role: str
    modality: int
    camera: int
    pid: int


@dataclass(frozen=True)
class Row:
    """Images of a split counted: of one camera, of one modality, or of both (None: all).

    `published` is (identities, images), each None where no published number is known.
    """

    split: int | None
    role: str
    modality: int | None
    camera: int | None
    identities: int
    images: int
    published: tuple[int | None, int | None]

    @property
    def differs(self) -> bool:
        """Whether a number is another than the published one."""
        found = (self.identities, self.images)
        return any(known not in (None, count) for known, count in zip(self.published, found))


@dataclass
class Report:
    """The examination of a data set: counts, errors and warnings of one line each.

    `errors` would stop a training or its evaluation, `warnings` would not.
    """

    layout: str
    folder: Path
    rows: list[Row] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    images: int = 0

    @property
    def compared(self) -> list[Row]:
        """Rows of which a published number is known."""
        return [row for row in self.rows if row.published != (None, None)]

    @property
    def differing(self) -> list[Row]:
        """Rows that are not those of the published set."""
        return [row for row in self.compared if row.differs]

    @property
    def verdict(self) -> str:
        """All of it in one plain line."""
        if self.errors:
            count = f"{len(self.errors)} error{'s' if len(self.errors) > 1 else ''}"
            return f"NOT USABLE: training or its evaluation would stop ({count}, see above)."
        if self.differing:
            counts = f"{len(self.differing)} of {len(self.compared)} known counts differ"
            return (
                f"USABLE, BUT NOT THE PUBLISHED SET: {counts} (a demo tree's do), so its results "
                "compare with no published ones."
            )
        met = ", and every published count is met" if self.compared else ""
        return f"COMPLETE: {self.images} images, all readable{met}."

    def as_json(self) -> dict:
        """The whole report in plain types."""
        keys = ("split", "role", "camera", "identities", "images")
        rows = [
            {
                **{key: getattr(row, key) for key in keys},
                "modality": None if row.modality is None else NAMES[row.modality],
                "published": dict(zip(("identities", "images"), row.published)),
                "differs": row.differs,
            }
            for row in self.rows
        ]
        return {
            "dataset": self.layout,
            "folder": str(self.folder),
            "usable": not self.errors,
            "published_set": not self.errors and not self.differing,
            "images": self.images,
            "rows": rows,
            "errors": self.errors,
            "warnings": self.warnings,
            "verdict": self.verdict,
        }


def count(known: Counts, split: int | None, seen: Iterable[Seen]) -> Iterator[Row]:
    """Rows of one split: each camera, each modality where it has several, each role.

    Args:
        known: published counts; what is published but absent has a row, too.
        split: number of the split, for the rows.
        seen: the split's images.
    """
    pids: dict[tuple, list[int]] = {key: [] for key in known}
    for image in seen:
        for key in (image[:3], (*image[:2], None), (image.role, None, None)):
            pids.setdefault(key, []).append(image.pid)
    cameras = Counter(key[:2] for key in pids if key[2] is not None)
    roles = list(dict.fromkeys(role for role, _, _ in pids))
    for key in sorted(pids, key=lambda key: (roles.index(key[0]), *map(_last, key[1:]))):
        is_repeat = key[1] is not None and key[2] is None and cameras[key[:2]] == 1
        if not is_repeat:
            found, (role, modality, camera) = pids[key], key
            published = known.get(key, (None, None))
            yield Row(split, role, modality, camera, len(set(found)), len(found), published)


def _last(number: int | None) -> float:
    """Sort key: sums come after what they add up."""
    return float("inf") if number is None else number


def text(report: Report) -> str:
    """The report as a table, warnings and errors, with the verdict as the last line."""
    parts = [f"{report.layout}: {report.folder}"]
    if report.rows:
        parts.append(tabulate(_lines(report.rows), HEADERS, intfmt=",", missingval="-"))
    for title, lines in (("warnings", report.warnings), ("errors", report.errors)):
        if lines:
            shown = [f"  {line}" for line in lines[:SHOWN]]
            if len(lines) > SHOWN:
                shown.append(f"  ... and {len(lines) - SHOWN} more (--json writes all)")
            parts.append("\n".join([f"{title}:", *shown]))
    return "\n\n".join([*parts, report.verdict])


def _lines(rows: list[Row]) -> Iterator[list]:
    """Table lines; splits with the same counts share a line."""
    splits: dict[tuple, list] = {}
    for row in rows:
        key = (row.role, row.modality, row.camera, row.identities, row.images)
        splits.setdefault(key, []).append(row.split)
    shown = set()
    for row in rows:
        key = (row.role, row.modality, row.camera, row.identities, row.images)
        if key in shown:
            continue
        shown.add(key)
        known = row.published != (None, None)
        yield [
            row.role if row.split is None else f"{row.role} {_ranges(splits[key])}",
            "both" if row.modality is None else NAMES[row.modality],
            "all" if row.camera is None else row.camera,
            row.identities,
            row.published[0],
            row.images,
            row.published[1],
            "differs" if row.differs else "same" if known else None,
        ]


def _ranges(numbers: list[int]) -> str:
    """[1, 2, 3, 5] -> "1-3,5"."""
    runs = groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    ends = [[number for _, number in run] for _, run in runs]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in ends)
