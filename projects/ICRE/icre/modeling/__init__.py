"""Two-stream backbone, MPFR, SDCE, head, losses and the ICRE meta-architecture.

Importing this package registers, by name, the backbones `build_two_stream_resnet_backbone` and
`build_timm_backbone`, the head `ICREHead`, the meta-architecture `ICRE`, the losses of
`icre.modeling.losses` and the networks of `icre.modeling.methods`.
"""

import icre.compat  # noqa: F401

from icre.modeling import check, methods, timm_backbone  # noqa: F401  (only registration)
from icre.modeling.backbone import StagedBackbone
from icre.modeling.build import build_model
from icre.modeling.head import ICREHead
from icre.modeling.icre import ICRE
from icre.modeling.losses import LOSS_REGISTRY
from icre.modeling.two_stream import TwoStream, build_two_stream_resnet_backbone

__all__ = [
    "ICRE",
    "LOSS_REGISTRY",
    "ICREHead",
    "StagedBackbone",
    "TwoStream",
    "build_model",
    "build_two_stream_resnet_backbone",
]
