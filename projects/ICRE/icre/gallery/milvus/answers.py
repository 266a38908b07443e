"""Where answers of a gallery in Milvus were written; a removal names these files."""

import hashlib
import json
import os
import socket
from pathlib import Path

from icre.gallery import journal
from icre.gallery.milvus.records import Records


def remember(records: Records, version: int, *paths: str | Path | None) -> None:
    """Note the files into which answers were written."""
    for path in paths:
        if not path or not os.path.isfile(path):
            continue
        entry = {"host": socket.gethostname(), "path": os.path.realpath(path)}
        name = hashlib.sha256(json.dumps(entry).encode()).hexdigest()[:32]
        text = json.dumps(entry | {"date": journal.now(), "version": version})
        records.write(f"answers/{name}", text)


def written(records: Records) -> list[str]:
    """Files that hold answers, those of other machines with the machine's name."""
    found = []
    for text in records.below("answers/"):
        entry = records.read_json(text)
        if entry["host"] != socket.gethostname():
            found.append(f"{entry['host']}:{entry['path']}")
        elif os.path.isfile(entry["path"]):
            found.append(entry["path"])
    return found
