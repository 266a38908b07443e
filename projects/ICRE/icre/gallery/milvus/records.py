"""What a gallery knows beside its rows: its state, the model's config, calibrations, the log.

They are texts in a collection of their own, called as the gallery's with `_state` behind it. The
record `state` is one row, and so replaced in one step; all others are written once, before the
state that names them.
"""

import json
import time
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from icre.gallery.milvus.connection import Client
from icre.gallery.milvus.expressions import among, quote
from icre.gallery.milvus.rows import KINDS
from icre.utils.errors import UserError
from icre.utils.schema import Closed, parse

FORMAT = 1
SUFFIX, STATE = "_state", "state"
_BYTES = 60_000  # of a text in one row; Milvus' limit is 65,535
_MOST = 16_384  # rows in an answer of Milvus

_Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Text(Closed):
    """A text: its records are `name/00000` and so on."""

    name: str
    parts: PositiveInt


class Model(Closed):
    """The checkpoint that the features are of."""

    weights: str
    sha256: _Hash


class Since(Closed):
    """Images at the last calibration, and what changed since."""

    images: NonNegativeInt
    added: NonNegativeInt
    removed: NonNegativeInt


class Pending(Closed):
    """A change that has begun and is not finished.

    Its version is that of the gallery afterwards. `digest` is of what is added: the same command
    goes on with it. `removed` is the log entry of a removal, which any writer finishes.
    """

    version: PositiveInt
    digest: str
    removed: Text | None
    token: str
    host: str
    process: int
    beat: float  # seconds since 1970


class State(Closed):
    """What the gallery is; `version` 0: it was never finished."""

    format: Literal[FORMAT]  # type: ignore[valid-type]
    id: str
    model: Model
    config: Text
    config_sha256: _Hash
    dimensions: PositiveInt
    index: Literal[tuple(KINDS)]  # type: ignore[valid-type]
    made: str
    changed: str
    version: NonNegativeInt
    calibration: Text | None
    calibrated: Since
    pending: Pending | None


class Records:
    """The collection of a gallery's records.

    Args:
        client: of the Milvus.
        gallery: name of the gallery's collection.
        name: of the gallery, for messages.
    """

    def __init__(self, client: Client, gallery: str, name: str):
        self.client, self.name = client, name
        self.collection = gallery + SUFFIX

    def create(self) -> None:
        """Make the collection anew."""
        from pymilvus import DataType, MilvusClient
        from pymilvus.milvus_client.index import IndexParams

        if self.client("has_collection", self.collection):
            self.client("drop_collection", self.collection)
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=256)
        schema.add_field("text", DataType.VARCHAR, max_length=65_535)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)  # no collection is without one
        indexes = IndexParams()
        indexes.add_index("vector", index_type="FLAT", metric_type="IP")
        self.client(
            "create_collection",
            self.collection,
            schema=schema,
            index_params=indexes,
            consistency_level="Strong",
        )

    def read_state(self) -> tuple[State, str] | None:
        """The state and its text; None: there is no gallery.

        Raises:
            UserError: it is of another format, or damaged.
        """
        text = self._get([STATE]).get(STATE)
        if text is None:  # it may be replaced at this moment
            time.sleep(0.2)
            text = self._get([STATE]).get(STATE)
        if text is None:
            return None
        try:
            stored = json.loads(text)
        except ValueError:
            raise UserError(f"gallery {self.name} is damaged: its state is no JSON") from None
        if isinstance(stored, dict) and stored.get("format") != FORMAT:
            raise UserError(
                f"gallery {self.name} has format {stored.get('format')}, this program reads "
                f"{FORMAT}: index again"
            )
        return parse(State, stored, f"gallery {self.name} is damaged: its state"), text

    def write_state(self, state: State) -> None:
        """Replace the state."""
        self._put({STATE: state.model_dump_json()})

    def write(self, name: str, text: str) -> Text:
        """Write a text under a name that is new, or has this text already."""
        ascii_text = json.dumps(text)  # so that a part has as many bytes as letters
        parts = [ascii_text[n : n + _BYTES] for n in range(0, len(ascii_text), _BYTES)]
        for first in range(0, len(parts), 64):
            some = enumerate(parts[first : first + 64], start=first)
            self._put({_part(name, number): part for number, part in some})
        return Text(name=name, parts=len(parts))

    def read(self, text: Text) -> str:
        """The inverse of `write`.

        Raises:
            UserError: a part is missing or damaged.
        """
        names = [_part(text.name, number) for number in range(text.parts)]
        found: dict[str, str] = {}
        for first in range(0, len(names), 64):
            found |= self._get(names[first : first + 64])
        try:
            return json.loads("".join(found[name] for name in names))
        except (KeyError, ValueError):
            raise UserError(f"gallery {self.name} is damaged: {text.name} is not whole") from None

    def read_json(self, text: Text) -> dict[str, Any]:
        """As `read`, of a JSON object."""
        whole = self.read(text)  # not below: StoreUnavailable is a ValueError too
        try:
            content = json.loads(whole)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise UserError(f"gallery {self.name} is damaged: {text.name} is no JSON")
        return content

    def delete(self, text: Text) -> None:
        """Delete a text."""
        names = [_part(text.name, number) for number in range(text.parts)]
        for first in range(0, len(names), 1000):
            some = names[first : first + 1000]
            self.client("delete", self.collection, filter=among("key", some))

    def below(self, prefix: str) -> list[Text]:
        """The texts whose names begin with a prefix, by name."""
        rows = self.client(
            "query",
            self.collection,
            filter=f"key like {quote(prefix + '%')}",
            output_fields=["key"],
            limit=_MOST,
        )
        counts: dict[str, int] = {}
        for row in rows:
            name = row["key"].rpartition("/")[0]
            counts[name] = counts.get(name, 0) + 1
        return [Text(name=name, parts=counts[name]) for name in sorted(counts)]

    def _get(self, names: list[str]) -> dict[str, str]:
        rows = self.client(
            "query",
            self.collection,
            filter=among("key", names),
            output_fields=["key", "text"],
            limit=len(names),
        )
        return {row["key"]: row["text"] for row in rows}

    def _put(self, texts: dict[str, str]) -> None:
        entities: list[dict[str, Any]] = [
            {"key": name, "text": text, "vector": [0.0, 0.0]} for name, text in texts.items()
        ]
        self.client("upsert", self.collection, entities)


def _part(name: str, number: int) -> str:
    return f"{name}/{number:05d}"
