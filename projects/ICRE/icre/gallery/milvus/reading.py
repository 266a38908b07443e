"""The rows of a gallery in Milvus: asked for by condition or by key, as a table and as features."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from icre.gallery.milvus.connection import Client
from icre.gallery.milvus.expressions import among, both, has, quote
from icre.gallery.milvus.rows import COLUMNS, FEATURE, KEY_LETTERS, keys_of, to_table, to_vectors
from icre.gallery.table import ImageTable
from icre.modality import NAMES
from icre.utils.errors import UserError

MOST = 16_384  # rows in an answer, and results of a query: Milvus' limit
_KEYS = 1000  # in a request
_SEEN = 65_536  # rows of answers that are kept


class Rows:
    """The rows of one version of a gallery, as Milvus answers for them.

    Args:
        client: of the Milvus.
        collection: of the rows.
        hidden: condition that leaves out what a change that is not finished has added; "": none.
        dimensions: D.
    """

    def __init__(self, client: Client, collection: str, hidden: str, dimensions: int):
        self.client, self.collection, self.hidden = client, collection, hidden
        self.dimensions = dimensions

    def count(self, condition: str = "") -> int:
        """Rows that meet a condition."""
        found = self.query(condition, ["count(*)"])
        return int(found[0]["count(*)"])

    def query(self, condition: str, fields: list[str], limit: int | None = None) -> list[dict]:
        """Rows that meet a condition, at most `limit`, in no order."""
        options = {"limit": limit} if limit else {}
        condition = both(condition, self.hidden)
        return list(
            self.client("query", self.collection, filter=condition, output_fields=fields, **options)
        )

    def get(self, keys: Sequence[str], fields: list[str]) -> dict[str, dict]:
        """Key -> row, of those that are there."""
        found: dict[str, dict] = {}
        size = _KEYS if FEATURE not in fields else max(1, min(_KEYS, 2**20 // self.dimensions))
        for first in range(0, len(keys), size):
            some = list(keys[first : first + size])
            rows = self.query(among("key", some), ["key", *fields], len(some))
            found |= {row["key"]: row for row in rows}
        return found

    def delete(self, keys: Sequence[str]) -> None:
        """Delete rows by their keys."""
        self.client("delete", self.collection, filter=among("key", keys))

    def each(self, condition: str, fields: list[str], size: int = 4096) -> Iterator[list[dict]]:
        """All rows that meet a condition, in blocks; every row once."""
        last = ""  # the iterator goes by keys
        while True:
            beyond = f"key > {quote(last)}" if last else ""
            block = self.client(
                "query",
                self.collection,
                filter=both(condition, self.hidden, beyond),
                output_fields=["key", *fields],
                limit=size,
                iterator="True",  # lets Milvus answer with the least keys
                reduce_stop_for_best="True",
            )
            rows = sorted(block, key=lambda row: row["key"])
            if not rows:
                return
            yield rows
            last = rows[-1]["key"]


class StoredImages:
    """The table of a gallery; see `icre.gallery.table.Images`."""

    def __init__(self, rows: Rows):
        self._rows = rows
        self._seen: OrderedDict[str, dict] = OrderedDict()

    def __len__(self) -> int:
        return self._rows.count()

    def remember(self, entities: Sequence[dict]) -> None:
        """Keep rows that an answer has brought."""
        for one in entities:
            self._seen[one["key"]] = one
        while len(self._seen) > _SEEN:
            self._seen.popitem(last=False)

    def take(self, rows: Sequence[str] | np.ndarray) -> ImageTable:
        """The given rows, in that order.

        Raises:
            UserError: one was removed meanwhile.
        """
        keys = [str(row) for row in rows]
        known = {key: self._seen.get(key) for key in keys}
        missing = [key for key, row in known.items() if row is None]
        known |= self._rows.get(missing, COLUMNS)
        for key in missing:
            if known[key] is None:
                raise UserError(f"the gallery has no row {key} (removed meanwhile?): search again")
        return to_table([known[key] for key in keys])

    def find(self, key: str) -> dict[str, Any]:
        """As `ImageTable.row`, of the row with a key.

        Raises:
            LookupError: there is none.
        """
        found = self._rows.get([key], COLUMNS) if len(key) == KEY_LETTERS else {}
        if not found:
            raise LookupError(key)
        return to_table([found[key]]).row(0)

    def known(self, images: ImageTable) -> np.ndarray:
        """(n,) which images of a table are here already, by path and box."""
        keys = keys_of(images)
        found = self._rows.get(keys, ["path"])
        return np.array([key in found for key in keys], dtype=bool)

    def names(self, column: str, wanted: Sequence[str] | None = None) -> set[str]:
        """See `icre.gallery.table.Images.names`."""
        if wanted is None:
            table = self.sample
            known = {"camera": table.cameras, "identity": table.identities, **table.attributes}
            return set(known.get(column, ())) - {""}
        names = sorted(set(wanted) - {""})
        if column not in ("camera", "identity"):
            return {name for name in names if self._rows.query(has(column, name), ["key"], 1)}
        found: set[str] = set()
        for first in range(0, len(names), _KEYS):
            condition = among(column, names[first : first + _KEYS])
            for block in self._rows.each(condition, [column]):
                found.update(row[column] for row in block)
        return found

    @cached_property
    def is_sampled(self) -> bool:
        """Whether `sample` is not all."""
        return len(self.sample) >= MOST

    @cached_property
    def sample(self) -> ImageTable:
        """All rows, of a large gallery `MOST` of them."""
        return to_table(self._rows.query("", COLUMNS, MOST))

    @cached_property
    def modalities(self) -> np.ndarray:
        """The modalities that there are, ascending."""
        there = [
            number
            for number in range(len(NAMES))
            if self._rows.query(f"modality == {number}", ["key"], 1)
        ]
        return np.array(there, dtype=np.int64)

    @cached_property
    def attributes(self) -> list[str]:
        """Names of the attributes of `sample`, sorted."""
        return sorted(self.sample.attributes)

    @cached_property
    def time_span(self) -> tuple[str, str] | None:
        """The first and the last time of `sample`, ISO 8601, UTC; None: no image has one."""
        times = self.sample.times
        times = times[~np.isnat(times)]
        return (f"{times.min()}Z", f"{times.max()}Z") if len(times) else None


class StoredFeatures:
    """Features of a gallery, asked for by their rows."""

    def __init__(self, rows: Rows):
        self._rows = rows

    def __getitem__(self, rows: Sequence[str] | np.ndarray) -> np.ndarray:
        keys = [str(row) for row in rows]
        found = self._rows.get(keys, [FEATURE])
        for key in keys:
            if key not in found:
                raise UserError(f"the gallery has no row {key} (removed meanwhile?): search again")
        return to_vectors([found[key] for key in keys], self._rows.dimensions)
