"""ICRE: visible-infrared person re-identification as a fast-reid project (arXiv 2512.04522).

Importing this package is cheap and registers nothing. `icre.engine` imports what fast-reid has to
find in its registries.
"""

__version__ = "0.1.0"
