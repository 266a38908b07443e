"""Train many variants and tabulate them: see `--help` and configs/ablations/."""

import sys

from icre.commands.ablate import main

if __name__ == "__main__":
    sys.exit(main())
