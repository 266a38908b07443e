"""ICRE: visible-infrared person re-identification as a fast-reid project (arXiv 2512.04522).

Importing this package is cheap and registers nothing; `icre.config.load_config` imports what
fast-reid has to find in its registries. `icre.load` loads a trained model, see
`icre.inference.predictor`.
"""

import importlib
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `icre.load` when it is first used."""
    if name == "load":
        return importlib.import_module("icre.inference.predictor").load
    raise AttributeError(f"module 'icre' has no attribute {name!r}")
