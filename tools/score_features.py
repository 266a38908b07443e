"""Score features of any model under the test protocols: see `--help`."""

import sys

from icre.commands.score import main

if __name__ == "__main__":
    sys.exit(main())
