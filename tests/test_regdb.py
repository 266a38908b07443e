"""RegDB's loader: ten splits, lists with labels, and what a damaged list says."""

import logging
import shutil
from pathlib import Path

import pytest

from icre.datasets.regdb import RegDB
from icre.modality import INFRARED, VISIBLE
from icre.utils.errors import UserError
from small_trees import copy, edit, lists, litter, scored


@pytest.fixture(scope="module")
def rendered(small_trees) -> Path:
    return small_trees["regdb"]


@pytest.fixture
def folder(rendered, tmp_path) -> Path:
    return copy(rendered, tmp_path)


def listed(folder: Path, name: str, camera: int) -> list[tuple[str, int, int]]:
    found = []
    for line in (folder / "idx" / name).read_text().splitlines():
        path, label = line.split(" ")
        found.append((path, int(label), camera))
    return found


@pytest.mark.parametrize("split", range(1, 11))
def test_lists_are_those_of_the_split(rendered, split):
    train, query, gallery = lists(RegDB(rendered.parent, split=split))
    learnt = listed(rendered, f"train_visible_{split}.txt", 1)
    learnt += listed(rendered, f"train_thermal_{split}.txt", 2)
    assert train == [(path, f"regdb_{pid}", f"regdb_{cam}") for path, pid, cam in learnt]
    assert query == listed(rendered, f"test_thermal_{split}.txt", 2)
    assert gallery == listed(rendered, f"test_visible_{split}.txt", 1)
    assert (len(train), len(query), len(gallery)) == (12, 4, 4)


def test_splits_differ_and_the_first_is_the_default(rendered):
    tests = [tuple(RegDB(rendered.parent, split=split).query) for split in range(1, 11)]
    assert len(set(tests)) > 3
    assert tuple(RegDB(rendered.parent).query) == tests[0]


@pytest.mark.parametrize("split", [0, 11, None, "3"])
def test_no_such_split(rendered, split):
    with pytest.raises(UserError, match=f"DATASETS.REGDB_SPLIT is {split!r}"):
        RegDB(rendered.parent, split=split)


def test_modality_and_protocols(rendered):
    data = RegDB(rendered.parent, split=4)
    assert {data.modality_of(path) for path, *_ in data.query} == {INFRARED}
    assert {data.modality_of(path) for path, *_ in data.gallery} == {VISIBLE}
    records = scored(data)
    assert [record["protocol"] for record in records] == ["regdb-v2t", "regdb-t2v"]
    assert {(record["valid_queries"], record["gallery"]) for record in records} == {(4, 4)}


def test_root_with_cam_spaces_and_stray_files_changes_nothing(rendered, tmp_path):
    there = copy(rendered, tmp_path / "cam 2 Thermal Visible 7")
    litter(there)
    data = RegDB(there.parent)
    assert lists(data) == lists(RegDB(rendered.parent))
    assert {data.modality_of(path) for path, *_ in data.gallery} == {VISIBLE}


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", ",\n\n"),
        lambda text: text.replace("\n", "  \r\n"),
        lambda text: text.replace("/", "\\"),
        lambda text: text.replace("Visible", "./Visible").replace("Thermal", "./Thermal"),
        lambda text: text.replace(" ", "\t"),
        lambda text: "\ufeff" + text,
    ],
    ids=["trailing commas", "Windows' lines", "backslashes", "dot", "tabs", "byte order mark"],
)
def test_ways_of_writing_a_list(rendered, folder, change):
    for file in (folder / "idx").iterdir():
        edit(file, change)
    assert lists(RegDB(folder.parent)) == lists(RegDB(rendered.parent))


@pytest.mark.parametrize("suffix", [".BMP", ".png", ".JPG"])
def test_other_endings_in_list_and_tree(folder, suffix):
    for file in list(folder.rglob("*.bmp")):
        file.rename(file.with_suffix(suffix))
    for file in (folder / "idx").iterdir():
        edit(file, lambda text: text.replace(".bmp", suffix))
    data = RegDB(folder.parent)
    assert len(data.train) == 12 and all(path.endswith(suffix) for path, *_ in data.train)


def test_blanks_in_names_are_part_of_them(folder):
    file = next((folder / "Visible").rglob("*.bmp"))
    file.rename(file.with_name("back view 1.bmp"))
    for name in (folder / "idx").iterdir():
        edit(name, lambda text: text.replace(file.name, "back view 1.bmp"))
    data = RegDB(folder.parent)
    names = {Path(path).name for path, *_ in data.train + data.gallery}
    assert "back view 1.bmp" in names


def test_repeated_line_counts_once_and_is_told(rendered, folder, caplog):
    edit(folder / "idx/test_visible_1.txt", lambda text: text + text.splitlines()[0])
    with caplog.at_level(logging.WARNING, "fastreid.icre"):
        assert lists(RegDB(folder.parent)) == lists(RegDB(rendered.parent))
    assert "test_visible_1.txt: 1 lines" in caplog.text


def first(text: str) -> str:
    return text.splitlines()[0]


LIST = "idx/train_visible_1.txt"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda text: text + "Visible/1/a.bmp", "line 7 must be '<relative path> <label>'"),
        (lambda text: text + "Visible/1/a.bmp x", "line 7 must be"),
        (lambda text: text + "Visible/1/a.bmp -1", "line 7 must be"),
        (lambda text: text.replace("Visible", "Thermal"), r"line 1: .* form Visible/<id>/<name>"),
        (lambda text: text + "/data/Visible/1/a.bmp 0", "line 7: '/data/Visible/1/a.bmp'"),
        (lambda text: text + "Visible/1/../2/a.bmp 0", "line 7"),
        (lambda text: text + "Visible/1/Thumbs.db 0", "line 7: .* is no image path"),
        (lambda text: text + "Visible/1/._a.bmp 0", "line 7: .* is no image path"),
        (lambda text: text + first(text).rsplit(" ")[0] + " 2", "line 7: .* has label 0 in a line"),
        (lambda text: "\n", "train_visible_1.txt is empty"),
    ],
)
def test_bad_lines_name_file_and_line(folder, change, message):
    edit(folder / LIST, change)
    with pytest.raises(UserError, match=message) as caught:
        RegDB(folder.parent)
    assert "train_visible_1.txt" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_list_and_folder(folder):
    (folder / LIST).unlink()
    with pytest.raises(UserError, match=r"train_visible_1.txt is missing: .* idx/"):
        RegDB(folder.parent)
    RegDB(folder.parent, split=2)
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="RegDB is missing: unpack"):
        RegDB(folder.parent)


def test_missing_images_are_counted_and_the_first_named(folder):
    victims = [folder / line.split()[0] for line in (folder / LIST).read_text().splitlines()[2:5]]
    for victim in victims:
        victim.unlink()
    with pytest.raises(UserError, match="3 of 20 listed images do not exist") as caught:
        RegDB(folder.parent)
    assert str(victims[0]) in str(caught.value)


def test_identity_in_both_splits_is_refused(folder):
    leaked = first((folder / "idx/test_visible_1.txt").read_text()).rsplit(" ")[0]
    edit(folder / LIST, lambda text: text + f"{leaked} 3\n")
    pid = Path(leaked).parent.name
    with pytest.raises(UserError, match=rf"identities \[{pid}\] .* train .* test"):
        RegDB(folder.parent)


def test_labels_are_one_to_one_with_folders(folder):
    edit(folder / LIST, lambda text: text.replace(" 1\n", " 0\n"))
    with pytest.raises(UserError, match="has labels 0 and 1"):
        RegDB(folder.parent)
    edit(folder / "idx/train_thermal_1.txt", lambda text: text.replace(" 1\n", " 0\n"))
    with pytest.raises(UserError, match="both have label 0"):
        RegDB(folder.parent)
