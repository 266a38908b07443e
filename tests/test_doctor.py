"""The data doctor: right counts, every fault named, and the exit status that follows."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from icre.commands.check_dataset import main
from icre.datasets.base import SETS
from icre.datasets.doctor import examine, find_folder, text
from icre.datasets.sysu import read_permutation
from icre.modality import INFRARED, NAMES, VISIBLE
from icre.utils.errors import UserError
from small_trees import FOLDERS, copy, litter

PUBLISHED = {layout: data.published for layout, data in SETS.items()}
OFFICIAL = Path(__file__).parents[2] / "shared" / "sysu_split"


@pytest.fixture(scope="module")
def rendered(small_trees) -> dict[str, Path]:
    return small_trees


@pytest.fixture
def sysu(rendered, tmp_path) -> Path:
    return copy(rendered["sysu"], tmp_path)


@pytest.fixture
def regdb(rendered, tmp_path) -> Path:
    return copy(rendered["regdb"], tmp_path)


def an_image(folder: Path, role: str = "test") -> Path:
    """A visible image of SYSU-MM01 that a split lists."""
    pid = int((folder / "exp" / f"{role}_id.txt").read_text().split(",")[0])
    return sorted((folder / "cam2" / f"{pid:04d}").iterdir())[0]


def check(layout: str, root: Path, capsys, *options: str) -> tuple[int, str]:
    """Exit status and what the tool prints on stdout."""
    status = main([layout, str(root), *options])
    return status, capsys.readouterr().out


def own_counts(data) -> dict:
    """Of a loaded data set: {(role, modality, camera): (identities, images)}, sums included."""
    pids: dict[tuple, list] = {}
    for role, items in (("train", data.train), ("test", data.query + data.gallery)):
        for path, pid, camera in items:
            modality, number = data.modality_of(path), int(str(camera).rsplit("_")[-1])
            for key in ((role, modality, number), (role, modality, None), (role, None, None)):
                pids.setdefault(key, []).append(pid)
    return {key: (len(set(found)), len(found)) for key, found in pids.items()}


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["regdb", "llcm"])
def test_counts_are_the_loaders(rendered, layout):
    folder = rendered[layout]
    report = examine(layout, folder, progress=False)
    split = report.rows[0].split
    kwargs = {} if split is None else {"split": split}
    known = own_counts(SETS[layout](folder.parent, **kwargs))
    rows = [row for row in report.rows if row.split == split]
    assert len(rows) == {"regdb": 6, "llcm": 2 * 9 + 9 + 8 + 4 + 2}[layout]
    for row in rows:
        assert known[row.role, row.modality, row.camera] == (row.identities, row.images)


def test_sysu_counts_train_and_val_apart(rendered):
    rows = examine("sysu", rendered["sysu"], progress=False).rows
    counts = {(row.role, row.modality, row.camera): (row.identities, row.images) for row in rows}
    assert counts["train", None, None] == (2, 12) and counts["val", None, None] == (1, 6)
    assert counts["test", VISIBLE, None] == (2, 16) and counts["test", INFRARED, 3] == (2, 4)
    assert len(rows) == 3 * (6 + 2 + 1)


@pytest.mark.parametrize("layout", list(FOLDERS))
def test_demo_tree_is_usable_but_not_published(rendered, layout, tmp_path, capsys):
    for root in (rendered[layout], rendered[layout].parent):
        status, out = check(layout, root, capsys, "--json", str(tmp_path / "out.json"))
        assert status == 0
        assert out.splitlines()[-1].startswith("USABLE, BUT NOT THE PUBLISHED SET")
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["usable"] and not written["published_set"] and written["errors"] == []
    assert written["folder"] == str(rendered[layout])
    assert written["images"] == {"sysu": 42, "regdb": 20, "llcm": 122}[layout]
    assert {row["modality"] for row in written["rows"]} == {None, *NAMES}


@pytest.mark.parametrize("layout", list(FOLDERS))
def test_published_counts_make_it_complete(rendered, layout, monkeypatch, capsys):
    rows = examine(layout, rendered[layout], progress=False).rows
    known = {(row.role, row.modality, row.camera): (row.identities, row.images) for row in rows}
    monkeypatch.setattr(SETS[layout], "published", known)
    status, out = check(layout, rendered[layout], capsys)
    assert status == 0 and out.splitlines()[-1].startswith("COMPLETE")
    key = ("test", None, None)
    monkeypatch.setitem(known, key, (None, known[key][1] + 1))
    status, out = check(layout, rendered[layout], capsys)
    assert status == 0 and out.splitlines()[-1].startswith("USABLE, BUT")


def test_published_part_that_is_absent_differs(sysu, monkeypatch, capsys):
    known = {("train", VISIBLE, 1): (2, 2), ("val", None, None): (1, 6)}
    monkeypatch.setattr(SETS["sysu"], "published", known)
    assert check("sysu", sysu, capsys)[1].splitlines()[-1].startswith("COMPLETE")
    known["val", None, None] = (2, 6)
    out = check("sysu", sysu, capsys)[1]
    assert out.splitlines()[-1].startswith("USABLE, BUT NOT THE PUBLISHED SET: 1 of 2 known")


def test_published_counts_add_up():
    for layout, known in PUBLISHED.items():
        for role in {role for role, _, _ in known}:
            both = known[role, None, None][1]
            for camera_rows in (True, False):
                parts = [
                    images
                    for (name, modality, camera), (_, images) in known.items()
                    if name == role and modality is not None and (camera is not None) == camera_rows
                ]
                if parts:
                    assert sum(parts) == both, (layout, role)
    images = {
        layout: sum(n for (_, m, c), (_, n) in known.items() if m is None)
        for layout, known in PUBLISHED.items()
    }
    assert images["llcm"] == 46_767 and images["regdb"] == 2 * 4_120
    sysu = PUBLISHED["sysu"]
    assert sysu["train", VISIBLE, None][1] + sysu["val", VISIBLE, None][1] == 22_258


@pytest.mark.parametrize("role, name", [("train", "train_id.mat"), ("test", "test_id.mat")])
def test_sysu_counts_are_those_of_the_official_draw(role, name):
    if not OFFICIAL.is_dir():
        pytest.skip("the official split files are not at hand (they come with the data set)")
    pids = set(scipy.io.loadmat(OFFICIAL / name)["id"].ravel().tolist())
    images, identities = Counter(), Counter()
    for (pid, camera), draws in read_permutation(OFFICIAL / "rand_perm_cam.mat").items():
        if pid in pids:
            images[camera] += draws.shape[1]
            identities[camera] += 1
    for (of, _, camera), counts in PUBLISHED["sysu"].items():
        if of == role and camera is not None:
            assert counts == (identities[camera], images[camera])
    assert sum(images.values()) == PUBLISHED["sysu"][role, None, None][1]


@pytest.mark.parametrize("role", ["train", "test"])
def test_unreadable_image_is_named(sysu, role, capsys):
    victims = [an_image(sysu, role), an_image(sysu, "val")]
    victims[0].write_bytes(victims[0].read_bytes()[:200])
    victims[1].write_bytes(b"")
    status, out = check("sysu", sysu, capsys)
    assert status == 1 and all(f"  {victim}: " in out for victim in victims)
    assert out.splitlines()[-1].startswith("NOT USABLE") and "(2 errors" in out


def test_every_missing_file_is_named_once(regdb, tmp_path, capsys):
    victims = sorted((regdb / "Visible" / "2").iterdir()) + sorted(regdb.glob("Thermal/3/*"))[:1]
    for victim in victims:
        victim.unlink()
    status, out = check("regdb", regdb, capsys, "--json", str(tmp_path / "out.json"))
    assert status == 1 and len(victims) == 3
    errors = json.loads((tmp_path / "out.json").read_text())["errors"]
    assert sorted(errors) == sorted(f"{victim}: no such file" for victim in victims)
    assert all(out.count(f"{victim}: no such file") == 1 for victim in victims)


def test_all_missing_split_files_are_named_with_their_source(regdb, capsys):
    for name in ("train_visible_3.txt", "test_thermal_9.txt"):
        (regdb / "idx" / name).unlink()
    status, out = check("regdb", regdb, capsys)
    assert status == 1 and "(2 errors" in out
    for name in ("train_visible_3.txt", "test_thermal_9.txt"):
        assert f"{name} is missing: it comes with the data set's archive, in its idx/" in out


def test_fault_of_a_split_as_a_whole_names_the_split(regdb, capsys):
    leaked = (regdb / "idx/test_visible_5.txt").read_text().splitlines()[0].split()[0]
    with (regdb / "idx/train_visible_5.txt").open("a") as file:
        file.write(f"{leaked} 3\n")
    status, out = check("regdb", regdb, capsys)
    assert status == 1 and "split 5: " in out and "both the train and the test split" in out


def test_empty_camera_and_absent_identity(sysu, capsys):
    shutil.rmtree(sysu / "cam4")
    (sysu / "cam4").mkdir()
    with (sysu / "exp/test_id.txt").open("a") as file:
        file.write(",77")
    status, out = check("sysu", sysu, capsys)
    assert status == 1 and f"camera folder {sysu / 'cam4'} holds no image" in out
    assert "test_id.txt" in out and "1 have no image (77)" in out


def test_permutation_missing_is_a_warning_that_says_its_source(sysu, capsys):
    (sysu / "exp/rand_perm_cam.mat").unlink()
    status, out = check("sysu", sysu, capsys)
    assert status == 0 and "rand_perm_cam.mat is missing: it comes with the SYSU-MM01 auth" in out


def test_permutation_that_does_not_fit_is_an_error(sysu, capsys):
    image = an_image(sysu)
    image.unlink()
    status, out = check("sysu", sysu, capsys)
    assert status == 1 and f"{image.parent} holds 1 images, but rand_perm_cam.mat draws" in out
    (sysu / "exp/rand_perm_cam.mat").write_bytes(b"no matlab")
    status, out = check("sysu", sysu, capsys)
    assert status == 1 and "not a readable MATLAB file" in out


def test_permutation_without_infrared_cameras_fits(sysu, monkeypatch):
    permutation = read_permutation(sysu / "exp/rand_perm_cam.mat")
    visible = {key: rows for key, rows in permutation.items() if key[1] not in (3, 6)}
    monkeypatch.setattr("icre.datasets.sysu.read_permutation", lambda file: visible)
    assert examine("sysu", sysu, progress=False).errors == []
    one = next(key for key in visible if len(visible[key][0]) == 2)
    visible[one] = np.zeros((10, 5), int)
    assert len(examine("sysu", sysu, progress=False).errors) == 1


def test_root_with_cam_and_stray_files_changes_nothing(rendered, tmp_path):
    for layout in FOLDERS:
        folder = copy(rendered[layout], tmp_path / "cam1 Visible vis")
        litter(folder)
        report, known = (examine(layout, f, progress=False) for f in (folder, rendered[layout]))
        assert (report.rows, report.errors) == (known.rows, [])


def test_folder_of_another_name_is_told(sysu, capsys):
    status, out = check("sysu", sysu.rename(sysu.with_name("sysu")), capsys)
    assert status == 1 and "must be called SYSU-MM01" in out and "rename it" in out


def test_bad_arguments(sysu, tmp_path, capsys):
    assert main(["sysu", str(tmp_path / "nowhere")]) == 2
    (tmp_path / "empty").mkdir()
    assert main(["regdb", str(tmp_path / "empty")]) == 2
    assert main(["sysu", str(sysu), "--json", str(sysu / "demo.json" / "out.json")]) == 2
    printed = capsys.readouterr().err
    assert "nowhere is missing" in printed and "neither RegDB nor its parent" in printed
    assert "cannot write" in printed and "Traceback" not in printed
    assert main(["market", str(sysu)]) == 2
    assert "known: " in capsys.readouterr().err
    shutil.copytree(sysu, sysu / "SYSU-MM01")
    with pytest.raises(UserError, match="could be the data set itself"):
        find_folder("sysu", sysu)


def test_long_lists_of_findings_are_cut_in_print_only(rendered):
    report = examine("sysu", rendered["sysu"], progress=False)
    report.errors += [f"fault {number}" for number in range(60)]
    printed = text(report)
    assert "fault 49" in printed and "fault 50" not in printed and "and 10 more" in printed
    assert len(report.as_json()["errors"]) == 60
