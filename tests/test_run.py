"""icre.inference.run: a run folder opened, and the one checkpoint that its metrics are of."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

import icre
from icre.commands import export, report, search, visualize
from icre.evaluation.records import METRICS
from icre.inference.results import read_records, read_scalars
from icre.inference.run import Run, flatten, open_model, open_runs
from icre.report.write import SECTIONS
from icre.runs.checkpoint import SafeCheckpointer
from icre.utils.errors import UserError

LINES = (
    '{"iteration": 0, "total_loss": 3.0, "loss_cls": 2.0}\n'
    '{"iteration": 5, "lr": 0.1, "total_loss": 2.5}\n'
)


@pytest.fixture(scope="module")
def validated_run(finished_run, tmp_path_factory) -> Path:
    """A run with DATASETS.VALIDATION, which has a best and a final checkpoint."""
    folder = tmp_path_factory.mktemp("validated")
    for name in ("metrics.json", "model_final.pth"):
        shutil.copy(finished_run / name, folder)
    shutil.copy(folder / "model_final.pth", folder / "model_best.pth")
    config = yaml.safe_load((finished_run / "config.yaml").read_text())
    config["DATASETS"]["VALIDATION"] = True
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_the_parts_of_a_run_are_those_of_its_files(finished_run, demo_root):
    run = Run(finished_run, device="cpu")
    assert run.name == finished_run.name
    assert run.cfg.MODEL.DEVICE == "cpu" and not run.cfg.MODEL.BACKBONE.PRETRAIN
    assert run.records == json.loads((finished_run / "metrics.json").read_text())
    assert len(run.features) == len(run.dataset.query) + len(run.dataset.gallery)
    assert run.features.paths.tolist() == run.features.ordered().paths.tolist()
    assert "total_loss" in run.scalars
    assert run.permutation_file == demo_root / "SYSU-MM01/exp/rand_perm_cam.mat"
    assert run.settings["SOLVER.MAX_EPOCH"] == "2" == run.changed["SOLVER.MAX_EPOCH"]
    assert "MODEL.BACKBONE.NORM" in run.settings and "MODEL.BACKBONE.NORM" not in run.changed
    assert run.weights == finished_run / "model_final.pth"


NOT_ATTENTION = [key for key in SECTIONS if key != "attention"]
# (run folder, path to write to, folder of images)
USES = {
    "report": lambda run, out, _: report.main(
        [run, "--without", *NOT_ATTENTION, "--out", f"{out}.html"]
    ),
    "attention": lambda run, out, _: visualize.main(["attention", run, "--out", f"{out}.png"]),
    "export": lambda run, out, _: export.main(["--weights", run, "--out", out]),
    "search": lambda run, out, images: search.main(
        ["index", images, "--weights", run, "--out", out]
    ),
    "predictor": lambda run, out, _: icre.load(run, "cpu"),
    "run": lambda run, out, _: Run(run).model(),
}


class Loaded(Exception):
    """A checkpoint's path, in place of loading it."""


@pytest.mark.parametrize("use", USES)
def test_everything_takes_the_checkpoint_that_the_metrics_are_of(
    use, validated_run, demo_root, tmp_path, monkeypatch
):
    def stop(self, path, *args, **kwargs):
        raise Loaded(path)

    monkeypatch.setattr(SafeCheckpointer, "load", stop)
    images = str(demo_root / "SYSU-MM01/cam1")
    with pytest.raises(Loaded) as loaded:
        USES[use](str(validated_run), str(tmp_path / "out"), images)
    assert str(loaded.value) == str(validated_run / "model_best.pth")


def test_a_run_that_was_not_finished_has_no_model(finished_run, tmp_path):
    shutil.copy(finished_run / "config.yaml", tmp_path)
    shutil.copy(finished_run / "model_final.pth", tmp_path / "model_last.pth")
    (tmp_path / "last_checkpoint").write_text("model_last.pth")
    with pytest.raises(UserError, match=r"model_final\.pth"):
        Run(tmp_path).model()
    assert open_model(tmp_path / "model_last.pth", "MODEL.DEVICE", "cpu").model


@pytest.mark.parametrize("part", ["cfg", "settings", "records", "features", "scalars", "weights"])
def test_a_missing_part_is_named_when_it_is_used(part, tmp_path):
    with pytest.raises(UserError, match=tmp_path.name):
        getattr(Run(tmp_path), part)


def test_the_data_set_may_be_elsewhere_or_gone(finished_run, tmp_path):
    run = Run(finished_run, root=tmp_path)
    assert str(tmp_path) == run.cfg.DATASETS.ROOT and run.permutation_file is None
    with pytest.raises(UserError, match="SYSU-MM01"):
        run.dataset


def test_runs_have_distinct_names(finished_run, tmp_path):
    runs = open_runs([str(finished_run)] * 2, ["a", "b"])
    assert [run.name for run in runs] == ["a", "b"]
    with pytest.raises(UserError, match="--names"):
        open_runs([str(finished_run)] * 2)
    with pytest.raises(UserError, match="--names: 1 for 2"):
        open_runs([str(finished_run)] * 2, ["a"])
    with pytest.raises(UserError, match=r"config\.yaml"):
        open_runs([str(tmp_path)])


def test_a_resumed_runs_scalars_are_read_once(tmp_path):
    file = tmp_path / "scalars.json"
    repeated = '{"iteration": 8, "total_loss": 1}\n{"iteration": 5, "total_loss": 2}\n'
    file.write_text(LINES + repeated)
    assert read_scalars(file)["total_loss"] == ([0, 5], [3.0, 2.0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}\n", "line 1"),
        ("", "is empty"),
        (LINES + "{broken", "line 3"),
        ("[1]\n", "line 1"),
        ('{"iteration": 1, "lr": [1]}\n', "line 1"),
        ('{"iteration": 1, "lr": "1"}\n', "line 1"),
        ('{"iteration": 1, "lr": null}\n', "line 1"),
        ('{"iteration": 1, "lr": 1' + "0" * 400 + "}\n", "line 1"),
        ('{"iteration": "x"}\n', "line 1"),
        ('{"iteration": Infinity}\n', "line 1"),
        ('{"iteration": -1}\n', "line 1"),
        ("[" * 100_000 + "\n", "line 1"),
    ],
)
def test_broken_scalars_are_refused(tmp_path, text, said):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(UserError, match=said):
        read_scalars(tmp_path / "s.json")


def test_configs_are_flattened_to_text():
    assert flatten({"A": {"B": [1, 2], "C": {}}, "D": None}) == {"A.B": "1, 2", "D": "None"}


RECORD = {
    "protocol": "sysu-all-single",
    "draw": "official",
    "split": None,
    "rerank": None,
    "trials": 10,
    "valid_queries": 3,
    "gallery": 4,
} | {name: {"mean": 1.0, "std": None} for name in METRICS}


def test_records_of_the_right_shape_are_read(tmp_path):
    (tmp_path / "m.json").write_text(json.dumps([RECORD]))
    assert read_records(tmp_path / "m.json") == [RECORD]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no JSON"),
        ("[" * 100_000, "no JSON"),
        (b"[\xff]", "no JSON"),
        ({}, "no list"),
        (1, "no list"),
        ([1], "record 1"),
        ([RECORD, []], "record 2"),
        ([{}], "record 1 has no protocol"),
        *(
            ([RECORD | {field: value}], f"record 1 has a wrong {field}")
            for field, value in [
                ("protocol", 1),
                ("draw", []),
                ("split", "a"),
                ("rerank", "yes"),
                ("trials", None),
                ("valid_queries", "3"),
                ("gallery", [4]),
                ("mAP", 1.0),
                ("mAP", {"mean": "1", "std": None}),
            ]
        ),
        ([RECORD | {"rerank": {"k1": 1}}], "record 1 has no rerank.algorithm"),
        ([RECORD | {"Rank-1": {"std": 1.0}}], "record 1 has no Rank-1.mean"),
    ],
)
def test_records_of_other_shapes_are_refused(tmp_path, content, said):
    path = tmp_path / "metrics.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=said) as caught:
        read_records(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
