"""Networks of published methods, one file each, with the paper in its first lines.

Importing this package registers the backbones `build_deen_backbone` and `build_mpanet_backbone` and
the heads `MPANetHead` and `PCBHead`. Their losses are in `icre.modeling.losses`; docs/methods.md
lists what was built and what departs from the public code.
"""

from icre.modeling.methods import deen, mpanet, pcb  # noqa: F401  (only registration)
