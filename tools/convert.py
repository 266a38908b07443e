"""Convert a public code's checkpoint into one of ours: see `--help`."""

import sys

from icre.commands.convert import main

if __name__ == "__main__":
    sys.exit(main())
