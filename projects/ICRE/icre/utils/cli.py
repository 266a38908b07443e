"""Shared by all commands: bad input ends in one line, not in a traceback."""

import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from icre.utils.errors import RunEnded, UserError, printable_lines

# Refused by the machine: no space, no permission.
_REFUSED = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
}
_INSTALL_FAISS = "pip install faiss-cpu (on a machine with an NVIDIA GPU: faiss-gpu; never both)"
_INTERRUPTED = (
    "interrupted; what was saved stays: a training goes on with --resume, an index with the same "
    "command"
)


def run(command: Callable[[], int | None]) -> int:
    """Call `command`; returns the exit status: its own or 0, or that of the error it ends in.

    One line is printed after a UserError (status 2), RunEnded (its own status) and Ctrl-C (130, as
    shells have it); nothing where the reader of a pipe has closed it (141).
    """
    logging.getLogger("fastreid.icre").addFilter(_escape)
    try:
        with disk_faults():
            status = command() or 0
            sys.stdout.flush()
            return status
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # flushed at exit
        return 128 + signal.SIGPIPE
    except UserError as error:
        return _end(error, 2)
    except ImportError as error:
        if error.name == "fastreid":  # `icre.compat` says what to run
            return _end(error, 2)
        if error.name == "faiss":
            return _end(UserError(f"faiss is not installed. Run: {_INSTALL_FAISS}"), 2)
        raise
    except RunEnded as error:
        return _end(error, error.status)
    except KeyboardInterrupt:
        return _end(RunEnded(_INTERRUPTED), 128 + signal.SIGINT)


def _reader_is_gone() -> bool:
    """Whether what reads the output, such as `head`, has closed it."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return True
    return False


def show(text: str) -> None:
    """Print text that may hold names from files: what a terminal would obey is escaped."""
    print(printable_lines(text))


def _escape(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable_lines(record.getMessage()), ()
    return True


@contextmanager
def disk_faults() -> Iterator[None]:
    """Raise UserError for a full disk and for files that may not be read or written."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        raise UserError(f"{error}: make room, or give the right to it") from error


def _end(error: Exception, status: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return status
