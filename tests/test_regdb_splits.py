"""RegDB's ten splits in one command, and no model on another model's test identities."""

import json
import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import CONFIGS, SHORT
from icre.commands import regdb_splits as splits
from icre.commands import train
from icre.engine import session
from icre.experiments import jobs, regdb_splits
from icre.experiments.regdb_splits import over_splits
from icre.utils.errors import UserError
from small_runs import TINY_MODEL, skip_pictures
from synthvi.layout import DemoOptions
from synthvi.writer import write_tree
from test_ablation import InProcess

CONFIG = str(CONFIGS / "Demo/bagtricks_r18.yml")
REGDB = ("DATASETS.NAMES", "('RegDB',)", "DATASETS.TESTS", "('RegDB',)")
PROTOCOLS = ("TEST.PROTOCOLS", "('regdb-v2t', 'regdb-t2v')")


@pytest.fixture(autouse=True, scope="module")
def without_pictures():
    with pytest.MonkeyPatch.context() as patch:
        skip_pictures(patch)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets")
    options = DemoOptions(
        layout="regdb", ids=6, test_ids=4, test_images=3, height=32, width=16, seed=1
    )
    write_tree(folder / "RegDB", options, workers=1, progress=False)
    return folder


def words(root, output, *options):
    """A command line; flags of `options` go before the config's keys."""
    flags = [word for word in options if word.startswith("--")]
    keys = ["DATASETS.ROOT", str(root), "OUTPUT_DIR", str(output), *SHORT, *TINY_MODEL, *REGDB]
    keys += [*PROTOCOLS, "SOLVER.MAX_EPOCH", "1"]
    rest = [word for word in options if not word.startswith("--")]
    return ["--config-file", CONFIG, *flags, *keys, *rest]


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    output = tmp_path_factory.mktemp("splits")
    arguments = words(root, output)
    assert splits.main(["--splits", "1", "4", *arguments]) == 0
    return output


@pytest.mark.slow
def test_mean_and_deviation_are_over_the_splits(trained):
    total = json.loads((trained / "metrics.json").read_text())
    parts = [json.loads((trained / f"split_{k}/metrics.json").read_text()) for k in (1, 4)]
    assert [r["protocol"] for r in total] == ["regdb-v2t", "regdb-t2v"]
    for place, record in enumerate(total):
        assert (record["std_over"], record["trials"], record["split"]) == ("splits", 2, None)
        values = [part[place]["mAP"]["mean"] for part in parts]
        assert record["mAP"]["mean"] == pytest.approx(np.mean(values))
        assert record["mAP"]["std"] == pytest.approx(np.std(values))
    assert [part[0]["split"] for part in parts] == [1, 4]


@pytest.mark.slow
def test_running_again_trains_nothing_twice(trained, root, monkeypatch):
    before = json.loads((trained / "metrics.json").read_text())
    monkeypatch.setattr(session, "run", lambda args: pytest.fail("a finished split ran again"))
    assert splits.main(["--splits", "1", "4", *words(root, trained)]) == 0
    assert json.loads((trained / "metrics.json").read_text()) == before


@pytest.mark.slow
def test_a_split_with_scores_of_an_earlier_epoch_is_not_finished(
    trained, root, tmp_path, monkeypatch
):
    """Killed between model_final and its evaluation, after one of TEST.EVAL_PERIOD."""
    output = tmp_path / "splits"
    shutil.copytree(trained, output)
    file = output / "split_4/metrics.json"
    scored = json.loads(file.read_text())
    file.write_text(json.dumps([{**one, "epoch": 0} for one in scored]))
    ran = []

    def run(args):
        ran.append(args.opts[-1])
        file.write_text(json.dumps(scored))

    monkeypatch.setattr(session, "run", run)
    assert splits.main(["--splits", "1", "4", *words(root, output)]) == 0
    assert ran == [str(output / "split_4")]


@pytest.mark.slow
def test_a_finished_split_of_another_config_is_refused_before_any_training(
    trained, root, capsys, monkeypatch
):
    monkeypatch.setattr(session, "run", lambda args: pytest.fail("a split ran"))
    other = words(root, trained, "SOLVER.BASE_LR", "0.5")
    assert splits.main(["--splits", "2", "4", *other]) == 2
    said = capsys.readouterr().err
    assert "split_4" in said and "SOLVER.BASE_LR" in said and said.count("\n") == 1


@pytest.mark.slow
def test_evaluating_all_repeats_the_numbers(trained, root):
    before = json.loads((trained / "metrics.json").read_text())
    assert splits.main(["--splits", "1", "4", *words(root, trained, "--eval-only")]) == 0
    assert json.loads((trained / "metrics.json").read_text()) == before


@pytest.mark.slow
def test_a_cluster_runs_the_splits_as_jobs(trained, root, tmp_path, monkeypatch):
    """With this machine's runner in place of Ray's."""
    monkeypatch.setattr(regdb_splits, "connected", lambda *request: nullcontext())
    monkeypatch.setattr(regdb_splits, "RayRunner", lambda cluster: jobs.LocalRunner())
    monkeypatch.setattr(jobs, "subprocess", SimpleNamespace(Popen=InProcess))
    arguments = ["--splits", "1", "4", "--cluster", "auto", *words(root, tmp_path)]
    assert splits.main(arguments) == 0
    ours, theirs = (
        json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path, trained)
    )
    assert ours == theirs
    assert (tmp_path / "split_4/console.txt").is_file()
    monkeypatch.setattr(regdb_splits, "connected", lambda *request: pytest.fail("nothing is left"))
    assert splits.main(arguments) == 0


def test_a_split_on_a_cluster_has_one_gpu(root, tmp_path, capsys):
    assert splits.main(["--cluster", "auto", *words(root, tmp_path, "--num-gpus=2")]) == 2
    assert "--num-gpus" in capsys.readouterr().err


@pytest.mark.slow
def test_another_splits_model_is_refused(trained, root, tmp_path, capsys):
    weights = ("--eval-only", "MODEL.WEIGHTS", str(trained / "split_4/model_final.pth"))
    assert train.main(words(root, tmp_path, *weights)) == 2
    assert "split 4" in capsys.readouterr().err
    assert train.main(words(root, tmp_path, *weights, "DATASETS.REGDB_SPLIT", "4")) == 0
    assert (tmp_path / "metrics.json").is_file()


def test_bad_arguments_are_one_line(root, tmp_path, capsys):
    for flags, message in [(["--splits", "11"], "--splits 11"), ([], "DATASETS.TESTS")]:
        options = [] if flags else ["DATASETS.TESTS", "('SYSUMM01',)"]
        assert splits.main([*flags, *words(root, tmp_path, *options)]) == 2
        assert message in capsys.readouterr().err


def test_splits_of_different_protocols_do_not_mix():
    with pytest.raises(UserError, match="different protocols"):
        over_splits([[{"protocol": name, "rerank": None}] for name in ("regdb-v2t", "regdb-t2v")])
