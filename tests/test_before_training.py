"""Faults of data sets, protocols and folders are found before the first step, in one line."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

from conftest import train_status, words
from icre.config import load_config
from icre.datasets import doctor, load_dataset
from icre.datasets.base import PathLabels
from icre.datasets.sysu import SYSUMM01
from icre.engine import before
from icre.utils.errors import UserError
from small_runs import SMALL, TINY_MODEL

MARKET = "Market1501/bagtricks_r50.yml"
SYSU = "Demo/bagtricks_r18.yml"


@pytest.fixture(autouse=True)
def no_step(monkeypatch):
    """Every fault below is to be found before a model is built."""
    from icre.engine import session

    monkeypatch.setattr(session, "launch", lambda *args: pytest.fail("the run has begun"))


def refused(capsys, root, output, *options, config=SYSU) -> str:
    capsys.readouterr()
    assert train_status(root, output, *TINY_MODEL, *options, config=config) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


# DATASETS, protocols and layouts


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--eval-only", "--untrained")])
def test_combineall_with_its_own_test_set(demo_root, tmp_path, capsys, flags):
    line = refused(capsys, demo_root, tmp_path / "run", *flags, "DATASETS.COMBINEALL", "True")
    assert "DATASETS.COMBINEALL" in line and "SYSUMM01" in line
    assert not (tmp_path / "run").exists()


@DATASET_REGISTRY.register()
class OwnSet(ImageDataset):
    """A data set as fast-reid teaches to write one: no modalities, no layout."""

    def __init__(self, root="datasets", **kwargs):
        sysu = SYSUMM01(root)
        super().__init__(sysu.train, sysu.query, sysu.gallery, **kwargs)


@DATASET_REGISTRY.register()
class BadModalities(OwnSet):
    """Its modalities are names."""

    def modality_of(self, path):
        return "visible"


@DATASET_REGISTRY.register()
class TextLabels(OwnSet):
    """Its test identities are texts."""

    def __init__(self, root="datasets", **kwargs):
        super().__init__(root, **kwargs)
        self._query = [(path, str(pid), camid) for path, pid, camid in self.query]


@DATASET_REGISTRY.register()
class OwnLayout(SYSUMM01):
    """A layout that no protocols were registered for."""

    layout = "mine"

    @classmethod
    def parse_path(cls, path: str) -> PathLabels | None:
        return None


NAIVE = "DATALOADER.SAMPLER_TRAIN NaiveIdentitySampler INPUT.CHANNEL_AUG.ENABLED False"


def named(name: str) -> tuple[str, ...]:
    return words(f"DATASETS.NAMES ('{name}',) DATASETS.TESTS ('{name}',) TEST.PROTOCOLS ()")


@pytest.mark.parametrize(
    "options, key",
    [
        ("DATALOADER.SAMPLER_TRAIN CrossModalitySampler", "DATALOADER.SAMPLER_TRAIN"),
        ("INPUT.CHANNEL_AUG.ENABLED True", "INPUT.CHANNEL_AUG.ENABLED"),
    ],
)
def test_a_set_without_modalities_where_they_are_needed(demo_root, tmp_path, capsys, options, key):
    naive = words(NAIVE)
    line = refused(capsys, demo_root, tmp_path, *named("OwnSet"), *naive, *words(options))
    assert "OwnSet" in line and key in line and "modality_of" in line


def test_icre_refuses_a_set_without_modalities(demo_root, tmp_path, capsys):
    options = (*SMALL, *named("OwnSet"), "DATALOADER.SAMPLER_TRAIN", "NaiveIdentitySampler")
    assert train_status(demo_root, tmp_path, *options) == 2
    assert "MODEL.META_ARCHITECTURE ICRE" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"BadModalities.*'visible'"):
        before.check_data(config(demo_root, *named("BadModalities")), train=True)


def config(root, *options: str, name: str = SYSU):
    from conftest import CONFIGS

    given = ["DATASETS.ROOT", str(root), *TINY_MODEL, *options]
    return load_config(CONFIGS / name, given)


def test_stock_models_take_a_set_without_modalities(demo_root):
    naive = words(NAIVE)
    before.check_data(config(demo_root, *named("OwnSet"), *naive), train=True)
    with pytest.raises(UserError, match=r"TextLabels.*must be integers"):
        before.check_data(config(demo_root, *named("TextLabels"), *naive), train=True)


@pytest.mark.parametrize("protocols", ["()", "('sysu-all-single',)"])
def test_a_layout_without_protocols(demo_root, protocols):
    options = (*named("OwnLayout"), "TEST.PROTOCOLS", protocols)
    with pytest.raises(UserError, match=r"OwnLayout.*(layout|protocol)"):
        before.check_data(config(demo_root, *options), train=True)


def test_protocols_of_another_data_set(demo_root, tmp_path, capsys):
    options = words("TEST.PROTOCOLS ('regdb-t2v',)")
    line = refused(capsys, demo_root, tmp_path, *options)
    assert "regdb-t2v" in line and "SYSUMM01" in line


@pytest.mark.parametrize("flags", [(), ("--eval-only", "--untrained")])
def test_a_copy_in_a_test_folder_beside_the_permutation(own_root, tmp_path, capsys, flags):
    folder = next((own_root / "SYSU-MM01/cam1").glob("00*"))
    test_ids = (own_root / "SYSU-MM01/exp/test_id.txt").read_text().split(",")
    folder = own_root / f"SYSU-MM01/cam1/{int(test_ids[0]):04d}"
    image = sorted(folder.iterdir())[0]
    shutil.copy(image, folder / f"{image.stem} (1).jpg")
    line = refused(capsys, own_root, tmp_path, *flags)
    assert f"identity {int(test_ids[0])} in camera 1" in line
    before.check_data(config(own_root, "TEST.SPLIT", "val"), train=False)


def test_a_permutation_in_matlabs_newer_format(own_root, tmp_path, capsys):
    h5py = pytest.importorskip("h5py")
    file = own_root / "SYSU-MM01/exp/rand_perm_cam.mat"
    file.unlink()
    with h5py.File(file, "w", userblock_size=512) as made:
        made["rand_perm_cam"] = np.ones((6, 1))
    content = bytearray(file.read_bytes())
    content[:19] = b"MATLAB 7.3 MAT-file"
    file.write_bytes(content)
    line = refused(capsys, own_root, tmp_path)
    assert str(file) in line and "7.3" in line and "-v7" in line


# SYSU-MM01's folders


def shortened(root: Path) -> Path:
    """The tree with folders `3` in place of `0003`."""
    for folder in sorted((root / "SYSU-MM01").glob("cam*/*")):
        folder.rename(folder.with_name(str(int(folder.name))))
    return root


def test_folders_are_read_by_their_number(demo_root, own_root):
    one, other = SYSUMM01(demo_root), SYSUMM01(shortened(own_root))
    for side in ("train", "query", "gallery"):
        assert [item[1:] for item in getattr(one, side)] == [
            item[1:] for item in getattr(other, side)
        ]
    before.check_data(config(own_root), train=True)


def test_two_folders_of_one_number(own_root):
    folder = sorted((own_root / "SYSU-MM01/cam2").iterdir())[0]
    shutil.copytree(folder, folder.with_name(str(int(folder.name))))
    with pytest.raises(UserError, match=f"identity {int(folder.name)}"):
        SYSUMM01(own_root)


@pytest.mark.parametrize("role", ["train", "val", "test"])
def test_a_listed_identity_without_any_image(own_root, role):
    data = own_root / "SYSU-MM01"
    listed = (data / f"exp/{role}_id.txt").read_text().split(",")
    if role == "val":
        (data / "exp/val_id.txt").write_text(",".join([*listed, "499"]))
    else:
        for folder in data.glob(f"cam*/{int(listed[0]):04d}"):
            shutil.rmtree(folder)
    missing = "499" if role == "val" else str(int(listed[0]))
    with pytest.raises(UserError, match=rf"{role}_id\.txt.*1 have no image \({missing}\)"):
        SYSUMM01(own_root)
    report = doctor.examine("sysu", data, progress=False)
    assert [line for line in report.errors if f"{role}_id.txt" in line and missing in line]


# OUTPUT_DIR


def test_output_dir_is_a_file_or_may_not_be_written(demo_root, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    line = refused(capsys, demo_root, tmp_path / "file")
    assert str(tmp_path / "file") in line and "OUTPUT_DIR" in line
    assert (tmp_path / "file").read_text() == "mine"
    line = refused(capsys, demo_root, tmp_path / "file/below")
    assert str(tmp_path / "file") in line
    line = refused(capsys, demo_root, "/proc/nothing")
    assert "/proc/nothing" in line


def test_a_disk_too_small_for_the_checkpoints(demo_root, tmp_path, monkeypatch):
    import torch

    cfg = config(demo_root, "OUTPUT_DIR", str(tmp_path), "SOLVER.CHECKPOINT_KEEP", "3")
    model = torch.nn.Linear(1000, 1000)
    optimizer = torch.optim.Adam(model.parameters())
    room = {}
    monkeypatch.setattr(
        before.shutil, "disk_usage", lambda path: type("Usage", (), room), raising=True
    )
    room["free"] = 10**9
    before.check_space(cfg, model, optimizer)
    room["free"] = 5 * 12 * 10**6 - 10**6  # five checkpoints of three times four megabytes
    with pytest.raises(UserError, match=r"5 checkpoints.*SOLVER\.CHECKPOINT_KEEP 3"):
        before.check_space(cfg, model, optimizer)
    (tmp_path / "model_last.pth").write_bytes(bytes(2 * 10**6))
    before.check_space(cfg, model, optimizer)


# fast-reid's own sets


def market(root: Path) -> Path:
    """Market1501's layout: 10 training and 4 test identities, two cameras."""
    base = root / "Market-1501-v15.09.15"
    folders = {
        "bounding_box_train": (range(1, 11), 4),
        "query": (range(11, 15), 1),
        "bounding_box_test": (range(11, 15), 3),
    }
    for folder, (pids, frames) in folders.items():
        (base / folder).mkdir(parents=True)
        for pid in pids:
            for camera in (1, 2):
                for frame in range(frames):
                    name = f"{pid:04d}_c{camera}s1_{frame:06d}_00.jpg"
                    Image.new("RGB", (8, 16), (pid, 0, 0)).save(base / folder / name)
    return root


@pytest.fixture
def market_root(tmp_path) -> Path:
    return market(tmp_path / "sets")


MARKET_SET = words("DATALOADER.SAMPLER_TRAIN NaiveIdentitySampler TEST.PROTOCOLS ()")


def market_config(root):
    return config(root, *MARKET_SET, name=MARKET)


@pytest.mark.parametrize("name", ["0007_c2", "[1]", "a*b?", "-3_c9 x"])
def test_names_of_the_folders_above_mean_nothing(market_root, tmp_path, name):
    root = tmp_path / name / "data"
    shutil.copytree(market_root, root)
    plain = load_dataset(market_config(market_root), "Market1501")
    odd = load_dataset(market_config(root), "Market1501")
    for side in ("train", "query", "gallery"):
        one, other = (
            {(os.path.relpath(path, base), *labels) for path, *labels in getattr(data, side)}
            for data, base in ((plain, market_root), (odd, root))
        )
        assert one == other and one
        assert all(os.path.isfile(path) for path, *_ in getattr(odd, side))
    before.check_data(market_config(root), train=True)


def remove(root, pattern):
    for file in (root / "Market-1501-v15.09.15").glob(pattern):
        shutil.rmtree(file) if file.is_dir() else file.unlink()


def add(root, name):
    Image.new("RGB", (8, 16)).save(root / "Market-1501-v15.09.15" / name)


@pytest.mark.parametrize(
    "damage, said",
    [
        (lambda root: shutil.rmtree(root), ["DATASETS.ROOT", "{root}"]),
        (lambda root: remove(root, "query"), ["Market1501", "{root}", "query"]),
        (lambda root: remove(root, "query/*"), ["Market1501", "query"]),
        (lambda root: remove(root, "bounding_box_test/*"), ["Market1501", "gallery"]),
        (lambda root: remove(root, "bounding_box_train/*"), ["Market1501", "training"]),
        (
            lambda root: add(root, "bounding_box_train/2000_c1s1_000001_00.jpg"),
            ["{root}", "bounding_box_train/2000_c1s1_000001_00.jpg"],
        ),
        (
            lambda root: add(root, "query/0011_c9s1_000001_00.jpg"),
            ["{root}", "query/0011_c9s1_000001_00.jpg"],
        ),
        (
            lambda root: add(root, "bounding_box_test/person one.jpg"),
            ["{root}", "bounding_box_test/person one.jpg"],
        ),
        (lambda root: remove(root, "*/*_c2s1_*"), ["Market1501", "camera"]),
        (lambda root: remove(root, "bounding_box_test/00*3_*"), ["Market1501"]),
        (
            lambda root: remove(root, "bounding_box_test/0012_c1s1_000002_00.jpg"),
            ["Market1501", "23 gallery", "50"],
        ),
    ],
)
def test_damaged_sets_of_fast_reid(market_root, tmp_path, capsys, damage, said):
    damage(market_root)
    if said == ["Market1501"]:
        remove(market_root, "bounding_box_test/*_00000[12]_*")
        said = ["Market1501", "gallery", "10"]
    line = refused(capsys, market_root, tmp_path / "run", *MARKET_SET, config=MARKET)
    assert [word for word in said if word.format(root=market_root) not in line] == []
    assert not (tmp_path / "run").exists()


# models


@pytest.mark.parametrize(
    "options", ["MODEL.BACKBONE.DEPTH 18x", "MODEL.BACKBONE.NAME build_osnet_backbone"]
)
def test_mgn_needs_bottleneck_blocks(options):
    from conftest import CONFIGS

    with pytest.raises(UserError, match=options.split()[-1]):
        load_config(CONFIGS / "SYSU/mgn_r50.yml", words(options))
