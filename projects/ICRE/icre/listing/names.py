"""What is registered under a name: networks, losses, data sets, protocols and their like."""

from collections.abc import Callable

from icre.compat import registered

from fastreid.data import samplers
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from fastreid.utils.registry import Registry

import icre.datasets
import icre.modeling  # noqa: F401  (both register)
from icre.data.loader import CROSS_MODALITY, SAMPLERS
from icre.datasets.base import SETS
from icre.datasets.protocol import DEFAULTS, MIXED_SUFFIXES, PROTOCOLS, Protocol, Side
from icre.listing.entry import Entry, meaning_of, origin_of
from icre.modality import NAMES
from icre.modeling.losses import LOSS_REGISTRY

# fast-reid's, which have no docstring or one that says nothing
MEANINGS = {
    "Baseline": "Baseline: one backbone, one head, sums of losses",
    "MGN": "Multiple Granularities Network: a global branch and branches of two and three stripes",
    "MoCo": "Baseline with a queue of features of a momentum encoder",
    "Distiller": "Baseline that learns from teachers (keys KD.*)",
    "EmbeddingHead": "Pooling, optional bottleneck and BNNeck, classifier",
    "ClasHead": "EmbeddingHead for classification: the test result are the logits",
    "build_regnet_backbone": "Create a RegNet instance from config",
    "build_effnet_backbone": "Create an EfficientNet instance from config",
    "build_shufflenetv2_backbone": "Create a ShuffleNetV2 instance from config",
    "build_mobilenetv3_backbone": "Create a MobileNetV3 instance from config",
    "BalancedIdentitySampler": "N identities, K images of each, from different cameras if possible",
    "NaiveIdentitySampler": "N identities, K images of each",
    "TrainingSampler": "Endless shuffled images, whatever their identity",
    "ImbalancedDatasetSampler": "Images drawn more often the fewer their identity has",
    "AirportALERT": "Airport ALERT",
    "VIPeR": "VIPeR",
}


def kinds() -> dict[str, Callable[[], list[Entry]]]:
    """What can be listed -> function that lists what is registered now."""
    return {
        "models": lambda: _of_registry(META_ARCH_REGISTRY),
        "losses": lambda: _of_registry(LOSS_REGISTRY),
        "datasets": lambda: _of_registry(DATASET_REGISTRY),
        "backbones": lambda: _of_registry(BACKBONE_REGISTRY),
        "heads": lambda: _of_registry(REID_HEADS_REGISTRY),
        "samplers": _samplers,
        "protocols": _protocols,
    }


def _entry(name: str, thing: object) -> Entry:
    origin = origin_of(thing)
    known = MEANINGS.get(name) if origin == "fast-reid" else None
    return Entry(name, origin, known or meaning_of(thing))


def _of_registry(registry: Registry) -> list[Entry]:
    return [_entry(name, thing) for name, thing in sorted(registered(registry).items())]


def _samplers() -> list[Entry]:
    return [_entry(name, CROSS_MODALITY.get(name) or getattr(samplers, name)) for name in SAMPLERS]


def _protocols() -> list[Entry]:
    return [
        Entry(name, origin_of(SETS[one.dataset]), _described(name, one))
        for name, one in PROTOCOLS.items()
    ]


def _described(name: str, protocol: Protocol) -> str:
    parts = [f"{protocol.dataset}: {_side(protocol.query)} -> {_side(protocol.gallery)}"]
    if protocol.draws:
        drawn = " or ".join(protocol.draws)
        parts.append(
            f"{drawn} sample of the {protocol.sampled}, images per identity and camera: "
            f"{protocol.shots}"
        )
    if protocol.excluded != "none":
        parts.append(f"without {protocol.excluded} matches")
    if protocol.mixed:
        parts.append(f"never an identity's images of the same camera; may end in {MIXED_SUFFIXES}")
    if name not in DEFAULTS[protocol.dataset]:
        parts.append("only if TEST.PROTOCOLS names it")
    return "; ".join(parts)


def _side(side: Side) -> str:
    modality = " and ".join(NAMES) if side.modality is None else NAMES[side.modality]
    return modality if side.cameras is None else f"{modality} {', '.join(map(str, side.cameras))}"
