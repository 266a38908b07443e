"""Tables of images in memory: what is known of each image of a source, a gallery or of queries."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np

from icre.modality import NAMES
from icre.utils.image import Crop

TIME = np.dtype("<M8[us]")
NO_TIME = np.datetime64("NaT", "us")
WHOLE = (0, 0, 0, 0)  # the box of an image that is no crop


@dataclass(frozen=True, eq=False)
class ImageTable:
    """One row per image, or per box in one.

    Args:
        paths: N absolute paths, or URLs.
        modalities: (N,) integers of `icre.modality`.
        cameras, identities: N texts, "" if unknown. For a path in the layout of a published data
            set they are read from it, as "3" and "sysu 461".
        times: (N,) datetime64[us], UTC; NaT if unknown. None: all unknown.
        boxes: (N, 4) int32 x, y, width, height in pixels of the image; `WHOLE`: no crop. None: none
            is a crop.
        attributes: name -> N texts, "" if unknown.
    """

    paths: Sequence[str]
    modalities: np.ndarray
    cameras: Sequence[str]
    identities: Sequence[str]
    times: np.ndarray = None  # type: ignore[assignment]
    boxes: np.ndarray = None  # type: ignore[assignment]
    attributes: dict[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.paths)
        if self.times is None:
            object.__setattr__(self, "times", np.full(count, NO_TIME, dtype=TIME))
        if self.boxes is None:
            object.__setattr__(self, "boxes", np.zeros((count, 4), dtype=np.int32))

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Sequence[int] | np.ndarray) -> Self:
        """The given rows (n,), in that order."""
        where = np.asarray(rows, dtype=int)

        def pick(column: Sequence[str]) -> list[str]:
            return [column[row] for row in where]

        return type(self)(
            pick(self.paths),
            self.modalities[where],
            pick(self.cameras),
            pick(self.identities),
            self.times[where],
            self.boxes[where],
            {name: pick(column) for name, column in self.attributes.items()},
        )

    def row(self, row: int) -> dict[str, Any]:
        """{path, modality, camera, identity} of a row as texts.

        Where they are known also `time` (ISO 8601, UTC), `box` (x, y, width, height) and
        `attributes` {name: text}.
        """
        result: dict[str, Any] = {
            "path": self.paths[row],
            "modality": NAMES[self.modalities[row]],
            "camera": self.cameras[row],
            "identity": self.identities[row],
        }
        if not np.isnat(self.times[row]):
            result["time"] = f"{self.times[row]}Z"
        if self.boxes[row].any():
            result["box"] = tuple(self.boxes[row].tolist())
        known = {name: column[row] for name, column in self.attributes.items() if column[row]}
        return result | ({"attributes": known} if known else {})

    def sources(self) -> list[str | Crop]:
        """What `icre.utils.image.read_image` takes for each row: a path, or a crop."""
        boxes = self.boxes.tolist()
        return [Crop(path, *box) if any(box) else path for path, box in zip(self.paths, boxes)]

    def keys(self) -> list[tuple]:
        """What tells rows apart: path and box."""
        return [(path, *box) for path, box in zip(self.paths, self.boxes.tolist())]

    @classmethod
    def from_rows(cls, rows: Sequence[dict[str, Any]]) -> Self:
        """Make a table of dicts as `row` returns, whose `time` is a datetime64."""
        modalities = np.array([NAMES.index(row["modality"]) for row in rows], dtype=np.int64)
        paths, cameras, identities = (
            [row[name] for row in rows] for name in ("path", "camera", "identity")
        )
        times = np.array([row.get("time", NO_TIME) for row in rows], dtype=TIME)
        boxes = np.array([row.get("box", WHOLE) for row in rows], dtype=np.int32).reshape(-1, 4)
        names = dict.fromkeys(name for row in rows for name in row.get("attributes", {}))
        attributes: dict[str, Sequence[str]] = {
            name: [row.get("attributes", {}).get(name, "") for row in rows] for name in names
        }
        return cls(paths, modalities, cameras, identities, times, boxes, attributes)

    @classmethod
    def joined(cls, tables: Sequence[Self]) -> Self:
        """One table of several, in order; attributes that one does not have are unknown there."""
        names = dict.fromkeys(name for one in tables for name in one.attributes)
        return cls(
            [path for one in tables for path in one.paths],
            np.concatenate([one.modalities for one in tables]),
            [text for one in tables for text in one.cameras],
            [text for one in tables for text in one.identities],
            np.concatenate([one.times for one in tables]),
            np.concatenate([one.boxes for one in tables]),
            {
                name: [t for one in tables for t in one.attributes.get(name, [""] * len(one))]
                for name in names
            },
        )


class Images(Protocol):
    """The table of a gallery's images.

    A row is what `Gallery.nearest` returns: a number in a folder, a key in Milvus.
    """

    attributes: list[str]
    modalities: np.ndarray
    time_span: tuple[str, str] | None
    is_sampled: bool  # whether attributes, times and names may be incomplete

    def __len__(self) -> int: ...

    def take(self, rows: Sequence[Any] | np.ndarray) -> ImageTable:
        """The given rows, in that order."""

    def find(self, row: str) -> dict[str, Any]:
        """As `ImageTable.row`, of the row that a text names; LookupError if there is none."""

    def known(self, images: ImageTable) -> np.ndarray:
        """(n,) which images of a table are here already, by path and box."""

    def names(self, column: str, wanted: Sequence[str] | None = None) -> set[str]:
        """Different texts of a column, without those that are unknown.

        Args:
            column: camera, identity or an attribute.
            wanted: of these names those that are there; None: all, of a store those that a
                sample of its rows has.
        """
