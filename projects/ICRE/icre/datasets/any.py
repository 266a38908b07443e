"""Protocols for features of any origin: every image of one modality against all of the other.

No data set's results are of this kind: no camera is left out, and no gallery is sampled.
"""

from icre.datasets.protocol import ANY, Protocol, Side, register_protocols
from icre.modality import INFRARED, VISIBLE

register_protocols(
    ANY,
    {
        "any-i2v": Protocol(ANY, Side(INFRARED), Side(VISIBLE), dedup=False),
        "any-v2i": Protocol(ANY, Side(VISIBLE), Side(INFRARED), dedup=False),
    },
)
