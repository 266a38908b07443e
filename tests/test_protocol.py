"""The nine protocols: golden results of the field's own code, settings, draws and bad input."""

import json
from pathlib import Path

import pytest

from icre.evaluation.features import FeatureSet
from icre.evaluation.score import score

GOLDEN = Path(__file__).parent / "golden"
PERM = Path(__file__).parents[2] / "shared" / "sysu_split" / "rand_perm_cam.mat"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
COUNTS = ("queries", "valid_queries", "gallery")
needs_perm = pytest.mark.skipif(
    not PERM.is_file(), reason="the official split files are not beside this checkout"
)


@pytest.fixture(scope="module")
def golden() -> dict[str, FeatureSet]:
    return {name: FeatureSet.load(GOLDEN / f"{name}.npz") for name in EXPECTED}


def assert_golden(record: dict, expected: dict) -> None:
    """Every figure that the golden file gives, to 1e-4 percentage points."""
    for key, value in expected.items():
        if key in COUNTS:
            assert record[key] == value, key
        else:
            name, _, std = key.partition(" ")
            assert record[name][std or "mean"] == pytest.approx(value, abs=1e-4), key


@needs_perm
def test_sysu_golden_all_six_settings_by_default(golden):
    records = score(golden["sysu"], perm=PERM)
    assert [f"{one['protocol']}/{one['draw']}" for one in records] == [
        "sysu-all-single/official", "sysu-all-multi/official", "sysu-indoor-single/official",
        "sysu-indoor-multi/official", "sysu-all-single/seeded", "sysu-indoor-single/seeded",
    ]
    for one in records:
        assert_golden(one, EXPECTED["sysu"][f"{one['protocol']}/{one['draw']}"])


def test_sysu_golden_seeded_without_permutation(golden):
    records = score(golden["sysu"])
    assert [one["protocol"] for one in records] == ["sysu-all-single", "sysu-indoor-single"]
    for one in records:
        assert_golden(one, EXPECTED["sysu"][f"{one['protocol']}/seeded"])


@pytest.mark.parametrize("name", list(EXPECTED["regdb"]) + list(EXPECTED["llcm"]))
def test_regdb_and_llcm_golden(golden, name):
    dataset = name.split("-")[0]
    (record,) = score(golden[dataset], [name])
    assert_golden(record, EXPECTED[dataset][name])
