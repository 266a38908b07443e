"""The collection of a gallery's rows: its fields, and images as its entities.

The key of a row is a checksum of path and box, so writing a row again replaces it.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from icre.gallery.table import TIME, ImageTable
from icre.utils.errors import UserError

FEATURE = "feature"
KEY_LETTERS = 32
# of a row without its feature, as Milvus is asked for them
COLUMNS = ["key", "path", "modality", "camera", "identity", "time", "box", "attributes"]
PATH_BYTES, NAME_BYTES, ATTRIBUTES_BYTES = 8192, 1024, 32_768
_INVERTED = ("camera", "identity", "modality", "time", "version")  # for filters
# --index -> Milvus' index and its parameters; "ef" and "nprobe" are those of a search
KINDS: dict[str, tuple[str, dict[str, int], dict[str, int]]] = {
    "flat": ("FLAT", {}, {}),
    "hnsw": ("HNSW", {"M": 32, "efConstruction": 200}, {"ef": 128}),
    "ivf": ("IVF_FLAT", {"nlist": 1024}, {"nprobe": 64}),
    "diskann": ("DISKANN", {}, {"search_list": 128}),
}


def create_rows(client: Any, collection: str, dimensions: int, kind: str) -> None:
    """Make the collection with its indexes, and load it."""
    from pymilvus import DataType, MilvusClient
    from pymilvus.milvus_client.index import IndexParams

    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=KEY_LETTERS)
    schema.add_field("path", DataType.VARCHAR, max_length=PATH_BYTES)
    schema.add_field("modality", DataType.INT8)
    schema.add_field("camera", DataType.VARCHAR, max_length=NAME_BYTES)
    schema.add_field("identity", DataType.VARCHAR, max_length=NAME_BYTES)
    schema.add_field("time", DataType.INT64)  # microseconds since 1970; the least of all: unknown
    schema.add_field("box", DataType.ARRAY, element_type=DataType.INT32, max_capacity=4)
    schema.add_field("attributes", DataType.JSON)
    schema.add_field("version", DataType.INT64)  # of the gallery that it came with
    schema.add_field(FEATURE, DataType.FLOAT_VECTOR, dim=dimensions)
    name, parameters, _ = KINDS[kind]
    indexes = IndexParams()
    indexes.add_index(FEATURE, index_type=name, metric_type="IP", params=parameters)
    for field in _INVERTED:
        indexes.add_index(field, index_type="INVERTED")
    client(
        "create_collection",
        collection,
        schema=schema,
        index_params=indexes,
        consistency_level="Strong",
    )


def key_of(path: str, *box: int) -> str:
    """The key of a row; 128 bits, so that of 10^10 rows no two have one (about 10^-19)."""
    text = json.dumps([path, *box])
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LETTERS]


def keys_of(images: ImageTable) -> list[str]:
    """The keys of a table's rows."""
    rows = images.keys()
    return [key_of(*row) for row in rows]


def check_texts(images: ImageTable) -> None:
    """Raise UserError for what Milvus cannot hold: bytes that are no text, and long texts."""
    columns = {
        "path": (images.paths, PATH_BYTES),
        "camera": (images.cameras, NAME_BYTES),
        "identity": (images.identities, NAME_BYTES),
    }
    columns |= {name: (texts, ATTRIBUTES_BYTES // 2) for name, texts in images.attributes.items()}
    for name, (texts, most) in columns.items():
        for row, text in enumerate(texts):
            try:
                size = len(text.encode())
            except UnicodeEncodeError:
                raise UserError(
                    f"{images.paths[row]}: its {name} is no UTF-8 text, which Milvus asks for: "
                    "rename it"
                ) from None
            if size > most or "\0" in text:
                what = f"has {size} bytes, the most is {most}" if size > most else "has a null byte"
                raise UserError(f"{images.paths[row]}: its {name} {what}: shorten it")


def to_entities(images: ImageTable, features: np.ndarray, version: int) -> list[dict[str, Any]]:
    """N rows as Milvus takes them."""
    times = images.times.astype(TIME).astype(np.int64).tolist()  # NaT is the least of all
    names = list(images.attributes)
    return [
        {
            "key": key,
            "path": images.paths[row],
            "modality": int(images.modalities[row]),
            "camera": images.cameras[row],
            "identity": images.identities[row],
            "time": times[row],
            "box": images.boxes[row].tolist(),
            "attributes": {
                name: images.attributes[name][row] for name in names if images.attributes[name][row]
            },
            "version": version,
            FEATURE: features[row],
        }
        for row, key in enumerate(keys_of(images))
    ]


def to_table(entities: Sequence[dict[str, Any]]) -> ImageTable:
    """Entities with COLUMNS as a table."""
    names = dict.fromkeys(name for one in entities for name in one["attributes"])
    return ImageTable(
        [one["path"] for one in entities],
        np.array([one["modality"] for one in entities], dtype=np.int64),
        [one["camera"] for one in entities],
        [one["identity"] for one in entities],
        np.array([one["time"] for one in entities], dtype=np.int64).astype(TIME),
        np.array([one["box"] for one in entities], dtype=np.int32).reshape(-1, 4),
        {name: [one["attributes"].get(name, "") for one in entities] for name in names},
    )


def to_vectors(entities: Sequence[dict[str, Any]], dimensions: int) -> np.ndarray:
    """(N, D) the features of entities."""
    vectors = np.array([one[FEATURE] for one in entities], dtype=np.float32)
    return vectors.reshape(-1, dimensions)
