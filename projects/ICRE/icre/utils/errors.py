"""Exceptions for user errors and interrupted runs."""

import re


def printable(text: str) -> str:
    """`text` with control characters, line ends and undecodable bytes written as escapes.

    Names in files that somebody sent may hold sequences that a terminal obeys.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """As `printable`, of text that has line ends and tabs of its own."""
    return re.sub(r"[^\n\t]+", lambda match: printable(match[0]), text)


def first_line(error: BaseException) -> str:
    """First line of an exception's message, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class UserError(ValueError):
    """Bad input. The message is one line that names the file, key or value and what to do.

    Command-line tools print the message alone and exit with status 2; any other exception is a
    defect and keeps its traceback.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


STOPPED = 75  # exit status after SIGTERM, as sysexits.h's EX_TEMPFAIL: try again later


class RunEnded(RuntimeError):
    """A run that ended early for a reason outside of its input: SIGTERM, or a process that died.

    Command-line tools print the message, one line that says how to go on, and exit with `status`.
    """

    def __init__(self, message: str, status: int = 1):
        super().__init__(message)
        self.status = status
