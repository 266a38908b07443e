"""The examples in docstrings are run, and what is public has some."""

import doctest
import importlib
from pathlib import Path

import pytest

import icre

PACKAGE = Path(icre.__file__).parent
EXAMPLES = [
    ".".join(("icre", *path.relative_to(PACKAGE).with_suffix("").parts))
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text()
]
SLOW = ("icre.evaluation.rerank",)  # numba


@pytest.mark.parametrize(
    "module",
    [pytest.param(one, marks=[pytest.mark.slow] if one in SLOW else []) for one in EXAMPLES],
)
def test_examples_give_what_they_say(module):
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted and not found.failed


def test_what_is_public_has_an_example():
    losses = [one for one in vars(icre.losses).values() if isinstance(one, type)]
    losses = [one for one in losses if issubclass(one, icre.losses.FeatureLoss)]
    losses.remove(icre.losses.FeatureLoss)
    public = [icre.IdentityBatchSampler, icre.FeatureSet, icre.score, icre.compare, icre.rerank]
    assert len(losses) == 9
    assert [one for one in losses + public if ">>> " not in one.__doc__] == []
    assert {one.__module__ for one in losses + public} <= set(EXAMPLES)
