"""The command that the README names: what a run leaves, repeats, resumes and refuses."""

import json
import os
import pickle
import re
import shutil

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conftest import SHORT, train, train_status, words
from icre.commands import extract
from icre.config import load_config
from icre.datasets.sysu import read_permutation
from icre.engine.hooks import TrainingCheckpointer
from icre.evaluation.features import FeatureSet
from icre.evaluation.score import score
from icre.modeling import build_model
from icre.runs.checkpoint import SafeCheckpointer
from icre.utils.errors import UserError
from icre.utils.files import replaced
from reference.loop_protocol import loop_score
from small_model import NARROW
from small_runs import SMALL, STOCK, TINY_MODEL

SETTINGS = [
    ("sysu-all-single", "official"),
    ("sysu-all-multi", "official"),
    ("sysu-indoor-single", "official"),
    ("sysu-indoor-multi", "official"),
    ("sysu-all-single", "seeded"),
    ("sysu-indoor-single", "seeded"),
]


def weights(output, name="model_final") -> dict[str, torch.Tensor]:
    return torch.load(output / f"{name}.pth", weights_only=True)["model"]


def metrics(output) -> list[dict]:
    return json.loads((output / "metrics.json").read_text())


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.slow
def test_a_run_leaves_everything_behind(finished_run):
    for name in (
        "config.yaml",
        "log.txt",
        "scalars.json",
        "features.npz",
        "ranking.png",
        "model_final.pth",
        "last_checkpoint",
    ):
        assert (finished_run / name).stat().st_size > 0, name
    events = EventAccumulator(str(finished_run)).Reload()
    assert {"total_loss", "loss_cls", "lr", "sysu-all-single/official/mAP"} <= set(
        events.Tags()["scalars"]
    )
    assert load_config(str(finished_run / "config.yaml")).MODEL.META_ARCHITECTURE == "ICRE"
    assert not list(finished_run.glob("*.part")) + list(finished_run.glob("model_best*"))


@pytest.mark.slow
def test_the_records_are_complete(finished_run):
    records = metrics(finished_run)
    # the test feature first, then the others from the same extraction
    assert [(r["feature"], (r["protocol"], r["draw"])) for r in records] == [
        (feature, setting) for feature in ("before", "after", "both") for setting in SETTINGS
    ]
    for record in records:
        assert (record["epoch"], record["steps"], record["seed"]) == (2, 20, 0)
        assert record["rerank"] is None
        assert (record["trials"], record["std_over"], record["flip"]) == (10, "draws", False)
        assert record["queries"] == 24


@pytest.mark.slow
def test_metrics_are_those_of_the_saved_features(finished_run, demo_root):
    features = FeatureSet.load(finished_run / "features.npz")
    permutation = demo_root / "SYSU-MM01/exp/rand_perm_cam.mat"
    again = score(
        features, perm=permutation, feature="before", seed=0, epoch=2, steps=20, flip=False
    )
    weights = {"weights": metrics(finished_run)[0]["weights"]}  # features do not tell
    assert [record | weights for record in again] == metrics(finished_run)[: len(SETTINGS)]
    for record in again:
        by_loops = loop_score(
            features.ordered(), record["protocol"], record["draw"], read_permutation(permutation)
        )
        for name in ("Rank-1", "Rank-20", "mAP", "mINP"):
            values = [trial[name] for trial in by_loops]
            assert record[name]["mean"] == pytest.approx(np.mean(values)), name
            assert record[name]["std"] == pytest.approx(np.std(values)), name


@pytest.mark.slow
def test_parameters_move_and_modules_are_alive(finished_run):
    cfg = load_config(finished_run / "config.yaml")
    torch.manual_seed(0)
    start = build_model(cfg)
    after = weights(finished_run)
    still = [n for n, p in start.named_parameters() if p.requires_grad and torch.equal(p, after[n])]
    assert still == []
    logged = [json.loads(line) for line in (finished_run / "scalars.json").read_text().splitlines()]
    last = {key: value for line in logged for key, value in line.items()}
    assert last["health/sdce_share"] > 0.05
    assert last["health/mask_saturation"] < 0.95 and last["health/feature_spread"] > 1e-3
    assert {f"health/mask_mean_layer{n}" for n in (1, 2, 3)} <= last.keys()


@pytest.mark.slow
def test_evaluating_the_checkpoint_repeats_the_numbers(finished_run, demo_root, tmp_path):
    weights = ("MODEL.WEIGHTS", str(finished_run / "model_final.pth"))
    train(demo_root, tmp_path, "--eval-only", *weights, config=str(finished_run / "config.yaml"))
    assert metrics(tmp_path) == metrics(finished_run)


@pytest.fixture(scope="module")
def small_run(demo_root, tmp_path_factory):
    """OUTPUT_DIR of the narrow model; not to be changed."""
    output = tmp_path_factory.mktemp("small")
    train(demo_root, output, *SMALL)
    return output


@pytest.mark.slow
def test_one_seed_gives_one_result(small_run, demo_root, tmp_path):
    train(demo_root, tmp_path / "same", *SMALL)
    train(demo_root, tmp_path / "other", *SMALL, "SEED", "1")
    assert same(weights(tmp_path / "same"), weights(small_run))
    assert metrics(tmp_path / "same") == metrics(small_run)
    assert not same(weights(tmp_path / "other"), weights(small_run))


@pytest.mark.slow
def test_a_killed_run_resumes_where_it_was(small_run, demo_root, tmp_path, monkeypatch):
    saved = TrainingCheckpointer.after_epoch

    def save_then_die(hook):
        saved(hook)
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingCheckpointer, "after_epoch", save_then_die)
    assert train_status(demo_root, tmp_path, *SMALL) == 130
    assert not (tmp_path / "model_final.pth").exists()
    monkeypatch.undo()
    train(demo_root, tmp_path, "--resume", *SMALL)
    assert same(weights(tmp_path), weights(small_run))
    assert metrics(tmp_path) == metrics(small_run)


@pytest.mark.slow
def test_resuming_a_finished_run_scores_it_again(small_run, demo_root, tmp_path):
    shutil.copytree(small_run, tmp_path / "run")
    (tmp_path / "run/metrics.json").unlink()
    train(demo_root, tmp_path / "run", "--resume", *SMALL)
    assert metrics(tmp_path / "run") == metrics(small_run)


def test_a_kill_while_writing_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    model = torch.nn.Linear(2, 2)
    checkpointer = SafeCheckpointer(model, str(tmp_path))
    checkpointer.save("model_last", epoch=0)
    before = (tmp_path / "model_last.pth").read_bytes()

    def half(data, file):
        file.write(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        checkpointer.save("model_last", epoch=1)
    assert (tmp_path / "model_last.pth").read_bytes() == before
    assert (tmp_path / "last_checkpoint").read_text() == "model_last.pth"


def test_the_next_run_deletes_what_a_killed_process_left(tmp_path):
    checkpointer = SafeCheckpointer(torch.nn.Linear(2, 2), str(tmp_path))
    names = ("model_last.pth", "model_best.pth", "model_final.pth")
    killed = [replaced(tmp_path / name) for name in names]  # a kill runs no code behind the yield
    assert all(half.__enter__().is_file() for half in killed)
    (tmp_path / ".model_last.txt").touch()
    checkpointer.resume_or_load("", resume=True)
    checkpointer.save("model_last", epoch=0)
    assert {path.name for path in tmp_path.iterdir()} == {
        "model_last.pth",
        "last_checkpoint",
        ".model_last.txt",
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "config, model", [(STOCK, TINY_MODEL), ("Demo/baseline_r18.yml", map(str, NARROW))]
)
def test_other_models_train_on_the_same_data_and_protocol(demo_root, tmp_path, config, model):
    options = words("SOLVER.MAX_EPOCH 1 TEST.PROTOCOLS ()")
    train(demo_root, tmp_path, *model, *options, config=config)
    features = 1 if config == STOCK else 3
    assert [(r["protocol"], r["draw"]) for r in metrics(tmp_path)] == SETTINGS * features


@pytest.mark.slow
def test_the_command_the_user_named(demo_root, tmp_path):
    """Four steps of ResNet-50."""
    options = words(
        "MODEL.BACKBONE.PRETRAIN False SOLVER.MAX_EPOCH 1 SOLVER.WARMUP_EPOCHS 1.0 "
        "SOLVER.IMS_PER_BATCH 40"
    )
    train(demo_root, tmp_path, *options, config="SYSU/icre_r50.yml")
    assert len(metrics(tmp_path)) == 18  # six settings by three test features


def refused(capsys, call) -> str:
    """The one line that a command prints before it returns status 2."""
    assert call() == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("error: ")]
    return line


def remove_test_ids(root):
    (root / "SYSU-MM01/exp/test_id.txt").unlink()
    return r"test_id\.txt"


def empty_camera(root):
    for folder in (root / "SYSU-MM01/cam3").iterdir():
        shutil.rmtree(folder)
    return "cam3"


def remove_folder(root):
    shutil.rmtree(root / "SYSU-MM01")
    return f"{root}/SYSU-MM01"


def break_image(root):
    path = next((root / "SYSU-MM01/cam1").rglob("*.jpg"))
    path.write_bytes(path.read_bytes()[:200])
    return str(path)


@pytest.mark.parametrize("damage", [remove_test_ids, empty_camera, remove_folder, break_image])
def test_damaged_data_is_refused_before_training(own_root, tmp_path, capsys, damage):
    message = damage(own_root)
    line = refused(capsys, lambda: train_status(own_root, tmp_path / "out"))
    assert re.search(message, line), line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options, said",
    [
        ("MODEL.NOTHING 1", ["MODEL.NOTHING"]),
        ("SOLVER.BASE_LR", ["KEY VALUE", "SOLVER.BASE_LR"]),
        ("MODEL.LOSSES.NAME ('ICG',)", ["MODEL.LOSSES.NAME", "'ICG'", "AuxiliaryIDLoss"]),
        ("MODEL.META_ARCHITECTURE IRCE", ["MODEL.META_ARCHITECTURE", "'IRCE'", "ICRE"]),
        ("SOLVER.IMS_PER_BATCH 64", ["SOLVER.IMS_PER_BATCH", "16 identities", "10"]),
        ("SOLVER.OPT Sdg", ["SOLVER.OPT", "'Sdg'", "SGD"]),
        ("TEST.PROTOCOLS ('sysu-all',)", ["TEST.PROTOCOLS", "'sysu-all'", "sysu-all-single"]),
        ("TEST.RERANK.ENABLED True TEST.RERANK.K1 0", ["TEST.RERANK", "k1 is 0"]),
        ("MODEL.DEVICE cuda:99", ["MODEL.DEVICE cuda:99"]),
        ("MODEL.WEIGHTS nowhere.pth", ["nowhere.pth is missing"]),
    ],
)
def test_bad_options_are_one_line(demo_root, tmp_path, capsys, options, said):
    line = refused(capsys, lambda: train_status(demo_root, tmp_path, *words(options)))
    assert [word for word in said if word not in line] == []


def test_a_missing_config_file_is_one_line(demo_root, tmp_path, capsys):
    line = refused(capsys, lambda: train_status(demo_root, tmp_path, config="nowhere.yml"))
    assert "nowhere.yml" in line


@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_refused(finished_run, demo_root, tmp_path, capsys):
    final = str(finished_run / "model_final.pth")
    line = refused(
        capsys,
        lambda: train_status(
            demo_root,
            tmp_path,
            "--eval-only",
            "MODEL.WEIGHTS",
            final,
            config="Demo/bagtricks_r18.yml",
        ),
    )
    assert final in line and "another model" in line


class Attack:
    """Runs a command where a checkpoint is unpickled carelessly."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("content", ["code", "noise"])
def test_a_checkpoint_cannot_run_code(demo_root, tmp_path, capsys, content):
    file, trace = tmp_path / "bad.pth", tmp_path / "trace"
    file.write_bytes(pickle.dumps({"model": Attack(trace)}) if content == "code" else b"noise")
    line = refused(
        capsys, lambda: train_status(demo_root, tmp_path, "--eval-only", "MODEL.WEIGHTS", str(file))
    )
    assert f"checkpoint {file}" in line and not trace.exists()


def test_only_the_number_of_identities_may_differ(tmp_path):
    torch.save({"model": {"heads.weight": torch.ones(5, 3)}}, tmp_path / "five.pth")
    linear = torch.nn.ModuleDict({"heads": torch.nn.Linear(3, 7, bias=False)})
    SafeCheckpointer(linear).load(str(tmp_path / "five.pth"), checkpointables=[])
    with pytest.raises(UserError, match=r"wrong shape: heads\.weight"):
        SafeCheckpointer(linear).load(str(tmp_path / "five.pth"))
    with pytest.raises(UserError, match=r"wrong shape: heads\.weight"):
        wide = torch.nn.ModuleDict({"heads": torch.nn.Linear(4, 7, bias=False)})
        SafeCheckpointer(wide).load(str(tmp_path / "five.pth"), checkpointables=[])


@pytest.mark.slow
def test_the_epoch_is_chosen_on_held_out_training_identities(demo_root, tmp_path):
    options = (
        *SMALL,
        *words("DATASETS.VALIDATION True TEST.EVAL_PERIOD 1 SOLVER.IMS_PER_BATCH 8"),
        *words("DATALOADER.NUM_INSTANCE 2"),
    )
    train(demo_root, tmp_path, *options)
    validation = json.loads((tmp_path / "validation.json").read_text())
    assert {(r["epoch"], r["split"], r["draw"]) for r in validation} == {
        (1, "val", "seeded"),
        (2, "val", "seeded"),
    }
    val_ids = (demo_root / "SYSU-MM01/exp/val_id.txt").read_text().split(",")
    assert {r["identities"] for r in validation} == {len(val_ids)}
    metric = {
        r["epoch"]: (r["Rank-1"]["mean"] + r["mAP"]["mean"]) / 2
        for r in validation
        if r["protocol"] == "sysu-all-single"
    }
    chosen = max(metric, key=metric.get)
    assert {r["epoch"] for r in metrics(tmp_path)} == {chosen}
    best = torch.load(tmp_path / "model_best.pth", weights_only=True)
    assert best["epoch"] + 1 == chosen
    assert best["model"]["heads.weight"].shape[0] == 10 - len(val_ids)
    # a resumed run knows the best epoch, and scores it again
    before = metrics(tmp_path)
    train(demo_root, tmp_path, "--resume", *options)
    assert metrics(tmp_path) == before


@pytest.mark.slow
def test_extracted_features_score_as_in_training(finished_run, demo_root, tmp_path, capsys):
    out = tmp_path / "features.npz"
    config, checkpoint = finished_run / "config.yaml", finished_run / "model_final.pth"
    given = ["--config-file", str(config), "--weights", str(checkpoint), "--out", str(out)]
    assert extract.main([*given, "DATASETS.ROOT", str(demo_root), *SHORT]) == 0
    assert "72 images, 64 dimensions" in capsys.readouterr().out
    written, kept = (FeatureSet.load(p) for p in (out, finished_run / "features.npz"))
    assert (written.features == kept.features).all() and (written.paths == kept.paths).all()
