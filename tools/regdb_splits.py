"""Train or evaluate all ten splits of RegDB and report their mean: see `--help`."""

import sys

from icre.commands.regdb_splits import main

if __name__ == "__main__":
    sys.exit(main())
