"""`ablate`: its table equals the runs' records, it resumes, and a bad spec is one line."""

import contextlib
import csv
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from conftest import CONFIGS, SHORT
from icre.commands import ablate, train
from icre.engine.hooks import EnvironmentWriter
from icre.evaluation.breakdown import by_identity
from icre.evaluation.compare import METRICS, Bootstrap, compare, compare_seeds
from icre.evaluation.features import FeatureSet
from icre.evaluation.trials import build_trials
from icre.experiments import jobs
from icre.experiments.ablation import estimate, table
from icre.experiments.ablation.results import Result, Results, is_finished
from icre.experiments.ablation.spec import read_spec
from icre.experiments.jobs import environments
from icre.utils.errors import STOPPED, UserError
from icre.utils.run_folder import RunFolder
from small_features import small_features
from small_runs import STOCK, TINY_MODEL, skip_pictures

TOOL = CONFIGS.parent / "tools/ablate.py"
SPEC = f"""
title: Two rows
config: {CONFIGS / STOCK}
seeds: [0, 1]
rows:
  ID loss:
    options: {{MODEL.LOSSES.NAME: [CrossEntropyLoss]}}
  Both:
"""
FOLDERS = {"ID loss": "ID_loss", "Both": "Both"}


class InProcess:
    """A training in this process in place of subprocess.Popen: a second instead of ten."""

    one_at_a_time = threading.Lock()

    def __init__(self, command, stdout, stderr, env):
        assert command[:3] == [sys.executable, "-m", "icre.commands.train"]
        with self.one_at_a_time:
            with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
                self.status = train.main(command[3:])

    def poll(self):
        return self.status

    wait = poll


@pytest.fixture(autouse=True, scope="module")
def in_process():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "subprocess", SimpleNamespace(Popen=InProcess))
        skip_pictures(patch)
        yield


@pytest.fixture(scope="module")
def spec_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("spec") / "two.yml"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="module")
def words(spec_file, demo_root):
    epoch = ("SOLVER.MAX_EPOCH", "1", "SOLVER.WARMUP_EPOCHS", "0.0", "SOLVER.SCHED", "MultiStepLR")
    options = ("DATASETS.ROOT", str(demo_root), *SHORT, *TINY_MODEL, *epoch)
    return [str(spec_file), "--options", *options]


@pytest.fixture(scope="module")
def out(words, tmp_path_factory):
    """A finished ablation of two rows and two seeds."""
    folder = tmp_path_factory.mktemp("ablation")
    assert ablate.main(arguments(words, folder)) == 0
    return folder


def arguments(words, folder, *flags):
    return [
        words[0],
        "--out",
        str(folder),
        "--records",
        str(folder / "records"),
        *flags,
        *words[1:],
    ]


def rows_of(folder):
    """What results.json in an ablation's folder says of its rows."""
    return json.loads((folder / "results.json").read_text())["rows"]


def tabulated(spec, out, words, folder, *flags):
    """The rows of another table, made in `folder` of the records of a finished ablation."""
    where = ["--out", str(folder), "--records", str(out / "records"), "--table"]
    assert ablate.main([str(spec), *where, *flags, *words[1:]]) == 0
    return rows_of(folder)


def record_of(out, row, seed):
    """The file that holds the result of a row's run."""
    for path in (out / "records").iterdir():
        found = json.loads(path.read_text())
        both = "TripletLoss" in found["config"].get("MODEL.LOSSES.NAME", ())
        if both == (row == "Both") and found["record"]["seed"] == seed:
            return path
    raise AssertionError(f"no record of {row}, seed {seed}")


@pytest.mark.slow
def test_the_table_equals_the_records(out):
    found = json.loads((out / "results.json").read_text())
    assert [row["row"] for row in found["rows"]] == list(FOLDERS)
    for row, folder in zip(found["rows"], FOLDERS.values()):
        for metric in METRICS:
            values = [
                next(
                    record[metric]["mean"]
                    for record in json.loads(
                        (out / folder / f"seed_{seed}/metrics.json").read_text()
                    )
                    if (record["protocol"], record["draw"]) == ("sysu-all-single", "official")
                )
                for seed in (0, 1)
            ]
            assert row[metric]["per_seed"] == values
            assert row[metric]["mean"] == pytest.approx(np.mean(values))
            assert row[metric]["std"] == pytest.approx(np.std(values))
            if folder == "Both":
                difference = row[metric]["mean"] - found["rows"][0][metric]["mean"]
                # of the identities, which are kept with six digits
                assert row[metric]["difference"] == pytest.approx(difference, abs=1e-5)
                assert row[metric]["low"] <= difference <= row[metric]["high"]
    table = (out / "table.md").read_text()
    line = next(line for line in table.splitlines() if line.startswith("| Both"))
    assert f"{found['rows'][1]['Rank-1']['mean']:.2f} ±" in line
    assert "; float32; " in table  # what the steps were computed in, beside machine and version
    with open(out / "table.csv") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]["mAP mean"]) == found["rows"][1]["mAP"]["mean"]
    assert rows[0]["mAP difference"] == ""


@pytest.mark.slow
def test_seeds_and_rows_are_different_trainings(out):
    features = {path.parent: FeatureSet.load(path).features for path in out.rglob("features.npz")}
    assert len(features) == 4
    for one in features:
        for other in features:
            assert (one == other) == bool((features[one] == features[other]).all())


@pytest.mark.slow
def test_a_finished_run_is_kept_and_a_lost_one_repeated(out, words):
    kept = (out / "Both/seed_0/model_final.pth").stat().st_mtime_ns
    before = json.loads((out / "results.json").read_text())
    record_of(out, "Both", 1).unlink()
    (out / "Both/seed_1/metrics.json").unlink()
    assert ablate.main(arguments(words, out, "--table")) == 0
    assert "| Both" not in (out / "table.md").read_text()
    assert ablate.main(arguments(words, out)) == 0
    assert json.loads((out / "results.json").read_text()) == before
    assert (out / "Both/seed_0/model_final.pth").stat().st_mtime_ns == kept


@pytest.mark.slow
def test_records_alone_make_the_table_and_another_spec_finds_them(out, words, tmp_path, capsys):
    other = tmp_path / "other.yml"
    other.write_text(SPEC.replace("Both:", "the whole:").replace("Two rows", "Shared runs"))
    flags = ["--out", str(tmp_path / "o"), "--records", str(out / "records")]
    assert ablate.main([str(other), *flags, *words[1:]]) == 0
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == [
        "results.json",
        "table.csv",
        "table.md",
    ]  # nothing was trained
    made, known = rows_of(tmp_path / "o"), rows_of(out)
    assert made[0] == known[0] and made[1] == known[1] | {"row": "the whole"}


@pytest.mark.slow
def test_a_record_has_the_environment_of_its_training(out):
    """The process that collects may run elsewhere, or in another precision."""
    for row, folder in FOLDERS.items():
        said = json.loads(RunFolder(out / folder / "seed_1").environment.read_text())
        assert said["precision"] == "float32" and said["cpu"] and said["versions"]["torch"]
        assert json.loads(record_of(out, row, 1).read_text())["environment"] == said


@pytest.mark.slow
def test_a_run_without_environment_is_refused(out, words, capsys):
    kept = {
        path: path.read_text()
        for path in (record_of(out, "Both", 1), out / "Both/seed_1/environment.json")
    }
    try:
        for path in kept:
            path.unlink()
        assert ablate.main(arguments(words, out)) == 2  # before anything is trained
    finally:
        for path, text in kept.items():
            path.write_text(text)
    assert f"{out / 'Both/seed_1/environment.json'} is missing" in capsys.readouterr().err


@pytest.mark.slow
def test_a_record_from_before_precision_was_kept_still_tabulates(out, words, tmp_path):
    path = record_of(out, "Both", 1)
    text = path.read_text()
    content = json.loads(text)
    assert content["environment"].pop("precision") == "float32"
    path.write_text(json.dumps(content))
    try:
        tabulated(words[0], out, words, tmp_path)
    finally:
        path.write_text(text)
    assert "; float32, precision unknown; " in (tmp_path / "table.md").read_text()


@pytest.mark.slow
def test_another_reference_turns_the_difference_round(out, words, tmp_path):
    there, back = rows_of(out), tabulated(words[0], out, words, tmp_path, "--reference", "Both")
    assert back[1]["mAP"]["difference"] is None
    assert back[0]["mAP"]["difference"] == pytest.approx(-there[1]["mAP"]["difference"])
    assert back[0]["mAP"]["low"] == pytest.approx(-there[1]["mAP"]["high"])


@pytest.mark.slow
def test_a_row_of_fewer_seeds_is_compared_by_those_alone(out, words, tmp_path):
    other = tmp_path / "other.yml"
    other.write_text(SPEC.replace("Both:", "Both: {seeds: [1]}"))
    (baseline, whole), (_, fewer) = rows_of(out), tabulated(other, out, words, tmp_path / "o")
    assert (whole["seeds"], fewer["seeds"]) == ([0, 1], [1])
    for metric in METRICS:
        second = whole[metric]["per_seed"][1]
        assert fewer[metric]["mean"] == second
        difference = second - baseline[metric]["per_seed"][1]
        assert fewer[metric]["difference"] == pytest.approx(difference, abs=1e-5)


def test_settings_of_a_loss_that_is_not_named_make_no_other_training(tmp_path):
    spec = tmp_path / "spec.yml"
    spec.write_text(f"""
config: {CONFIGS / "Demo/baseline_r18.yml"}
rows:
  without: {{options: {{MODEL.LOSSES.NAME: [CrossEntropyLoss]}}}}
  unused: {{options: {{MODEL.LOSSES.NAME: [CrossEntropyLoss], MODEL.LOSSES.ICG.SCALE: 7.0}}}}
  used: {{options: {{MODEL.LOSSES.NAME: [CrossEntropyLoss, ICGLoss], MODEL.LOSSES.ICG.SCALE: 7.0}}}}
  default: {{options: {{MODEL.LOSSES.NAME: [CrossEntropyLoss, ICGLoss]}}}}
""")
    spec = read_spec(spec, tmp_path)
    without, unused, used, default = (Results(spec, tmp_path).path(run) for run in spec.runs)
    assert without == unused
    assert len({without, used, default}) == 3


@pytest.mark.slow
def test_the_interval_is_that_of_the_features(out):
    """The records' identities give what the features give."""
    sides = []
    for row, folder in FOLDERS.items():
        sides.append([])
        for seed in (0, 1):
            found = json.loads(record_of(out, row, seed).read_text())
            features = FeatureSet.load(out / folder / f"seed_{seed}/features.npz")
            own = by_identity(*_setting(features, "sysu-all-single", "seeded"))
            assert [one["pid"] for one in own] == [one["pid"] for one in found["identities"]]
            assert sum(one["queries"] for one in found["identities"]) == (
                found["record"]["trials"] * found["record"]["valid_queries"]
            )
            weights = [one["queries"] for one in found["identities"]]
            for metric in METRICS:
                values = [one[metric] for one in found["identities"]]
                mean = np.average(values, weights=weights)
                assert mean == pytest.approx(found["record"][metric]["mean"], abs=1e-5)
            sides[-1].append(found["identities"])
    entry = json.loads((out / "results.json").read_text())["rows"][1]
    for metric, cell in compare_seeds(*sides).items():
        assert cell == {key: entry[metric][key] for key in cell}


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda text: text[:100], "no result"),
        (lambda text: text.replace('"SOLVER.MAX_EPOCH": 1', '"SOLVER.MAX_EPOCH": 2'), "another"),
    ],
)
def test_a_wrong_record_is_named(out, words, capsys, damage, message):
    path = record_of(out, "Both", 1)
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    try:
        assert ablate.main(arguments(words, out, "--table")) == 2
    finally:
        path.write_text(text)
    said = capsys.readouterr().err.strip()
    assert path.name in said and message in said and "\n" not in said


@pytest.mark.slow
def test_another_config_in_the_folder_is_refused(out, words, capsys):
    assert ablate.main([*arguments(words, out), "SOLVER.BASE_LR", "0.5"]) == 2
    assert "(SOLVER.BASE_LR was" in capsys.readouterr().err


@pytest.mark.slow
def test_sigterm_stops_the_trainings_too(words, tmp_path):
    """With true processes."""
    words = arguments(words, tmp_path)
    command = [sys.executable, str(TOOL), *words, "SOLVER.MAX_EPOCH", "500"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    console = tmp_path / "ID_loss/seed_0/console.txt"
    deadline = time.monotonic() + 240
    while not (console.is_file() and " of 500, " in console.read_text()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    process.terminate()
    said = process.communicate(timeout=120)[1]
    assert process.returncode == STOPPED
    assert said.splitlines()[-1].startswith("error:") and "SIGTERM" in said.splitlines()[-1]
    assert "SIGTERM" in console.read_text().splitlines()[-1]  # of the training's own message
    assert not (tmp_path / "ID_loss/seed_1").exists()


@pytest.mark.slow
def test_a_failed_run_is_named_and_the_others_continue(words, tmp_path, capsys):
    bad = tmp_path / "bad.yml"
    weights = "MODEL.BACKBONE.PRETRAIN: true, MODEL.BACKBONE.PRETRAIN_PATH: gone.pth"
    bad.write_text(SPEC.replace("Both:", f"Both: {{options: {{{weights}}}}}"))
    seed = ("--seeds", "0", "--jobs", "2")
    assert ablate.main(arguments([str(bad), *words[1:]], tmp_path / "o", *seed)) == 1
    printed = capsys.readouterr().out
    console = tmp_path / "o/Both/seed_0/console.txt"
    assert f"failed: Both, seed 0: see {console}" in printed and "failed: ID" not in printed
    assert "gone.pth" in console.read_text()
    assert [row["row"] for row in rows_of(tmp_path / "o")] == ["ID loss"]


@pytest.mark.slow
def test_an_estimate_is_of_the_rows_without_a_record_and_trains_nothing(
    out, words, tmp_path, capsys, monkeypatch
):
    shutil.copytree(out / "records", tmp_path / "records")
    record_of(tmp_path, "Both", 1).unlink()
    before = sorted(tmp_path.rglob("*"))
    bars = []
    real = estimate.progress_bar
    monkeypatch.setattr(
        estimate, "progress_bar", lambda **options: bars.append(real(**options)) or bars[-1]
    )
    assert ablate.main(arguments(words, tmp_path, "--estimate", "2")) == 0
    assert bars[0].n == bars[0].total == 12  # ten steps before the two that are timed
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if line.startswith("| Both")]
    runs_left, steps, seconds = [cell.strip() for cell in line.split("|")[2:5]]
    assert (runs_left, steps) == ("1", "5") and 0 < float(seconds) < 60
    assert "ID loss" not in printed and "Training alone: " in printed
    assert sorted(tmp_path.rglob("*")) == before
    assert ablate.main(arguments(words, out, "--estimate", "2")) == 0
    assert "every row is finished" in capsys.readouterr().out
    monkeypatch.setattr(sys, "executable", "false")
    assert ablate.main(arguments(words, tmp_path, "--estimate", "2")) == 2
    assert "Both: its steps cannot be timed: no message" in capsys.readouterr().err


def test_hours_are_steps_by_seconds_by_runs():
    one = estimate.Estimate("a", runs=3, steps=1200, seconds=2.0, peak_bytes=3 * 2**30)
    assert one.hours == 2
    assert "2.0 hours one after another, 1.0 with 2 at a time" in estimate.text([one], 2)
    assert "at a time" not in estimate.text([one], 1)


@pytest.mark.slow
def test_what_is_expected_stands_beside_the_result(out, words, spec_file, tmp_path):
    expecting = tmp_path / "expecting.yml"
    expecting.write_text(spec_file.read_text().rstrip() + "\n    expected: 75 / 71\n")
    tabulated(expecting, out, words, tmp_path)
    table = (tmp_path / "table.md").read_text()
    assert "| expected" in table and "| 75 / 71 " in table and "no result" in table
    assert "expected" not in (out / "table.md").read_text()


def test_processes_at_a_time_share_the_cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert environments(None, 3) == [{"OMP_NUM_THREADS": "2"}] * 3
    assert environments(None, 20) == [{"OMP_NUM_THREADS": "1"}] * 20
    assert environments(None, 1) == [{}]  # torch's own choice
    gpus = environments(["0", "3"], 1)
    assert gpus == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "3"}]
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert environments(None, 2) == [{}, {}]  # as the user says


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("seeds: [0, 1]", "seeds: [0, 0]", "different integers"),
        ("  Both:", "  Both: {seeds: []}", "row 'Both': seeds"),
        ("seeds:", "seed:", "unknown key 'seed'; known: config"),
        ("MODEL.LOSSES.NAME", "MODEL.LOSS.NAME", "row 'ID loss': option"),
        ("config:", "# config:", "has no config"),
        ("rows:", "reference: none\nrows:", "'none' is no row; rows: ID loss, Both"),
        ("  Both:", "  base_line:\n  Base-line:", "same letters"),
        ("title: Two rows", "sweep: {key: SEED, values: [1]}", "rows or sweep"),
        ("title: Two rows", "title: [", r"two\.yml"),
    ],
)
def test_a_bad_spec_is_refused_beforehand(tmp_path, old, new, message):
    file = tmp_path / "two.yml"
    assert old in SPEC
    file.write_text(SPEC.replace(old, new))
    with pytest.raises(UserError, match=message) as caught:
        read_spec(file, tmp_path / "o")
    assert "\n" not in str(caught.value) and not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "file", sorted((CONFIGS / "ablations").glob("*.yml")), ids=lambda p: p.stem
)
def test_every_shipped_spec_reads(file, tmp_path, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)  # specs name configs from the repository's root
    spec = read_spec(file, tmp_path, seeds=[0])
    configs = [run.cfg.clone() for run in spec.runs]
    for cfg in configs:
        cfg.defrost()
        cfg.OUTPUT_DIR = ""
    assert all(a != b for i, a in enumerate(configs) for b in configs[:i])


def written_environment(path, weights, start=0):
    """environment.json of a training that begins with step `start`, from a file of weights."""
    writer = EnvironmentWriter(path, torch.float32, str(weights))
    writer.trainer = SimpleNamespace(start_iter=start)
    writer.before_train()
    return json.loads(path.read_text())


def test_a_resumed_run_keeps_the_name_of_the_weights_that_it_began_from(tmp_path):
    path, weights = tmp_path / "e.json", tmp_path / "weights.pth"
    weights.write_bytes(b"first")
    first = written_environment(path, weights)["pretrained"]
    weights.write_bytes(b"second")
    assert written_environment(path, weights, start=7)["pretrained"] == first
    assert written_environment(path, weights)["pretrained"] != first
    for damaged in ("", "[]", "[1]"):
        path.write_text(damaged)
        assert "pretrained" not in written_environment(path, weights, start=7)


@pytest.fixture
def from_weights(tmp_path):
    """A spec of two rows and two seeds, a file of weights, and results said to begin from it."""
    file = tmp_path / "spec.yml"
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"first")
    file.write_text(
        f"config: {CONFIGS / 'Demo/baseline_r18.yml'}\nseeds: [0, 1]\n"
        f"options: {{MODEL.BACKBONE.PRETRAIN: True, MODEL.BACKBONE.PRETRAIN_PATH: {weights}}}\n"
        "rows: {a: , b: {options: {SOLVER.MAX_EPOCH: 2}}}\n"
    )
    spec = read_spec(file, tmp_path / "o")
    results = {}
    for run in spec.runs:
        environment = written_environment(tmp_path / "e.json", weights)
        record = {"seed": run.seed} | {name: {"mean": 40.0} for name in METRICS}
        one = {"pid": 1, "queries": 2} | dict.fromkeys(METRICS, 40.0)
        results[run.row, run.seed] = Result({}, record, [one], environment)
    return spec, results, SimpleNamespace(find=lambda run: results[run.row, run.seed])


def test_a_table_says_from_which_weights_its_rows_began(from_weights):
    spec, _, found = from_weights
    text = table.markdown(spec, table.summarise(spec, found, Bootstrap(samples=10)))
    assert f"; from weights of sha256 {hashlib.sha256(b'first').hexdigest()[:8]}.\n" in text


def test_a_file_of_weights_replaced_between_rows_is_refused(from_weights):
    """A config names the file alone: the records look as if they could be compared."""
    spec, results, found = from_weights
    results["b", 1].environment["pretrained"] = hashlib.sha256(b"second").hexdigest()
    with pytest.raises(UserError, match=r"weights.pth was replaced between .* seed 1"):
        table.summarise(spec, found)
    # other weights for all rows of a seed are another draw of them
    results["a", 1].environment["pretrained"] = hashlib.sha256(b"second").hexdigest()
    assert len(table.summarise(spec, found, Bootstrap(samples=10))) == 2


def swept(tmp_path, key, values):
    """The spec of a sweep, and its table's entries with a mean of 40, 41, ..."""
    file = tmp_path / "sweep.yml"
    file.write_text(
        f"config: {CONFIGS / 'Demo/icre_r18.yml'}\nreference: {values[-1]}\n"
        f"sweep: {{key: {key}, values: {json.dumps(values)}}}\n"
    )
    spec = read_spec(file, tmp_path / "o")
    cell = {"std": 1.0, "difference": None, "low": None, "high": None}
    where = {"machine": "cpu", "torch": "2", "precision": "float32", "date": "2026-01-01"}
    entries = [
        {"row": row, "seeds": [0], "environments": [where]}
        | {name: {"mean": 40.0 + number, **cell} for name in METRICS}
        for number, row in enumerate(map(str, values))
    ]
    return spec, entries


@pytest.mark.slow
def test_scores_of_an_interim_evaluation_are_no_result(out, words, tmp_path):
    """TEST.EVAL_PERIOD writes them during the training too."""
    folder = tmp_path / "o"
    shutil.copytree(out, folder)
    shutil.rmtree(folder / "records")
    file = folder / "Both/seed_0/metrics.json"
    config = (file.parent / "config.yaml").read_text()
    (file.parent / "config.yaml").write_text(config.replace(str(out), str(folder)))
    records = json.loads(file.read_text())
    spec = read_spec(words[0], folder, words[2:])
    run = next(run for run in spec.runs if (run.row, run.seed) == ("Both", 0))
    assert is_finished(run)
    file.write_text(json.dumps([{**one, "epoch": 0} for one in records]))
    assert not is_finished(run)


@pytest.mark.parametrize("options", ["DATASETS.TESTS: [SYSUMM01, RegDB]", "TEST.SPLIT: val"])
def test_a_row_has_one_test_set(options, tmp_path):
    file = tmp_path / "spec.yml"
    file.write_text(f"config: configs/Demo/icre_r18.yml\nrows: {{a: {{options: {{{options}}}}}}}\n")
    with pytest.raises(UserError, match="one test set"):
        read_spec(file, tmp_path / "o")


def test_a_sweep_is_rows_of_one_key_and_a_curve(tmp_path):
    spec, entries = swept(tmp_path, "MODEL.LOSSES.ICG.SCALE", [0.5, 1.0])
    assert [run.cfg.MODEL.LOSSES.ICG.SCALE for run in spec.runs] == [0.5, 1.0]
    assert [run.files.path.parent.name for run in spec.runs] == ["0.5", "1.0"]
    assert not is_finished(spec.runs[0])
    axes = table.curve(spec, entries).axes[0]
    points = [line.get_xydata().tolist() for line in axes.get_lines()]
    assert [[0.5, 40.0], [1.0, 41.0]] in points
    assert axes.get_xlabel() == "LOSSES.ICG.SCALE"


def test_a_sweep_of_names_has_no_curve(tmp_path):
    spec, entries = swept(tmp_path, "MODEL.MPFR.MASK", ["softmax", "sigmoid"])
    assert [run.cfg.MODEL.MPFR.MASK for run in spec.runs] == ["softmax", "sigmoid"]
    written = [path.name for path in table.write(spec, entries, tmp_path)]
    assert written == ["table.md", "table.csv", "results.json"]
    assert "| softmax" in (tmp_path / "table.md").read_text()


def noisy(data: FeatureSet, seed: int, amount: float) -> FeatureSet:
    noise = np.random.default_rng(seed).normal(size=data.features.shape)
    return dataclasses.replace(data, features=data.features + amount * noise)


def _setting(features, name, draw):
    data, (setting,) = build_trials(features, [name], draw)
    return data, setting


def identities(features):
    return by_identity(*_setting(features, "sysu-all-single", "seeded"))


def test_one_seed_is_compare_without_its_draws():
    first = small_features("sysu")
    second = noisy(first, 1, 2.0)
    alone = compare_seeds([identities(first)], [identities(second)], Bootstrap(200))
    both = compare(first, second, "sysu-all-single", "seeded", bootstrap=Bootstrap(200))["all"]
    for metric in METRICS:
        assert alone[metric]["difference"] == pytest.approx(both[metric]["difference"])
        assert alone[metric]["low"] <= alone[metric]["difference"] <= alone[metric]["high"]


def test_more_disagreement_between_seeds_widens_the_interval():
    first = identities(small_features("sysu"))
    other = identities(noisy(small_features("sysu"), 1, 4.0))

    def width(a, b):
        cell = compare_seeds(a, b, Bootstrap(500))["mAP"]
        return cell["high"] - cell["low"]

    # the same data difference in both seeds, and one that changes its sign between them
    assert width([first, other], [other, first]) > width([first, first], [other, other])
    with pytest.raises(UserError, match="2 and 1"):
        compare_seeds([first, first], [other])
    with pytest.raises(UserError, match="identities"):
        compare_seeds([first], [other[1:]])
