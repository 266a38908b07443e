"""One process at a time writes into a folder."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from icre.utils.errors import UserError

LOCK = ".lock"  # name of the file in the folder; one that a killed process left means nothing
_held: set[int] = set()


@contextmanager
def locked(folder: str | Path, key: str = "OUTPUT_DIR") -> Iterator[None]:
    """Hold a folder's lock; it ends with the process, however that ends.

    Args:
        folder: is made if it is missing.
        key: config key or option that names it, for the message.

    Raises:
        UserError: another process holds it, or the folder cannot be written.
    """
    path = Path(folder) / LOCK
    is_new = not path.parent.exists()
    handle = _open(path, key)
    try:
        _lock(handle, path, key)
        while not _is_at(path, handle):  # its last holder has deleted it meanwhile
            os.close(handle)
            handle = _open(path, key)
            _lock(handle, path, key)
        _held.add(handle)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            if is_new:
                with suppress(OSError):  # something has been written into it
                    path.parent.rmdir()
    finally:
        _held.discard(handle)
        os.close(handle)


def _open(path: Path, key: str) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise UserError(f"{key}: cannot write into {path.parent} ({error.strerror})") from None


def _is_at(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _lock(handle: int, path: Path, key: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            return  # a file system without locks
        owner = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
        raise UserError(
            f"{key}: {owner} is writing into {path.parent}; wait until it has ended, or name "
            "another folder"
        ) from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def _leave_in_child() -> None:
    """A forked child (a process that loads images) may outlive the holder: it drops the lock."""
    for handle in _held:
        os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_leave_in_child)
