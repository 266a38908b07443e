"""Speed and memory against the usual way of doing the same: see `--help`."""

import sys

from icre.commands.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
