"""The nine protocols: golden results of the field's own code, settings, draws and bad input."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from icre.benchmark.protocol import stand_in_permutation
from icre.datasets.protocol import DEFAULTS, PROTOCOLS
from icre.datasets.sysu import read_permutation
from icre.evaluation import records, sampling
from icre.evaluation.features import FeatureSet
from icre.evaluation.score import score
from icre.utils.errors import UserError
from reference.rank_oracle import loop_score
from small_features import from_paths, small_features

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


@pytest.mark.slow
@needs_perm
def test_sysu_golden_all_six_settings_by_default(golden):
    records = score(golden["sysu"], perm=PERM)
    assert [f"{one['protocol']}/{one['draw']}" for one in records] == [
        "sysu-all-single/official",
        "sysu-all-multi/official",
        "sysu-indoor-single/official",
        "sysu-indoor-multi/official",
        "sysu-all-single/seeded",
        "sysu-indoor-single/seeded",
    ]
    for one in records:
        assert_golden(one, EXPECTED["sysu"][f"{one['protocol']}/{one['draw']}"])


@pytest.mark.slow
def test_sysu_golden_seeded_without_permutation(golden):
    records = score(golden["sysu"])
    assert [one["protocol"] for one in records] == ["sysu-all-single", "sysu-indoor-single"]
    for one in records:
        assert_golden(one, EXPECTED["sysu"][f"{one['protocol']}/seeded"])


@pytest.mark.slow
@pytest.mark.parametrize("name", list(EXPECTED["regdb"]) + list(EXPECTED["llcm"]))
def test_regdb_and_llcm_golden(golden, name):
    dataset = name.split("-")[0]
    (record,) = score(golden[dataset], [name])
    assert_golden(record, EXPECTED[dataset][name])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", [name for name, one in PROTOCOLS.items() if not one.mixed])
def test_equals_the_loop_oracle_for_every_draw(name, seed):
    data = small_features(name.split("-")[0], seed)
    permutation = stand_in_permutation(data, seed=seed)
    for draw in PROTOCOLS[name].draws or (None,):
        (record,) = score(data, [name], draw, permutation)
        trials = loop_score(data, name, draw, permutation)
        assert record["trials"] == len(trials) == (10 if draw else 1)
        assert record["valid_queries"] == trials[0]["valid_queries"]
        for figure in records.METRICS:
            column = [trial[figure] for trial in trials]
            assert record[figure]["mean"] == pytest.approx(np.mean(column), abs=1e-9)
            if draw:
                assert record[figure]["std"] == pytest.approx(np.std(column), abs=1e-9)


@pytest.mark.parametrize("layout", DEFAULTS)
def test_row_order_changes_nothing(layout):
    data = small_features(layout)
    # Copies of one image tie exactly, and so does a set of them in any order.
    data = replace(data, features=np.repeat(data.features[::3], 3, axis=0)[: len(data)])
    shuffled = data.take(np.random.default_rng(1).permutation(len(data)))
    permutation = stand_in_permutation(data)
    assert score(data, perm=permutation) == score(shuffled, perm=permutation)


def test_perfect_features_score_100():
    data = small_features("sysu")
    data = replace(data, features=np.eye(8)[data.pids])
    for record in score(data, perm=stand_in_permutation(data)):
        assert all(record[name] == {"mean": 100, "std": 0} for name in records.METRICS)


def test_camera_3_queries_lose_all_of_camera_2():
    # pid 1 lives in cameras 2 and 3 only; pid 2's camera-2 image must not rank before cam 1's.
    data = from_paths(
        [
            "cam2/0001/0001.jpg",
            "cam3/0001/0001.jpg",
            "cam1/0002/0001.jpg",
            "cam2/0002/0001.jpg",
            "cam3/0002/0001.jpg",
            "cam6/0001/0001.jpg",
            "cam1/0003/0001.jpg",
        ]
    )
    # (angle of each image) the camera-3 query of pid 2 is nearest to its own camera-2 image, then
    # to pid 3, then to its camera-1 image; the camera-6 query of pid 1 to pid 2's camera 2.
    angles = np.array([0.9, 0.0, 0.5, 0.1, 0.0, 0.2, 0.3])
    data = replace(data, features=np.stack([np.cos(angles), np.sin(angles)], axis=1))
    (record,) = score(data, ["sysu-all-single"])
    assert (record["queries"], record["valid_queries"], record["gallery"]) == (3, 2, 4)
    # pid 2 from camera 3: hit at rank 2 of (3, 2). pid 1 from camera 6: last of (2, 3, 2, 1), whose
    # de-duplicated list is (2, 3, 1).
    assert record["Rank-1"]["mean"] == 0 and record["Rank-5"]["mean"] == 100
    assert record["mAP"]["mean"] == pytest.approx(100 * (1 / 2 + 1 / 4) / 2)


def test_llcm_skips_same_identity_and_camera_only():
    data = from_paths(
        [
            "test_vis/cam1/0001/a.jpg",
            "test_nir/cam1/0001/b.jpg",
            "test_nir/cam2/0001/c.jpg",
            "test_nir/cam1/0002/d.jpg",
        ]
    )
    angles = np.array([0.0, 0.1, 0.3, 0.2])
    data = replace(data, features=np.stack([np.cos(angles), np.sin(angles)], axis=1))
    (record,) = score(data, ["llcm-v2n"])
    # b is skipped (same identity and camera), d is not (another identity): c comes second.
    assert record["mAP"]["mean"] == pytest.approx(50) and record["Rank-1"]["mean"] == 0


def test_seeded_draw_is_pythons_choice_and_leaves_its_state_alone():
    data = small_features("sysu").ordered()
    rows = np.flatnonzero(np.isin(data.camids, (1, 2, 4, 5)))
    random.seed(123)
    state = random.getstate()
    drawn = sampling.seeded(data, rows)
    assert random.getstate() == state
    random.seed(4)
    groups = {}
    for row in rows:
        groups.setdefault((data.pids[row], data.camids[row]), []).append(row)
    assert drawn[4].tolist() == [random.choice(group) for group in groups.values()]


def test_labels_reach_the_record_and_unknown_ones_do_not():
    data = small_features("regdb")
    record = score(data, split=3, flip=True, seed=1, epoch=8)[0]
    assert [record[key] for key in ("split", "flip", "seed", "epoch", "rerank", "draw")] == [
        3,
        True,
        1,
        8,
        None,
        None,
    ]
    assert record["std_over"] is None and record["mAP"]["std"] is None
    with pytest.raises(UserError, match="no field 'spilt'"):
        score(data, spilt=3)


def test_reranked_records_have_their_own_table():
    plain = score(small_features("regdb"))
    rerank = {"algorithm": "jaccard", "k1": 20, "k2": 6, "lambda": 0.3}
    text = records.table(plain + [one | {"rerank": rerank} for one in plain])
    first, second = text.split("\n\n")
    assert first.startswith("Not re-ranked") and "jaccard" not in first
    assert second.startswith("Re-ranked") and second.count("jaccard k1=20 k2=6 lambda=0.3") == 2


@pytest.mark.parametrize(
    ("layout", "arguments", "message"),
    [
        ("sysu", {"protocols": ["sysu-al"]}, "'sysu-al'.* sysu-all-single"),
        ("sysu", {"protocols": ["llcm-v2n"]}, "llcm-v2n .* sysu"),
        ("sysu", {"protocols": ["sysu-all-multi"]}, "rand_perm_cam"),
        ("sysu", {"protocols": ["sysu-all-multi"], "draw": "seeded"}, "sysu-all-multi .* seeded"),
        ("sysu", {"draw": "official"}, "rand_perm_cam"),
        ("sysu", {"draw": "both"}, "'both'"),
        ("sysu", {"perm": "no/such.mat"}, "no/such.mat"),
        ("regdb", {"draw": "seeded"}, "regdb .* seeded"),
        ("llcm", {"protocols": ["llcm-n2v"], "draw": "official"}, "llcm-n2v .* official"),
    ],
)
def test_settings_that_do_not_exist_raise(layout, arguments, message):
    with pytest.raises(UserError, match=message):
        score(small_features(layout), **arguments)


def test_a_side_without_images_raises():
    data = small_features("sysu")
    with pytest.raises(UserError, match=r"sysu-indoor-single: .* gallery"):
        score(data.take(~np.isin(data.camids, (1, 2))), ["sysu-indoor-single"])
    with pytest.raises(UserError, match=r"regdb-v2t: .* query"):
        score(small_features("regdb").take(slice(-3, None)), ["regdb-v2t"])


@pytest.mark.parametrize("camera", [1, 3])
def test_a_permutation_that_does_not_fit_raises(camera):
    data = small_features("sysu").ordered()
    permutation = stand_in_permutation(data)
    pid = int(data.pids[data.camids == camera][0])
    lacking = {key: value for key, value in permutation.items() if key != (pid, camera)}
    with pytest.raises(UserError, match=f"identity {pid} in camera {camera}: .* 0 images"):
        score(data, perm=lacking)
    fewer = data.take(np.arange(len(data)) != np.flatnonzero(data.camids == camera)[0])
    with pytest.raises(UserError, match=f"identity {pid} in camera {camera}: "):
        score(fewer, perm=permutation)


def test_permutation_file_is_read_and_checked(tmp_path):
    cells = np.empty((6, 1), dtype=object)
    for camera in range(6):
        cells[camera, 0] = np.empty((2, 1), dtype=object)
        cells[camera, 0][0, 0] = np.empty((0, 0))
        cells[camera, 0][1, 0] = np.array([[2, 1], [1, 2]])
    scipy.io.savemat(tmp_path / "perm.mat", {"rand_perm_cam": cells})
    permutation = read_permutation(tmp_path / "perm.mat")
    assert set(permutation) == {(2, camera) for camera in range(1, 7)}
    assert permutation[2, 6].tolist() == [[1, 0], [0, 1]]
    cells[3, 0][1, 0] = np.array([[2, 2], [1, 2]])
    scipy.io.savemat(tmp_path / "bad.mat", {"rand_perm_cam": cells})
    with pytest.raises(UserError, match="identity 2 in camera 4"):
        read_permutation(tmp_path / "bad.mat")
    (tmp_path / "text.mat").write_text("not a MATLAB file, but long enough to be read as one" * 9)
    with pytest.raises(UserError, match=r"text\.mat"):
        read_permutation(tmp_path / "text.mat")
