"""Files of object stores (s3://..., gs://... and whatever fsspec knows)."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from icre.utils.errors import UserError

AT_A_TIME = 32  # requests to a store, each of which takes some time
# Of a file's description: what changes when its content does. Stores have some of them.
_STATE = ("size", "ETag", "etag", "md5Hash", "generation", "mtime", "LastModified")


def is_remote(path: str) -> bool:
    """Whether a path is a URL."""
    return "://" in path


def remote_files(url: str) -> list[str]:
    """URLs of all files below a folder of a store, sorted; of a file, itself.

    Raises:
        UserError: the store cannot be read, or there is nothing.
    """
    with _store(url) as files:
        found = [url] if files.isfile(url) else map(files.unstrip_protocol, files.find(url))
        found = sorted(found)
    if not found:
        raise UserError(f"{url} is missing, or holds no file")
    return found


def remote_states(urls: Sequence[str]) -> dict[str, str]:
    """URL -> size, and time or checksum as far as its store says; "missing" if it is not there.

    Raises:
        UserError: a store cannot be read.
    """

    def state(url: str) -> str:
        with _store(url) as files:
            try:
                found = files.info(url)
            except FileNotFoundError:
                return "missing"
        return "\0".join(str(found[key]) for key in _STATE if key in found)

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return dict(zip(urls, pool.map(state, urls)))


def fetch(urls: Sequence[str], folder: Path) -> dict[str, str]:
    """Copy files into a folder; returns URL -> path there.

    There is no file where one is missing.

    Raises:
        UserError: a store cannot be read.
    """
    places = {
        url: str(folder / f"{number}{os.path.splitext(url)[1]}")
        for number, url in enumerate(dict.fromkeys(urls))
    }

    def copy(url: str) -> None:
        with _store(url) as files, suppress(FileNotFoundError):
            Path(places[url]).write_bytes(files.cat_file(url))

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        list(pool.map(copy, places))
    return places


@contextmanager
def _store(url: str) -> Iterator[Any]:
    """The file system of a URL; what it raises becomes a UserError."""
    try:
        import fsspec
    except ImportError:
        raise UserError(f"{url} needs fsspec: pip install 'icre[cluster]'") from None
    try:
        yield fsspec.filesystem(url.partition("://")[0])
    except FileNotFoundError:
        raise
    except ImportError as error:
        raise UserError(f"{url}: {error} (s3:// needs the package s3fs, gs:// gcsfs)") from None
    except Exception as error:  # each store raises its own kinds
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"cannot read {url}: {reason}") from None
