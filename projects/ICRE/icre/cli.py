"""What every command-line tool shares: bad input ends in one line, not in a traceback."""

import sys
from collections.abc import Callable

from icre.errors import UserError


def run(command: Callable[[], int | None]) -> int:
    """Call `command`; returns the exit status: its own or 0, or 2 after a UserError's one line."""
    try:
        return command() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
