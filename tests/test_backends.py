"""The contract of `icre.gallery.backend`, held by a folder and by Milvus (milvus-lite)."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from icre.gallery.answers import answer, as_json
from icre.gallery.calibration import calibrate
from icre.gallery.changes import new_images
from icre.gallery.filters import Filter
from icre.gallery.table import ImageTable
from icre.utils.errors import UserError
from small_stores import DIMENSIONS, HARD, MODEL, fill, lite, made, people, vectors

COUNT = 60
DAY = np.datetime64("2026-11-02T00:00", "us")
FILTERS = (
    Filter(),
    Filter(modality=("infrared",)),
    Filter(camera=("1", HARD)),
    Filter(camera=("",)),
    Filter(not_camera=("2",)),
    Filter(identity=("person 3", "person 7")),
    Filter(after=DAY),
    Filter(before=DAY),
    Filter(after=DAY, before=DAY + np.timedelta64(3, "h")),
    Filter(path=("*/yard_1/*",)),
    Filter(path=("*/yard?1/*", "*[!0-5].jpg")),
    Filter(path=("/images/[q]*", "*/0010.jpg")),
    Filter(path=("*%*",)),
    Filter(path=("*_*",)),
    Filter(path=("nothing",)),
    Filter(where=(("weather", "rain"),)),
    Filter(where=(("weather", ""),)),
    Filter(where=((HARD, HARD), ("weather", "rain"))),
    Filter(camera=("1",), identity=("person 3",), before=DAY, modality=("visible",)),
)


@pytest.fixture(scope="module", params=["folder", "milvus"])
def kind(request) -> str:
    if request.param == "milvus":
        pytest.importorskip("milvus_lite")
    return request.param


@pytest.fixture(scope="module")
def store(kind, tmp_path_factory):
    """A gallery that no test changes."""
    with made(kind, tmp_path_factory.mktemp("store"), people(COUNT), vectors(COUNT)) as made_one:
        yield made_one


@pytest.fixture
def own(kind, tmp_path):
    """A gallery of the test's own."""
    with made(kind, tmp_path, people(COUNT), vectors(COUNT)) as made_one:
        yield made_one


def expected(filter: Filter, queries: np.ndarray, top: int) -> tuple[list, np.ndarray]:
    """Keys and similarities of a loop over all images."""
    images, features = people(COUNT), vectors(COUNT)
    keys, passing = images.keys(), [row for row in range(COUNT) if meets(filter, images.row(row))]
    found, scores = [], []
    for query in queries:
        similarity = features[passing] @ query
        order = np.argsort(-similarity, kind="stable")[:top]
        found.append([keys[passing[place]] for place in order])
        scores.append(similarity[order])
    return found, np.array(scores).reshape(len(queries), -1)


def meets(filter: Filter, row: dict) -> bool:
    """What the documentation says of each condition."""
    import fnmatch

    time = np.datetime64(row["time"].removesuffix("Z"), "us") if "time" in row else None
    where: dict[str, list[str]] = {}
    for name, value in filter.where:
        where.setdefault(name, []).append(value)
    attributes = row.get("attributes", {})
    return (
        (not filter.modality or row["modality"] in filter.modality)
        and (not filter.camera or row["camera"] in filter.camera)
        and row["camera"] not in filter.not_camera
        and (not filter.identity or row["identity"] in filter.identity)
        and (filter.after is None or (time is not None and time >= filter.after))
        and (filter.before is None or (time is not None and time < filter.before))
        and (not filter.path or any(fnmatch.fnmatchcase(row["path"], one) for one in filter.path))
        and all(attributes.get(name, "") in values for name, values in where.items())
    )


def keys_of(gallery, rows) -> list:
    return [gallery.images.take(one).keys() for one in rows]


@pytest.mark.parametrize("filter", FILTERS, ids=str)
def test_narrow_filters_are_exact(store, filter):
    gallery, queries = store.open(), vectors(3, seed=9)
    rows, similarity = gallery.nearest(queries, 7, filter or None)
    keys, scores = expected(filter, queries, 7)
    assert keys_of(gallery, rows) == keys
    np.testing.assert_allclose(similarity, scores, atol=1e-6)
    if filter:
        assert gallery.count(filter) == sum(
            meets(filter, people(COUNT).row(row)) for row in range(COUNT)
        )


def test_what_is_known_of_the_images(store):
    gallery, images = store.open(), people(COUNT)
    assert len(gallery.images) == COUNT and not gallery.images.is_sampled
    assert gallery.modalities.tolist() == [0, 1]
    assert gallery.images.names("camera") == {"1", "2", HARD}
    assert gallery.images.names("identity", ["person 3", "nobody", ""]) == {"person 3"}
    assert gallery.images.names("weather") == {"rain"}
    assert gallery.images.attributes == sorted(["weather", HARD])
    times = images.times[~np.isnat(images.times)]
    assert gallery.images.time_span == (f"{times.min()}Z", f"{times.max()}Z")
    known = gallery.images.known(ImageTable.joined([images.take([5, 6]), people(2, COUNT)]))
    assert known.tolist() == [True, True, False, False]
    rows = gallery.nearest(vectors(COUNT)[[11, 12]], 1)[0][:, 0]
    table = gallery.images.take(rows)
    assert [table.row(n) for n in range(2)] == [images.row(n) for n in (11, 12)]
    assert gallery.images.find(str(rows[0])) == images.row(11)
    np.testing.assert_array_equal(gallery.features[rows], vectors(COUNT)[[11, 12]])
    for wrong in ("x", "-1", "99999999999999999999", "0" * 32 + "'"):
        with pytest.raises(LookupError):
            gallery.images.find(wrong)
    assert gallery.config == MODEL.config and gallery.version == 1
    assert gallery.manifest["model"] == {"weights": MODEL.weights, "sha256": MODEL.sha256}
    assert gallery.manifest["dimensions"] == DIMENSIONS


@pytest.mark.parametrize(
    ("filter", "words"),
    [
        (Filter(camera=("9",)), "--camera 9: no image"),
        (Filter(camera=("1", "9")), "--camera 9: no image"),
        (Filter(not_camera=("9",)), "--camera 9: no image"),
        (Filter(identity=("person 3", "Eve")), "--identity Eve: no image"),
        (Filter(where=(("wether", "rain"),)), "no attribute 'wether'"),
        (Filter(where=(("weather", "snow"),)), "--where weather= snow: no image"),
        (Filter(after=DAY, before=DAY), "is not before"),
        (Filter(modality=("thermal",)), "is none of"),
    ],
    ids=str,
)
def test_a_condition_that_no_image_can_meet_is_refused(store, filter, words):
    gallery = store.open()
    for use in (gallery.count, lambda one: gallery.nearest(vectors(1), 1, one)):
        with pytest.raises(UserError, match=words) as error:
            use(filter)
        assert "\n" not in str(error.value)


def test_both_answer_alike(tmp_path):
    pytest.importorskip("milvus_lite")
    answers, queries = [], people(4)
    for kind in ("folder", "milvus"):
        below = tmp_path / kind
        below.mkdir()
        with made(kind, below, people(COUNT), vectors(COUNT)) as store:
            gallery = store.open()
            strangers = dataclasses.replace(
                people(40, 100), identities=[f"stranger {n // 5}" for n in range(40)]
            )
            calibrations = calibrate(
                gallery.images, gallery.nearest, strangers, vectors(40, 3), "test", True
            )
            store.save_calibrations(gallery, calibrations)
            gallery = store.open()
            found = [
                as_json(answer(gallery, queries, vectors(4), top=5, far=0.1, **options))
                for options in ({}, {"filter": FILTERS[2]}, {"algorithm": "fastreid"})
            ]
            answers.append(json.loads(json.dumps(found)))
    for ours, theirs in zip(*(itertools.chain(*one) for one in answers)):
        for match in ours["matches"] + theirs["matches"]:
            assert match.pop("row") != -1
            for score in ("similarity", "distance", "comparable"):
                match[score] = match[score] and pytest.approx(match[score], abs=1e-5)
        for score in ("best", "threshold"):
            ours[score] = pytest.approx(ours[score], abs=1e-5)
        assert ours == theirs and len(ours["matches"]) == 5


def test_additions_come_once(own):
    more = people(20, COUNT)
    change = own.add(more, [vectors(7, 1), vectors(13, 2)])
    assert len(change.images) == 20 and len(change.gallery.images) == COUNT + 20
    assert change.gallery.version == 2 == own.open().version
    assert change.gallery.change["added"] == 20
    rows, similarity = own.open().nearest(vectors(13, 2)[:1], 1)
    assert keys_of(own.open(), rows) == [[more.keys()[7]]] and similarity[0, 0] > 0.999
    with pytest.raises(UserError, match=r"is in gallery .* --skip-existing"):
        own.add(more.take([3]), [vectors(1)])
    left = new_images(own.open(), people(25, COUNT), skip_existing=True)
    assert left.paths == people(5, COUNT + 20).paths
    assert own.open().version == 2


def test_what_is_removed_is_gone(own):
    person = Filter(identity=("person 3", "person 4"))
    status = own.status()
    gallery = own.open()
    gone = gallery.count(person)
    assert gone
    change = own.remove(person, "asked for")
    assert len(change.images) == gone and own.status() != status
    opened = own.open()
    assert len(opened.images) == COUNT - gone and opened.version == 2
    assert opened.change["removed"] == gone
    assert not opened.images.names("identity", ["person 3", "person 4"])
    rows, _ = opened.nearest(vectors(COUNT)[12:20], COUNT)
    kept = {key for one in keys_of(opened, rows) for key in one}
    assert kept == set(people(COUNT).keys()) - set(change.images.keys())
    (entry,) = own.removals(2)
    assert "asked for" in entry["reason"] and len(entry["rows"]) == gone
    assert own.removals(1) == []
    with pytest.raises(UserError, match="person 3: no image"):
        own.remove(person)
    with pytest.raises(UserError, match="nothing is removed"):
        own.remove(Filter(path=("/nowhere/*",)))
    assert own.open().version == 2
    assert len(own.verify()) == 1 and not own.leftovers()


def test_what_was_removed_can_be_added_again(own):
    images = people(COUNT)
    row = images.take([5])
    own.remove(Filter(path=(row.paths[0][-9:].join(["*", ""]),)))
    changed = dataclasses.replace(row, cameras=["7"])
    own.add(changed, [vectors(COUNT)[5:6]])
    rows, _ = own.open().nearest(vectors(COUNT)[5:6], 1)
    assert own.open().images.take(rows[0]).row(0)["camera"] == "7"
    assert len(own.open().images) == COUNT


def test_a_removal_names_the_answers_that_were_written(own, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("x")
    own.remember_answers(1, page, None, tmp_path / "none.json")
    own.remember_answers(1, page)
    assert own.remove(Filter(identity=("person 3",))).answers == (str(page),)


def test_a_calibration_is_kept_and_grows_old(own):
    gallery = own.open()
    strangers = people(40, 100)
    found = calibrate(
        gallery.images,
        gallery.nearest,
        dataclasses.replace(strangers, identities=[f"stranger {n // 5}" for n in range(40)]),
        vectors(40, 3),
        "test",
        True,
    )
    own.save_calibrations(gallery, found)
    assert own.open().calibrations == found and set(found) == {"visible", "infrared"}
    assert own.open().change == {"images": COUNT, "added": 0, "removed": 0}
    own.add(people(3, COUNT), [vectors(3, 4)])
    own.remove(Filter(identity=("person 3",)))
    opened = own.open()
    assert opened.calibrations == found
    assert opened.change["added"] == 3 and opened.change["removed"] == 3
    own.save_calibrations(gallery, found)  # of the version before
    assert own.open().change["added"] == 3


def test_another_model_is_refused(store):
    gallery = store.open()
    gallery.check_model("a" * 64, "model.pth")
    with pytest.raises(UserError, match=r"other.pth is not the model of gallery"):
        gallery.check_model("b" * 64, "other.pth")


def test_a_place_without_a_gallery(kind, tmp_path):
    from icre.gallery.folder import FolderStore

    if kind == "folder":
        with pytest.raises(UserError, match="is no gallery: make one"):
            FolderStore(tmp_path / "none").open()
        assert FolderStore(tmp_path / "none").status() is None
        return
    with lite(tmp_path) as store:
        with pytest.raises(UserError, match="is no gallery: make one"):
            store.open()
        assert store.status() is None
        fill(store, people(COUNT), vectors(COUNT), "flat")
        assert len(store.open().images) == COUNT


def test_features_that_do_not_fit_change_nothing(own):
    for features in (vectors(1)[:, :8], 2 * vectors(1)):
        with pytest.raises((UserError, ValueError)):
            own.add(people(1, COUNT), [features])
        if own.is_remote:
            assert len(own.open().images) == COUNT and own.open().version == 1
