"""CAJ (Ye et al., ICCV 2021), mangye16/Cross-Modal-Re-ID-baseline/ICCV21_CAJ: train_ext.py.

AGW's network. Its testa.py compares the feature behind the neck, L2-normalised and averaged with
that of the mirrored image.
"""

import dataclasses

from icre.runs.public import agw
from icre.runs.public.source import State


def options(state: State) -> dict[str, str]:
    """Config of the network."""
    return {**agw.options(state), "MODEL.HEADS.TEST_NORM": "True", "TEST.FLIP.ENABLED": "True"}


SOURCE = dataclasses.replace(
    agw.SOURCE,
    name="caj",
    title="CAJ (mangye16/Cross-Modal-Re-ID-baseline, ICCV21_CAJ)",
    options=options,
)
