"""Is a data set complete, readable and the published one? See `--help`."""

import sys

from icre.commands.check_dataset import main

if __name__ == "__main__":
    sys.exit(main())
