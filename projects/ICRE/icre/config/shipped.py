"""Config files that come with the package."""

from pathlib import Path

import icre

# In a checkout a link to configs/ at the top, in an installed package a folder.
SHIPPED = Path(icre.__file__).parent / "configs"


def find_config(name: str | Path) -> Path:
    """The file of that path or, where there is none, the shipped file of that name.

    Args:
        name: such as `my.yml`, `SYSU/icre_r50.yml` or `configs/SYSU/icre_r50.yml`.
    """
    path = Path(name)
    if path.is_absolute() or path.exists():
        return path
    inside = path.relative_to("configs") if path.parts[:1] == ("configs",) else path
    return SHIPPED / inside if (SHIPPED / inside).is_file() else path
