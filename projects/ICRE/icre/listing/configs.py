"""The config files of a folder."""

from pathlib import Path

from icre.config.shipped import SHIPPED
from icre.listing.entry import Entry
from icre.utils.errors import UserError

SPECS = "ablations"  # sub-folder with specs of `icre ablate`


def config_entries(folder: Path | None = None) -> list[Entry]:
    """YAML files by name; the origin is the command that takes them.

    Args:
        folder: files below it, named with it; None: those shipped, as `--config-file` takes them.

    Raises:
        UserError: there is no such folder, or it has none.
    """
    place = SHIPPED if folder is None else folder
    files = sorted(place.glob("**/*.yml")) + sorted(place.glob("**/*.yaml"))
    if not files:
        raise UserError(f"no config file below {place}: name their folder with --configs")
    return [
        Entry(
            str(file if folder else file.relative_to(SHIPPED)), _used_by(file), _first_comment(file)
        )
        for file in files
    ]


def _used_by(file: Path) -> str:
    if file.parent.name == SPECS:
        return "icre ablate"
    return "_BASE_" if file.name.startswith("Base-") else "icre train"


def _first_comment(file: Path) -> str:
    """First sentence of the comment that a file begins with."""
    words = []
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not line.startswith("#"):
                break
            words.append(line.strip("# \n"))
            if words[-1].endswith("."):
                break
    return " ".join(words).split(". ")[0].rstrip(".")
