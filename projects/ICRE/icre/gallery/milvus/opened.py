"""A gallery in Milvus, opened for searching."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from icre.gallery.calibration import Calibration
from icre.gallery.columns import Columns
from icre.gallery.exact import exact
from icre.gallery.filters import Filter
from icre.gallery.manifest import require_model
from icre.gallery.milvus.expressions import among, both, expression, has, has_attribute, is_exact
from icre.gallery.milvus.reading import MOST, Rows, StoredFeatures, StoredImages
from icre.gallery.milvus.records import State
from icre.gallery.milvus.rows import COLUMNS, FEATURE, KINDS, to_table, to_vectors
from icre.utils.errors import UserError

# A filter that leaves at most so many rows is searched exactly, by comparing their vectors here.
EXACT_ROWS = 4096
PATTERN_ROWS = 16_384  # that a pattern with ? or [] may leave
_QUERIES = 256  # in a request
_EFFORT = 4  # times as much where a filter leaves more rows


@dataclass(frozen=True, eq=False)
class MilvusGallery:
    """A version of a gallery; see `icre.gallery.backend.Gallery`.

    Args:
        name: of the gallery, for messages.
        state: of this version.
        rows: of this version.
        config: of the model.
        calibrations: name of the queries' modality -> Calibration.
    """

    name: str
    state: State
    rows: Rows
    config: str
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    _there: set[tuple[str, str]] = field(default_factory=set)  # (column, name) that were found
    has_keys, beside = True, 0

    @cached_property
    def images(self) -> StoredImages:
        """The table."""
        return StoredImages(self.rows)

    @cached_property
    def features(self) -> StoredFeatures:
        """Indexed by rows (n,): (n, D)."""
        return StoredFeatures(self.rows)

    @property
    def modalities(self) -> np.ndarray:
        """The modalities that its images have, ascending."""
        return self.images.modalities

    @property
    def version(self) -> int:
        """Grows by one with each change."""
        return self.state.version

    @property
    def change(self) -> dict[str, int]:
        """{images, added, removed}: images when it was calibrated, and what changed since."""
        return self.state.calibrated.model_dump()

    @property
    def manifest(self) -> dict[str, Any]:
        """As of a folder, what both have."""
        state = self.state
        return {
            "format": f"milvus {state.format}",
            "model": state.model.model_dump(),
            "config": {"sha256": state.config_sha256},
            "dimensions": state.dimensions,
            "index": state.index,
            "made": state.made,
            "changed": state.changed,
        }

    def check_model(self, sha256: str, weights: str) -> None:
        """Raise UserError unless this is the SHA-256 of the checkpoint that the features are of."""
        require_model(self.name, self.manifest["model"], sha256, weights)

    def on(self, device: Any) -> "MilvusGallery":
        """Milvus' machines search, not this one."""
        return self

    def count(self, filter: Filter) -> int:
        """Images that meet a filter; errors as of `nearest`."""
        return self._passing(filter)[1]

    def keys(self, filter: Filter) -> list[str]:
        """The rows that meet a filter; errors as of `nearest`."""
        condition, count = self._passing(filter)
        blocks = self.rows.each(condition, ["path"]) if count else ()
        return [row["key"] for block in blocks for row in block]

    def nearest(
        self, queries: np.ndarray, top: int, filter: Filter | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `icre.gallery.backend.Gallery.nearest`."""
        if top > MOST:
            raise UserError(f"{top} results of a query: Milvus gives at most {MOST}")
        condition, count = self._passing(filter) if filter else ("", -1)
        if count == 0:
            return np.empty((len(queries), 0), "U32"), np.empty((len(queries), 0), np.float32)
        if 0 < count <= EXACT_ROWS:
            return self._exact(queries, top, condition)
        _, _, effort = KINDS[self.state.index]
        found: list[list[dict]] = []
        for first in range(0, len(queries), _QUERIES):
            found += self._search(queries[first : first + _QUERIES], top, condition, effort)
        width = max(map(len, found), default=0)
        rows = np.full((len(queries), width), "", dtype="U32")
        similarity = np.full((len(queries), width), -np.inf, dtype=np.float32)
        for number, hits in enumerate(found):
            rows[number, : len(hits)] = [hit["key"] for hit in hits]
            similarity[number, : len(hits)] = [hit["distance"] for hit in hits]
            self.images.remember([hit["entity"] | {"key": hit["key"]} for hit in hits])
        return rows, similarity

    def _search(
        self, queries: np.ndarray, top: int, condition: str, effort: dict[str, int]
    ) -> list[list[dict]]:
        times = _EFFORT if condition else 1
        parameters = {name: max(times * value, top) for name, value in effort.items()}
        hits = self.rows.client(
            "search",
            self.rows.collection,
            data=list(np.ascontiguousarray(queries, dtype=np.float32)),
            anns_field=FEATURE,
            limit=top,
            filter=both(condition, self.rows.hidden),
            output_fields=[name for name in COLUMNS if name != "key"],
            search_params={"metric_type": "IP", "params": parameters},
        )
        return [list(one) for one in hits]

    def _exact(
        self, queries: np.ndarray, top: int, condition: str
    ) -> tuple[np.ndarray, np.ndarray]:
        entities = self.rows.query(condition, [*COLUMNS, FEATURE], MOST)
        entities.sort(key=lambda row: row["key"])
        vectors = to_vectors(entities, self.state.dimensions)
        numbers, similarity = exact([(0, vectors, None)], queries, top)
        self.images.remember([{name: one[name] for name in COLUMNS} for one in entities])
        keys = np.array([one["key"] for one in entities], dtype="U32")
        return keys[numbers], similarity

    def _passing(self, filter: Filter) -> tuple[str, int]:
        """The condition of a filter, and the number of rows that meet it."""
        names = _names(filter)
        replace(filter, camera=(), not_camera=(), identity=(), where=()).check([], self.name)
        condition = expression(filter)
        count = self.rows.count(condition)
        # where rows pass, a name that is alone in its condition is there
        doubtful = not count or filter.not_camera or len(names) > len(dict(names))
        if doubtful and not self._there.issuperset(names):
            self._check(filter, names)
            self._there.update(names)
        if count and not is_exact(filter):
            keys = self._of_pattern(filter, condition, count)
            condition, count = among("key", keys), len(keys)
        return condition, count

    def _check(self, filter: Filter, names: list[tuple[str, str]]) -> None:
        """`Filter.check`, on the rows that tell it: one of each name, of each attribute."""
        conditions = [has(column, text) for column, text in names]
        conditions += [has_attribute(name) for name in dict(filter.where)]
        found = [self.rows.query(one, COLUMNS, 1) for one in conditions]
        parts = [Columns.of(to_table(rows)) for rows in found if rows]
        if not all(found):
            parts.append(Columns.of(self.images.sample))
        filter.check(parts, self.name)

    def _of_pattern(self, filter: Filter, condition: str, count: int) -> list[str]:
        """The rows of `condition` whose paths meet the filter's patterns."""
        if count > PATTERN_ROWS:
            raise UserError(
                f"--path {' '.join(filter.path)}: of {count} images each path has to be read for ? "
                f"and []: name further conditions that leave {PATTERN_ROWS}, or use * alone"
            )
        blocks = self.rows.each(condition, ["path"])
        return [row["key"] for block in blocks for row in block if filter.fits(row["path"])]


def _names(filter: Filter) -> list[tuple[str, str]]:
    """(column, name) of all names in a filter."""
    cameras = [("camera", text) for text in filter.camera + filter.not_camera]
    return cameras + [("identity", text) for text in filter.identity] + list(filter.where)
