"""Batched augmentation against fast-reid's and torchvision's, image by image."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomErasing
from torchvision.transforms import functional as F

from conftest import CONFIGS
from icre.config import load_config
from icre.data.augment import LUMA, ROW, Augmentation, apply, batched_augmentation
from icre.data.batch import to_device
from icre.data.cache import ImageCache
from icre.data.transforms import build_modality_transforms
from icre.modality import INFRARED, VISIBLE
from icre.utils.errors import UserError

SIZE = (24, 12)
FULL = Augmentation(
    SIZE, pad=3, mirror=0.5, erase=0.5, erase_value=(7, 8, 9), channels=("channel", "gray"),
    area=(0.05, 0.5), jitter=0.5, local=0.5,
)  # fmt: skip


def slow(image: np.ndarray, row: np.ndarray, pad: int) -> torch.Tensor:
    """What `apply` says, by Pillow and torchvision: (H, W, 3) -> (3, H, W)."""
    value = dict(zip(ROW, row.tolist()))
    padded = F.pad(Image.fromarray(image), pad)
    cropped = F.crop(padded, int(value["top"]) + pad, int(value["left"]) + pad, *image.shape[:2])
    if value["mirror"]:
        cropped = F.hflip(cropped)
    result = F.pil_to_tensor(cropped).double()
    weights = [value[name] for name in ("red", "green", "blue")]
    if any(weights):
        gray = sum(w * channel for w, channel in zip(weights, result))
        result = torch.stack([gray] * 3)
    if (value["brightness"], value["contrast"]) != (1, 1):
        bright = result * value["brightness"]
        result = (bright.mean() + (bright - bright.mean()) * value["contrast"]).clamp(0, 255)
    y, x, h, w = (int(value[f"part_{name}"]) for name in "yxhw")
    part = result[:, y : y + h, x : x + w]
    part.copy_((part * value["factor"]).clamp(0, 255))
    y, x, h, w = (int(value[name]) for name in "yxhw")
    if h:
        colour = torch.tensor([value[name] for name in ("r0", "g0", "b0")]).double()
        result = F.erase(result, y, x, h, w, colour[:, None, None])
    return result


def rows(augmentation: Augmentation, modality: int, count: int) -> np.ndarray:
    return np.stack([augmentation.sample(modality, seed) for seed in range(count)])


@pytest.mark.parametrize("modality", [VISIBLE, INFRARED])
def test_a_batch_equals_image_by_image(modality):
    images = np.random.default_rng(0).integers(0, 256, (40, *SIZE, 3), dtype=np.uint8)
    drawn = rows(FULL, modality, 40)
    result = apply(torch.from_numpy(images), torch.from_numpy(drawn))
    expected = torch.stack([slow(image, row, FULL.pad) for image, row in zip(images, drawn)])
    assert result.shape == (40, 3, *SIZE)
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-4)


def test_drawn_numbers_have_the_distributions_of_the_transforms():
    drawn = dict(zip(ROW, rows(FULL, VISIBLE, 3000).T))
    for name in ("top", "left"):
        values, counts = np.unique(drawn[name], return_counts=True)
        assert values.tolist() == [-3, -2, -1, 0, 1, 2, 3] and counts.min() > 350
    assert abs(drawn["mirror"].mean() - 0.5) < 0.03
    assert abs((drawn["h"] > 0).mean() - 0.5) < 0.03
    weights = np.stack([drawn[name] for name in ("red", "green", "blue")], 1)
    total = weights.sum(1)
    assert abs((total == 0).mean() - 1 / 3) < 0.03 and np.allclose(total[total > 0], 1)
    assert abs((weights.max(1) == 1).mean() - 1 / 3) < 0.03


def test_erased_boxes_are_torchvisions():
    height, width = SIZE
    drawn = rows(Augmentation(SIZE, erase=1.0), INFRARED, 3000)
    boxes = drawn[:, 6:10]
    assert (boxes[:, 0] + boxes[:, 2] <= height).all() and (
        boxes[:, 1] + boxes[:, 3] <= width
    ).all()
    torch.manual_seed(0)
    image = torch.zeros(3, *SIZE)
    theirs = np.array(
        [RandomErasing.get_params(image, (0.02, 0.33), (0.3, 3.3), [0.0])[:4] for _ in range(3000)]
    )
    # mean place and size; a standard error is below 0.1 pixels
    np.testing.assert_allclose(boxes.mean(0), theirs.mean(0), atol=0.4)
    np.testing.assert_allclose(boxes.std(0), theirs.std(0), atol=0.4)


def test_infrared_images_keep_their_channels():
    assert not rows(FULL, INFRARED, 100)[:, 3:6].any()


def test_what_input_asks_for_is_read():
    cfg = load_config(str(CONFIGS / "SYSU/icre_r50.yml"))
    found = batched_augmentation(cfg)
    assert found == Augmentation(
        (384, 144), 10, 0.5, 0.5, tuple(cfg.INPUT.REA.VALUE), ("channel", "gray")
    )
    assert batched_augmentation(load_config(options=["INPUT.AUGMIX.ENABLED", "True"])) is None


def test_the_cache_decodes_once_within_its_limit():
    calls = []

    def decode(value: int) -> np.ndarray:
        calls.append(value)
        return np.full((4, 2, 3), value, np.uint8)

    cache = ImageCache(count=5, size=(4, 2), limit=3 * 24 + 23)  # three images and a bit
    for _ in range(2):
        for index in range(5):
            assert (cache.get(index, lambda: decode(index + 1)) == index + 1).all()
    assert cache.capacity == 3 and calls == [1, 2, 3, 4, 5, 4, 5]


def test_a_failing_decode_leaves_the_place_empty():
    cache = ImageCache(count=1, size=(4, 2), limit=1000)
    with pytest.raises(OSError):
        cache.get(0, lambda: (_ for _ in ()).throw(OSError("broken")))
    assert (cache.get(0, lambda: np.ones((4, 2, 3), np.uint8)) == 1).all()


def test_jitter_is_of_infrared_images_and_parts_of_any():
    augmentation = Augmentation(SIZE, jitter=0.3, local=0.4, area=(0.1, 0.3))
    for modality, expected in ((VISIBLE, 0.0), (INFRARED, 0.3)):
        drawn = dict(zip(ROW, rows(augmentation, modality, 3000).T))
        assert abs((drawn["brightness"] != 1).mean() - expected) < 0.03
        assert drawn["contrast"].min() >= 0.5 and drawn["contrast"].max() <= 1.5
        shares = drawn["part_h"] * drawn["part_w"] / (SIZE[0] * SIZE[1])
        assert abs((shares > 0).mean() - 0.4) < 0.04
        assert shares[shares > 0].min() > 0.05 and shares.max() < 0.35
        inside = drawn["factor"][shares > 0]
        assert inside.min() >= 0.5 and inside.max() <= 1.5 and abs(inside.mean() - 1) < 0.03


def test_what_is_off_changes_no_other_number():
    plain = Augmentation(SIZE, pad=3, mirror=0.5, erase=0.5, channels=("channel", "gray"))
    more = Augmentation(
        SIZE, pad=3, mirror=0.5, erase=0.5, channels=("channel", "gray"), jitter=1.0, local=1.0
    )
    for modality in (VISIBLE, INFRARED):
        assert (rows(plain, modality, 50)[:, :13] == rows(more, modality, 50)[:, :13]).all()


@pytest.mark.parametrize(
    "options",
    [
        ["INPUT.INFRARED_JITTER.PROB", "0.5"],
        ["INPUT.LOCAL_LINEAR.PROB", "0.5"],
        ["INPUT.REA.AREA", "[0.2, 0.8]"],
        ["INPUT.VIEWS", "2"],
    ],
)
def test_what_only_whole_batches_have_is_refused_image_by_image(options):
    cfg = load_config(str(CONFIGS / "SYSU/icre_r50.yml"), [*options, "INPUT.BATCHED", "False"])
    with pytest.raises(UserError, match=r"INPUT\..* of whole batches"):
        build_modality_transforms(cfg, is_train=True)
    build_modality_transforms(cfg, is_train=False)


def test_two_views_are_the_plain_and_the_changed_image():
    augmentation = Augmentation(SIZE, channels=("channel", "gray"), views=2)
    drawn = rows(augmentation, VISIBLE, 600)  # (600, 2, R)
    weights = drawn[:, :, 3:6]
    assert not weights[:, 0].any() and np.allclose(weights[:, 1].sum(1), 1)
    assert abs((weights[:, 1].max(1) == 1).mean() - 0.5) < 0.06
    assert not rows(augmentation, INFRARED, 20)[:, :, 3:6].any()


def test_a_batch_of_two_views_has_the_second_ones_behind():
    augmentation = Augmentation(SIZE, pad=3, mirror=0.5, channels=("channel", "gray"), views=2)
    modalities = torch.tensor([VISIBLE, INFRARED, VISIBLE, INFRARED])
    drawn = np.stack([augmentation.sample(m, seed) for seed, m in enumerate(modalities.tolist())])
    pixels = np.random.default_rng(0).integers(0, 256, (4, *SIZE, 3), dtype=np.uint8)
    batch = {
        "images": torch.from_numpy(pixels),
        "augment": torch.from_numpy(drawn),
        "modalities": modalities,
        "targets": torch.tensor([5, 5, 6, 6]),
        "img_paths": ["a", "b", "c", "d"],
    }
    result = to_device(batch, torch.device("cpu"))
    assert result["targets"].tolist() == [5, 5, 6, 6, 5, 6]
    assert result["modalities"].tolist() == [0, 1, 0, 1, 0, 0]
    assert result["img_paths"] == ["a", "b", "c", "d", "a", "c"] and "augment" not in result
    expected = [slow(pixels[row], drawn[row, 0], 3) for row in range(4)]
    expected += [slow(pixels[row], drawn[row, 1], 3) for row in (0, 2)]
    torch.testing.assert_close(result["images"].double(), torch.stack(expected), rtol=0, atol=1e-4)


def test_two_views_need_a_change_of_channels():
    options = ["INPUT.VIEWS", "2", "INPUT.CHANNEL_AUG.ENABLED", "False"]
    with pytest.raises(UserError, match=r"INPUT\.VIEWS 2 needs INPUT\.CHANNEL_AUG"):
        batched_augmentation(load_config(str(CONFIGS / "SYSU/icre_r50.yml"), options))


def channel_weights(augmentation: Augmentation, modality: int, count: int) -> np.ndarray:
    return rows(augmentation, modality, count)[..., 3:6]


def test_the_kinds_of_changes_have_equal_chances():
    for kinds in (("luma",), ("channel",), ("channel", "luma"), ("channel", "gray", "luma")):
        found = channel_weights(Augmentation(SIZE, channels=kinds), VISIBLE, 2000)
        is_kind = {
            "": found.sum(1) == 0,
            "channel": found.max(1) == 1,
            "luma": np.isclose(found, LUMA).all(1),
        }
        is_kind["gray"] = ~np.any(list(is_kind.values()), axis=0)
        for kind, is_it in is_kind.items():
            expected = 1 / (1 + len(kinds)) if kind in ("", *kinds) else 0
            assert abs(is_it.mean() - expected) < 0.04, (kinds, kind)


def test_four_views_are_two_of_either_modality():
    augmentation = Augmentation(SIZE, channels=("channel", "luma"), views=4, jitter=1.0)
    first, second = channel_weights(augmentation, VISIBLE, 600).transpose(1, 0, 2)
    assert abs(np.isclose(first, LUMA).all(1).mean() - 0.5) < 0.06
    assert not first[~np.isclose(first, LUMA).all(1)].any() and (second.max(1) == 1).all()
    drawn = rows(augmentation, INFRARED, 50)
    brightness = drawn[:, :, ROW.index("brightness")]
    assert (brightness[:, 0] == 1).all() and (brightness[:, 1] != 1).all()
    modalities = torch.tensor([VISIBLE, INFRARED])
    batch = {
        "images": torch.zeros(2, *SIZE, 3, dtype=torch.uint8),
        "augment": torch.from_numpy(np.stack([augmentation.sample(m, 3) for m in (0, 1)])),
        "modalities": modalities,
    }
    assert to_device(batch, torch.device("cpu"))["modalities"].tolist() == [0, 1, 0, 1]
