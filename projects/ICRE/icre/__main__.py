"""`python -m icre`: the command `icre`."""

import sys

from icre.commands import main

if __name__ == "__main__":
    sys.exit(main())
