"""DEEN (Zhang and Wang, CVPR 2023), ZYK100/LLCM/DEEN: train.py on any of its three data sets.

Its test.py adds the cosines of the features before and behind the neck over three embeddings, each
summed with that of the mirrored image. Its sums are not L2-normalised again before they are
compared; here all of an image's are, together.
"""

from icre.runs.public.source import COMMON, HEAD, TWO_STREAMS, Source, State, renamer

_PLACE = "backbone.stages."  # of the stages, and of what stands between them
_LAYERS = {"1": "layer1", "2": "layer2", "3": "layer3"}
_PARTS = {"CNL": "channels", "PNL": "positions"}
_RENAME = renamer(
    {
        **{
            pattern: ours.replace("backbone.stages.", "backbone.stages.stages.")
            for pattern, ours in TWO_STREAMS.items()
        },
        **HEAD,
        **{
            rf"MFA{number}\.{theirs}\.(.+)": rf"{_PLACE}fusions.{layer}.{ours}.\1"
            for number, layer in _LAYERS.items()
            for theirs, ours in _PARTS.items()
        },
        **{
            rf"DEE\.FC{branch + 1}{number + 1}\.(.+)": (
                rf"{_PLACE}expand.branches.{branch}.dilated.{number}.\1"
            )
            for branch in range(2)
            for number in range(3)
        },
        **{
            rf"DEE\.FC{branch + 1}\.(.+)": rf"{_PLACE}expand.branches.{branch}.project.\1"
            for branch in range(2)
        },
    }
)


def options(state: State) -> dict[str, str]:
    """Config of the network; the one for RegDB has no third fusion and no layer4."""
    short = _is_short(state)
    return {
        **COMMON,
        "MODEL.BACKBONE.NAME": "build_deen_backbone",
        "MODEL.BACKBONE.FEAT_DIM": "1024" if short else "2048",
        "MODEL.DEEN.LAST_STAGE": "layer3" if short else "layer4",
        "MODEL.HEADS.POOL_LAYER": "GlobalAvgPool",
        "MODEL.HEADS.TEST_FEAT": "both",
        "INPUT.SIZE_TEST": "[384, 144]",
        "INPUT.INTERPOLATION": "lanczos",
        "TEST.FLIP.ENABLED": "True",
    }


def rename(state: State, name: str) -> str | None:
    """A file of RegDB's network holds a layer4 that it does not use."""
    ours = _RENAME(name)
    unused = ours and _is_short(state) and ours.startswith("backbone.stages.stages.layer4.")
    return None if unused else ours


def _is_short(state: State) -> bool:
    return "MFA3.CNL.g.weight" not in state


SOURCE = Source(
    name="deen",
    title="DEEN (ZYK100/LLCM)",
    entry="net",
    classifier="classifier.weight",
    required="DEE.FC11.weight",
    options=options,
    rename=rename,
)
