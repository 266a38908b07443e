"""What every command-line tool shares: bad input ends in one line, not in a traceback."""

import sys
from collections.abc import Callable

from icre.errors import UserError


def run(command: Callable[[], None]) -> None:
    """Call `command`; on UserError print its message to stderr and exit with status 2."""
    try:
        command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
