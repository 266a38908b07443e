"""Draw figures of runs and feature files: see `--help` and docs/figures.md."""

import sys

from icre.commands.visualize import main

if __name__ == "__main__":
    sys.exit(main())
