"""Is the difference between two models significant? See `--help`."""

import sys

from icre.commands.compare import main

if __name__ == "__main__":
    sys.exit(main())
