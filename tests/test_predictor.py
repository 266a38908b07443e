"""icre.load: the model's evaluation features, from whatever holds an image."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import icre
from conftest import CONFIGS
from icre.commands import extract
from icre.evaluation.features import FeatureSet
from icre.inference.batches import ImageBatches
from icre.inference.extractor import read_config
from icre.inference.predictor import Predictor
from icre.modality import NAMES
from icre.modeling.build import build_model
from icre.utils.errors import UserError
from small_runs import STOCK, TINY_MODEL

# what icre.load needs none of
HEAVY = ("matplotlib", "tensorboard", "sklearn", "h5py", "faiss", "fastreid.engine")
LOAD = """
import sys
import icre
assert not {"torch", "fastreid", "numpy"} & set(sys.modules)
features = icre.load(sys.argv[1], "cpu")(sys.argv[2])
assert features.shape == (1, 128)
print(*(name for name in sys.argv[3:] if name in sys.modules))
icre.nothing
"""


@pytest.fixture(scope="module")
def predictor(finished_run) -> Predictor:
    return icre.load(finished_run, device="cpu")


@pytest.fixture(scope="module")
def test_set(finished_run, tmp_path_factory) -> FeatureSet:
    """What tools/extract_features.py writes for the same model."""
    out = tmp_path_factory.mktemp("features") / "features.npz"
    config, weights = finished_run / "config.yaml", finished_run / "model_final.pth"
    given = ["--config-file", str(config), "--weights", str(weights), "--out", str(out)]
    assert extract.main(given) == 0
    return FeatureSet.load(out)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def files(demo_root: Path, *cameras: int) -> list[str]:
    folders = [demo_root / "SYSU-MM01" / f"cam{camera}" for camera in cameras]
    return [str(path) for folder in folders for path in sorted(folder.rglob("*.jpg"))]


@pytest.mark.slow
def test_features_are_those_of_the_evaluation(predictor, test_set, demo_root):
    paths = [demo_root / "SYSU-MM01" / path for path in test_set.paths.tolist()]
    found = predictor(paths)  # the layout says which modality
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, unit(test_set.features), atol=1e-6)
    names = [NAMES[m] for m in test_set.modalities]
    np.testing.assert_allclose(predictor(paths[:9], names[:9]), found[:9], atol=1e-6)


def test_every_form_of_an_image_gives_the_same(predictor, demo_root):
    path = files(demo_root, 1)[0]
    image = Image.open(path)
    forms = [path, Path(path), image, np.asarray(image), np.asarray(image)]
    found = predictor(forms, modality="visible")
    assert found.shape == (5, 64)
    np.testing.assert_allclose(found, np.repeat(predictor(path), 5, axis=0), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_the_modality_decides_which_stem_an_image_takes(predictor, demo_root):
    image = Image.open(files(demo_root, 1)[0])
    visible, infrared = predictor([image, image], modality=["visible", "infrared"])
    assert np.abs(visible - infrared).max() > 1e-3
    np.testing.assert_allclose(predictor(image, "infrared")[0], infrared, atol=1e-6)


def test_folders_and_lists_stand_for_their_images_and_repeats_are_kept(
    predictor, demo_root, tmp_path
):
    expected = predictor(files(demo_root, 3))
    folder = demo_root / "SYSU-MM01/cam3"
    np.testing.assert_allclose(predictor(folder), expected, atol=1e-6)
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(files(demo_root, 3)))
    twice = predictor([listed, folder])
    np.testing.assert_allclose(twice, np.concatenate([expected, expected]), atol=1e-6)


def test_other_sizes_and_kinds_are_resized_and_converted(predictor, demo_root):
    image = Image.open(files(demo_root, 3)[0])
    larger = image.resize((image.width * 4, image.height * 4), Image.Resampling.BICUBIC)
    one, same = predictor([image, larger], "infrared")
    assert one @ same > 0.9
    gray = predictor([image.convert("L"), image.convert("L").convert("RGB")], "infrared")
    np.testing.assert_array_equal(gray[0], gray[1])


def test_batches_cover_all_images_in_order(predictor, demo_root):
    cfg = predictor.extractor.cfg.clone()
    cfg.defrost()
    cfg.TEST.IMS_PER_BATCH = 2
    paths = files(demo_root, 1)[:5]
    batches = ImageBatches(cfg, paths, [0, 1, 0, 1, 1])
    read = list(batches)
    assert len(batches) == 3 and [len(batch["images"]) for batch in read] == [2, 2, 1]
    assert torch.cat([batch["modalities"] for batch in read]).tolist() == [0, 1, 0, 1, 1]
    pixels = torch.cat([batch["images"] for batch in read]).numpy()
    size = tuple(cfg.INPUT.SIZE_TEST)[::-1]
    for path, row in zip(paths, pixels):
        expected = Image.open(path).resize(size, Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(row, np.asarray(expected))


def test_a_checkpoint_carries_its_config_and_another_beside_it_does_not_count(
    predictor, finished_run, demo_root, tmp_path
):
    alone = shutil.copy(finished_run / "model_final.pth", tmp_path / "mine.pth")
    (tmp_path / "config.yaml").write_text("MODEL: {BACKBONE: {DEPTH: 50x}}")
    path = files(demo_root, 6)[0]
    np.testing.assert_allclose(icre.load(alone, "cpu")(path), predictor(path), atol=1e-6)


def test_a_run_with_a_chosen_epoch_is_loaded_at_that_epoch(finished_run, tmp_path):
    text = (finished_run / "config.yaml").read_text()
    assert "VALIDATION: false" in text
    (tmp_path / "config.yaml").write_text(text.replace("VALIDATION: false", "VALIDATION: true"))
    shutil.copy(finished_run / "model_final.pth", tmp_path / "model_final.pth")
    with pytest.raises(UserError, match=r"model_best\.pth"):
        icre.load(tmp_path)
    shutil.copy(finished_run / "model_final.pth", tmp_path / "model_best.pth")
    assert icre.load(tmp_path, "cpu").extractor.weights.name == "model_best.pth"


@pytest.fixture(scope="module")
def stock_run(tmp_path_factory) -> Path:
    """Folder of a fast-reid model with random weights."""
    small = ("MODEL.DEVICE", "cpu", "MODEL.HEADS.NUM_CLASSES", "4", "INPUT.SIZE_TEST", "[32, 16]")
    cfg = read_config(CONFIGS / STOCK, *TINY_MODEL, *small)
    folder = tmp_path_factory.mktemp("stock")
    (folder / "config.yaml").write_text(cfg.dump())
    torch.save({"model": build_model(cfg).state_dict()}, folder / "model_final.pth")
    return folder


@pytest.mark.slow
def test_fast_reids_models_need_no_modality(stock_run, demo_root):
    stock = icre.load(stock_run, "cpu")
    image = Image.open(files(demo_root, 1)[0])
    assert not stock.needs_modality
    np.testing.assert_allclose(stock(image), stock(image, "infrared"), atol=1e-6)


@pytest.mark.slow
def test_loading_imports_only_what_it_needs(stock_run, demo_root):
    image = files(demo_root, 1)[0]
    command = [sys.executable, "-c", LOAD, str(stock_run), image, *HEAVY]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.split() == [], done.stderr
    assert "AttributeError: module 'icre' has no attribute 'nothing'" in done.stderr


RED = np.zeros((8, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "images, modality, message",
    [
        (RED, None, "does not say its modality"),
        (RED, "thermal", "thermal"),
        ([RED, RED], ["visible"], "1 modalities"),
        (RED.astype(np.float32), "visible", r"\(8, 4, 3\) of float32"),
        (RED[..., 0], "visible", r"\(8, 4\) of uint8"),
        ([RED, 3], "visible", "not int"),
        ([], "visible", "no images"),
        ("nowhere.jpg", "visible", "nowhere.jpg is missing"),
    ],
)
def test_bad_input_ends_in_one_line(predictor, images, modality, message):
    with pytest.raises(UserError, match=message) as raised:
        predictor(images, modality)
    assert "\n" not in str(raised.value)


def test_an_unreadable_image_and_a_path_without_a_modality_are_named(predictor, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"broken\.jpg"):
        predictor([RED, broken], "visible")
    with pytest.raises(UserError, match=r"broken\.jpg.*modality"):
        predictor(broken)


def test_missing_runs_and_checkpoints_are_named(finished_run, tmp_path):
    with pytest.raises(UserError, match="nowhere is missing"):
        icre.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"model_final\.pth"):
        icre.load(tmp_path)
    torch.save({"model": {}}, tmp_path / "bare.pth")
    with pytest.raises(UserError, match=r"bare\.pth.*config"):
        icre.load(tmp_path / "bare.pth")
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(UserError, match=r"text\.pth cannot be read"):
        icre.load(tmp_path / "text.pth")
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(UserError, match=r"list\.pth.*'model'"):
        icre.load(tmp_path / "list.pth")
