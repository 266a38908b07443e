"""Parameters, MACs and milliseconds of each part of a config's model: see `--help`."""

import sys

from icre.commands.analyze import main

if __name__ == "__main__":
    sys.exit(main())
