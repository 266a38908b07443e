"""Changes of a gallery in Milvus that are pending, in steps that may each be the last.

One process at a time changes a gallery. Milvus has neither locks nor a compare-and-set, so the
pending change in the state is one as far as it goes: two processes that begin within the same few
milliseconds can both pass. Each row is written by its key, so even then none is there twice.
"""

import hashlib
import json
import os
import socket
import time
import uuid
from typing import Any

import numpy as np

from icre.gallery import journal
from icre.gallery.arrays import require_fitting
from icre.gallery.backend import StoreUnavailable
from icre.gallery.milvus.reading import Rows
from icre.gallery.milvus.records import Pending, Records, State, Text
from icre.gallery.milvus.rows import to_entities
from icre.gallery.table import ImageTable
from icre.utils.errors import UserError

_BYTES = 4 << 20  # of rows in a request; Milvus' limit is 64 MiB
_ROW_BYTES = 1024  # of one without its feature, about
_BEAT, _STALE = 60.0, 600.0  # seconds between two signs of life, and after which one is missed
_KEYS = 1000  # in a request
_FLUSHED = 1000  # rows; milvus-lite has no index of those that it has not written into a segment


def removal_name(version: int) -> str:
    """The beginning of the name of a log entry."""
    return f"removed/{version:012d}"


def begin(records: Records, rows: Rows, digest: str = "", removed: Text | None = None) -> State:
    """Write a pending change into the state, and finish or drop what a killed process left.

    Args:
        records, rows: of the gallery, the rows with none hidden.
        digest, removed: see `Pending`.

    Raises:
        UserError: another process changes the gallery, or there is none.
    """
    found = records.read_state()
    if found is None:
        raise UserError(f"{records.name} is no gallery: make one with tools/search.py index")
    state, _ = found
    left = state.pending
    if left and is_alive(left):
        raise UserError(
            f"process {left.process} on {left.host} is changing gallery {records.name}; wait until "
            "it has ended (or, if that machine is gone, ten minutes)"
        )
    if left and left.removed:
        state = finish_removal(records, rows, state)
    elif left and left.digest != digest:
        rows.client("delete", rows.collection, filter=f"version > {state.version}")
    for text in records.below(removal_name(state.version + 1)):
        if text != removed:
            records.delete(text)
    mine = Pending(
        version=state.version + 1,
        digest=digest,
        removed=removed,
        token=uuid.uuid4().hex,
        host=socket.gethostname(),
        process=os.getpid(),
        beat=time.time(),
    )
    state = state.model_copy(update={"pending": mine})
    records.write_state(state)
    require_mine(records, state)
    return state


def begin_removal(records: Records, rows: Rows, entry: dict[str, Any]) -> State:
    """As `begin`, with an entry of the log of removals: its version is the one that is removed to.

    Raises:
        UserError: another process changes the gallery, or has changed it; nothing is removed then.
    """
    name = f"{removal_name(entry['version'])}-{uuid.uuid4().hex[:8]}"
    log = records.write(name, json.dumps(entry))
    try:
        state = begin(records, rows, removed=log)
    except StoreUnavailable:
        raise  # the removal may be pending: the next change finishes it
    except UserError:
        records.delete(log)
        raise
    if state.version + 1 != entry["version"]:
        records.write_state(state.model_copy(update={"pending": None}))
        records.delete(log)
        raise UserError(f"gallery {records.name} was changed meanwhile: repeat the command")
    return state


def is_alive(pending: Pending) -> bool:
    """Whether the process of a pending change may still run, and is not this one."""
    if time.time() - pending.beat > _STALE:
        return False
    if pending.host != socket.gethostname():
        return True
    if pending.process == os.getpid():
        return False
    try:
        os.kill(pending.process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def require_mine(records: Records, state: State) -> None:
    """Raise UserError where another process has taken over."""
    found = records.read_state()
    theirs, mine = found and found[0].pending, state.pending
    if not theirs or not mine or theirs.token != mine.token:
        raise UserError(
            f"another process has begun to change gallery {records.name}: repeat the command when "
            "it has ended"
        )


def finish_removal(records: Records, rows: Rows, state: State) -> State:
    """Delete what a pending removal has logged; returns the state afterwards."""
    pending = state.pending
    assert pending and pending.removed
    entry = records.read_json(pending.removed)
    keys = entry["keys"]
    for first in range(0, len(keys), _KEYS):
        rows.delete(keys[first : first + _KEYS])
    since = state.calibrated
    since = since.model_copy(update={"removed": since.removed + len(keys)})
    return _publish(records, state, calibrated=since)


def _publish(records: Records, state: State, **changes: object) -> State:
    assert state.pending
    version = state.pending.version
    more = {"version": version, "changed": journal.now(), "pending": None}
    state = state.model_copy(update={**more, **changes})
    records.write_state(state)
    return state


class Addition:
    """Rows that nobody finds until they are all there.

    Args:
        records, rows: of the gallery, the rows with none hidden.
        digest: of all that the rows depend on.

    Raises:
        UserError: see `begin`.
    """

    def __init__(self, records: Records, rows: Rows, digest: str):
        self._records, self._rows = records, rows
        self._state = begin(records, rows, digest)
        self._version = self._state.version + 1
        self._beat = time.monotonic()

    def write(self, images: ImageTable, features: np.ndarray) -> None:
        """Write some of the rows; a row that is there is replaced.

        Args:
            images: n of them.
            features: (n, D) their unit vectors.

        Raises:
            UserError: features of another dimension, or that are no unit vectors.
        """
        rows = self._rows
        require_fitting(features, rows.dimensions, images.paths, self._records.name)
        if len(features) != len(images):
            raise ValueError(f"{len(features)} features for {len(images)} images")
        if time.monotonic() - self._beat > _BEAT:
            require_mine(self._records, self._state)
            pending = self._state.pending
            assert pending
            pending = pending.model_copy(update={"beat": time.time()})
            self._state = self._state.model_copy(update={"pending": pending})
            self._records.write_state(self._state)
            self._beat = time.monotonic()
        size = max(1, _BYTES // (4 * rows.dimensions + _ROW_BYTES))
        for first in range(0, len(images), size):
            part = images.take(range(first, min(first + size, len(images))))
            entities = to_entities(part, features[first : first + size], self._version)
            answer = rows.client("upsert", rows.collection, entities)
            if answer["upsert_count"] != len(part):
                raise UserError(
                    f"store {rows.client.address.uri} took {answer['upsert_count']} of "
                    f"{len(part)} rows: repeat the command"
                )

    def finish(self) -> int:
        """Let the rows be found; returns their number."""
        require_mine(self._records, self._state)
        count = self._rows.count(f"version == {self._version}")
        since = self._state.calibrated
        if self._state.version:  # not of a gallery that is made
            since = since.model_copy(update={"added": since.added + count})
        rows = self._rows
        if count >= _FLUSHED and rows.client.address.is_local:
            rows.client("flush", rows.collection)  # a server does so by itself
        _publish(self._records, self._state, calibrated=since)
        return count


def digest_of(state: State, images: ImageTable, stamp: str) -> str:
    """Checksum of all that the rows of an addition depend on."""
    rows = [images.row(row) for row in range(len(images))]
    content = json.dumps([state.id, state.version, stamp, rows])
    return hashlib.sha256(content.encode()).hexdigest()


def logged_rows(rows: list[dict[str, Any]]) -> ImageTable:
    """Rows of the log of removals as a table."""
    for row in rows:
        if "time" in row:
            row["time"] = np.datetime64(row["time"].removesuffix("Z"), "us")
    return ImageTable.from_rows(rows)
