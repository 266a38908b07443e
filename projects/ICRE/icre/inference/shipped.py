"""The model and the images that come with the package."""

from pathlib import Path

import icre

SAMPLE = Path(icre.__file__).parent / "sample"
WEIGHTS = SAMPLE / "model.pth"
MODELS = {"synthvi-small": WEIGHTS}  # name, in place of a path -> checkpoint


def find_weights(name: str | Path) -> Path:
    """The run folder or checkpoint of that path or, where there is none, a shipped model."""
    path = Path(name)
    return path if path.exists() else MODELS.get(str(name), path)
