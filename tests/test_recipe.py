"""`benchmark recipe`: what is changed of a clone, and scoring by its code; on a stand-in of one."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from icre.benchmark.recipe import (
    Options,
    check_same,
    run,
    starting_weights,
    summary,
    text,
    untrained,
)
from icre.benchmark.recipe_clone import CODES, SHIM, _edit, _edits, call, prepare
from icre.config import load_config
from icre.evaluation.features import FeatureSet
from icre.runs.checkpoint import read_checkpoint
from icre.utils.errors import UserError

# lines of the real files that edits must find
FILES = {
    "pre_process_sysu.py": """
from PIL import Image
data_path = '/home/x/sysu-mm01/ori_data'
fix_image_width = 144
fix_image_height = 288
open(data_path + 'made.txt', 'w').write(f'{Image.ANTIALIAS} {fix_image_width}')
""",
    "train.py": """
data_path = '../Datasets/SYSU-MM01/ori_data/'
data_path = '../Datasets/RegDB/'
def adjust_learning_rate(optimizer, epoch):
    if epoch < 10:
        lr = args.lr * (epoch + 1) / 10
    elif epoch >= 10 and epoch < 20:
        lr = args.lr
    elif epoch >= 20 and epoch < 50:
        lr = args.lr * 0.1
    elif epoch >= 50:
        lr = args.lr * 0.01
for epoch in range(start_epoch, 81 - start_epoch):
    if epoch > 0 and epoch % 2 == 0:
        pass
""",
    "data_loader.py": "data_dir = '../Datasets/SYSU-MM01/'\ndata_dir = '../Datasets/RegDB/'\n",
    "model.py": "net = resnet50(pretrained=True)\n",
    "eval_metrics.py": """
def eval_sysu(distances, q_pids, g_pids, q_cams, g_cams):
    hits = g_pids[distances.argmin(1)] == q_pids
    return [hits.mean()], 0.25, 0
""",
    "data_manager.py": """
import numpy as np
def process_query_sysu(root, mode):
    images = [root + f'cam3/000{pid}/0001.jpg' for pid in (1, 2)]
    return images, np.array([1, 2]), np.array([3, 3])
def process_gallery_sysu(root, mode, trial):
    images = [root + f'cam1/000{pid}/0001.jpg' for pid in (1, 2)]
    return images, np.array([1, 2]), np.array([1, 1])
""",
}  # fmt: skip


@pytest.fixture
def clone(tmp_path) -> Path:
    folder = tmp_path / "Cross-Modal"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_text(content)
    (tmp_path / "root/SYSU-MM01/cam1").mkdir(parents=True)
    return folder


def options(clone: Path, **more) -> Options:
    root = clone.parent
    return Options("agw", clone, "no.yml", root / "root", root / "out", **more)


def prepared(clone: Path) -> Path:
    root = clone.parent
    return prepare(clone, root / "root", root / "out", CODES["agw"], (96, 48), None)


def changed(epochs: int | None) -> dict[str, str]:
    found = {}
    for name, edits in _edits(CODES["agw"], (96, 48), epochs).items():
        path = Path(name)
        found[path.name] = (FILES[name], edits)
    return found


def test_without_epochs_paths_and_size_alone_are_changed(clone):
    for name, (before, edits) in changed(None).items():
        _edit(clone / name, edits)
        lines = zip(before.splitlines(), (clone / name).read_text().splitlines(), strict=True)
        differ = [one for one, other in lines if one != other]
        assert differ and all(
            any(word in one for word in ("SYSU", "sysu", "fix_image")) for one in differ
        )
    assert "'../Datasets/RegDB/'" in (clone / "train.py").read_text()


@pytest.mark.parametrize(("epochs", "expected"), [(8, (1, 2, 5)), (162, (20, 40, 100))])
def test_a_schedule_is_scaled_in_proportion(clone, epochs, expected):
    _edit(clone / "train.py", changed(epochs)["train.py"][1])
    code = (clone / "train.py").read_text()
    first, second, third = expected
    for line in (
        f"if epoch < {first}:",
        f"(epoch + 1) / {first}",
        f"epoch >= {first} and epoch < {second}:",
        f"epoch >= {second} and epoch < {third}:",
        f"elif epoch >= {third}:",
        f"range({epochs})",
        "epoch > 0 and epoch % 2 == 0",
    ):
        assert line in code, line


def test_a_clone_of_another_version_is_refused(clone):
    (clone / "data_loader.py").write_text("data_dir = folder\n")
    with pytest.raises(UserError, match=r"data_loader\.py has no "):
        _edit(clone / "data_loader.py", changed(None)["data_loader.py"][1])
    (clone / "train.py").unlink()
    with pytest.raises(UserError, match=r"no train\.py in"):
        prepared(clone)


@pytest.mark.slow
@pytest.mark.parametrize(
    "lists, message",
    [
        ({}, r"--data .*: it has no SYSU-MM01/exp/train_id\.txt"),
        ({"train_id.txt": "1,2"}, r"test_id\.txt"),
        ({"train_id.txt": "1,2", "test_id.txt": "3,4,5"}, r"test_id\.txt: 3 test identities"),
    ],
)
def test_data_that_their_scripts_cannot_score_is_refused_before_any_work(clone, lists, message):
    folder = clone.parent / "root/SYSU-MM01/exp"
    folder.mkdir()
    for name, content in lists.items():
        (folder / name).write_text(content)
    with pytest.raises(UserError, match=message):
        run(replace(options(clone), config_file="SynthVI-S/agw_public_r50.yml"))
    assert not options(clone).out.exists()


def test_a_folder_of_other_trainings_is_refused(tmp_path):
    file, settings = tmp_path / "out/settings.json", {"code": "agw", "epochs": 8}
    check_same(file, settings)
    check_same(file, settings)
    with pytest.raises(UserError, match="another epochs: name another --out"):
        check_same(file, {**settings, "epochs": 81})
    file.write_text("[]")
    with pytest.raises(UserError, match="another code"):
        check_same(file, settings)


def test_their_scripts_run_in_a_copy_and_score_features(clone):
    copy = prepared(clone)
    assert copy != clone and (clone / "model.py").read_text() == FILES["model.py"]
    assert (copy / "data/made.txt").read_text() == "1 48"  # Lanczos, by its old name
    assert (copy / "data/cam1").is_symlink()
    assert not (clone.parent / "root/SYSU-MM01/made.txt").exists()
    paths = [f"cam{cam}/{pid:04d}/0001.jpg" for cam in (3, 1) for pid in (1, 2)]
    # of any length, as files of features are: by inner products the first query's best is person 2
    features = np.array([[1, 0], [0, 1], [1, 0.1], [5, 5]], dtype=np.float32)
    np.savez(copy / "features.npz", paths=np.array(paths), features=features)
    out = call([sys.executable, SHIM, "score", "features.npz"], copy, "score")
    assert json.loads(out) == {"Rank-1": pytest.approx(100.0), "mAP": pytest.approx(25.0)}
    with pytest.raises(UserError, match=r"score failed \(1\): .*nothing\.npz"):
        call([sys.executable, SHIM, "score", "nothing.npz"], copy, "score")


def test_the_table_shows_both_sides_by_both_codes():
    def row(side: str, seed: int, rank1: float) -> dict:
        cells = {"Rank-1": rank1, "mAP": 2 * rank1}
        return {"side": side, "seed": seed, "by_ours": cells, "by_theirs": cells}

    first = [row("nobody", 0, 3), row("theirs", 0, 10.0), row("ours", 0, 11.0)]
    rows = [*first, row("nobody", 1, 4), row("theirs", 1, 14.0), row("ours", 1, 9)]
    result = {"code": "agw", "epochs": 3, "protocol": "p", "draw": "seeded", "rows": rows}
    assert summary(result)["theirs"]["Rank-1 by_theirs"] == (12.0, 2.0)
    assert summary(result)["ours"]["mAP by_ours"] == (20.0, 2.0)
    assert summary(result)["nobody"]["Rank-1 by_ours"] == (3.5, 0.5)
    assert "12.00 ± 2.00" in text(result) and "2 seeds" in text(result)


def test_both_sides_start_from_the_same_random_weights_of_a_seed(tmp_path):
    cfg = load_config("SynthVI-S/agw_public_r50.yml")
    first, again = (starting_weights(tmp_path, cfg, 3) for _ in range(2))
    other = starting_weights(tmp_path, cfg, 4)
    states = [torch.load(path, weights_only=True) for path in (first, other)]
    assert first == again and first.is_absolute()
    assert not torch.equal(states[0]["conv1.weight"], states[1]["conv1.weight"])
    assert not states[0]["layer4.2.bn3.weight"].any()


def test_both_sides_start_from_the_file_that_the_config_names(tmp_path):
    """A checkpoint of this project; theirs read a ResNet-50's own names."""
    net = torchvision.models.resnet50()
    file = tmp_path / "model_final.pth"
    state = {f"backbone.{name}": value for name, value in net.state_dict().items()}
    torch.save({"model": {**state, "heads.weight": torch.ones(2)}}, file)
    opts = ["MODEL.BACKBONE.PRETRAIN", "True", "MODEL.BACKBONE.PRETRAIN_PATH", str(file)]
    cfg = load_config("SynthVI-S/agw_public_r50.yml", opts)
    start = torch.load(starting_weights(tmp_path, cfg, 3), weights_only=True)
    assert set(start) == {name for name in net.state_dict() if not name.startswith("fc.")}
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in start.items())
    torch.save({"model": {"backbone.conv1.weight": torch.ones(2)}}, file)
    with pytest.raises(UserError, match=r"model_final\.pth is of another network"):
        starting_weights(tmp_path, cfg, 4)


@pytest.mark.slow
def test_features_of_the_starting_weights(demo_root, tmp_path):
    opts = ("INPUT.SIZE_TEST", "[32,16]", "DATALOADER.NUM_WORKERS", "0")
    config = "SynthVI-S/agw_public_r50.yml"
    chosen = Options("agw", tmp_path, config, demo_root, tmp_path / "out", device="cpu", opts=opts)
    features = untrained(chosen, CODES["agw"], tmp_path, 3)
    start = torch.load(tmp_path / "out/start_3.pth", weights_only=True)
    net = read_checkpoint(tmp_path / "out/net_3.pth")["model"]
    for modality in ("visible", "infrared"):
        found = net[f"backbone.stems.{modality}.conv1.weight"]
        assert torch.equal(found, start["conv1.weight"])
    assert FeatureSet.load(features).features.shape[1] == 2048
    written = features.stat().st_mtime_ns
    assert untrained(chosen, CODES["agw"], tmp_path, 3).stat().st_mtime_ns == written


def test_what_they_download_is_these_weights(tmp_path, monkeypatch):
    """`model_zoo.load_url`, as their resnet.py calls it, inside of their train.py."""
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(
        "import types\nfrom torch.utils import model_zoo\n"
        "state = model_zoo.load_url('https://example.org/resnet50.pth')\n"
        "net, epoch = types.SimpleNamespace(state_dict=lambda: state), 5\n"
    )
    torch.save({"conv1.weight": torch.arange(3.0)}, "start.pth")
    call([sys.executable, SHIM, "train", "out.t", "start.pth", "--seed", 0], tmp_path, "train.py")
    saved = torch.load(tmp_path / "out.t", weights_only=True)
    assert saved["epoch"] == 5 and saved["net"]["conv1.weight"].tolist() == [0, 1, 2]
