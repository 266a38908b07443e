"""Write the reference of all config keys: docs/config-keys.md.

python docs/config_keys.py            # write it again
python docs/config_keys.py --check    # is it up to date? (a test does this)
"""

import sys
from pathlib import Path

from icre.listing.keys import key_entries
from icre.listing.text import key_page

PAGE = Path(__file__).with_name("config-keys.md")


def main(argv: list[str]) -> int:
    """Write, or with --check compare; 1 where the page is out of date."""
    made = key_page(key_entries())
    if "--check" in argv:
        return int(not PAGE.is_file() or PAGE.read_text() != made)
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
