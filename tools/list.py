"""List models, losses, data sets, config keys and their like: see `--help`."""

import sys

from icre.commands.list import main

if __name__ == "__main__":
    sys.exit(main())
