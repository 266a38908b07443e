"""Galleries of both modalities: protocols, comparable similarities, searching."""

import json
from dataclasses import replace

import numpy as np
import pytest

from icre.commands import score as score_command
from icre.datasets.protocol import DEFAULTS, PROTOCOLS, find
from icre.evaluation import openset, records, sampling
from icre.evaluation.calibration import METHODS, calibrate, fit_pair
from icre.evaluation.features import FeatureSet
from icre.evaluation.score import score
from icre.evaluation.trials import build_trials
from icre.gallery import calibration as gallery_calibration
from icre.gallery import changes, mixed, store, writing
from icre.gallery.answers import answer, as_json, not_comparable, text
from icre.gallery.calibration import Calibration
from icre.gallery.filters import Filter
from icre.gallery.page import save_page
from icre.gallery.table import ImageTable
from icre.modality import INFRARED, NAMES, VISIBLE
from icre.utils.errors import UserError
from reference.rank_oracle import query_by_hand
from small_features import from_paths, small_features

MODEL = store.ModelInfo("model.pth", "a" * 64, "MODEL: {}\n")


def excluded_by_hand(data: FeatureSet, name: str, query: int, image: int) -> bool:
    """The rule of a mixed gallery, for one query and one image."""
    cameras = {int(data.camids[query]), int(data.camids[image])}
    same = data.pids[query] == data.pids[image]
    if same and len(cameras) == 1:
        return True
    if name.startswith("sysu") and cameras == {2, 3}:
        return True
    return bool(
        name.endswith("-cross") and same and data.modalities[query] == data.modalities[image]
    )


@pytest.mark.parametrize(
    "suffix", ["", "-cross", "-single", pytest.param("-infrared20-cross", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("direction", ["i2mixed", "v2mixed"])
@pytest.mark.parametrize("layout", [*DEFAULTS, "any"])
def test_equals_loops(layout, direction, suffix):
    name = f"{layout}-{direction}{suffix}"
    data, (trials,) = build_trials(small_features(layout), [name])
    (record,) = score(data, name)
    unit = data.features.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    wanted = INFRARED if direction == "i2mixed" else VISIBLE
    dedup = layout in ("sysu", "llcm")
    rank1, precision = [], []
    for gallery in trials.galleries:
        found = [
            query_by_hand(
                (1 - unit[gallery] @ unit[query]).tolist(),
                data.pids[gallery].tolist(),
                [excluded_by_hand(data, name, query, image) for image in gallery],
                int(data.pids[query]),
                dedup,
            )
            for query in np.flatnonzero(data.modalities == wanted)
        ]
        found = [one for one in found if one]
        rank1.append(np.mean([first == 1 for first, _, _ in found]))
        precision.append(np.mean([ap for _, ap, _ in found]))
    assert record["trials"] == (10 if "single" in suffix or "infrared" in suffix else 1)
    assert record["Rank-1"]["mean"] == pytest.approx(100 * np.mean(rank1))
    assert record["mAP"]["mean"] == pytest.approx(100 * np.mean(precision))


def by_angles(paths: list[str], angles: list[float]) -> FeatureSet:
    return replace(from_paths(paths), features=np.stack([np.cos(angles), np.sin(angles)], 1))


def test_by_hand():
    """Six images on a circle: a, b of person 1 are of one camera; cameras 2 and 3 do not meet."""
    data = by_angles(
        ["cam6/0001/a.jpg", "cam6/0001/b.jpg", "cam3/0001/c.jpg", "cam6/0002/d.jpg",
         "cam1/0001/e.jpg", "cam2/0002/f.jpg"],
        [0.0, 0.01, 0.1, 0.2, 0.3, 0.15],
    )  # fmt: skip
    whole, cross = score(data, ["sysu-i2mixed", "sysu-i2mixed-cross"])
    # a and b, of one camera, find c (own), f, d, e (own). c, of camera 3, skips f and finds b, a
    # (own), d, e (own). d finds f (own) first.
    assert (whole["valid_queries"], whole["gallery"]) == (4, 6)
    precisions = [(1 + 2 / 4) / 2, (1 + 2 / 4) / 2, (1 + 1 + 3 / 4) / 3, 1.0]
    assert whole["mAP"]["mean"] == pytest.approx(100 * np.mean(precisions))
    # across modalities: e comes after the strangers f and d (a, b), after d (c); f at once (d)
    assert cross["mAP"]["mean"] == pytest.approx(100 * np.mean([1 / 3, 1 / 3, 1 / 2, 1]))
    assert cross["Rank-1"]["mean"] == 25


def test_regdb_has_no_match_within_a_modality():
    """Each modality is one camera, so the whole list and the one across modalities agree."""
    whole, cross = score(small_features("regdb"), ["regdb-v2mixed", "regdb-v2mixed-cross"])
    assert [whole[name] for name in records.METRICS] == [cross[name] for name in records.METRICS]


def test_a_sampled_gallery_holds_that_of_the_protocol_across_modalities():
    data, (across, both) = build_trials(
        small_features("llcm"), ["llcm-n2v", "llcm-i2mixed-single"], "seeded"
    )
    for one, two in zip(across.galleries, both.galleries):
        assert two[data.modalities[two] == VISIBLE].tolist() == one.tolist()
        assert len(set(zip(data.pids[two], data.camids[two], data.modalities[two]))) == len(two)


@pytest.mark.parametrize("percentage", [10, 50, 80])
def test_shares_are_as_named_and_the_same_every_time(percentage):
    data = small_features("sysu", identities=20).ordered()
    galleries = sampling.mixed(data, np.arange(len(data)), False, percentage)
    again = sampling.mixed(data, np.arange(len(data)), False, percentage)
    assert [one.tolist() for one in galleries] == [one.tolist() for one in again]
    assert len({tuple(one) for one in galleries}) == sampling.TRIALS
    for one in galleries:
        infrared = (data.modalities[one] == INFRARED).sum()
        assert abs(infrared - len(one) * percentage / 100) <= 1
        assert (np.diff(one) > 0).all()
        kept = max(np.mean(np.isin(np.flatnonzero(data.modalities == m), one)) for m in (0, 1))
        assert kept == 1  # nothing is left out of the modality that has too few


def test_rows_in_any_order_give_the_same_scores():
    data = small_features("sysu")
    names = ["sysu-i2mixed-single-infrared20", "sysu-v2mixed-cross"]
    shuffled = data.take(np.random.default_rng(1).permutation(len(data)))
    assert score(data, names) == score(shuffled, names)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sysu-i2mixed-infrared0", "unknown protocol"),
        ("sysu-i2mixed-infrared100", "unknown protocol"),
        ("sysu-i2mixed-cross-single", r"unknown protocol.*-single.*-infrared<1\.\.99>.*-cross"),
        ("llcm-i2mixed", "llcm-i2mixed is a protocol of llcm"),
    ],
)
def test_names_that_are_none(name, said):
    with pytest.raises(UserError, match=said):
        score(small_features("sysu"), name)


def test_features_that_a_mixed_gallery_cannot_be_made_of():
    data = small_features("sysu")
    visible = data.take(data.modalities == VISIBLE)
    with pytest.raises(UserError, match="sysu-v2mixed: the features hold no infrared image"):
        score(visible, "sysu-v2mixed")
    few = data.take(np.r_[:20, np.flatnonzero(data.modalities == INFRARED)[:1]])
    with pytest.raises(UserError, match=r"sysu-i2mixed-infrared99: .*no visible one would be left"):
        score(few, "sysu-i2mixed-infrared99")
    with pytest.raises(UserError, match="has no official draw"):
        score(data, "sysu-i2mixed-single", "official", perm={})


def test_mixed_protocols_are_scored_where_they_are_named_only():
    for layout, names in DEFAULTS.items():
        assert not any(PROTOCOLS[name].mixed for name in names)
        assert find(f"{layout}-i2mixed-single-infrared7-cross").infrared == 7


# ---- comparable similarities


def gap_features(seed: int, first: int = 0, people: int = 40, gap: float = 1.5) -> FeatureSet:
    """People in two cameras of each modality, with a part that is the modality's alone."""
    generator = np.random.default_rng(seed)
    pids = np.repeat(np.arange(first, first + people), 8)
    camids = np.tile(np.repeat(np.arange(4), 2), people)
    modalities = camids % 2
    own = generator.normal(size=(people, 12))[pids - first]
    features = np.concatenate(
        [own + generator.normal(0, 0.6, own.shape), 2 * gap * np.eye(2)[modalities]], 1
    )
    paths = [f"img/{number:05d}.jpg" for number in range(first * 8, (first + people) * 8)]
    return FeatureSet(features, pids, camids, modalities, paths, "people")


@pytest.mark.parametrize("method", METHODS)
def test_the_gap_between_modalities_costs_less(method):
    test, people = gap_features(0), gap_features(1, first=1000)
    learnt = calibrate(people, test, method, "others.npz")
    plain, better = (
        score(test, ["people-i2mixed", "people-i2mixed-cross"], calibration=one)
        for one in (None, learnt)
    )
    for before, after in zip(plain, better):
        assert after["mAP"]["mean"] > before["mAP"]["mean"] + 5
        assert before["calibration"] is None and after["calibration"] == {
            "method": method, "people": 40, "images": 320, "source": "others.npz",
        }  # fmt: skip
    assert method in records.table(better) and "calibration" not in records.table(plain)


@pytest.mark.parametrize("method", ["logistic", "z-norm"])
def test_nothing_changes_where_the_gallery_has_one_modality(method):
    test, people = gap_features(0), gap_features(1, first=1000)
    learnt = calibrate(people, test, method)
    names = ["people-i2v", "people-v2i-single"]
    for before, after in zip(score(test, names), score(test, names, calibration=learnt)):
        assert [before[name] for name in records.METRICS] == [
            after[name] for name in records.METRICS
        ]


def test_z_norm_by_hand():
    """Two people; the impostor pairs across modalities have the cosines 0 and 0.6."""
    unit = np.array([[1, 0], [0, 1], [0.6, 0.8], [0, 1.0]])
    pids, modalities = np.array([0, 1, 1, 0]), np.array([0, 0, 1, 1])
    scale, shift = fit_pair(unit, pids, pids, modalities, VISIBLE, INFRARED, "z-norm")
    # 1: (1, 0) . (0.6, 0.8) = 0.6; (0, 1) . (0, 1) = 1; mean 0.8, deviation 0.2
    assert (scale, shift) == pytest.approx((5, -4))


def test_log_odds_are_those_of_the_scores():
    """Normal scores of equal spread: the log-odds are (m1 - m0) / s^2 times the distance."""
    generator = np.random.default_rng(0)
    people, spread = 500, 0.3
    angles = generator.uniform(0, 2 * np.pi, people)
    angles = np.concatenate([angles, angles + generator.normal(0, spread, people)])
    unit = np.stack([np.cos(angles), np.sin(angles)], 1)
    pids, cameras = np.tile(np.arange(people), 2), np.repeat([0, 1], people)
    scale, shift = fit_pair(unit, pids, cameras, cameras, VISIBLE, INFRARED)
    cosine = unit[:people] @ unit[people:].T
    odds = scale * cosine + shift
    genuine, impostor = np.diag(odds), odds[~np.eye(people, dtype=bool)]
    # the maximum of the likelihood: both sides' mean residuals balance
    residual = np.mean(1 / (1 + np.exp(genuine))) - np.mean(1 / (1 + np.exp(-impostor)))
    assert scale > 0 and abs(residual) < 1e-2


def test_centring_by_hand():
    people = FeatureSet(
        [[3, 4], [4, 3], [0, 5], [5, 0.0]], [0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 1, 1]
    )
    test = FeatureSet([[1, 0], [0, 1.0]], [7, 8], [0, 1], [0, 1], ["a.jpg", "b.jpg"], "people")
    learnt = calibrate(people, test, "centring")
    assert learnt.centres == pytest.approx(np.array([[0.7, 0.7], [0.5, 0.5]]))
    found = learnt.unit(np.array([[1.0, 0]]), np.array([0]))
    assert found == pytest.approx(np.array([[0.3, -0.7]]) / np.hypot(0.3, 0.7))


def test_people_that_nothing_can_be_learnt_from():
    test, people = gap_features(0), gap_features(1, first=1000)
    wide = replace(people, features=np.ones((len(people), 20)))
    one_camera = replace(people, camids=people.modalities)
    alike = replace(people, features=np.ones_like(people.features))
    for given, method, said in (
        (gap_features(1, first=39), "logistic", r"p\.npz holds 1 of the tested identities.*39"),
        (wide, "logistic", r"p\.npz has features of 20 dimensions.*14"),
        (people.take(people.modalities == 0), "z-norm", r"p\.npz holds no infrared image"),
        (one_camera, "logistic", r"p\.npz: no visible and visible images of one person in two"),
        (alike, "z-norm", r"p\.npz: no visible and visible images of two people whose"),
        (people, "s-norm", "unknown calibration 's-norm'.*logistic, z-norm, centring"),
    ):
        with pytest.raises(UserError, match=said):
            calibrate(given, test, method, "p.npz")
    with pytest.raises(UserError, match="takes no calibration"):
        score(test, "people-i2mixed", reranker="fastreid", calibration=calibrate(people, test))


def test_open_set_thresholds_are_of_the_comparable_similarity():
    """Per comparison, one threshold then serves strangers within and across modalities alike."""
    test, people = gap_features(0, people=60), gap_features(1, first=1000)
    learnt = calibrate(people, test, "z-norm")
    data, (trials,) = build_trials(test, ["people-i2mixed"])
    unit = data.features / np.linalg.norm(data.features, axis=1, keepdims=True)
    strangers = data.pids[trials.query][:, None] != data.pids
    for calibration, even in ((None, False), (learnt, True)):
        (found,) = openset.open_set(test, ["people-i2mixed"], calibration=calibration)
        threshold = found["comparison"]["at"][2]["threshold"]
        values = unit[trials.query] @ unit.T
        if calibration:
            columns = data.modalities[trials.query], data.modalities
            values = calibration.comparable(values, *columns)
        rates = [
            (values > threshold)[strangers & (data.modalities == number)].mean()
            for number in (VISIBLE, INFRARED)
        ]
        assert np.mean(rates) == pytest.approx(0.1, abs=0.005)
        assert bool(rates[0] > 0.05) is even
        counted = sum(found["comparison"]["impostor"])
        assert counted == found["comparison"]["trials"]["impostor"]


def test_the_command(tmp_path, capsys):
    test, people = tmp_path / "test.npz", tmp_path / "people.npz"
    gap_features(0).save(test)
    gap_features(1, first=1000).save(people)
    out = tmp_path / "out.json"
    arguments = [str(test), "--protocol", "people-i2mixed", "--open-set"]
    calibrated = [*arguments, "--calibrate-on", str(people), "--json", str(out)]
    assert score_command.main(calibrated) == 0
    (record,) = json.loads(out.read_text())
    assert record["calibration"]["method"] == "logistic"
    assert record["calibration"]["source"] == str(people)
    assert score_command.main([*arguments, "--calibration", "z-norm"]) == 2
    assert "needs --calibrate-on" in capsys.readouterr().err


# ---- galleries


def table_of(data: FeatureSet) -> ImageTable:
    return ImageTable(
        [f"/{path}" for path in data.paths],
        data.modalities,
        [str(camera) for camera in data.camids],
        [f"person {pid}" for pid in data.pids],
    )


def unit_of(data: FeatureSet) -> np.ndarray:
    return data.features / np.linalg.norm(data.features, axis=1, keepdims=True)


def gallery_of(folder, data: FeatureSet, kind: str = "flat") -> store.Gallery:
    writing.write(folder, table_of(data), [unit_of(data)], MODEL, kind, progress=False)
    return store.open_gallery(folder)


def calibrated(gallery: store.Gallery, people: FeatureSet) -> store.Gallery:
    found = gallery_calibration.calibrate(
        gallery.images, gallery.nearest, table_of(people), unit_of(people), "test", True
    )
    changes.save_calibrations(gallery, found)
    return store.open_gallery(gallery.folder)


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw", "ivfpq"])
def test_one_modality_can_be_searched(tmp_path, kind):
    data = gap_features(0)
    gallery = gallery_of(tmp_path / "g", data, kind)
    for modality in (VISIBLE, INFRARED):
        only = Filter(modality=(NAMES[modality],))
        rows, cosine = gallery.nearest(unit_of(data)[:20], 5, only)
        assert (data.modalities[rows] == modality).all()
        exact = unit_of(data)[:20] @ unit_of(data)[data.modalities == modality].T
        assert cosine[:, 0] == pytest.approx(exact.max(1), abs=1e-5)


@pytest.mark.slow
def test_a_calibrated_gallery_ranks_by_comparable_similarities(tmp_path):
    people, strangers = gap_features(0, gap=2.0), gap_features(1, first=1000, gap=2.0)
    plain = gallery_of(tmp_path / "g", people)
    asked = table_of(people).take(np.flatnonzero(people.camids == 1))
    features = unit_of(people)[people.camids == 1]
    assert "ranked as if they could be compared" in not_comparable(plain, asked)
    before = answer(plain, asked, features, top=40)
    gallery = calibrated(plain, strangers)
    assert not_comparable(gallery, asked) is None
    after = answer(gallery, asked, features, top=40)
    lines = gallery.calibrations["infrared"].lines
    for one in after:
        assert one.comparable and one.best == one.matches[0].comparable
        values = [match.comparable for match in one.matches]
        assert values == sorted(values, reverse=True)
        for match in one.matches:
            scale, shift = lines[match.modality]
            assert match.comparable == pytest.approx(scale * match.similarity + shift)
            assert match.accepted == (match.comparable > one.threshold)
            assert match.distance == -match.comparable

    def across(answers):
        return np.mean([match.right and match.modality == "visible" for one in answers
                        for match in one.matches[:8]])  # fmt: skip

    assert across(after) > 2 * across(before)
    # within a modality the order is the same
    for one, other in zip(before, after):
        orders = [
            [match.path for match in answers.matches if match.modality == "infrared"]
            for answers in (one, other)
        ]
        shared = min(map(len, orders))
        assert shared and orders[0][:shared] == orders[1][:shared]
    assert "comparable" in text(after[0]) and "comparable" not in text(before[0])
    assert as_json(after)[0]["matches"][0]["comparable"] == after[0].best
    save_page(after[:2], tmp_path / "page.html", "two")
    assert "compares images of both modalities" in (tmp_path / "page.html").read_text()


@pytest.mark.slow
def test_the_stated_rate_holds_for_a_mixed_gallery(tmp_path):
    gallery = calibrated(
        gallery_of(tmp_path / "g", gap_features(0, people=20)),
        gap_features(1, first=1000, people=150),
    )
    others = gap_features(2, first=5000, people=150)
    for number, name in enumerate(("visible", "infrared")):
        rows = np.flatnonzero(others.modalities == number)
        found = answer(gallery, table_of(others).take(rows), unit_of(others)[rows], far=0.1)
        assert 0.06 < np.mean([one.here for one in found]) < 0.14, name


def test_a_gallery_of_one_modality_stays_as_it_is(tmp_path):
    data, strangers = gap_features(0), gap_features(1, first=1000)
    visible = data.take(data.modalities == VISIBLE)
    gallery = calibrated(gallery_of(tmp_path / "g", visible), strangers)
    assert gallery.calibrations["infrared"].lines is None
    found = answer(gallery, table_of(data), unit_of(data), top=3)
    assert all(one.matches[0].comparable is None for one in found)
    assert not_comparable(gallery, table_of(data)) is None
    assert max(gallery.calibrations["infrared"].impostor) <= 1


def test_people_of_one_camera_leave_it_uncalibrated_with_a_note(tmp_path):
    strangers = gap_features(1, first=1000)
    one_camera = replace(strangers, camids=strangers.modalities)
    gallery = calibrated(gallery_of(tmp_path / "g", gap_features(0)), one_camera)
    assert gallery.calibrations["visible"].lines is None
    assert "visible queries" in not_comparable(gallery, table_of(strangers).take([0]))


@pytest.mark.parametrize(
    "lines",
    [
        {"visible": [1.0, 0.0]},
        {"visible": [1.0, 0.0], "infrared": [-1.0, 0.0]},
        {"visible": [1.0, 0.0], "infrared": [1.0]},
        {"visible": [1.0, 0.0], "thermal": [1.0, 0.0]},
        [1.0, 0.0],
    ],
)
def test_stored_lines_are_checked(lines):
    valid = Calibration([7.5], [9.0], [False], 1, "others", True)
    good = replace(valid, lines={"visible": [1.0, 0.0], "infrared": [2.0, 1.0]}).as_dict()
    assert Calibration.from_dict(json.loads(json.dumps(good))).threshold(0.5) == 7.5
    with pytest.raises(UserError, match=r"g\.json has a wrong lines"):
        Calibration.from_dict(good | {"lines": lines}, "g.json")
    with pytest.raises(UserError, match=r"g\.json has a wrong impostor"):
        Calibration.from_dict(valid.as_dict(), "g.json")


def test_what_an_approximate_index_does_not_find_comes_last():
    def search(queries, top, filter):
        visible = filter.modality == ("visible",)
        rows = np.array([[4, -1]]) if visible else np.array([[9, 8]])
        cosine = np.array([[0.5, -np.inf]] if visible else [[0.9, 0.2]])
        return rows, cosine

    lines = {"visible": [10.0, 0.0], "infrared": [5.0, 0.0]}
    rows, cosine, comparable = mixed.nearest(search, lines, np.zeros((1, 2)), 4)
    assert rows.tolist() == [[4, 9, 8, -1]] and cosine[0].tolist() == [0.5, 0.9, 0.2, -np.inf]
    assert comparable[0].tolist() == [5.0, 4.5, 1.0, -np.inf]
    only = Filter(modality=("infrared",), camera=("2",))
    rows, _, comparable = mixed.nearest(search, lines, np.zeros((1, 2)), 4, only)
    assert rows.tolist() == [[9, 8]] and comparable[0].tolist() == [4.5, 1.0]


@pytest.mark.slow
def test_conditions_hold_for_both_modalities_of_a_calibrated_gallery(tmp_path):
    people = gap_features(0)
    gallery = calibrated(gallery_of(tmp_path / "g", people), gap_features(1, first=1000))
    asked = table_of(people).take([0, 1])
    for only in (Filter(camera=("1",)), Filter(modality=("visible",)), Filter(camera=("none",))):
        if only.camera == ("none",):
            with pytest.raises(UserError, match="none"):
                answer(gallery, asked, unit_of(people)[:2], filter=only)
            continue
        for one in answer(gallery, asked, unit_of(people)[:2], top=200, filter=only):
            assert one.comparable and one.matches
            assert all(match.camera == "1" for match in one.matches) or not only.camera
            assert all(match.modality == "visible" for match in one.matches) or not only.modality
