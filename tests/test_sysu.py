"""SYSU-MM01's loader: which images stand in which list, and what a damaged tree says."""

import shutil
from pathlib import Path

import pytest

from icre.datasets.sysu import SYSUMM01
from icre.modality import INFRARED, VISIBLE
from icre.utils.errors import UserError
from small_trees import copy, edit, lists, litter, scored


@pytest.fixture(scope="module")
def rendered(small_trees) -> Path:
    return small_trees["sysu"]


@pytest.fixture
def folder(rendered, tmp_path) -> Path:
    return copy(rendered, tmp_path)


def ids(folder: Path, *names: str) -> list[int]:
    text = ",".join((folder / "exp" / f"{name}_id.txt").read_text().strip() for name in names)
    return sorted(int(word) for word in text.split(","))


def walk(folder: Path, pids: list[int], cameras: tuple[int, ...]) -> list[tuple[str, int, int]]:
    found = []
    for camera in cameras:
        for pid in pids:
            for file in sorted((folder / f"cam{camera}" / f"{pid:04d}").iterdir()):
                found.append((f"cam{camera}/{pid:04d}/{file.name}", pid, camera))
    return found


def test_lists_are_those_of_a_walk(rendered):
    train, query, gallery = lists(SYSUMM01(rendered.parent))
    learnt = walk(rendered, ids(rendered, "train"), (1, 2, 3, 4, 5, 6))
    learnt += walk(rendered, ids(rendered, "val"), (1, 2, 3, 4, 5, 6))
    assert len(train) == 3 * 6
    assert train == [(path, f"sysumm01_{pid}", f"sysumm01_{cam}") for path, pid, cam in learnt]
    test = ids(rendered, "test")
    assert query == walk(rendered, test, (3, 6)) and len(query) == 2 * 2 * 2
    assert gallery == walk(rendered, test, (1, 2, 4, 5)) and len(gallery) == 2 * 4 * 2


def test_modality_and_protocols(rendered):
    data = SYSUMM01(rendered.parent)
    assert {data.modality_of(path) for path, *_ in data.query} == {INFRARED}
    assert {data.modality_of(path) for path, *_ in data.gallery} == {VISIBLE}
    assert {record["gallery"] for record in scored(data)} == {8, 4}  # all search, indoor search


def test_root_with_cam_and_spaces_changes_nothing(rendered, tmp_path):
    there = copy(rendered, tmp_path / "cam6 of my 0001 lab")
    data = SYSUMM01(there.parent)
    assert lists(data) == lists(SYSUMM01(rendered.parent))
    assert {data.modality_of(path) for path, *_ in data.gallery} == {VISIBLE}


def test_stray_files_change_nothing(rendered, folder):
    litter(folder)
    assert lists(SYSUMM01(folder.parent)) == lists(SYSUMM01(rendered.parent))


@pytest.mark.parametrize("suffix", [".JPG", ".png", ".PNG", ".jpeg"])
def test_other_endings_count(rendered, folder, suffix):
    for file in list(folder.rglob("*.jpg")):
        file.rename(file.with_suffix(suffix))
    found, known = lists(SYSUMM01(folder.parent)), lists(SYSUMM01(rendered.parent))
    assert [[(path.rsplit(".")[0], *rest) for path, *rest in items] for items in found] == [
        [(path.rsplit(".")[0], *rest) for path, *rest in items] for items in known
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", ",\n\n"),
        lambda text: text.replace(",", ", "),
        lambda text: text.replace(",", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.strip() + "," + text.split(",")[0],
    ],
    ids=["trailing comma", "blanks", "one a line", "byte order mark", "an identity twice"],
)
def test_ways_of_writing_an_identity_list(rendered, folder, change):
    for name in ("train", "val", "test"):
        edit(folder / "exp" / f"{name}_id.txt", change)
    assert lists(SYSUMM01(folder.parent)) == lists(SYSUMM01(rendered.parent))


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: shutil.rmtree(f), "SYSU-MM01 is missing: unpack"),
        (lambda f: (f / "exp/val_id.txt").unlink(), "val_id.txt is missing: it comes with .* exp/"),
        (lambda f: (f / "exp/test_id.txt").write_text(",\n"), "test_id.txt is empty"),
        (lambda f: (f / "exp/test_id.txt").write_text("1,2\n3,x4"), "test_id.txt, line 2: .*'x4'"),
        (lambda f: (f / "exp/test_id.txt").write_text("1,-2"), "test_id.txt, line 1: .*'-2'"),
        (lambda f: (f / "exp/test_id.txt").write_bytes(b"\xff\xfe1\x00"), "test_id.txt is no text"),
        (lambda f: shutil.rmtree(f / "cam5"), "cam5 is missing: the data set is incomplete"),
        (
            lambda f: (shutil.rmtree(f / "cam3"), (f / "cam3").mkdir()),
            "cam3 holds no image of the t",
        ),
        (
            lambda f: shutil.copy(f / "exp/train_id.txt", f / "exp/val_id.txt"),
            "the train and the val",
        ),
        (
            lambda f: shutil.copy(f / "exp/val_id.txt", f / "exp/test_id.txt"),
            "the val and the test",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damage_is_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        SYSUMM01(folder.parent)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
