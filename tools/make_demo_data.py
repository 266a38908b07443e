"""Render demo data or a frozen benchmark: see `--help`."""

import sys

from icre.commands.render import main

if __name__ == "__main__":
    sys.exit(main())
