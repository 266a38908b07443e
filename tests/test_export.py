"""tools/export.py: files that score what PyTorch scores, and are not left where they differ."""

import ast
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import icre
from conftest import CONFIGS
from icre.commands import export as export_command
from icre.commands import extract
from icre.evaluation.features import FeatureSet
from icre.evaluation.score import score
from icre.export import write as exporting
from icre.export.formats import ExportedModel
from icre.export.graph import BothStems, InferenceGraph, OneStem
from icre.inference.extractor import FeatureExtractor, read_config
from icre.inference.predictor import Predictor
from icre.inference.run import open_model
from icre.inference.test_set import open_exported
from icre.modality import NAMES
from icre.modeling.build import build_model
from icre.runs.resume import check_split
from icre.utils.errors import UserError
from small_model import NARROW, narrow_model, randomise_norms, small_batch

onnx, *_ = (
    pytest.importorskip(package, reason=f"export needs {package}")
    for package in ("onnx", "onnxscript", "onnxruntime")
)

EXAMPLE = Path(__file__).parents[1] / "projects/ICRE/examples/predict_onnx.py"
SMALL = ("MODEL.DEVICE", "cpu", "MODEL.HEADS.NUM_CLASSES", "4", "INPUT.SIZE_TEST", "[48, 16]")
NARROW = tuple(map(str, NARROW))
RESNET18 = ("MODEL.BACKBONE.DEPTH", "18x", "MODEL.BACKBONE.FEAT_DIM", "512")


def load_example():
    spec = importlib.util.spec_from_file_location("predict_onnx", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arguments(run: Path, out: Path, *options: str) -> list[str]:
    return ["--weights", str(run), "--out", str(out), *options]


def extract_arguments(run: Path, exported: Path, out: Path) -> list[str]:
    config = str(run / "config.yaml")
    return ["--config-file", config, "--exported", str(exported), "--out", str(out)]


@pytest.fixture(scope="module")
def exported(finished_run, tmp_path_factory) -> Path:
    """visible.onnx, infrared.onnx and model.onnx of the run; not to be changed."""
    out = tmp_path_factory.mktemp("exported")
    assert export_command.main(arguments(finished_run, out)) == 0
    assert export_command.main(arguments(finished_run, out, "--single")) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "infrared.onnx",
        "model.onnx",
        "visible.onnx",
    ]
    return out


@pytest.fixture(scope="module")
def extractor(finished_run) -> FeatureExtractor:
    return open_model(finished_run, "MODEL.DEVICE", "cpu")


def untrained(config: str, tmp_path: Path, *options: str) -> FeatureExtractor:
    """A model with random weights and norms."""
    cfg = read_config(CONFIGS / config, *SMALL, *options)
    torch.manual_seed(0)
    model = build_model(cfg)
    randomise_norms(model)
    torch.save({"model": model.state_dict()}, tmp_path / "random.pth")
    return FeatureExtractor(cfg, tmp_path / "random.pth")


@pytest.fixture(scope="module")
def torchscript(finished_run, tmp_path_factory) -> Path:
    """visible.pt and infrared.pt of the run; not to be changed."""
    out = tmp_path_factory.mktemp("torchscript")
    assert export_command.main(arguments(finished_run, out, "--format", "torchscript")) == 0
    return out


@pytest.mark.slow
@pytest.mark.parametrize("which", ["modalities.onnx", "model.onnx", "modalities.pt"])
def test_exported_files_score_the_runs_protocol_numbers(
    which, exported, torchscript, finished_run, demo_root, tmp_path
):
    place = {
        "modalities.onnx": exported,
        "model.onnx": exported / "model.onnx",
        "modalities.pt": torchscript,
    }[which]
    out = tmp_path / "features.npz"
    trust = ["--trust-torchscript"] if which.endswith(".pt") else []
    given = [*extract_arguments(finished_run, place, out), *trust, "TEST.IMS_PER_BATCH", "5"]
    assert extract.main(given) == 0
    perm = demo_root / "SYSU-MM01/exp/rand_perm_cam.mat"
    found = {(one["protocol"], one["draw"]): one for one in score(FeatureSet.load(out), perm=perm)}
    expected = json.loads((finished_run / "metrics.json").read_text())
    expected = expected[: len(found)]  # the first are of the test feature
    assert len(expected) == 6
    for record in expected:
        ours = found[record["protocol"], record["draw"]]
        for metric in ("Rank-1", "mAP", "mINP"):
            assert ours[metric]["mean"] == pytest.approx(record[metric]["mean"], abs=1e-6)


@pytest.mark.slow
def test_the_example_gives_the_features_of_icre_load(exported, finished_run, demo_root):
    folders = {"visible": demo_root / "SYSU-MM01/cam1", "infrared": demo_root / "SYSU-MM01/cam3"}
    example, predictor = load_example(), icre.load(finished_run, "cpu")
    for name, folder in folders.items():
        expected = predictor(folder)
        for file, modality in ((f"{name}.onnx", None), ("model.onnx", name)):
            model = example.Model(str(exported / file))
            found = model.features(example.find_images([str(folder)]), modality, batch=4)
            np.testing.assert_allclose(found, expected, atol=exporting.TOLERANCE)


@pytest.mark.slow
def test_the_example_resizes_as_the_config_does(tmp_path, demo_root):
    made = untrained("Demo/baseline_r18.yml", tmp_path, *NARROW, "INPUT.INTERPOLATION", "lanczos")
    path, _ = exporting.export(made.model, made.cfg, tmp_path, modality="visible")
    example = load_example()
    images = example.find_images([str(demo_root / "SYSU-MM01/cam1")])
    expected, model = Predictor(made)(images, "visible"), example.Model(str(path))
    np.testing.assert_allclose(model.features(images), expected, atol=exporting.TOLERANCE)
    model.resize = Image.Resampling.BICUBIC
    assert abs(model.features(images) - expected).max() > 2 * exporting.TOLERANCE


@pytest.mark.slow
def test_what_is_no_exported_model_is_refused_in_one_line(exported, finished_run, tmp_path, capsys):
    shutil.copy(finished_run / "model_final.pth", tmp_path / "renamed.onnx")
    shutil.copy(finished_run / "model_final.pth", tmp_path / "model.pth")
    for place, options, message in (
        (exported / "visible.onnx", (), "visible.onnx takes visible images"),
        (exported, ("INPUT.SIZE_TEST", "[32, 32]"), "not INPUT.SIZE_TEST [32, 32]"),
        (tmp_path, (), "is no exported model"),
        (tmp_path / "model.pth", (), "model.pth is no exported model"),
        (tmp_path / "renamed.onnx", (), "renamed.onnx cannot be read"),
    ):
        given = extract_arguments(finished_run, place, tmp_path / "out.npz")
        assert extract.main([*given, *options]) == 2
        *progress, error = capsys.readouterr().err.splitlines()
        assert error.startswith("error: ") and message in error
        assert not any(line and "img/s" not in line for line in progress)
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.slow
def test_torchscript_is_code_and_is_opened_on_request_alone(torchscript, finished_run, tmp_path):
    out = tmp_path / "out.npz"
    for place in (torchscript, torchscript / "visible.pt"):
        assert extract.main(extract_arguments(finished_run, place, out)) == 2
        with pytest.raises(UserError, match=r"visible\.pt.*--trust-torchscript"):
            ExportedModel(place)
    assert ExportedModel(torchscript, trust_torchscript=True).size
    (tmp_path / "not.pt").write_bytes(b"")
    with pytest.raises(UserError, match=r"not\.pt cannot be read"):
        ExportedModel(tmp_path / "not.pt", trust_torchscript=True)


def outside(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")


def below(model: onnx.ModelProto) -> None:
    outside(model)
    inner = onnx.helper.make_graph([], "inner", [], [], [model.graph.initializer.pop(0)])
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("body", inner))


def foreign(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.example"


def about(**values: str):
    def change(model: onnx.ModelProto) -> None:
        known = {one.key: one.value for one in model.metadata_props}
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, known | values)

    return change


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (outside, "another file"),
        (below, "another file"),
        (foreign, r"com\.example"),
        (about(height="-4"), "height '-4'"),
        (about(width="1e9"), "width '1e9'"),
        (about(width="9" * 5000), "width '9"),
        (about(height="²"), "height"),
        (about(modality="night"), "modality 'night'"),
        (about(regdb_split="x"), "regdb_split 'x'"),
    ],
)
def test_onnx_files_that_reach_outside_or_say_nonsense_are_refused(
    exported, tmp_path, change, said, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path.parent / "secret").write_bytes(bytes(10**6))
    model = onnx.load(exported / "visible.onnx")
    change(model)
    (tmp_path / "visible.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=rf"visible\.onnx.*{said}") as caught:
        ExportedModel(tmp_path / "visible.onnx")
    assert "\n" not in str(caught.value)


def test_a_huge_or_odd_file_is_refused(tmp_path):
    with open(tmp_path / "model.onnx", "wb") as file:
        file.truncate(2**31 + 1)
    with pytest.raises(UserError, match=r"model\.onnx.*bytes"):
        ExportedModel(tmp_path / "model.onnx")
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(UserError, match=r"pipe\.onnx"):
        ExportedModel(tmp_path / "pipe.onnx")


@pytest.mark.slow
def test_what_a_model_computes_is_checked(exported, tmp_path):
    model = onnx.load(exported / "visible.onnx")
    about(modality="none")(model)
    model.graph.output[0].name = model.graph.node[0].output[0]
    model.graph.output[0].type.CopyFrom(onnx.TypeProto())
    (tmp_path / "model.onnx").write_bytes(
        onnx.shape_inference.infer_shapes(model).SerializeToString()
    )
    height, width = ExportedModel(exported).size
    batch = {"images": torch.zeros(2, 3, height, width), "modalities": torch.zeros(2)}
    with pytest.raises(UserError, match=r"model\.onnx"):
        ExportedModel(tmp_path / "model.onnx")(batch)
    smaller = {**batch, "images": batch["images"][..., 1:]}
    with pytest.raises(UserError, match=r"visible\.onnx cannot be run"):
        ExportedModel(exported)(smaller)


@pytest.mark.slow
def test_torchscript_files_agree_and_carry_the_same_metadata(
    exported, torchscript, extractor, tmp_path
):
    extra = {"metadata.json": ""}
    torch.jit.load(str(torchscript / "infrared.pt"), _extra_files=extra)
    about = json.loads(extra["metadata.json"])
    in_onnx = load_example().Model(str(exported / "infrared.onnx")).session.get_modelmeta()
    assert about == in_onnx.custom_metadata_map
    assert (about["height"], about["width"], about["modality"]) == ("32", "16", "infrared")
    assert about["config"] == extractor.cfg.dump() and about["weights_sha256"] == extractor.sha256
    both, difference = exporting.export(extractor.model, extractor.cfg, tmp_path, "torchscript")
    assert both.name == "model.pt" and difference <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    "config, options, modality, format_name",
    [
        ("Demo/baseline_r18.yml", NARROW, "infrared", "torchscript"),
        ("SYSU/two_stream_agw_r50.yml", RESNET18, None, "onnx"),
        ("SYSU/bagtricks_r50.yml", (*RESNET18, "TEST.FLIP.ENABLED", "True"), None, "onnx"),
        ("SYSU/sbs_r50.yml", RESNET18, None, "torchscript"),
        ("SYSU/mgn_r50.yml", (), None, "torchscript"),
    ],
)
def test_baselines_and_fast_reids_models_agree(config, options, modality, format_name, tmp_path):
    made = untrained(config, tmp_path, *options)
    path, difference = exporting.export(
        made.model, made.cfg, tmp_path / "out", format_name, modality
    )
    assert difference <= exporting.TOLERANCE
    assert list((tmp_path / "out").iterdir()) == [path]


@pytest.mark.slow
def test_the_split_of_regdb_is_in_the_file(tmp_path):
    """Half of the test people of a split are training people of any other."""
    made = untrained("Demo/regdb_icre_r18.yml", tmp_path, *NARROW)
    origin = {"regdb_split": "2"}
    path, _ = exporting.export(made.model, made.cfg, tmp_path, "torchscript", "visible", origin)
    _, checkpoint = open_exported(made.cfg, str(path), trust_torchscript=True)
    with pytest.raises(UserError, match=r"visible\.pt.*split 2"):
        check_split(made.cfg, checkpoint, str(path))


def test_a_graph_with_both_stems_is_the_two_with_one():
    model = narrow_model().eval()
    randomise_norms(model)
    batch = small_batch(6)
    images, modalities = batch["images"] / 64 - 2, batch["modalities"]
    expected = model.backbone(images, modalities)
    both = BothStems(model.backbone)(images, modalities)
    one = [OneStem(model.backbone, name)(images, modalities) for name in NAMES]
    for stage, maps in expected.items():
        torch.testing.assert_close(both[stage], maps, atol=1e-3, rtol=1e-4)
        for row, modality in enumerate(modalities):
            torch.testing.assert_close(one[modality][stage][row], maps[row], atol=1e-3, rtol=1e-4)
    assert (one[0]["layer4"] - one[1]["layer4"]).abs().max() > 0.1


def test_a_graph_leaves_the_model_as_it_was():
    model = narrow_model().eval()
    backbone = model.backbone
    images = torch.randint(0, 256, (3, 64, 32, 3), dtype=torch.uint8)
    features = InferenceGraph(model, "visible")(images)
    assert model.backbone is backbone and set(backbone.stems) == set(NAMES)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3))


@pytest.mark.slow
def test_a_file_that_differs_is_not_left(extractor, tmp_path, monkeypatch):
    """The comparison is with the model, not the graph: a graph of the wrong stem is refused."""
    monkeypatch.setattr(
        exporting, "InferenceGraph", lambda model, _, flip: InferenceGraph(model, "infrared", flip)
    )
    with pytest.raises(UserError, match=r"visible\.pt was not written"):
        exporting.export(extractor.model, extractor.cfg, tmp_path, "torchscript", "visible")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options, message",
    [
        (["--format", "tflite"], "--format tflite"),
        (["--modality", "thermal"], "--modality thermal"),
        (["--single", "--modality", "visible"], "leave out --modality visible"),
        (["--weights", "nowhere.pth"], "nowhere.pth is missing"),
        (["--weights", str(CONFIGS)], "has no model_final.pth"),
        (["--weights", __file__], "cannot be read as plain tensors"),
        (["--config-file", "nowhere.yml"], "nowhere.yml is missing"),
        (["INPUT.SIZE_TEST", "[32]"], "INPUT.SIZE_TEST"),
    ],
)
def test_bad_input_ends_in_one_line(finished_run, tmp_path, capsys, options, message):
    given = arguments(finished_run, tmp_path / "out", *options)
    assert export_command.main(given) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_folder_that_cannot_be_made_is_named(finished_run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert export_command.main(arguments(finished_run, tmp_path / "file")) == 2
    assert f"cannot write {tmp_path / 'file'}" in capsys.readouterr().err


@pytest.mark.slow
def test_fast_reids_models_have_no_modality_to_choose(tmp_path, capsys):
    untrained("SYSU/bagtricks_r50.yml", tmp_path, *RESNET18)
    given = [
        "--config-file",
        str(CONFIGS / "SYSU/bagtricks_r50.yml"),
        "--weights",
        str(tmp_path / "random.pth"),
        "--out",
        str(tmp_path / "out"),
        "--single",
        *RESNET18,
    ]
    assert export_command.main([*given, "MODEL.HEADS.NUM_CLASSES", "4"]) == 2
    assert "Baseline has one stem" in capsys.readouterr().err


def test_a_missing_package_is_named(finished_run, tmp_path, capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "onnxscript" else find(name, *rest),
    )
    assert export_command.main(arguments(finished_run, tmp_path)) == 2
    assert "pip install onnxscript" in capsys.readouterr().err


def test_the_example_needs_onnxruntime_numpy_and_pillow_alone():
    tree = ast.parse(EXAMPLE.read_text())
    names = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {name.split(".")[0] for name in names}
    assert roots - set(sys.stdlib_module_names) == {"numpy", "onnxruntime", "PIL"}


@pytest.mark.slow
def test_the_example_finds_images_again(exported, demo_root, tmp_path, capsys):
    example, out = load_example(), str(tmp_path / "gallery.npz")
    folder = demo_root / "SYSU-MM01/cam1"
    query = sorted(folder.rglob("*.jpg"))[3]
    example.main([str(exported / "visible.onnx"), str(folder), "--out", out])
    example.main(
        [
            str(exported / "model.onnx"),
            str(query),
            "--modality",
            "visible",
            "--match",
            out,
            "--top",
            "2",
        ]
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(query) and len(lines) == 3
    assert lines[1].split() == ["1.000", str(query)]


@pytest.mark.slow
def test_the_example_refuses_in_one_line(exported, demo_root, tmp_path):
    example = load_example()
    (tmp_path / "broken.png").write_bytes(b"no image")
    visible = example.Model(str(exported / "visible.onnx"))
    either = example.Model(str(exported / "model.onnx"))
    for model, modality, message in (
        (visible, "infrared", "not infrared"),
        (either, None, "visible or infrared"),
        (visible, None, r"broken\.png"),
    ):
        with pytest.raises(ValueError, match=message):
            model.features([tmp_path / "broken.png"], modality)
    with pytest.raises(ValueError, match=r"broken\.png"):
        example.Model(str(tmp_path / "broken.png"))
    np.savez(tmp_path / "other.npz", features=np.eye(2), paths=["a", "b"], weights="of another")
    np.savez(tmp_path / "bare.npz", features=np.eye(2))
    for name, message in (
        ("other.npz", "another model"),
        ("bare.npz", r"bare\.npz"),
        ("broken.png", r"broken\.png"),
    ):
        with pytest.raises(ValueError, match=message):
            example.load_gallery(str(tmp_path / name), visible.weights)
    with pytest.raises(ValueError, match="no images in"):
        example.find_images([str(demo_root / "SYSU-MM01/exp")])
