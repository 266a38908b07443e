"""TRACKERS: what Weights & Biases and MLflow are given, and that neither ends a training."""

import json
import logging
import os
import sys
import types
from pathlib import Path

import pytest

from fastreid.utils.events import EventStorage

from conftest import CONFIGS, train, train_status
from icre.config import load_config
from icre.engine.trackers import Trackers, check_trackers
from icre.engine.trackers.wandb_run import has_login
from icre.utils.errors import STOPPED, RunEnded, UserError
from small_runs import SMALL, asked_to_stop
from small_trackers import VARIABLES, fake_packages, offline_wandb

BOTH = ("TRACKERS", "('wandb','mlflow')")
ICRE = CONFIGS / "Demo/icre_r18.yml"


@pytest.fixture(autouse=True)
def no_login(tmp_path_factory, monkeypatch) -> None:
    """Whatever the machine is logged in to; and nobody is told of the tests."""
    for name in os.environ:
        if name.startswith(VARIABLES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


@pytest.fixture
def fakes(monkeypatch):
    return fake_packages(monkeypatch)


def config(output: Path, *options: str):
    return load_config(ICRE, ["OUTPUT_DIR", str(output), *(options or BOTH)])


def track(cfg, steps: range, first: int = 0, end: Exception | None = None) -> None:
    """A training of a number, written every other step, with a score."""
    trackers = Trackers(cfg)
    with EventStorage(steps.start) as storage, trackers.running(first):
        for step in steps:
            storage.iter = step
            storage.put_scalar("loss", 10.0 - step, smoothing_hint=False)
            storage.put_scalar("SYSU/Rank-1 (%)", step, smoothing_hint=False)
            if step % 2:
                trackers.write()
        if end:
            raise end
        assert trackers.finish({"SYSU": {"mAP": 50}}) == {"SYSU": {"mAP": 50}}


@pytest.fixture
def warned(caplog, monkeypatch):
    """Warnings so far; fast-reid's logger keeps its lines to itself after a training."""
    monkeypatch.setattr(logging.getLogger("fastreid"), "propagate", True)
    return lambda: [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]


def test_both_get_config_scalars_and_scores(fakes, tmp_path):
    track(config(tmp_path), range(4))
    (wandb,), (mlflow,) = fakes[0], fakes[1].values()
    assert wandb.options["name"] == mlflow.name == tmp_path.name
    assert wandb.options["dir"] == str(tmp_path) and wandb.offline
    assert wandb.options["settings"]["finish_timeout"] == 600
    assert wandb.options["config"]["MODEL.MPFR.DIM"] == 128
    assert mlflow.data.params["MODEL.MPFR.DIM"] == "128"
    assert wandb.lines == [
        {"loss": 10.0 - step, "SYSU/Rank-1 (%)": step, "iteration": step} for step in (1, 3)
    ]
    assert mlflow.metrics["loss"] == [(1, 9), (3, 7)]
    assert mlflow.metrics["SYSU/Rank-1 ___"] == [(1, 1), (3, 3)]
    assert wandb.summary == {"test/SYSU/mAP": 50} and mlflow.metrics["test/SYSU/mAP"] == [(3, 50)]
    assert (wandb.status, mlflow.status) == (0, "FINISHED")


def test_a_resumed_training_goes_on_with_its_runs(fakes, tmp_path):
    cfg = config(tmp_path)
    with pytest.raises(RunEnded):
        track(cfg, range(4), end=RunEnded("stopped"))
    assert (fakes[0][0].status, fakes[1]["id0"].status) == (1, "KILLED")
    changed = config(tmp_path, *BOTH, "SOLVER.MAX_EPOCH", "77")
    track(changed, range(2, 6), first=2)
    first, second = fakes[0]
    assert second.id == first.id and second.options["resume"] == "allow"
    assert list(fakes[1]) == ["id0"] and fakes[1]["id0"].status == "FINISHED"
    assert [step for step, _ in fakes[1]["id0"].metrics["loss"]] == [1, 3, 3, 5]
    with pytest.raises(ZeroDivisionError):
        track(cfg, range(2), end=ZeroDivisionError())  # a new training in the same folder
    assert fakes[0][2].id != first.id and fakes[1]["id1"].status == "FAILED"
    ids = json.loads((tmp_path / "trackers.json").read_text())
    assert ids == {"wandb": fakes[0][2].id, "mlflow": "id1"}


@pytest.mark.parametrize("damaged", ["", "[1]", '{"wandb": 3}'])
def test_a_damaged_file_of_ids_starts_new_runs(fakes, tmp_path, damaged):
    (tmp_path / "trackers.json").write_text(damaged)
    track(config(tmp_path), range(2), first=1)
    assert [run.options["id"] for run in fakes[0]] == [None] and list(fakes[1]) == ["id0"]


def test_long_values_are_shortened_for_mlflow(fakes, tmp_path):
    track(config(tmp_path, *BOTH, "DATASETS.ROOT", "folder/" * 100), range(2))
    (run,) = fakes[1].values()
    assert len(run.data.params["DATASETS.ROOT"]) == 500
    assert len(run.data.params) > 150


@pytest.mark.parametrize("call", ["init", "log", "finish"])
def test_a_failing_tracker_is_left_out_after_one_warning(
    fakes, tmp_path, monkeypatch, warned, call
):
    monkeypatch.setenv("WANDB_API_KEY", "abcdefgh")
    monkeypatch.setenv("WANDB_MODE", "online")

    def fail(*args, **kwargs):
        raise ConnectionError("https://me:word@there refuses\nabcdefgh")

    if call == "init":
        monkeypatch.setattr(sys.modules["wandb"], "init", fail)
    else:
        monkeypatch.setattr("small_trackers.FakeRun." + call, fail)
    track(config(tmp_path), range(6))
    (said,) = warned()
    assert said.startswith("tracker wandb failed (ConnectionError: https://***@there refuses ***)")
    (mlflow,) = fakes[1].values()
    assert len(mlflow.metrics["loss"]) == 3 and mlflow.status == "FINISHED"


def test_wandb_goes_offline_where_it_cannot_go_online(fakes, tmp_path, monkeypatch, warned):
    init = sys.modules["wandb"].init

    def refuse(**options):
        if options.get("mode") != "offline":
            raise ConnectionError("no network")
        return init(**options)

    monkeypatch.setattr(sys.modules["wandb"], "init", refuse)
    monkeypatch.setenv("WANDB_API_KEY", "abcdefgh")
    track(config(tmp_path), range(2))
    assert warned() == ["wandb cannot go online (no network): it writes offline"]
    assert [run.offline for run in fakes[0]] == [True]


def test_the_users_variables_count(fakes, tmp_path, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_DIR", "WANDB_NAME", "WANDB_PROJECT"):
        monkeypatch.setenv(name, "mine")
    track(config(tmp_path), range(2))
    options = fakes[0][0].options
    assert [options.get(key) for key in ("mode", "dir", "name", "project")] == [None] * 4


def test_a_login_is_a_key_or_an_entry_of_netrc(tmp_path, monkeypatch):
    assert not has_login()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password abcdefgh\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert has_login()
    monkeypatch.setenv("WANDB_BASE_URL", "https://elsewhere:8080")
    assert not has_login()
    monkeypatch.setenv("WANDB_API_KEY", "abcdefgh")
    assert has_login()


def test_tensorboard_alone_is_the_default(fakes, tmp_path):
    cfg = load_config(ICRE, ["OUTPUT_DIR", str(tmp_path)])
    assert cfg.TRACKERS == ("tensorboard",)
    check_trackers(cfg)
    track(cfg, range(2))
    writers = Trackers(cfg).writers(0)
    for writer in writers:
        writer.close()
    assert [type(one).__name__ for one in writers] == ["TensorboardXWriter", "Trackers"]
    assert (fakes[0], fakes[1]) == ([], {}) and not (tmp_path / "trackers.json").exists()
    assert [*map(type, Trackers(config(tmp_path)).writers(0))] == [Trackers]


def test_only_the_first_rank_writes(fakes, tmp_path, monkeypatch):
    monkeypatch.setattr("fastreid.utils.comm.is_main_process", lambda: False)
    track(config(tmp_path), range(2))
    assert (fakes[0], fakes[1]) == ([], {})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("('weights',)", "unknown value 'weights'; known: tensorboard, wandb, mlflow"),
        ("wandb", "must be a list, such as"),
        ("('wandb','wandb')", "names wandb twice"),
        ("('wandb',)", r"wandb needs wandb, which is not installed: .*'icre\[wandb\]'"),
        ("('mlflow',)", r"mlflow needs mlflow, which is not installed: .*'icre\[mlflow\]'"),
    ],
)
def test_what_cannot_be_used_is_one_line_before_training(
    tmp_path, monkeypatch, capsys, value, said
):
    for name in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)
    status = train_status(tmp_path / "no_data", tmp_path / "run", "TRACKERS", value)
    error = capsys.readouterr().err.strip()
    assert status == 2 and "\n" not in error and not (tmp_path / "run").exists()
    with pytest.raises(UserError, match=said):
        raise UserError(error)


def test_packages_that_are_there_but_do_not_work(fakes, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", types.ModuleType("wandb"))  # a folder wandb/
    with pytest.raises(UserError, match="wandb needs wandb, which is not installed"):
        check_trackers(config(tmp_path))
    monkeypatch.setitem(sys.modules, "alembic", None)
    cfg = config(tmp_path, "TRACKERS", "('mlflow',)")
    with pytest.raises(UserError, match="mlflow needs alembic"):
        check_trackers(cfg)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://there")
    check_trackers(cfg)


@pytest.mark.slow
def test_a_training_is_tracked_and_resumed_without_its_tracker(fakes, demo_root, tmp_path):
    """TRACKERS may change when a training goes on."""
    with asked_to_stop(7):
        assert train_status(demo_root, tmp_path, *SMALL, *BOTH) == STOPPED
    train(demo_root, tmp_path, "--resume", *SMALL, "TRACKERS", "('mlflow','tensorboard')")
    (wandb,), (mlflow,) = fakes[0], fakes[1].values()
    assert wandb.status == 1 and mlflow.status == "FINISHED"
    assert [line["iteration"] for line in wandb.lines] == [4]
    scalars = [json.loads(one) for one in (tmp_path / "scalars.json").read_text().splitlines()]
    assert mlflow.metrics["total_loss"] == [
        (one["iteration"], one["total_loss"]) for one in scalars
    ]
    assert [step for step, _ in mlflow.metrics["test/metric"]] == [9]
    assert list(tmp_path.glob("events.out.tfevents*"))


@pytest.mark.slow
def test_wandb_offline(tmp_path):
    pytest.importorskip("wandb")
    cfg = config(tmp_path, "TRACKERS", "('wandb',)")
    check_trackers(cfg)
    with pytest.raises(RunEnded):
        track(cfg, range(4), end=RunEnded("stopped"))
    track(cfg, range(2, 6), first=2)
    first, second = offline_wandb(tmp_path)
    assert first["id"] == second["id"] and first["name"] == tmp_path.name
    assert json.loads(first["config"]["MODEL.MPFR.DIM"]) == 128
    assert [json.loads(line["iteration"]) for line in first["lines"]] == [1, 3]
    assert [json.loads(line["loss"]) for line in second["lines"]] == [7, 5]
    assert json.loads(second["summary"]["test/SYSU/mAP"]) == 50
    assert (first["exit"], second["exit"]) == (1, 0)


@pytest.mark.slow
def test_mlflow_in_a_file(tmp_path):
    pytest.importorskip("mlflow"), pytest.importorskip("alembic")
    from mlflow import MlflowClient

    cfg = config(tmp_path, "TRACKERS", "('mlflow',)")
    check_trackers(cfg)
    with pytest.raises(RunEnded):
        track(cfg, range(4), end=RunEnded("stopped"))
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("icre").experiment_id
    assert [run.info.status for run in client.search_runs([experiment])] == ["KILLED"]
    track(config(tmp_path, *BOTH[:1], "('mlflow',)", "SEED", "5"), range(2, 6), first=2)
    (run,) = client.search_runs([experiment])
    assert (run.info.status, run.info.run_name) == ("FINISHED", tmp_path.name)
    assert run.data.params["MODEL.MPFR.DIM"] == "128" and run.data.params["SEED"] == "0"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(one.step, one.value) for one in history] == [(1, 9), (3, 7), (3, 7), (5, 5)]
    assert run.data.metrics["test/SYSU/mAP"] == 50


@pytest.mark.slow
def test_both_at_once_in_a_real_training(demo_root, tmp_path):
    pytest.importorskip("wandb"), pytest.importorskip("mlflow"), pytest.importorskip("alembic")
    from mlflow import MlflowClient

    with asked_to_stop(7):
        assert train_status(demo_root, tmp_path, *SMALL, *BOTH) == STOPPED
    train(demo_root, tmp_path, "--resume", *SMALL, *BOTH)
    ids = json.loads((tmp_path / "trackers.json").read_text())
    first, second = offline_wandb(tmp_path)
    assert first["id"] == second["id"] == ids["wandb"]
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = client.get_run(ids["mlflow"])
    record = json.loads((tmp_path / "metrics.json").read_text())[0]
    name = "test/sysu-all-single/official/mAP"
    assert run.data.metrics[name] == json.loads(second["summary"][name])
    assert run.data.metrics[name] == pytest.approx(record["mAP"]["mean"])
