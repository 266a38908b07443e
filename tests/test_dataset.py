"""Batches of both modalities: what they carry, and that augmentation is reproducible."""

import itertools
import random

import numpy as np
import pytest
import torch
from torchvision import transforms as T

from conftest import CONFIGS, SHORT
from icre.config import load_config
from icre.data.batch import to_device
from icre.data.loader import (
    build_test_loader,
    build_train_loader,
    build_train_set,
    iters_per_epoch,
    verify_datasets,
)
from icre.data.pipeline import Batched, ImageByImage
from icre.data.transforms import ChannelAugment, build_modality_transforms
from icre.datasets import load_dataset
from icre.modality import INFRARED, VISIBLE
from icre.utils.errors import UserError


def config(root, *options):
    pairs = ["DATASETS.ROOT", str(root), *SHORT, *options]
    return load_config(str(CONFIGS / "Demo/icre_r18.yml"), pairs)


def first_batches(cfg, count=3, start=0):
    loader = build_train_loader(cfg)
    loader.batch_sampler.start_batch = start
    return list(itertools.islice(iter(loader), count))


def test_a_batch_carries_what_models_and_protocols_need(demo_root):
    (batch,) = first_batches(config(demo_root), 1)
    assert batch["images"].is_contiguous() and "augment" not in batch
    assert batch["images"].dtype == torch.float32 and batch["images"].max() <= 255
    assert batch["images"].shape == (16, 3, 32, 16) and batch["images"].max() > 1
    assert batch["modalities"].tolist() == [0, 0, 1, 1] * 4
    assert len(set(batch["targets"].tolist())) == 4 and max(batch["targets"]) < 10
    for path, modality in zip(batch["img_paths"], batch["modalities"]):
        assert (modality == INFRARED) == ("/cam3/" in path or "/cam6/" in path)


@pytest.mark.parametrize("batched", ["True", "False"])
def test_workers_and_resuming_change_no_image(demo_root, batched):
    options = ("INPUT.BATCHED", batched)
    alone = first_batches(config(demo_root, *options), 5)
    shared = first_batches(config(demo_root, *options, "DATALOADER.NUM_WORKERS", "2"), 5)
    resumed = first_batches(config(demo_root, *options), 2, start=3)
    for one, other in [*zip(alone, shared), *zip(alone[3:], resumed)]:
        assert one["img_paths"] == other["img_paths"]
        assert torch.equal(one["images"], other["images"])


@pytest.mark.parametrize("batched", ["True", "False"])
def test_augmentation_leaves_the_global_generators_alone(demo_root, batched):
    train_set = build_train_set(config(demo_root, "INPUT.BATCHED", batched))
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    train_set[(0, 99)]
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


@pytest.mark.parametrize("batched, field", [("True", "augment"), ("False", "images")])
def test_a_draw_number_decides_the_augmentation(demo_root, batched, field):
    train_set = build_train_set(config(demo_root, "INPUT.BATCHED", batched))
    assert torch.equal(train_set[(0, 5)][field], train_set[(0, 5)][field])
    assert any(
        not torch.equal(train_set[(0, 5)][field], train_set[(0, n)][field]) for n in range(6, 12)
    )


def test_without_randomness_both_pipelines_give_the_same_images(demo_root):
    still = (
        "INPUT.PADDING.ENABLED",
        "False",
        "INPUT.FLIP.ENABLED",
        "False",
        "INPUT.CHANNEL_AUG.ENABLED",
        "False",
    )
    one, other = (
        first_batches(config(demo_root, *still, "INPUT.BATCHED", batched), 2)
        for batched in ("True", "False")
    )
    for first, second in zip(one, other):
        assert torch.equal(first["images"], second["images"])
    loaders = [
        build_test_loader(cfg, load_dataset(cfg, "SYSUMM01"))
        for cfg in (config(demo_root), config(demo_root, "INPUT.BATCHED", "False"))
    ]
    for first, second in zip(*loaders):
        assert torch.equal(first["images"], second["images"])


@pytest.mark.parametrize(
    "options, pipeline",
    [
        ((), Batched),
        (("INPUT.REA.ENABLED", "True"), Batched),
        (("INPUT.BATCHED", "False"), ImageByImage),
        (("INPUT.AUTOAUG.ENABLED", "True"), ImageByImage),
        (("INPUT.CJ.ENABLED", "True"), ImageByImage),
        (("INPUT.PADDING.MODE", "reflect"), ImageByImage),
    ],
)
def test_other_augmentations_are_fastreids(demo_root, options, pipeline):
    train_set = build_train_set(config(demo_root, *options))
    assert type(train_set.pipeline) is pipeline
    batch = to_device(torch.utils.data.default_collate([train_set[(0, 1)]]), torch.device("cpu"))
    assert batch["images"].shape == (1, 3, 32, 16)


def test_channel_augmentation_keeps_or_grays_and_is_for_visible_only(demo_root):
    image = torch.rand(3, 4, 4) * 255
    random.seed(0), torch.manual_seed(0)
    results = [ChannelAugment()(image) for _ in range(60)]
    kept = [r for r in results if torch.equal(r, image)]
    gray = [r for r in results if torch.equal(r[0], r[1]) and torch.equal(r[1], r[2])]
    own = [r for r in gray if any(torch.equal(r[0], channel) for channel in image)]
    assert 8 < len(kept) < 32 and len(kept) + len(gray) == 60
    assert 8 < len(own) < 32 and len(gray) > len(own)
    assert all(r.min() >= 0 and r.max() <= 255 for r in results)
    chosen = build_modality_transforms(config(demo_root), is_train=True)
    names = {m: [type(step).__name__ for step in chosen[m].transforms] for m in chosen}
    assert "ChannelAugment" in names[VISIBLE] and "ChannelAugment" not in names[INFRARED]
    assert isinstance(chosen[VISIBLE], T.Compose)


def test_an_epoch_is_one_pass_over_the_larger_modality(demo_root):
    cfg = config(demo_root)
    train_set = build_train_set(cfg)  # 10 identities x (4 visible, 2 infrared cameras) x 2 images
    assert iters_per_epoch(cfg, train_set) == 80 // 8
    public = config(demo_root, "DATALOADER.SAMPLER_TRAIN", "RandomCrossModalitySampler")
    assert iters_per_epoch(public, train_set) == 80 // 8 + 1  # int(N / batch) + 1 of their samplers
    stock = config(demo_root, "DATALOADER.SAMPLER_TRAIN", "NaiveIdentitySampler")
    assert iters_per_epoch(stock, train_set) == 120 // 16


def test_the_test_loader_gives_query_then_gallery_in_order(demo_root):
    cfg = config(demo_root)
    data = load_dataset(cfg, "SYSUMM01")
    batches = list(build_test_loader(cfg, data))
    paths = [path for batch in batches for path in batch["img_paths"]]
    assert paths == [item[0] for item in data.query + data.gallery]
    camids = torch.cat([batch["camids"] for batch in batches])
    assert sorted(set(camids.tolist())) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "options, message",
    [
        (("SOLVER.IMS_PER_BATCH", "64"), "asks for 16 identities per batch, but only 10"),
        (("SOLVER.IMS_PER_BATCH", "18"), "must be a multiple of 2 x DATALOADER.NUM_INSTANCE = 4"),
        (("DATALOADER.SAMPLER_TRAIN", "Oops"), "SAMPLER_TRAIN.*'Oops'.*CrossModalitySampler"),
        (
            ("DATALOADER.SAMPLER_TRAIN", "NaiveIdentitySampler", "SOLVER.IMS_PER_BATCH", "40"),
            "the 20 identities it asks for must not exceed the 10",
        ),
        (("INPUT.AFFINE.ENABLED", "True"), "INPUT.AFFINE.ENABLED"),
        (("DATASETS.NAMES", "('Nothing',)"), "unknown data set 'Nothing'"),
    ],
)
def test_impossible_settings_are_one_line(demo_root, options, message):
    with pytest.raises(UserError, match=message) as caught:
        first_batches(config(demo_root, *options))
    assert "\n" not in str(caught.value)


def test_a_corrupt_image_of_either_split_is_found_beforehand(own_root):
    cfg = config(own_root)
    verify_datasets(cfg, train=True)
    data = load_dataset(cfg, "SYSUMM01")
    with open(data.query[0][0], "r+b") as file:
        file.truncate(300)
    for train in (True, False):
        with pytest.raises(UserError, match=f"cannot read image {data.query[0][0]}"):
            verify_datasets(cfg, train=train)


def test_a_corrupt_training_image_matters_to_training_only(own_root):
    cfg = config(own_root)
    path = load_dataset(cfg, "SYSUMM01").train[0][0]
    with open(path, "wb"):
        pass
    verify_datasets(cfg, train=False)
    with pytest.raises(UserError, match=path):
        verify_datasets(cfg, train=True)
