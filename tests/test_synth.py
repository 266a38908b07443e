"""Rendered trees: exact layouts, same bytes for a seed, safe writing, bad arguments in one line."""

import hashlib
import json
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from icre.commands.render import main
from icre.config import load_config
from icre.datasets.build import load_dataset
from synthvi import layout, writer
from synthvi.layout import DemoError, DemoOptions
from synthvi.levels import LEVELS

TINY = DemoOptions(ids=4, test_ids=2, train_images=1, test_images=2, height=32, width=16, seed=3)
SMALL = replace(TINY, ids=1, test_ids=1, test_images=1)


def digest(root: Path) -> dict[str, str]:
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


@pytest.fixture(scope="module")
def sysu(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "SYSU-MM01"
    writer.write_tree(root, TINY, workers=1, progress=False)
    return root


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """Twelve images; not to be changed."""
    root = tmp_path_factory.mktemp("small") / "SYSU-MM01"
    writer.write_tree(root, SMALL, workers=1, progress=False)
    return root


def ids_of(root: Path, name: str) -> list[int]:
    return [int(word) for word in (root / "exp" / f"{name}_id.txt").read_text().split(",")]


@pytest.mark.slow
def test_sysu_layout_is_exact(sysu):
    train, val, test = (ids_of(sysu, name) for name in ("train", "val", "test"))
    assert sorted(train + val + test) == list(range(1, 7))
    assert (len(train), len(val), len(test)) == (3, 1, 2)
    for camera in range(1, 7):
        for pid in range(1, 7):
            names = sorted(p.name for p in (sysu / f"cam{camera}" / f"{pid:04d}").iterdir())
            assert names == [f"{f:04d}.jpg" for f in range(1, 3 if pid in test else 2)]
    cameras = {f"cam{number}" for number in range(1, 7)}
    assert {p.name for p in sysu.iterdir()} == cameras | {"exp", "demo.json"}


def test_rand_perm_cam_has_the_official_structure(sysu):
    cells = scipy.io.loadmat(sysu / "exp" / "rand_perm_cam.mat")["rand_perm_cam"]
    assert cells.shape == (6, 1)
    test = ids_of(sysu, "test")
    for camera in range(6):
        per_id = cells[camera][0]
        assert per_id.shape == (6, 1)
        for pid in range(1, 7):
            trials = per_id[pid - 1][0]
            images = 2 if pid in test else 1
            assert trials.shape == (10, images) and trials.dtype == np.uint8
            assert (np.sort(trials, axis=1) == np.arange(1, images + 1)).all()


def test_official_file_has_the_same_structure():
    official = Path(__file__).parents[2] / "shared" / "sysu_split" / "rand_perm_cam.mat"
    if not official.is_file():
        pytest.skip("the official split file is not at hand (it comes with the data set)")
    real = scipy.io.loadmat(official)["rand_perm_cam"]
    ours = layout.plan(TINY).files["exp/rand_perm_cam.mat"]
    made = scipy.io.loadmat(BytesIO(ours))["rand_perm_cam"]
    for cells in (real, made):
        assert cells.shape == (6, 1) and cells.dtype == object
        assert cells[0][0].ndim == 2 and cells[0][0].shape[1] == 1
        assert cells[0][0][0][0].shape[0] == 10 and cells[0][0][0][0].dtype == np.uint8


def test_images_have_size_and_modality(sysu):
    for camera in range(1, 7):
        image = Image.open(sysu / f"cam{camera}" / "0001" / "0001.jpg")
        assert image.size == (16, 32) and image.mode == "RGB"
        channels = np.asarray(image).astype(int)
        grey = (channels == channels[..., :1]).all()
        assert grey == (camera in (3, 6))
        assert channels.std() > 5


@pytest.mark.slow
def test_same_seed_same_bytes_for_any_workers(small, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "CHUNK", 3)
    writer.write_tree(tmp_path / "again", SMALL, workers=2, progress=False)
    assert digest(tmp_path / "again") == digest(small)
    shot, other = layout.plan(SMALL).shots[0], replace(SMALL, seed=4)
    assert (layout.render_shot(other, shot)[0] != layout.render_shot(SMALL, shot)[0]).any()


def test_finished_tree_is_left_alone_and_half_tree_is_redone(small, tmp_path):
    root, whole = tmp_path / "tree", digest(small)
    shutil.copytree(small, root)
    victim = root / "cam1" / "0001" / "0001.jpg"
    victim.write_bytes(b"mine")
    assert sum(writer.write_tree(root, SMALL, workers=1, progress=False).values()) == 12
    assert victim.read_bytes() == b"mine"
    (root / "demo.json").rename(root / "demo.partial.json")
    writer.write_tree(root, SMALL, workers=1, progress=False)
    assert digest(root) == whole


@pytest.mark.parametrize("marker", ["demo.json", "demo.partial.json"])
def test_tree_of_other_arguments_is_refused(marker, tmp_path):
    (tmp_path / marker).write_text(json.dumps({"arguments": {"seed": 9}}))
    with pytest.raises(DemoError, match="choose another"):
        writer.write_tree(tmp_path, TINY, workers=1, progress=False)


def test_foreign_folder_and_file_are_refused(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    for root in (tmp_path, tmp_path / "photo.jpg"):
        with pytest.raises(DemoError, match="choose another") as error:
            writer.write_tree(root, TINY, workers=1, progress=False)
        assert "\n" not in str(error.value)
    assert digest(tmp_path).keys() == {"photo.jpg"}


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["--ids", "0"], "ids is 0"),
        (["--test-ids", "0"], "test_ids is 0"),
        (["--size", "128"], "--size 128"),
        (["--seed", "-1"], "seed is -1"),
        (["--workers", "-2"], "--workers -2"),
        (["--contact-sheet", "x.doc"], "--contact-sheet x.doc"),
        (["--verify"], "--benchmark NAME"),
        (["--size", "4x4"], "size is 4x4"),
    ],
)
def test_bad_arguments_are_one_line(arguments, word, tmp_path, capsys):
    assert main(["--root", str(tmp_path / "x"), *arguments]) == 2
    message = capsys.readouterr().err
    assert word in message and len(message.splitlines()) == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_tool_writes_and_says_what(tmp_path, capsys):
    command = [
        "--root",
        str(tmp_path / "x"),
        "--ids",
        "1",
        "--test-ids",
        "1",
        "--workers",
        "1",
        "--images-per-camera",
        "1",
        "--test-images-per-camera",
        "1",
        "--size",
        "32x16",
        "--contact-sheet",
        str(tmp_path / "sheet.png"),
    ]
    assert main(command) == 0
    message = capsys.readouterr().out
    assert "12 images written" in message and "cam6" in message
    assert main(command) == 0
    assert "already there" in capsys.readouterr().out
    assert Image.open(tmp_path / "sheet.png").width > 6 * 16


def test_regdb_has_ten_splits_of_existing_files():
    options = replace(TINY, layout="regdb")
    made = layout.plan(options)
    paths = {shot.path for shot in made.shots}
    assert len(paths) == len(made.shots) == 2 * 6 * 2 and all(p.endswith(".bmp") for p in paths)
    assert len(made.files) == 40 and len(set(made.files.values())) > 4
    for split in range(1, 11):
        people = {}
        for name, count in (("train", 4), ("test", 2)):
            for modality in ("visible", "thermal"):
                rows = [
                    line.split()
                    for line in made.files[f"idx/{name}_{modality}_{split}.txt"]
                    .decode()
                    .splitlines()
                ]
                assert all(path in paths and path.startswith(modality.title()) for path, _ in rows)
                assert {int(label) for _, label in rows} == set(range(count))
                people.setdefault(name, set()).update(int(path.split("/")[1]) for path, _ in rows)
        assert len(people["train"]) == 4 and len(people["test"]) == 2
        assert not people["train"] & people["test"]


def test_llcm_trees_and_names():
    made = layout.plan(replace(TINY, layout="llcm"))
    paths = [shot.path for shot in made.shots]
    assert len(set(paths)) == len(paths)
    test = [int(word) for word in made.files["idx/test_id.txt"].decode().split(",")]
    assert {p.split("/")[1] for p in paths if p.startswith("test_nir/")} == {
        f"cam{c}" for c in (1, 2, 4, 5, 6, 7, 8, 9)
    }
    assert {p.split("/")[1] for p in paths if p.startswith("test_vis/")} == {
        f"cam{c}" for c in range(1, 10)
    }
    for folder in ("vis", "nir"):
        lines = made.files[f"idx/train_{folder}.txt"].decode().splitlines()
        rows = [line.split() for line in lines]
        assert sorted(path for path, _ in rows) == sorted(p for p in paths if p.startswith(folder))
        assert {int(label) for _, label in rows} == set(range(4))
        assert not {int(path.split("/")[1]) for path, _ in rows} & set(test)
        parts = Path(rows[0][0]).stem.split("_")
        assert parts[1][0] == "c" and len(parts[1]) == 3 and parts[-1] == folder


def test_a_market1501_tree_is_what_fast_reid_reads(tmp_path):
    root = tmp_path / "Market-1501-v15.09.15"
    counts = writer.write_tree(root, replace(TINY, layout="market1501"), workers=1, progress=False)
    assert counts == {"bounding_box_test": 12, "bounding_box_train": 24, "query": 12}
    cfg = load_config("Market1501/bagtricks_r50.yml", ["DATASETS.ROOT", str(tmp_path)])
    data = load_dataset(cfg, "Market1501")
    assert (len(data.train), len(data.query), len(data.gallery)) == (24, 12, 12)
    test = {pid for _, pid, _ in data.query}
    assert len(test) == 2 and test == {pid for _, pid, _ in data.gallery}
    assert not {f"market1501_{pid}" for pid in test} & {pid for _, pid, _ in data.train}


def test_market1501_has_no_more_identities_than_fast_reid_reads():
    with pytest.raises(DemoError, match="1502 identities: Market-1501 has at most 1501"):
        DemoOptions(layout="market1501", ids=1500, test_ids=2)


def test_validation_share_is_that_of_sysu():
    splits = layout.split_identities(DemoOptions(ids=395, test_ids=96))
    assert {name: len(ids) for name, ids in splits.items()} == {"train": 296, "val": 99, "test": 96}
    assert layout.split_identities(DemoOptions(ids=395, test_ids=96, seed=1)) != splits


def test_families_stay_together_but_at_the_borders_of_the_split():
    options = DemoOptions(ids=80, test_ids=40, difficulty="standard")
    size = LEVELS["standard"].family
    homes = {}
    for name, ids in layout.split_identities(options).items():
        for pid in ids:
            homes.setdefault((pid - 1) // size, set()).add("test" if name == "test" else "train")
    assert size == 4 and len(homes) == 30
    assert sum(len(names) > 1 for names in homes.values()) <= 1


def test_an_unknown_difficulty_names_the_levels():
    with pytest.raises(
        DemoError, match="choose from uniform, plain, muted, easy, mild, standard, hard, extreme"
    ):
        DemoOptions(difficulty="medium")
