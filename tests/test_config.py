"""The table of config keys: complete, equal to the rooms' tables, and enforced by load_config."""

import dataclasses
import math
import re
from collections.abc import Iterator

import pytest
import torch
import yaml

from fastreid.config import get_cfg
from fastreid.layers import any_softmax, pooling

from conftest import CONFIGS
from icre.config import add_icre_config, load_config
from icre.config.keys import KEEP, KEYS, Key
from icre.data.dataset import CORRUPT
from icre.data.loader import SAMPLERS
from icre.engine.trackers import trackers
from icre.evaluation.rerank_options import ALGORITHMS
from icre.modeling import enhance, head, mpfr, sdce, two_stream
from icre.modeling.losses import auxiliary, icg
from icre.utils.errors import UserError

# key -> the names that the code knows
TABLES = {
    "DATALOADER.CORRUPT": CORRUPT,
    "DATALOADER.SAMPLER_TRAIN": SAMPLERS,
    "MODEL.BACKBONE.SPECIFIC_STAGES": two_stream.SPECIFIC_STAGES,
    "MODEL.HEADS.CLS_LAYER": any_softmax.__all__,
    "MODEL.HEADS.POOL_LAYER": pooling.__all__,
    "MODEL.HEADS.TEST_FEAT": head.TEST_FEATURES,
    "MODEL.LOSSES.AUX_ID.MAPS": auxiliary.MAPS,
    "MODEL.LOSSES.ICG.MAPS": icg.MAPS,
    "MODEL.LOSSES.ICG.VARIANT": icg.VARIANTS,
    "MODEL.MPFR.ALIGN": mpfr.ALIGNMENTS,
    "MODEL.MPFR.FUSE": mpfr.FUSIONS,
    "MODEL.MPFR.MASK": mpfr.MASKS,
    "MODEL.MPFR.STAGES": mpfr.STAGES,
    "MODEL.SDCE.ORDER": sdce.ORDERS,
    "MODEL.SDCE.OUTPUT": enhance.OUTPUTS,
    "MODEL.SDCE.PLACE": enhance.PLACES,
    "MODEL.SDCE.QUERY": sdce.QUERIES,
    "TEST.RERANK.ALGORITHM": ALGORITHMS,
    "TRACKERS": trackers.TRACKERS,
}
# whose values are handed to code that is not ours, or is one line
WITHOUT_TABLE = {
    "INPUT.CHANNEL_AUG.KINDS",
    "INPUT.INTERPOLATION",
    "MODEL.BACKBONE.POOL_PADDING",
    "MODEL.DEEN.LAST_STAGE",
    "DATASETS.REGDB_SPLIT",
    "INPUT.AFFINE.ENABLED",
    "INPUT.PADDING.MODE",
    "INPUT.VIEWS",
    "MODEL.BACKBONE.LAST_STRIDE",
    "MODEL.BACKBONE.NORM",
    "MODEL.HEADS.NECK_FEAT",
    "MODEL.HEADS.NORM",
    "SOLVER.AMP.DTYPE",
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE",
    "SOLVER.LAYOUT",
    "SOLVER.OPT",
    "SOLVER.SCHED",
    "SOLVER.WARMUP_METHOD",
    "TEST.METRIC",
    "TEST.PRECISE_BN.ENABLED",
    "TEST.SPLIT",
}


def test_choices_are_those_of_the_code():
    choices = {key.name: set(key.choices) for key in KEYS if key.choices}
    assert choices.keys() == TABLES.keys() | WITHOUT_TABLE
    different = {name: set(table) ^ choices[name] for name, table in TABLES.items()}
    assert {name: names for name, names in different.items() if names} == {}
    assert all(hasattr(torch.optim, name) for name in choices["SOLVER.OPT"])


def test_keys_are_unique_and_explained():
    names = [key.name for key in KEYS]
    assert len(set(names)) == len(names)
    assert [key.name for key in KEYS if not key.meaning] == []


def test_keys_are_fastreids_or_have_a_default():
    """A default that is allowed, and of a type that yacs can compare."""
    theirs, ours = get_cfg(), get_cfg()
    add_icre_config(ours)
    for key in KEYS:
        if key.default is KEEP:
            assert value_of(theirs, key) == value_of(ours, key)
        else:
            assert value_of(ours, key) == key.default
    load_config()


def value_of(cfg, key: Key):
    for name in key.name.split("."):
        cfg = cfg[name]
    return cfg


def refused(key: Key, default: object) -> Iterator[object]:
    """Values just outside of what a key allows, of the type of its default."""
    several = isinstance(default, (list, tuple))
    whole = isinstance(default, int)
    step = 1 if whole else 0.01
    wrong = []
    if key.choices:
        wrong.append(not key.choices[0] if isinstance(key.choices[0], bool) else "nothing")
        if isinstance(key.choices[0], int) and not isinstance(key.choices[0], bool):
            wrong = [max(key.choices) + 1, min(key.choices) - 1]
    if key.minimum is not None:
        wrong.append(key.minimum - step)
    if key.above is not None:
        wrong.append(int(key.above) if whole else float(key.above))
    if key.maximum is not None:
        wrong.append(key.maximum + step)
    if key.number:
        wrong.append("many")
    if not several:
        yield from wrong
        return
    count = key.lengths[0] if key.lengths else 1
    for value in wrong:
        yield (value,) * count
    if key.lengths:
        yield tuple(default)[:1] * (max(key.lengths) + 1)


_ANY = {one.name: one.default for one in dataclasses.fields(Key)}  # no limit


def test_values_outside_of_the_limits_are_refused_by_the_keys_name():
    defaults = load_config()
    tried, accepted = set(), []
    for key in KEYS:
        for value in refused(key, value_of(defaults, key)):
            tried.add(key.name)
            try:
                load_config(options=[key.name, str(value)])
            except UserError as error:
                assert key.name in str(error) and "\n" not in str(error), (key.name, value)
            else:
                accepted.append((key.name, value))
    limits = ("choices", "minimum", "above", "maximum", "lengths", "number")
    limited = {key.name for key in KEYS if any(getattr(key, one) != _ANY[one] for one in limits)}
    assert accepted == [] and tried == limited


def test_nan_is_refused_wherever_there_is_a_limit():
    limited = [key for key in KEYS if (key.minimum, key.above, key.maximum) != (None,) * 3]
    floats = [key for key in limited if isinstance(key.default, float)]
    assert floats
    for key in floats:
        value: object = math.nan
        for name in reversed(key.name.split(".")):
            value = {name: value}
        with pytest.raises(UserError, match=re.escape(key.name)):
            load_config(text=yaml.safe_dump(value))


def test_a_dumped_config_is_read_back():
    cfg = load_config(CONFIGS / "SYSU/icre_r50.yml")
    assert load_config(text=cfg.dump()) == cfg
