"""Index images, calibrate the gallery, and look for people in it: see `--help`."""

import sys

from icre.commands.search import main

if __name__ == "__main__":
    sys.exit(main())
