"""Checkpoints of public codes: what is read, refused and converted."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import icre
from conftest import words
from icre.commands import convert, extract
from icre.evaluation.features import FeatureSet
from icre.inference.extractor import normalize
from icre.runs.public import SOURCES, read_public
from icre.utils.errors import UserError
from icre.utils.tensor_file import read_tensor_file
from parity import seeded

PARITY = Path(__file__).parent / "parity"
SIZE = words("INPUT.SIZE_TEST [48,24]")


def state_of(name: str) -> dict[str, torch.Tensor]:
    """A public network's weights with the shapes of its golden file."""
    return seeded.weights(json.loads(str(np.load(PARITY / f"{name}.npz")["shapes"])))


@pytest.fixture(scope="module")
def agw(tmp_path_factory) -> Path:
    """A checkpoint as AGW's train.py writes it."""
    path = tmp_path_factory.mktemp("agw") / "sysu_agw_best.t"
    scores = {"cmc": np.linspace(0, 1, 20), "mAP": np.float64(0.5), "mINP": np.float32(0.2)}
    torch.save({"net": state_of("agw_base"), **scores, "epoch": 3}, path)
    return path


@pytest.mark.slow
def test_extraction_conversion_and_load_give_the_same(agw, demo_root, tmp_path):
    data = (*words("MODEL.DEVICE cpu DATASETS.TESTS ('SYSUMM01',) DATASETS.ROOT"), str(demo_root))
    out = tmp_path / "features.npz"
    assert extract.main(["--source", "agw", str(agw), "--out", str(out), *data, *SIZE]) == 0
    features = FeatureSet.load(out)
    assert features.features.shape[1] == 2048 and icre.score(features)
    ours = tmp_path / "agw.pth"
    assert convert.main(["--source", "agw", str(agw), "--out", str(ours), *SIZE]) == 0
    predictor = icre.load(ours, device="cpu")
    paths = [str(demo_root / "SYSU-MM01" / path) for path in features.paths[:3]]
    expected = normalize(features.features[:3])  # as the predictor's are; the file has raw ones
    np.testing.assert_allclose(predictor(paths), expected, atol=1e-6)


@pytest.mark.slow
def test_numbers_of_numpy_are_skipped_and_nothing_else(agw, tmp_path):
    content = read_tensor_file(agw, skip_numpy=True)
    assert content["epoch"] == 3 and type(content["cmc"]).__name__ == "SkippedNumbers"
    with pytest.raises(ValueError, match="Weights only load failed"):
        read_tensor_file(agw)


def test_code_in_a_public_file_is_refused(tmp_path):
    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "run",))

    for name, entry in {"code": Payload(), "object": np.array([Payload()], dtype=object)}.items():
        path = tmp_path / f"{name}.t"
        torch.save({"net": {}, "cmc": entry}, path)
        with pytest.raises(UserError, match=rf"{name}\.t cannot be read as plain tensors"):
            read_public(path, SOURCES["agw"])
    (tmp_path / "plain.t").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(UserError, match=r"plain\.t cannot be read"):
        read_public(tmp_path / "plain.t", SOURCES["mpanet"])
    assert not (tmp_path / "run").exists()


ONE_TENSOR = torch.zeros(1)
ONE = {"thermal_module.thermal.conv1.weight": torch.zeros(64, 3, 7, 7)}


@pytest.mark.parametrize(
    ("source", "content", "message"),
    [
        ("agw", {"model": ONE}, "no entry 'net'"),
        ("agw", {"net": {"x": 3}}, "no entry 'net' of tensors"),
        ("agw", [1, 2], "no entry 'net'"),
        ("deen", {"net": ONE}, "no weight DEE.FC11.weight: its network is not that of DEEN"),
        ("mpanet", {"net": ONE}, "more than tensors"),
        ("mpanet", ONE, "no weight spatial_attention.weight"),
        ("mpanet", {"spatial_attention.weight": torch.tensor(1.0)}, "other weights than"),
        ("agw", {"net": {**ONE, "classifier.weight": torch.tensor(1.0)}}, "other weights than"),
        ("agw", {"net": {**ONE, "NL_2": ONE_TENSOR}}, "other weights than"),
        ("agw", {"net": {**ONE, "NL_2.x.weight": ONE_TENSOR}}, "other weights than"),
    ],
)
def test_files_of_others_are_refused(source, content, message, tmp_path):
    path = tmp_path / "other.t"
    torch.save(content, path)
    with pytest.raises(UserError) as caught:
        read_public(path, SOURCES[source])
    assert message in str(caught.value) and "other.t" in str(caught.value)


@pytest.mark.slow
def test_a_part_of_the_network_is_refused(agw, tmp_path):
    path = tmp_path / "part.t"
    content = read_tensor_file(agw, skip_numpy=True)["net"]
    state = {name: value for name, value in content.items() if "layer3.2" not in name}
    torch.save({"net": state}, path)
    with pytest.raises(UserError, match=r"part\.t is of another model.*missing: backbone\.stages"):
        icre.load(path, device="cpu", source="agw")


def test_missing_files_and_unknown_sources_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.t is missing: name a file of AGW"):
        icre.load(tmp_path / "nothing.t", source="agw")
    with pytest.raises(UserError, match="source: unknown value 'agwx'; known: agw, caj, deen"):
        icre.load(tmp_path / "nothing.t", source="agwx")


def test_weights_inside_dataparallel_are_unwrapped(tmp_path):
    path = tmp_path / "parallel.t"
    torch.save({"net": {f"module.{name}": value for name, value in ONE.items()}}, path)
    _, state = read_public(path, SOURCES["agw"])
    assert list(state) == ["backbone.stems.infrared.conv1.weight"]


@pytest.mark.parametrize("name", ["agw", "agw_base", "caj", "deen", "deen_regdb", "mpanet"])
def test_every_weight_of_ours_comes_from_one_of_theirs(name):
    source = SOURCES[name.split("_")[0]]
    shapes = json.loads(str(np.load(PARITY / f"{name}.npz")["shapes"]))
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    renamed = [source.rename(state, key) for key in state]
    kept = [ours for ours in renamed if ours is not None]
    assert len(set(kept)) == len(kept) and "heads.weight" in kept
    unused = {key.split(".")[0] for key, ours in zip(state, renamed) if ours is None}
    assert unused <= {
        "visible_module", "thermal_module", "base_resnet",  # the rest of three whole ResNets
        "visible_classifier", "infrared_classifier", "visible_classifier_", "infrared_classifier_",
    }  # fmt: skip


def test_extract_takes_either_a_source_or_a_config(tmp_path, capsys):
    out = ["--out", str(tmp_path / "f.npz")]
    assert extract.main(["--source", "agw", "x.t", "--config-file", "y.yml", *out]) == 2
    assert extract.main(["--weights", "x.pth", *out]) == 2
    assert "name either" in capsys.readouterr().err
