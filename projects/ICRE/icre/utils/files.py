"""Reading and writing files: paths that stay in a folder, and writes without half-written files."""

import errno
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from icre.utils.errors import UserError

MAX_JSON = 2**28  # bytes; records of a run have some thousands
_opened: dict[str, int] = {}  # absolute path -> handle of a pipe or device, of `check_output`


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_bytes(path: str | Path, most: int) -> bytes:
    """Content of a file that somebody wrote or sent.

    Args:
        path: a regular file, or a link to one: a pipe would block, a device may have no end.
        most: bytes; a larger file is refused.

    Raises:
        UserError: it is missing, something else, too large, or may not be read.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f"{path} is no regular file")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > most:
                raise UserError(f"{path} has {size} bytes; at most {most} are read")
            return file.read(most)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def read_json(path: str | Path) -> Any:
    """Content of a JSON file; raises UserError as `read_bytes`, and where it is no JSON."""
    content = read_bytes(path, MAX_JSON)
    try:
        return json.loads(content)
    except ValueError as error:
        raise UserError(f"{path}: no JSON ({error})") from None
    except RecursionError:
        raise UserError(f"{path}: no JSON (nested too deeply)") from None


def path_inside(root: str | Path, name: str, source: str | Path = "") -> Path:
    """`root` / `name` for a name that was read from a file.

    Args:
        root: a folder.
        name: relative path.
        source: the file that `name` was read from, for the message.

    Raises:
        UserError: the path is absolute, or leaves `root` by `..` or through a link.
    """
    path = Path(root) / name
    parts = Path(name.replace("\\", "/")).parts
    where = f"{source}: " if source else ""
    if not parts or os.path.isabs(name) or ".." in parts or "\0" in name:
        raise UserError(f"{where}path {name!r} must be relative and without '..'")
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise UserError(
            f"{where}path {name!r} leads out of {root} through a link: put the files there, or "
            "name the folder that holds them"
        )
    return path


def check_output(*paths: str | Path | None) -> None:
    """Find what would stop `replaced`, before long work. Pipes stay open for it.

    Args:
        paths: of files to be written; None is skipped.

    Raises:
        UserError: names the first that is a folder, a disk's device or a pipe that nobody reads, or
            that cannot be made.
    """
    for path in [Path(path) for path in paths if path]:
        name = os.path.abspath(path)
        if name in _opened or _descriptor(path) is not None:
            continue
        try:
            if _is_special(path):
                _opened[name] = _open_handle(path)
            else:
                target = Path(os.path.realpath(path))
                existing = next(one for one in target.parents if os.path.lexists(one))
                if not existing.is_dir():
                    raise OSError(errno.ENOTDIR, f"{existing} is no folder")
                if not os.access(existing, os.W_OK):
                    raise OSError(errno.EACCES, f"no right to write in {existing}")
        except OSError as error:
            raise UserError(f"cannot write {path}: {error}") from None


def replace_text(path: str | Path, text: str) -> None:
    """As `replaced`, of a file's whole text, which is on the disk when this returns."""
    with replaced(path) as temporary:
        with open(temporary, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def replaced(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; its content becomes that of `path` when the block succeeds.

    A reader of a regular file sees the old one or the new one, never half of it; on an exception
    it stays as it was. Missing parent folders are made. A link stays, and its target is replaced.
    What is no regular file (/dev/null, /dev/stdout, a pipe) is written to.

    Raises:
        UserError: the disk is full, `path` is a folder or a disk's device, nobody reads the pipe,
            or it may not be written; also for any other OSError in the block.
    """
    path = Path(path)
    temporary = special = None
    try:
        target = Path(os.path.realpath(path))
        special = _open_special(path)
        if special is None:
            target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _new_file(path, target.parent if special is None else None)
        yield temporary
        if special is None:
            os.replace(temporary, target)
        else:
            sys.stdout.flush()  # `special` may be the same file
            with open(temporary, "rb") as source:
                shutil.copyfileobj(source, special)
            special.close()  # writes the rest
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}") from error
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)
        if special:
            with suppress(OSError):
                special.close()


def _is_special(path: Path) -> bool:
    """Whether `path` exists and is no regular file.

    Raises:
        OSError: it is a folder or a disk's device.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, "it is a folder, name a file")
    if stat.S_ISBLK(mode):
        raise OSError(errno.EINVAL, "it is a disk's device")
    return not stat.S_ISREG(mode)


def _open_special(path: Path) -> BinaryIO | None:
    """Open what exists and has to be written to, as it is no regular file; None for others.

    A pipe is opened before the work and kept open: its reader takes closing as the end.

    Raises:
        OSError: it is something that must not be written to.
    """
    descriptor = _descriptor(path)
    if descriptor is not None:
        return open(os.dup(descriptor), "wb")
    if not _is_special(path):
        return None
    handle = _opened.pop(os.path.abspath(path), None)
    return open(_open_handle(path) if handle is None else handle, "wb")


def _open_handle(path: Path) -> int:
    try:
        # without O_NONBLOCK, opening a pipe waits for its reader
        handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise OSError(errno.ENXIO, "no program reads this pipe, or it is a socket") from None
    os.set_blocking(handle, True)
    return handle


def _descriptor(path: Path) -> int | None:
    """The open file that /dev/stdout, /dev/fd/N and links to them mean; None for other paths."""
    name = os.path.abspath(path)
    for _ in range(40):  # as many links as Linux follows
        folder, last = os.path.split(name)
        if last.isdigit() and os.path.realpath(folder) == f"/proc/{os.getpid()}/fd":
            return int(last)
        if not os.path.islink(name):
            return None
        name = os.path.join(folder, os.readlink(name))
    return None


def _new_file(path: Path, folder: Path | None) -> Path:
    prefix = f".{path.name[:40]}."  # names have at most 255 bytes
    handle, name = tempfile.mkstemp(dir=folder, prefix=prefix, suffix=path.suffix)
    os.close(handle)
    # mkstemp makes a private file; the result should be as readable as any other new file.
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(name, 0o666 & ~umask)
    return Path(name)
