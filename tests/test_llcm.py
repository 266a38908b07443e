"""LLCM's loader: cameras in file names (training) and folder names (test), and damaged trees."""

import re
import shutil
from pathlib import Path

import pytest

from icre.datasets.llcm import LLCM
from icre.modality import INFRARED, VISIBLE
from icre.utils.errors import UserError
from small_trees import copy, edit, lists, litter, scored


@pytest.fixture(scope="module")
def rendered(small_trees) -> Path:
    return small_trees["llcm"]


@pytest.fixture
def folder(rendered, tmp_path) -> Path:
    return copy(rendered, tmp_path)


def test_training_list_has_cameras_of_file_names(rendered):
    found, *_ = lists(LLCM(rendered.parent))
    expected = []
    for tree in ("vis", "nir"):
        for line in (rendered / "idx" / f"train_{tree}.txt").read_text().splitlines():
            path, label = line.split(" ")
            camera = int(re.search(r"_c(\d\d)_", path)[1])
            expected.append((path, f"llcm_{label}", f"llcm_{camera}"))
    assert found == expected and len(found) == 2 * 9 * 3
    assert len({camera for *_, camera in found}) == 9


@pytest.mark.parametrize(
    "tree, cameras",
    [("test_vis", (1, 2, 3, 4, 5, 6, 7, 8, 9)), ("test_nir", (1, 2, 4, 5, 6, 7, 8, 9))],
)
def test_test_lists_have_cameras_of_folders(rendered, tree, cameras):
    _, query, gallery = lists(LLCM(rendered.parent))
    expected = []
    for camera in cameras:
        for pid in sorted(map(int, (rendered / "idx/test_id.txt").read_text().split(","))):
            for file in sorted((rendered / tree / f"cam{camera}" / f"{pid:04d}").iterdir()):
                expected.append((f"{tree}/cam{camera}/{pid:04d}/{file.name}", pid, camera))
    assert (gallery if tree == "test_vis" else query) == expected
    assert len(expected) == 2 * 2 * len(cameras)


def test_modality_and_protocols(rendered):
    data = LLCM(rendered.parent)
    assert {data.modality_of(path) for path, *_ in data.query} == {INFRARED}
    assert {data.modality_of(path) for path, *_ in data.gallery} == {VISIBLE}
    assert [data.modality_of(item[0]) for item in data.train] == [VISIBLE] * 27 + [INFRARED] * 27
    records = scored(data)
    assert [record["protocol"] for record in records] == ["llcm-v2n", "llcm-n2v"]
    assert [record["gallery"] for record in records] == [2 * 8, 2 * 9]  # one per camera


def test_root_with_cam_and_spaces_changes_nothing(rendered, tmp_path):
    there = copy(rendered, tmp_path / "test_nir cam7" / "_c05_ vis")
    data = LLCM(there.parent)
    assert lists(data) == lists(LLCM(rendered.parent))
    assert {data.modality_of(path) for path, *_ in data.gallery} == {VISIBLE}


def test_stray_files_and_an_empty_third_camera_change_nothing(rendered, folder):
    litter(folder)
    (folder / "test_nir" / "cam3" / "0001").mkdir(parents=True)
    assert lists(LLCM(folder.parent)) == lists(LLCM(rendered.parent))


@pytest.mark.parametrize("suffix", [".JPG", ".png"])
def test_other_endings_in_the_test_trees_count(folder, suffix):
    for tree in ("test_vis", "test_nir"):
        for file in list((folder / tree).rglob("*.jpg")):
            file.rename(file.with_suffix(suffix))
    data = LLCM(folder.parent)
    assert (len(data.query), len(data.gallery)) == (2 * 2 * 8, 2 * 2 * 9)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", ",\n\n"),
        lambda text: text.replace("/", "\\").replace("\n", "\r\n"),
    ],
    ids=["trailing commas", "Windows"],
)
def test_ways_of_writing_the_split_files(rendered, folder, change):
    for file in (folder / "idx").iterdir():
        edit(file, change)
    assert lists(LLCM(folder.parent)) == lists(LLCM(rendered.parent))


def leak(folder: Path) -> None:
    """Give one training identity images in the test tree, and list it there."""
    pid = sorted((folder / "vis").iterdir())[0].name
    shutil.copytree(folder / "vis" / pid, folder / "test_vis/cam1" / pid)
    edit(folder / "idx/test_id.txt", lambda text: f"{text.strip()},{int(pid)}")


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: shutil.rmtree(f), "LLCM is missing: unpack"),
        (lambda f: (f / "idx/train_nir.txt").unlink(), "train_nir.txt is missing: .* idx/"),
        (lambda f: (f / "idx/test_id.txt").unlink(), "test_id.txt is missing: .* idx/"),
        (
            lambda f: edit(f / "idx/train_nir.txt", lambda text: text.replace("_c06_", "_")),
            r"train_nir.txt, line \d+: .* form nir/<id>/<name>_c<camera>_<name>",
        ),
        (
            lambda f: shutil.rmtree(f / "test_nir/cam4"),
            "cam4 is missing: the data set is incomplete",
        ),
        (
            lambda f: (shutil.rmtree(f / "test_vis/cam3"), (f / "test_vis/cam3").mkdir()),
            "test_vis/cam3 holds no image of the test identities",
        ),
        (lambda f: leak(f), "both the train and the test split"),
        (lambda f: shutil.rmtree(f / "nir"), "27 of 122 listed images do not exist, the first is"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damage_is_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        LLCM(folder.parent)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
