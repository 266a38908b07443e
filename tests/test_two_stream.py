"""Routing by modality, fast-reid's ResNet inside, and pretrained weights with their errors."""

import pickle

import pytest
import torch

from fastreid.modeling.backbones import build_resnet_backbone

from icre.modality import INFRARED, NAMES, VISIBLE
from icre.modeling import build_two_stream_resnet_backbone
from icre.utils.errors import UserError
from small_model import build_narrow_two_stream_backbone, randomise_norms, small_cfg

TWO_LAYERS = ("MODEL.BACKBONE.SPECIFIC_STAGES", 1)
WITH_NL = ("MODEL.BACKBONE.DEPTH", "50x", "MODEL.BACKBONE.WITH_NL", True)  # none in a ResNet-18


def build(*options: object):
    torch.manual_seed(0)
    return build_two_stream_resnet_backbone(small_cfg(*options))


def narrow(*options: object):
    torch.manual_seed(0)
    return build_narrow_two_stream_backbone(small_cfg(*options))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(6, 3, 64, 32, generator=torch.Generator().manual_seed(0))


MIXED = torch.tensor([VISIBLE, INFRARED, INFRARED, VISIBLE, INFRARED, VISIBLE])


@pytest.mark.parametrize(
    "depth, channels", [("18x", (64, 128, 256, 512)), ("50x", (256, 512, 1024, 2048))]
)
@pytest.mark.parametrize("specific", [0, 1])
def test_shapes(images, depth, channels, specific):
    backbone = build("MODEL.BACKBONE.DEPTH", depth, "MODEL.BACKBONE.SPECIFIC_STAGES", specific)
    maps = backbone(images[:2], MIXED[:2])
    sizes = [(16, 8), (8, 4), (4, 2), (4, 2)]
    expected = {f"layer{i + 1}": (2, c, *sizes[i]) for i, c in enumerate(channels)}
    assert {name: tuple(x.shape) for name, x in maps.items()} == expected
    assert backbone.channels == dict(zip(expected, channels))


@pytest.mark.parametrize(
    "options", [(), TWO_LAYERS, ("MODEL.BACKBONE.WITH_IBN", True, "MODEL.BACKBONE.WITH_SE", True)]
)
def test_equals_fast_reids_resnet_while_the_stems_are_equal(images, options):
    ours = build(*options).eval()
    torch.manual_seed(0)
    resnet = build_resnet_backbone(small_cfg(*options)).eval()
    torch.testing.assert_close(ours(images, MIXED)["layer4"], resnet(images))


@pytest.mark.slow
def test_non_local_blocks_follow_their_blocks(images):
    ours = build(*WITH_NL)
    torch.manual_seed(0)
    resnet = build_resnet_backbone(small_cfg(*WITH_NL))
    for number in (2, 3):
        blocks = getattr(resnet, f"NL_{number}")
        mine = [m for m in ours.stages[f"layer{number}"] if type(m) is type(blocks[0])]
        assert len(mine) == len(blocks) == {2: 2, 3: 3}[number]
        for one, other in zip(mine, blocks):  # they start as identities: wake both up alike
            randomise_norms(one, seed=number)
            randomise_norms(other, seed=number)
    found = ours.eval()(images[:2], MIXED[:2])["layer4"]
    torch.testing.assert_close(found, resnet.eval()(images[:2]))


@pytest.mark.parametrize("options", [(), TWO_LAYERS])
def test_an_image_goes_through_its_modalitys_stem(images, options):
    backbone = narrow(*options).eval()
    before = backbone(images, MIXED)["layer4"]
    backbone.stems["infrared"].conv1.weight.data.mul_(-1)
    after = backbone(images, MIXED)["layer4"]
    changed = (before != after).flatten(1).any(dim=1)
    assert torch.equal(changed, MIXED == INFRARED)


def test_order_of_the_batch_does_not_matter(images):
    backbone = narrow().eval()
    backbone.stems["infrared"].conv1.weight.data.mul_(-1)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    expected = backbone(images, MIXED)["layer4"][order]
    torch.testing.assert_close(backbone(images[order], MIXED[order])["layer4"], expected)


@pytest.mark.parametrize("modality", [VISIBLE, INFRARED])
def test_one_modality_leaves_the_other_stem_untouched(images, modality):
    backbone = narrow()
    backbone(images, torch.full((6,), modality))["layer4"].sum().backward()
    seen, unseen = NAMES[modality], NAMES[1 - modality]
    assert backbone.stems[seen].bn1.num_batches_tracked == 1
    assert backbone.stems[unseen].bn1.num_batches_tracked == 0
    assert backbone.stems[seen].conv1.weight.grad is not None
    assert backbone.stems[unseen].conv1.weight.grad is None


def test_batch_statistics_of_a_stem_are_its_own_images(images):
    mixed, alone = narrow(), narrow()
    mixed(images, MIXED)
    alone(images[MIXED == VISIBLE], MIXED[MIXED == VISIBLE])
    torch.testing.assert_close(
        mixed.stems["visible"].bn1.running_mean, alone.stems["visible"].bn1.running_mean
    )


def test_stems_start_equal_and_own_their_tensors():
    stems = narrow(*TWO_LAYERS).stems
    for one, other in zip(stems["visible"].parameters(), stems["infrared"].parameters()):
        assert torch.equal(one, other) and one is not other


def test_channels_last_survives(images):
    maps = narrow().eval()(images.contiguous(memory_format=torch.channels_last), MIXED)
    assert maps["layer4"].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("bad", [[0, 1, 2, 0, 1, 0], [0, 1, 0], [-1] * 6])
def test_bad_modalities_are_shown(images, bad):
    with pytest.raises(UserError, match="modalities must hold 0 or 1 for each of 6 images"):
        narrow()(images, torch.tensor(bad))


@pytest.mark.parametrize("key, value", [("DEPTH", "42x"), ("SPECIFIC_STAGES", 2)])
def test_bad_keys_are_named(key, value):
    with pytest.raises(UserError, match=f"MODEL.BACKBONE.{key}.*{value}.* (must be|known: )"):
        build(f"MODEL.BACKBONE.{key}", value)


# pretrained weights


def pretrained(path: object) -> tuple[object, ...]:
    return ("MODEL.BACKBONE.PRETRAIN", True, "MODEL.BACKBONE.PRETRAIN_PATH", str(path))


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """The weights of another random ResNet-18 with a classifier, as torchvision's files have."""
    torch.manual_seed(9)
    resnet = build_resnet_backbone(small_cfg())
    randomise_norms(resnet)
    return {**resnet.state_dict(), "fc.weight": torch.zeros(1000, 512)}


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    """An empty cache of weights, and a machine that is offline."""

    def offline(url: str, path: str) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), TWO_LAYERS])
def test_pretrained_file_fills_both_stems_and_the_stages(tmp_path, state, images, options):
    torch.save(state, tmp_path / "r18.pth")
    ours = build(*pretrained(tmp_path / "r18.pth"), *options).eval()
    resnet = build_resnet_backbone(small_cfg()).eval()
    resnet.load_state_dict(state, strict=False)
    torch.testing.assert_close(ours(images, MIXED)["layer4"], resnet(images))


def test_kept_file_is_found_without_network(torch_home, state):
    (torch_home / "checkpoints").mkdir()
    torch.save(state, torch_home / "checkpoints" / "resnet18-5c106cde.pth")
    ours = build("MODEL.BACKBONE.PRETRAIN", True)
    assert torch.equal(ours.stems["infrared"].conv1.weight, state["conv1.weight"])


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"PRETRAIN_PATH: no file .*nowhere\.pth"):
        build(*pretrained(tmp_path / "nowhere.pth"))


def test_offline_names_the_key_and_the_file(torch_home):
    with pytest.raises(UserError) as caught:
        build("MODEL.BACKBONE.PRETRAIN", True)
    message = str(caught.value)
    assert "MODEL.BACKBONE.PRETRAIN_PATH" in message and "no network" in message
    assert str(torch_home / "checkpoints" / "resnet18-5c106cde.pth") in message
    assert "\n" not in message


def test_kind_without_weights_lists_those_that_exist(torch_home):
    with pytest.raises(UserError, match=r"no weights for .se_18x.*ibn_50x"):
        build("MODEL.BACKBONE.PRETRAIN", True, "MODEL.BACKBONE.WITH_SE", True)


class Payload:
    """A pickle that runs code when it is read."""

    def __reduce__(self):
        return (eval, ("__import__('builtins').__dict__.update(icre_was_hacked=True)",))


def test_a_pickle_with_code_is_refused(tmp_path):
    import builtins

    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"conv1.weight": Payload()}, protocol=2))
    torch.save({"conv1.weight": Payload()}, tmp_path / "evil_zip.pth")
    for name in ("evil.pth", "evil_zip.pth"):
        with pytest.raises(UserError, match=f"PRETRAIN_PATH: .*{name} is broken, or not a plain"):
            build(*pretrained(tmp_path / name))
    assert not hasattr(builtins, "icre_was_hacked")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 cut short"])
def test_a_broken_file_is_named(tmp_path, content):
    (tmp_path / "broken.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"PRETRAIN_PATH: .*broken\.pth is broken"):
        build(*pretrained(tmp_path / "broken.pth"))


@pytest.mark.slow
def test_weights_of_another_network_are_refused(tmp_path, state):
    torch.save(state, tmp_path / "r18.pth")
    with pytest.raises(UserError, match=r"r18\.pth .*layer1.* is \(64, .*DEPTH"):
        build(*pretrained(tmp_path / "r18.pth"), "MODEL.BACKBONE.DEPTH", "50x")
