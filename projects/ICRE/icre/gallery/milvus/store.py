"""A gallery in Milvus as a `Store`: opening, adding, removing, calibrating.

    NAME          the rows (`icre.gallery.milvus.rows`)
    NAME_state    the state and what else is known (`icre.gallery.milvus.records`)

Milvus has no transactions, so a change is written as *pending* into the state first, and is
finished when the state without it replaces that one:

- Rows that are added have the next version. While an addition is pending, those who open the
  gallery leave that version out; so it comes as a whole. Killed, it is continued by the same
  command, and dropped by another change.
- The rows of a removal are logged first, then deleted by their keys, and the next change deletes
  them again where the removal was killed. Those who search meanwhile may find some of them.
"""

import hashlib
import json
import uuid
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from icre.gallery import journal
from icre.gallery.arrays import no_unit_vector
from icre.gallery.backend import StoreUnavailable
from icre.gallery.calibration import Calibration
from icre.gallery.changes import Change, new_images
from icre.gallery.filters import Filter
from icre.gallery.milvus import answers
from icre.gallery.milvus.connection import Client
from icre.gallery.milvus.opened import MilvusGallery
from icre.gallery.milvus.reading import Rows
from icre.gallery.milvus.records import FORMAT, Model, Records, Since, State
from icre.gallery.milvus.rows import (
    COLUMNS,
    FEATURE,
    check_texts,
    create_rows,
    keys_of,
    to_table,
    to_vectors,
)
from icre.gallery.milvus.writing import (
    Addition,
    begin,
    begin_removal,
    digest_of,
    finish_removal,
    is_alive,
    logged_rows,
)
from icre.gallery.store import ModelInfo
from icre.gallery.table import ImageTable
from icre.utils.errors import UserError


class MilvusStore:
    """A gallery's place in a Milvus; see `icre.gallery.backend.Store` for the methods.

    Args:
        client: of the Milvus.
        gallery: the gallery's name.

    Raises:
        UserError: it cannot be a collection's name.
    """

    is_remote = True

    def __init__(self, client: Client, gallery: str):
        if not (gallery.isascii() and gallery.isidentifier() and len(gallery) <= 200):
            raise UserError(
                f"{gallery!r} cannot be the name of a gallery in Milvus: take letters, digits "
                "and _, at most 200 and no digit first"
            )
        self.client, self.title = client, gallery
        self.name = f"{gallery} in {client.address.uri}"
        self.records = Records(client, gallery, self.name)

    def state(self) -> State | None:
        """The state; None: there is no gallery of that name.

        Raises:
            UserError: something else has that name, or the gallery is damaged.
        """
        there = self.client("has_collection", self.title)
        if not self.client("has_collection", self.records.collection):
            if there and self._count():
                raise UserError(
                    f"{self.name} is a collection that is no gallery of this program: choose "
                    "another name"
                )
            return None
        self._load(self.records.collection)
        found = self.records.read_state()
        if found is None:
            return None
        if not there:
            raise UserError(
                f"gallery {self.name} is damaged: its rows are gone; drop the collection "
                f"{self.records.collection} too, and index again"
            )
        self._load(self.title)
        return found[0]

    def open(self) -> MilvusGallery:
        """The newest version."""
        state = self.state()
        if state is None:
            raise UserError(f"{self.name} is no gallery: make one with tools/search.py index")
        if not state.version:
            raise UserError(
                f"gallery {self.name} is unfinished: repeat the command that indexes it, it goes "
                "on where it was stopped"
            )
        self._check_dimensions(state)
        config = self.records.read(state.config)
        calibrations = {}
        if state.calibration:
            where = f"gallery {self.name} is damaged: its calibration of"
            calibrations = {
                name: Calibration.from_dict(one, f"{where} {name}: it")
                for name, one in self.records.read_json(state.calibration).items()
            }
        hides = state.pending is not None and state.pending.removed is None
        hidden = f"version <= {state.version}" if hides else ""
        return MilvusGallery(self.name, state, self._rows(state, hidden), config, calibrations)

    def status(self) -> Hashable:
        """The text of the state."""
        if not self.client("has_collection", self.records.collection):
            return None
        try:
            found = self.records.read_state()
        except StoreUnavailable:
            raise
        except UserError:  # `open` says what is wrong
            return None
        return found and found[1]

    def create(self, model: ModelInfo, dimensions: int, kind: str) -> None:
        """Make a gallery of no images, which `addition` fills; one that was begun is continued.

        Raises:
            UserError: there is a finished one.
        """
        state = self.check_absent()
        if state:
            same = state.model.sha256 == model.sha256 and state.dimensions == dimensions
            if same and state.index == kind:
                return
            if state.pending and is_alive(state.pending):
                begin(self.records, self._rows(state))  # raises
        if self.client("has_collection", self.title):
            self.client("drop_collection", self.title)
        self.records.create()
        create_rows(self.client, self.title, dimensions, kind)
        name = uuid.uuid4().hex
        state = State(
            format=FORMAT,
            id=name,
            model=Model(weights=model.weights, sha256=model.sha256),
            config=self.records.write(f"config/{name}", model.config),
            config_sha256=hashlib.sha256(model.config.encode()).hexdigest(),
            dimensions=dimensions,
            index=kind,
            made=journal.now(),
            changed=journal.now(),
            version=0,
            calibration=None,
            calibrated=Since(images=0, added=0, removed=0),
            pending=None,
        )
        self.records.write_state(state)

    def check_absent(self) -> State | None:
        """The state of an unfinished gallery; raises UserError for a finished one."""
        state = self.state()
        if state and state.version:
            raise UserError(
                f"gallery {self.name} exists: add to it with tools/search.py add, or choose "
                "another --out"
            )
        return state

    def written(self, images: ImageTable, stamp: str = "") -> np.ndarray:
        """(N,) which rows an addition of these images has written that was stopped."""
        check_texts(images)
        state = self.state()
        pending = state and state.pending
        if not state or not pending or pending.digest != digest_of(state, images, stamp):
            return np.zeros(len(images), dtype=bool)
        keys = keys_of(images)
        there = self._rows(state).get(keys, ["version"])
        found = [there.get(key, {}).get("version") == pending.version for key in keys]
        return np.array(found, dtype=bool)

    def addition(self, images: ImageTable, stamp: str = "") -> Addition:
        """Begin to add images, or go on where the same addition was stopped.

        Args:
            images: N rows, none of which the gallery has.
            stamp: of what their features depend on besides the model.

        Raises:
            UserError: a text that Milvus cannot hold, or as `begin`.
        """
        check_texts(images)
        state = self.state()
        if state is None:
            raise UserError(f"{self.name} is no gallery: make one with tools/search.py index")
        self._check_dimensions(state)
        return Addition(self.records, self._rows(state), digest_of(state, images, stamp))

    def add(
        self, images: ImageTable, blocks: Iterable[np.ndarray], progress: bool = True
    ) -> Change:
        """Add N images with their features, in blocks of together (N, D); all or none."""
        new_images(self.open(), images, skip_existing=False)
        addition, start = self.addition(images), 0
        for block in blocks:
            rows = range(start, min(start + len(block), len(images)))
            addition.write(images.take(rows), block)
            start += len(block)
        if start != len(images):
            raise ValueError(f"{start} features for {len(images)} images")
        addition.finish()
        return Change(self.open(), images)

    def remove(self, filter: Filter, reason: str = "") -> Change:
        """Remove the images that meet a filter: rows and features."""
        gallery = self.open()
        rows, pending = self._rows(gallery.state), gallery.state.pending
        text = "; ".join(part for part in (str(filter), reason) if part)
        if pending and pending.removed and not is_alive(pending):  # it was killed
            finish_removal(self.records, rows, gallery.state)
            entry = self.records.read_json(pending.removed)
            if entry["reason"] == text:
                return self._removed(logged_rows(entry["rows"]))
            gallery = self.open()
        keys = gallery.keys(filter)
        if not keys:
            raise UserError(f"no image of gallery {self.name} meets {filter}: nothing is removed")
        images = gallery.images.take(keys)
        entry = {
            "date": journal.now(),
            "version": gallery.version + 1,
            "reason": text,
            "keys": keys,
            "rows": [images.row(row) for row in range(len(images))],
        }
        state = begin_removal(self.records, rows, entry)
        finish_removal(self.records, rows, state)
        return self._removed(images)

    def _removed(self, images: ImageTable) -> Change:
        return Change(self.open(), images, answers=tuple(answers.written(self.records)))

    def save_calibrations(
        self, gallery: MilvusGallery, calibrations: dict[str, Calibration]
    ) -> None:
        """Store calibrations that were made with an opened gallery; replaces earlier ones."""
        stored = json.dumps({name: one.as_dict() for name, one in calibrations.items()})
        state = begin(self.records, self._rows(gallery.state))
        text = self.records.write(f"calibration/{uuid.uuid4().hex}", stored)
        now, then = state.calibrated, gallery.state.calibrated
        since = Since(
            images=len(gallery.images),
            added=max(0, now.added - then.added),
            removed=max(0, now.removed - then.removed),
        )
        changes = {"calibration": text, "calibrated": since, "pending": None}
        self.records.write_state(state.model_copy(update=changes))
        for old in self.records.below("calibration/"):
            if old != text:
                self.records.delete(old)

    def removals(self, version: int) -> list[dict[str, Any]]:
        """The log of removals up to a version: date, version, reason, rows."""
        entries = [self.records.read_json(text) for text in self.records.below("removed/")]
        return [entry for entry in entries if entry["version"] <= version]

    def remember_answers(self, version: int, *paths: str | Path | None) -> None:
        """Note the files into which answers were written, which a removal then names."""
        answers.remember(self.records, version, *paths)

    def verify(self) -> list[str]:
        """Read all rows with their features."""
        gallery, count = self.open(), 0
        for block in gallery.rows.each("", [*COLUMNS, FEATURE], 1024):
            images = to_table(block)
            features = to_vectors(block, gallery.state.dimensions)
            wrong = no_unit_vector(features)
            if wrong is not None:
                raise UserError(
                    f"gallery {self.name} is damaged: the feature of {images.paths[wrong]} is no "
                    "unit vector; remove it and add it again"
                )
            for key, row in zip(keys_of(images), block):
                if key != row["key"]:
                    raise UserError(
                        f"gallery {self.name} is damaged: the row of {row['path']} has the key "
                        f"{row['key']}, not {key}; remove it and add it again"
                    )
            count += len(block)
        note = self.leftovers()
        lines = [f"{self.name}: {count} images, each with its key and a unit vector"]
        return lines + ([f"note: {note}"] if note else [])

    def leftovers(self) -> str:
        """What is pending."""
        state = self.state()
        pending = state and state.pending
        if not pending:
            return ""
        kind = "removal: repeat it" if pending.removed else "addition: repeat it, or change else"
        alive = "runs" if is_alive(pending) else "was killed"
        return f"process {pending.process} on {pending.host} {alive} in an {kind}"

    def _rows(self, state: State, hidden: str = "") -> Rows:
        return Rows(self.client, self.title, hidden, state.dimensions)

    def _count(self) -> int:
        self._load(self.title)
        found = self.client("query", self.title, filter="", output_fields=["count(*)"])
        return int(found[0]["count(*)"])

    def _load(self, collection: str) -> None:
        """Milvus searches what is loaded; a file of milvus-lite is not after it was closed."""
        state = self.client("get_load_state", collection)
        if getattr(state["state"], "name", "") != "Loaded":
            self.client("load_collection", collection)

    def _check_dimensions(self, state: State) -> None:
        fields = self.client("describe_collection", self.title)["fields"]
        found = [int(one["params"]["dim"]) for one in fields if one["name"] == FEATURE]
        if found != [state.dimensions]:
            raise UserError(
                f"collection {self.name} has features of {found or 'no'} dimensions, its state "
                f"says {state.dimensions}: another program made it anew; index again"
            )
