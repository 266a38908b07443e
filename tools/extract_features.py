"""Write the features of a test set from a config and a checkpoint: see `--help`."""

import sys

from icre.commands.extract import main

if __name__ == "__main__":
    sys.exit(main())
