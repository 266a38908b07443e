"""Train or evaluate any fast-reid model: see `--help`, README.md and configs/."""

import sys

from icre.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
