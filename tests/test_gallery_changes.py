"""Galleries that change: a week of additions and removals, kills, writers and readers at once."""

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest

from icre.gallery import changes, index_files, journal, segments, versions
from icre.gallery.calibration import Calibration
from icre.gallery.filters import Filter
from icre.gallery.manifest import status
from icre.gallery.parquet_shards import ParquetShard
from icre.gallery.shards import Shard
from icre.gallery.store import Gallery, open_gallery
from icre.gallery.table import ImageTable
from icre.gallery.verify import verify
from icre.gallery.writing import merge, write
from icre.utils.errors import UserError
from icre.utils.lock import locked
from small_galleries import MODEL, change, old_gallery, small_gallery, unit

KINDS = ["flat", "ivf", "hnsw", "ivfpq"]
DAYS = ("2026-11-02", "2026-11-03", "2026-11-04", "2026-11-05", "2026-11-06")
MONDAY = 600  # images


def day_of(number: int, count: int) -> tuple[ImageTable, np.ndarray]:
    """The images of a day, of thirty people and four cameras, and their features."""
    rows = np.arange(count)
    time = np.datetime64(f"{DAYS[number]}T08:00", "us") + rows.astype("m8[m]")
    table = ImageTable(
        [f"/images/{DAYS[number]}/{row}.jpg" for row in rows],
        rows % 2,
        [str(row % 4) for row in rows],
        [f"person {row % 30}" for row in rows],
        time,
        np.stack([rows % 3, rows, rows % 2 + 1, rows + 1], axis=1).astype(np.int32),
        {"weather": ["rain" if row % 5 else "sun" for row in rows]},
    )
    return table, unit(count, seed=number)


def built_at_once(folder: Path, days: list, kind: str, without: Filter) -> Gallery:
    """A gallery of all days, but for the images that meet a filter."""
    table = ImageTable.joined([images for images, _ in days])
    features = np.concatenate([features for _, features in days])
    write(folder, table, [features], MODEL, "flat", progress=False)
    keep = np.flatnonzero(~open_gallery(folder).passing(without))
    whole = folder.with_name(f"{folder.name} kept")
    write(whole, table.take(keep), [features[keep]], MODEL, kind, progress=False)
    return open_gallery(whole)


def content(gallery: Gallery) -> dict[tuple, tuple]:
    """Path and box -> what the gallery knows of it, and its feature's bytes."""
    found = {}
    for row in range(len(gallery.images)):
        known = gallery.images.row(row)
        text = json.dumps(known, sort_keys=True)
        found[gallery.images.key(row)] = text, gallery.features[row].tobytes()
    return found


def answers(gallery: Gallery, queries: np.ndarray, filter: Filter | None = None) -> list[list]:
    rows, similarity = gallery.nearest(queries, 5, filter)
    assert (np.diff(similarity, axis=1) <= 1e-6).all()
    return [[gallery.images.key(row) for row in found] for found in rows]


def same_answers(one: Gallery, other: Gallery, filter: Filter | None = None) -> float:
    """Share of answers that are the same."""
    queries = unit(50, seed=99)
    pairs = zip(answers(one, queries, filter), answers(other, queries, filter))
    return float(np.mean([len(set(a) & set(b)) / max(len(a), 1) for a, b in pairs]))


FILTERS = [
    Filter(camera=("1", "2")),
    Filter(not_camera=("1",), modality=("visible",)),
    Filter(identity=("person 4", "person 5")),
    Filter(after=np.datetime64(f"{DAYS[1]}T08:03"), before=np.datetime64(f"{DAYS[2]}T08:05")),
    Filter(where=(("weather", "sun"),), camera=("0",)),
    Filter(path=(f"*/{DAYS[0]}/1*",)),
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_week(tmp_path, kind):
    """Index on Monday, add from Tuesday to Friday, remove a person: as built at once, each day."""
    days = [day_of(0, MONDAY)]
    write(tmp_path / "g", days[0][0], [days[0][1]], MODEL, kind, progress=False)
    gone = Filter(identity=("person 7",))
    for number, count in ((1, 40), (2, 200), (3, 1), (4, 30)):
        days.append(day_of(number, count))
        result = changes.add(tmp_path / "g", days[-1][0], [days[-1][1]], progress=False)
        assert len(result.images) == count and not result.rebuilt
        if number == 2:
            removed = changes.remove(tmp_path / "g", gone, "asked for")
            assert len(removed.images) == MONDAY // 30 + 2 + 7
        opened = open_gallery(tmp_path / "g")
        without = replace(gone, before=day(3)) if number >= 2 else Filter(path=("none",))
        expected = built_at_once(tmp_path / f"day {number}", days, kind, without)
        assert opened.manifest["index"] == kind
        assert content(opened) == content(expected)
        assert same_answers(opened, expected) > (0.999 if kind == "flat" else 0.9)
        for filter in FILTERS[:3] + FILTERS[4:]:
            assert same_answers(opened, expected, filter) == 1  # narrow: exact
        verify(opened)
    assert same_answers(opened, expected, FILTERS[3]) == 1
    assert [entry["reason"] for entry in journal.removals(tmp_path / "g", opened.version)] == [
        "--identity person 7; asked for"
    ]


def day(number: int) -> np.datetime64:
    return np.datetime64(DAYS[number], "us")


@pytest.mark.parametrize("kind", KINDS)
def test_wide_filters_use_the_index_and_find_only_what_passes(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("icre.gallery.store.EXACT_ROWS", 0)
    images, features = day_of(0, MONDAY)
    write(tmp_path / "g", images, [features], MODEL, kind, progress=False)
    more = day_of(1, 40)
    changes.add(tmp_path / "g", more[0], [more[1]], progress=False)
    changes.remove(tmp_path / "g", Filter(identity=("person 3",)))
    opened = open_gallery(tmp_path / "g")
    wide = Filter(camera=("0", "1", "3"))
    queries = unit(30, seed=5)
    rows, similarity = opened.nearest(queries, 10, wide)
    everything = np.asarray(opened.features)
    allowed = opened.passing(wide)
    assert (rows >= 0).all() and allowed[rows].all()
    exact = np.where(allowed, queries @ everything.T, -2)
    np.testing.assert_allclose(similarity, np.take_along_axis(exact, rows, 1), atol=1e-5)
    truth = np.argsort(-exact, axis=1)[:, :10]
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows, truth)]) > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_removed_is_in_no_file(tmp_path, kind):
    """Neither the vector, nor the path, nor the name; the log alone says what it was."""
    images, features = day_of(0, MONDAY)
    images.identities[100] = "Eve Adams"
    write(tmp_path / "g", images, [features], MODEL, kind, progress=False)
    staged = tmp_path / "g" / changes.ADDING
    staged.mkdir()
    shards = [kind(staged / f"0{kind.suffix}", range(1)) for kind in (Shard, ParquetShard)]
    for shard in shards:
        shard.save(features[100:101], [])
    vector = features[100].tobytes()

    def holding() -> set[str]:
        traces = (vector, b"2026-11-02/100.jpg", b"Eve Adams")
        return {
            path.name
            for path in tmp_path.rglob("*")
            if path.is_file() and any(trace in path.read_bytes() for trace in traces)
        }

    assert {"features.npy", "path.bytes.npy", *(shard.file.name for shard in shards)} < holding()
    changes.remove(tmp_path / "g", Filter(identity=("Eve Adams",)))
    assert holding() == {journal.REMOVED}
    opened = open_gallery(tmp_path / "g")
    assert opened.images.key(99)[0].endswith("/99.jpg")
    assert opened.images.key(100)[0].endswith("/101.jpg")
    rows, _ = opened.nearest(features[[99, 100, 101]], 1)
    assert rows[0, 0] == 99 and rows[2, 0] == 100


def test_removing_nothing_changes_nothing(tmp_path):
    small_gallery(tmp_path / "g")
    before = tree(tmp_path)
    for filter, message in (
        (Filter(path=("*.png",)), "nothing is removed"),
        (Filter(camera=("0",), path=("*.png",)), "nothing is removed"),
        (Filter(camera=("9",)), r"--camera 9: no image .* there is 0, 1, 2"),
        (Filter(identity=("person",)), "--identity person: .*person 0, person 1, person 2"),
        (Filter(where=(("weather", "sun"),)), "has no attribute 'weather'; it has none"),
        (Filter(before=np.datetime64("2026-11-01")), "nothing is removed"),  # times are unknown
        (Filter(after=day(1), before=day(0)), "is not before"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            changes.remove(tmp_path / "g", filter)
        assert "\n" not in str(caught.value)
        assert tree(tmp_path) == before


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_images_may_be_removed_and_others_added(tmp_path):
    small_gallery(tmp_path / "g", 600, "ivf")
    opened = changes.remove(tmp_path / "g", Filter(path=("*",))).gallery
    assert len(opened.images) == 0 and opened.nearest(unit(2), 3)[0].shape == (2, 0)
    images, features = day_of(1, 30)
    opened = changes.add(tmp_path / "g", images, [features]).gallery
    assert opened.nearest(features[:2], 1)[0].ravel().tolist() == [0, 1]
    verify(opened)


def test_an_image_is_never_there_twice(tmp_path):
    images, features = day_of(0, 30)
    write(tmp_path / "g", images, [features], MODEL, "flat", progress=False)
    opened, more = open_gallery(tmp_path / "g"), day_of(0, 40)[0]
    with pytest.raises(UserError, match=r"/0\.jpg \(and 29 more\) is in gallery .*--skip-existing"):
        changes.add(tmp_path / "g", more, [unit(40)])
    assert open_gallery(tmp_path / "g").version == opened.version
    new = changes.new_images(opened, more, skip_existing=True)
    assert new.paths == more.paths[30:]
    other_box = replace(images.take([3]), boxes=np.array([[5, 5, 5, 5]], dtype=np.int32))
    assert len(changes.new_images(opened, other_box, skip_existing=False)) == 1


@pytest.mark.slow
def test_many_small_additions_make_few_segments(tmp_path):
    small_gallery(tmp_path / "g", 40)
    features = unit(30, seed=3)
    images = day_of(1, 30)[0]
    for row in range(30):
        changes.add(tmp_path / "g", images.take([row]), [features[row : row + 1]])
    opened = open_gallery(tmp_path / "g")
    assert len(opened.segments) <= 6 and len(opened.images) == 70
    np.testing.assert_array_equal(opened.features[40:], features)
    assert opened.images.take(range(40, 70)).paths == images.paths


def test_segments_are_cut_and_only_those_concerned_are_written_anew(tmp_path, monkeypatch):
    for module in (segments, changes, versions):
        monkeypatch.setattr(module, "SEGMENT_ROWS", 100)
    images, features = day_of(0, 430)
    blocks = [features[n : n + 37] for n in range(0, 430, 37)]
    write(tmp_path / "g", images, blocks, MODEL, "flat", progress=False)
    opened = open_gallery(tmp_path / "g")
    assert [len(one) for one in opened.segments] == [100, 100, 100, 100, 30]
    np.testing.assert_array_equal(opened.features, features)
    np.testing.assert_array_equal(opened.features[95:205], features[95:205])
    picked = [410, 3, 99, 100, 3]
    np.testing.assert_array_equal(opened.features[picked], features[picked])
    assert opened.images.take(picked).paths == [images.paths[row] for row in picked]
    names = [one.entry["name"] for one in opened.segments]
    opened = changes.remove(tmp_path / "g", Filter(path=("*/150.jpg", "*/42?.jpg"))).gallery
    now = [one.entry["name"] for one in opened.segments]
    assert [old == new for old, new in zip(names, now)] == [True, False, True, True, False]
    assert [len(one) for one in opened.segments] == [100, 99, 100, 100, 20]


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_the_index_is_built_anew_when_it_has_to_be(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(index_files, "TAIL_ROWS", 50)
    small_gallery(tmp_path / "g", 100, kind)
    images, features = day_of(1, 200)
    first = changes.add(tmp_path / "g", images.take(range(50)), [features[:50]])
    assert not first.rebuilt and first.gallery.stored.rows == 100
    second = changes.add(tmp_path / "g", images.take(range(50, 200)), [features[50:]])
    assert second.rebuilt and second.gallery.stored.rows == 300
    third = changes.remove(tmp_path / "g", Filter(path=(f"*/{DAYS[1]}/*",)))
    assert third.rebuilt and third.gallery.stored.rows == 100
    assert third.gallery.stored.slots is None
    rows, _ = third.gallery.nearest(unit(100)[:9], 1)
    assert rows.ravel().tolist() == list(range(9))


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_format_1_is_written_anew_by_the_first_change(tmp_path, kind):
    before = content(open_gallery(old_gallery(tmp_path / "g", 600, kind)))
    images, features = day_of(1, 20)
    opened = changes.add(tmp_path / "g", images, [features]).gallery
    assert opened.manifest["format"] == 2 and opened.manifest["index"] == kind
    after = content(opened)
    assert {key: after[key] for key in before} == before and len(after) == 620
    verify(opened)
    assert not list((tmp_path / "g").glob("*.npy")) + list((tmp_path / "g").glob("*.csv"))
    assert changes.remove(tmp_path / "g", Filter(camera=("1",))).gallery.version == 3


def test_calibrations_say_how_old_they_are(tmp_path):
    opened = small_gallery(tmp_path / "g")
    learned = {"visible": Calibration([0.5] * 9, [0.6], [False], 3, "others", True)}
    changes.save_calibrations(opened, learned)
    assert open_gallery(tmp_path / "g").change == {"images": 12, "added": 0, "removed": 0}
    images, features = day_of(1, 20)
    changes.add(tmp_path / "g", images, [features])
    opened = changes.remove(tmp_path / "g", Filter(path=("/images/3.jpg",))).gallery
    assert opened.calibrations == learned
    assert opened.change == {"images": 12, "added": 20, "removed": 1}
    changes.remove(tmp_path / "g", Filter(path=("/images/4.jpg",)))
    changes.save_calibrations(opened, learned)  # made before that removal
    assert open_gallery(tmp_path / "g").change == {"images": 31, "added": 0, "removed": 1}


def test_a_reader_keeps_its_version_and_sees_a_new_one_by_a_stat(tmp_path):
    images, features = day_of(0, MONDAY)
    write(tmp_path / "g", images, [features], MODEL, "ivf", progress=False)
    reader = open_gallery(tmp_path / "g")
    before = answers(reader, features[:40]), content(reader)
    assert reader.is_current()
    changes.remove(tmp_path / "g", Filter(camera=("0", "1")))
    assert not reader.is_current()
    assert (answers(reader, features[:40]), content(reader)) == before
    now = open_gallery(tmp_path / "g")
    assert now.version == reader.version + 1 and len(now.images) == MONDAY // 2


def test_a_reader_that_lost_the_race_reads_the_new_version(tmp_path, monkeypatch):
    """The files go away between its manifest and its mapping of them."""
    small_gallery(tmp_path / "g")
    opens, calls = segments.open_segment, []

    def slow(*args):
        calls.append(1)
        if len(calls) == 1:
            with monkeypatch.context() as other:
                other.setattr("icre.gallery.store.open_segment", opens)
                changes.remove(tmp_path / "g", Filter(camera=("1",)))
        return opens(*args)

    monkeypatch.setattr("icre.gallery.store.open_segment", slow)
    reader = open_gallery(tmp_path / "g")
    assert len(calls) == 2 and len(reader.images) == 8
    assert reader.version == 2 and reader.is_current()


def test_a_second_writer_is_told_who_writes(tmp_path):
    small_gallery(tmp_path / "g")
    images, features = day_of(1, 5)
    with locked(tmp_path / "g"):
        for change_it in (
            lambda: changes.add(tmp_path / "g", images, [features]),
            lambda: changes.remove(tmp_path / "g", Filter(camera=("1",))),
            lambda: changes.save_calibrations(open_gallery(tmp_path / "g"), {}),
        ):
            with pytest.raises(UserError, match=f"process {os.getpid()} on .* is writing into"):
                change_it()
    assert open_gallery(tmp_path / "g").version == 1
    with pytest.raises(UserError, match="is no gallery"):
        changes.add(tmp_path / "none", images, [features])
    assert not (tmp_path / "none").exists()


def test_answers_that_were_written_are_named_at_a_removal(tmp_path):
    small_gallery(tmp_path / "g")
    page, lost = tmp_path / "page.html", tmp_path / "lost.json"
    for path in (page, lost):
        path.write_text("x")
        journal.remember_answers(tmp_path / "g", 1, path, None, "/dev/null")
    journal.remember_answers(tmp_path / "g", 1, page)
    with open(tmp_path / "g" / journal.ANSWERS, "a") as file:
        file.write('\n{"path": "ha')
    journal.remember_answers(tmp_path / "g", 1, page)
    lost.unlink()
    result = changes.remove(tmp_path / "g", Filter(camera=("1",)))
    assert result.answers == (str(page),)


def test_merged(tmp_path):
    one = small_gallery(tmp_path / "one", 600, "ivf")
    images, features = day_of(1, 30)
    write(tmp_path / "two", images, [features], MODEL, "flat", progress=False)
    merge(tmp_path / "both", [one, open_gallery(tmp_path / "two")], progress=False)
    both = open_gallery(tmp_path / "both")
    two = content(open_gallery(tmp_path / "two"))
    assert content(both) == content(one) | two and both.manifest["index"] == "ivf"
    verify(both)
    with pytest.raises(UserError, match="--skip-existing"):
        merge(tmp_path / "more", [both, one], progress=False)
    merge(tmp_path / "more", [both, one], skip_existing=True, progress=False)
    assert content(open_gallery(tmp_path / "more")) == content(both)
    other = replace(MODEL, sha256="b" * 64)
    write(tmp_path / "other", images, [features], other, "flat", progress=False)
    with pytest.raises(UserError, match="not the model of gallery"):
        merge(tmp_path / "c", [one, open_gallery(tmp_path / "other")], progress=False)
    assert not (tmp_path / "c").exists()


def writes(event: str, args: tuple, folder: Path) -> bool:
    if event == "open":
        is_write = isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        return bool(is_write) and str(folder) in str(args[0])
    known = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}
    return event in known and any(str(folder) in str(arg) for arg in args)


def killed_at(step: int, folder: Path, work: Callable[[], object]) -> bool:
    """Run `work` in a process that is killed before its n-th write; False if it ends before."""
    pid = os.fork()
    if pid == 0:
        status, count = 1, [0]

        def kill(event: str, args: tuple) -> None:
            if writes(event, args, folder):
                count[0] += 1
                if count[0] == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            faiss.omp_set_num_threads(1)
            sys.addaudithook(kill)
            work()
            status = 0
        finally:
            os._exit(status)
    result = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert result in (0, -signal.SIGKILL)
    return result != 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
@pytest.mark.parametrize("what", ["add", "remove", "calibrate", "add to format 1"])
def test_killed_at_every_step(tmp_path, kind, what):
    """The old version or the new one, whole; the same command again, and nothing is left."""
    folder = tmp_path / "g"
    images, features = day_of(1, 6)
    learned = {"visible": Calibration([0.5] * 9, [0.6], [False], 3, "others", True)}
    actions = {
        "add": lambda: changes.add(folder, images, [features], progress=False),
        "remove": lambda: changes.remove(folder, Filter(camera=("1",)), "asked"),
        "calibrate": lambda: changes.save_calibrations(open_gallery(folder), learned),
    }
    work = actions[what.split()[0]]

    def prepare() -> None:
        if "format 1" in what:
            old_gallery(folder, 80, kind)
            return
        small_gallery(folder, 80, kind)
        changes.add(folder, *_blocks(day_of(2, 12)), progress=False)

    def state() -> tuple:
        opened = open_gallery(folder)
        verify(opened)
        logged = len(journal.removals(folder, opened.version))
        return content(opened), opened.calibrations, logged

    prepare()
    before = state()
    work()
    after = state()
    assert after != before
    expected_files = sorted(path.name for path in folder.rglob("*"))
    clear(folder)
    # the steps of the kinds differ by the index alone: some of them do for most
    every = what == "calibrate" or (kind, what) == ("hnsw", "remove")
    step, seen, stride = 1, set(), 1 if every else 4
    while True:
        prepare()
        if not killed_at(step, folder, work):
            break
        found = state()
        assert found in (before, after), step
        seen.add(found == after)
        if found == before:
            work()
        else:  # what a writer that was killed left is deleted by the next one
            with versions.changing(folder):
                pass
        assert state() == after and not versions.leftovers(open_gallery(folder))
        assert sorted(path.name for path in folder.rglob("*")) == expected_files
        clear(folder)
        step += stride
    assert seen == {False, True} if every else False in seen


def _blocks(day: tuple) -> tuple:
    return day[0], [day[1]]


def clear(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_verify_finds_a_changed_byte_in_every_file(tmp_path, kind):
    small_gallery(tmp_path / "g", 60, kind)
    changes.remove(tmp_path / "g", Filter(camera=("1",)))
    files = [path for path in (tmp_path / "g").rglob("*") if path.is_file()]
    count, left = verify(open_gallery(tmp_path / "g"))
    assert count == len(files) - 2 and not left  # but gallery.json and the log
    for path in files:
        if path.name in (journal.REMOVED, "gallery.json"):
            continue
        whole = path.read_bytes()
        wrong = bytearray(whole)
        wrong[-1] ^= 1
        path.write_bytes(wrong)
        with pytest.raises(UserError, match=r"is damaged: .*; index again") as caught:
            verify(open_gallery(tmp_path / "g"))
        assert "\n" not in str(caught.value), path
        path.write_bytes(whole)
        path.write_bytes(whole[:-1])
        with pytest.raises(UserError, match=r"is damaged: .*; index again"):
            open_gallery(tmp_path / "g")
        path.unlink()
        with pytest.raises(UserError, match=f"damaged: .*{path.name} is missing"):
            open_gallery(tmp_path / "g")
        path.write_bytes(whole)
    verify(open_gallery(tmp_path / "g"))


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to itself"])
@pytest.mark.parametrize("name", ["config.yaml", "features.npy", "1-1.faiss", "images.csv"])
def test_what_is_no_file_is_not_waited_for(tmp_path, name, kind):
    folder = tmp_path / "g"
    old_gallery(folder) if name == "images.csv" else small_gallery(folder, 60, "ivf")
    (path,) = folder.rglob(name)
    path.unlink()
    {"pipe": os.mkfifo, "folder": os.mkdir, "link to itself": lambda one: one.symlink_to(one)}[
        kind
    ](path)
    with pytest.raises(UserError, match=rf"damaged: .*{name}.*index again"):
        open_gallery(folder)


def test_a_file_of_a_killed_writer_is_told_by_verify(tmp_path):
    small_gallery(tmp_path / "g")
    (tmp_path / "g/segments/2-0").mkdir()
    _, left = verify(open_gallery(tmp_path / "g"))
    assert [path.name for path in left] == ["2-0"]


SEGMENT_FAULTS = {
    "features.npy": lambda array: array * np.float32(2),
    "modality.npy": lambda array: array + np.uint8(7),
    "path.ends.npy": lambda array: np.append(array[1:] * 0 - 5, array[-1]),
    "text0.codes.npy": lambda array: array + np.int32(50),
    "text1.ends.npy": lambda array: np.append(array[1:] * 0 + 10**9, array[-1]),
    "box.npy": lambda array: array - np.int32(1),
}


@pytest.mark.parametrize("name", SEGMENT_FAULTS)
def test_contents_with_valid_checksums_are_checked_where_they_are_used(tmp_path, name):
    """As a stranger sends it: structure and checksums are right, what is inside is not."""
    small_gallery(tmp_path / "g")
    path = tmp_path / "g/segments/1-0" / name
    np.save(path, SEGMENT_FAULTS[name](np.load(path)))
    change(tmp_path / "g")
    opened = open_gallery(tmp_path / "g")
    with pytest.raises(UserError, match="is damaged"):
        verify(opened)
    if name != "box.npy":
        with pytest.raises(UserError, match="damaged"):
            for row in opened.nearest(unit(12), 12)[0].ravel():
                opened.images.row(row)


def flip(path: Path) -> None:
    """One bit of a file, as a worn disk does."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


REWRITES = {
    "add": lambda folder: changes.add(folder, day_of(0, 12)[0], [unit(12)]),
    "remove": lambda folder: changes.remove(folder, Filter(path=("/images/0.jpg",))),
    "merge": lambda folder: merge(folder.parent / "m", [open_gallery(folder)]),
    "merge behind another": lambda folder: merge(
        folder.parent / "m", [small_gallery(folder.parent / "h", 1), open_gallery(folder)], True
    ),
}


@pytest.mark.parametrize("name", ["features.npy", "path.bytes.npy"])
@pytest.mark.parametrize("change", REWRITES)
def test_a_damaged_segment_gets_no_new_checksum(tmp_path, name, change):
    folder = tmp_path / "g"
    small_gallery(folder)
    flip(folder / "segments/1-0" / name)
    with pytest.raises(UserError, match=rf"is damaged: segments/1-0/{name}: .*SHA-256 differs"):
        REWRITES[change](folder)
    assert open_gallery(folder).version == 1 and not (tmp_path / "m").exists()


@pytest.mark.parametrize("name", ["index/1-1.faiss", "segments/1-0/features.npy"])
def test_a_damaged_index_gets_no_new_checksum(tmp_path, name):
    folder = tmp_path / "g"
    small_gallery(folder, 60, "ivf")
    flip(folder / name)
    with pytest.raises(UserError, match=rf"is damaged: {name}"):
        changes.remove(folder, Filter(path=("/images/0.jpg",)))


def test_a_file_that_a_change_deletes_while_verify_reads_is_told(tmp_path):
    gallery = small_gallery(tmp_path / "g")
    (tmp_path / "g/segments/1-0/time.npy").unlink()
    with pytest.raises(UserError, match=r"segments/1-0/time\.npy is not there: repeat the command"):
        verify(gallery)


STRUCTURES = {
    "another shape": lambda path: np.save(path, np.load(path)[:-1]),
    "another type": lambda path: np.save(path, np.load(path).astype("<c16")),
    "objects": lambda path: np.save(path, np.array([{}] * 12), allow_pickle=True),
    "an archive": lambda path: np.savez(open(path, "wb"), unit(12)),  # noqa: SIM115
    "no header": lambda path: path.write_bytes(b""),
    "an open tuple": lambda path: path.write_bytes(path.read_bytes().replace(b"}", b"(", 1)),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "fortran": lambda path: np.save(path, np.asfortranarray(np.load(path).reshape(12, -1))),
}


@pytest.mark.parametrize("fault", STRUCTURES)
@pytest.mark.parametrize("name", ["features.npy", "modality.npy", "time.npy", "text0.codes.npy"])
def test_structure_is_checked_when_a_gallery_is_opened(tmp_path, name, fault):
    small_gallery(tmp_path / "g")
    STRUCTURES[fault](tmp_path / "g/segments/1-0" / name)
    change(tmp_path / "g")
    with pytest.raises(UserError, match=rf"damaged: 1-0/{name}.*index again") as caught:
        open_gallery(tmp_path / "g")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "entries",
    [
        {"images": 11},
        {"images": -1},
        {"images": True},
        {"version": 0},
        {"version": "1"},
        {"segments": []},
        {"segments": [{}]},
        {"segments": None},
        {"dimensions": 8},
        {"index": "tree"},
        {"index": "hnsw", "index_file": {}},
        {"index_file": {"name": "../x"}},
        {"calibrated": {}},
        {"calibrated": {"images": 1, "added": -1, "removed": 0}},
        {"config": {"bytes": 1, "sha256": "x"}},
        {"config": {"bytes": 1, "sha256": "a" * 64}},
        {"format": 3},
        {"format": "2"},
        {"model": "a"},
        {"skipped": [["a"]]},
        {"calibrations": {"night": {}}},
    ],
)
def test_a_manifest_with_a_valid_checksum_is_checked(tmp_path, entries):
    small_gallery(tmp_path / "g")
    change(tmp_path / "g", **entries)
    with pytest.raises(UserError, match="index again") as caught:
        open_gallery(tmp_path / "g")
    assert "\n" not in str(caught.value) and str(tmp_path / "g") in str(caught.value)


@pytest.mark.parametrize("name", ["../../x", "1-0/..", "", "/etc", "1-0\n"])
@pytest.mark.parametrize("where", ["segment", "file", "index"])
def test_names_in_a_manifest_stay_in_the_folder(tmp_path, where, name):
    small_gallery(tmp_path / "g", 60, "ivf")
    path = tmp_path / "g/gallery.json"
    stored = json.loads(path.read_text())
    if where == "segment":
        stored["segments"][0]["name"] = name
    elif where == "index":
        stored["index_file"]["name"] = name
    else:
        files = stored["segments"][0]["files"]
        files[name] = files.pop("box.npy")
    change(tmp_path / "g", segments=stored["segments"], index_file=stored["index_file"])
    with pytest.raises(UserError, match=r"gallery\.json has .*index again"):
        open_gallery(tmp_path / "g")


def test_an_index_of_other_rows_or_another_kind_is_refused(tmp_path):
    small_gallery(tmp_path / "g", 60, "hnsw")
    small_gallery(tmp_path / "h", 61, "hnsw")
    file = tmp_path / "g/index/1-1.faiss"
    for source in (tmp_path / "h/index/1-1.faiss", None):
        file.write_bytes(source.read_bytes() if source else b"IxFI" + b"\xff" * 99)
        change(tmp_path / "g")
        with pytest.raises(UserError, match=r"damaged: 1-1\.faiss.*index again"):
            open_gallery(tmp_path / "g")


def test_status_of_no_gallery(tmp_path):
    assert status(tmp_path) is None
