"""Write one HTML page that shows and compares runs: see `--help`."""

import sys

from icre.commands.report import main

if __name__ == "__main__":
    sys.exit(main())
