"""MPANet (Wu et al., CVPR 2021), DoubtedSteam/MPANet: train.py with the configs that it ships.

Its evaluation compares the feature behind the neck, without mirrored images. The size of the images
is not in a file: it is 384x128 for SYSU-MM01; for RegDB say `INPUT.SIZE_TEST "[256,128]"`.
"""

from icre.runs.public.source import COMMON, Source, State, head, renamer

_RENAME = renamer(
    {
        r"backbone\.MAM([34])\.channel_attention\.(.+)": r"backbone.stages.layer\1.mam.gate.\2",
        r"backbone\.((?:conv1|bn1)\..+)": r"backbone.stem.\1",
        r"backbone\.(layer[1-4]\..+)": r"backbone.stages.\1",
        r"spatial_attention\.(.+)": r"heads.pool_layer.conv.\1",
        **head("bn_neck"),
    }
)


def options(state: State) -> dict[str, str]:
    """Config of the network."""
    return {
        **COMMON,
        "MODEL.BACKBONE.NAME": "build_mpanet_backbone",
        "MODEL.HEADS.NAME": "MPANetHead",
        "MODEL.HEADS.PARTS": str(len(state["spatial_attention.weight"])),
        "INPUT.SIZE_TEST": "[384, 128]",
        "INPUT.INTERPOLATION": "bilinear",
    }


SOURCE = Source(
    name="mpanet",
    title="MPANet (DoubtedSteam/MPANet)",
    entry="",
    classifier="classifier.weight",
    required="spatial_attention.weight",
    options=options,
    rename=lambda state, name: _RENAME(name),
)
