"""AGW (Ye et al., TPAMI 2021), mangye16/Cross-Modal-Re-ID-baseline: train.py, both `--method`s.

Its test.py compares the feature behind the neck, of images of 288x144, without mirrored ones.
"""

import re

from icre.runs.public.source import COMMON, HEAD, TWO_STREAMS, Source, State, renamer

# of the stages that end in non-local blocks: their blocks, and how many are non-local
NON_LOCAL = {"2": (4, 2), "3": (6, 3)}
_RENAME = renamer(TWO_STREAMS | HEAD)


def options(state: State) -> dict[str, str]:
    """Config of the network: with non-local blocks and generalised mean, or `--method base`."""
    non_local = _has_non_local(state)
    return {
        **COMMON,
        "MODEL.BACKBONE.NAME": "build_two_stream_resnet_backbone",
        "MODEL.BACKBONE.WITH_NL": str(non_local),
        "MODEL.HEADS.POOL_LAYER": "GeneralizedMeanPooling" if non_local else "GlobalAvgPool",
        "INPUT.SIZE_TEST": "[288, 144]",
        "INPUT.INTERPOLATION": "lanczos",
    }


def rename(state: State, name: str) -> str | None:
    """A non-local block stands in its stage behind the block that it follows; they count on."""
    words = name.split(".")
    if words[0] in ("NL_2", "NL_3"):
        stage, number, rest = words[0][-1], int(words[1]), ".".join(words[2:])
        blocks, count = NON_LOCAL[stage]
        place = blocks - count + 2 * number + 1
        return f"backbone.stages.layer{stage}.{place}.{rest.replace('g.0.', 'g.')}"
    ours = _RENAME(name)
    block = re.match(r"backbone\.stages\.layer([23])\.(\d+)(\..+)", ours or "")
    if not (block and _has_non_local(state)):
        return ours
    stage, number, rest = block[1], int(block[2]), block[3]
    blocks, count = NON_LOCAL[stage]
    return f"backbone.stages.layer{stage}.{number + max(number - blocks + count, 0)}{rest}"


def _has_non_local(state: State) -> bool:
    return "NL_2.0.theta.weight" in state


SOURCE = Source(
    name="agw",
    title="AGW (mangye16/Cross-Modal-Re-ID-baseline)",
    entry="net",
    classifier="classifier.weight",
    required="thermal_module.thermal.conv1.weight",
    options=options,
    rename=rename,
)
