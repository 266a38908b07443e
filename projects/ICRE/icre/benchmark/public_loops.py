"""Two public training loops, run from a user's clone: AGW and DEEN.

AGW: github.com/mangye16/Cross-Modal-Re-ID-baseline, `train.py` (Ye et al., TPAMI 2021). DEEN:
github.com/ZYK100/LLCM, `DEEN/train.py` (Zhang and Wang, CVPR 2023). Network, losses, data set and
sampler are the clone's, and none of its code is part of this project; `step` does what the
function `train` of that file does with a batch, in its order and with the readings for its meters.
Both train in float32, as they are.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms as T

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.benchmark.loops import Loop, Setup, as_floats, random_batches
from icre.benchmark.measure import StepTimer
from icre.data.loader import modalities_of
from icre.datasets import load_dataset
from icre.modality import INFRARED, VISIBLE
from icre.utils.errors import UserError
from icre.utils.image import read_image

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_MODULES = ("resnet", "model", "loss", "utils", "data_loader")
_LR = 0.1 / 10  # their first epoch's (`adjust_learning_rate`); a tenth of it for the backbone
_IDENTITIES = 64  # they hold all training images in memory; so many are enough to time them
Batch = tuple[Tensor, Tensor, Tensor, Tensor]  # visible, infrared (B/2, 3, H, W); their labels


class PublicLoop(Loop):
    """What the two loops share: SGD in three groups, both halves moved, features of their test.

    Args:
        folder: the clone.
        cfg: names the training sets, where `setup.root` is set.
        setup: what all loops share.
    """

    precision = "fp32"
    option: str  # of the command line
    repository: str
    inner = "."  # folder of model.py in the clone
    modules: tuple[str, ...] = ()  # to load besides _MODULES

    def __init__(self, folder: str, cfg: CfgNode, setup: Setup):
        torch.manual_seed(setup.seed)
        self.device, self.timer = setup.device, StepTimer(setup.device)
        clone = load_clone(self.option, folder, self.inner, self.modules)
        self.model = self.build(clone, setup).to(setup.device).train()
        self._net = self.timer.wrap(self.model)
        self._optimizer = three_groups(self.model)
        self._batches: Iterator[Batch]
        if setup.root:
            self._batches = _loaded_batches(clone, self.transform(clone, setup.size), cfg, setup)
        else:
            self._batches = cycle(_random_batches(setup))

    def build(self, clone: SimpleNamespace, setup: Setup) -> nn.Module:
        """The clone's network; keeps its losses."""
        raise NotImplementedError

    def transform(self, clone: SimpleNamespace, size: tuple[int, int]) -> Callable:
        """The training transform of its train.py."""
        raise NotImplementedError

    def update(self, loss: Tensor, *parts: Tensor) -> None:
        """The end of both loops' iterations; their meters read each loss on the host."""
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        for value in (loss, *parts):
            value.item()

    @torch.no_grad()
    def extract(self, pixels: Tensor, modalities: Tensor, flip: bool) -> Tensor:
        """As their `test` does for one modality; their tests have no flip, here it is averaged."""
        images = normalised(pixels).to(self.device)
        feature, attended = self.model(images, images, 1)
        if flip:
            mirrored = images.flip(dims=[3])
            attended = (attended + self.model(mirrored, mirrored, 1)[1]) / 2
        feature.cpu()
        return attended.cpu()


class AgwLoop(PublicLoop):
    """`--method agw`: non-local blocks, GeM pooling, ID and weighted-regularised triplet loss."""

    name, option = "AGW (public)", "--agw"
    repository = "github.com/mangye16/Cross-Modal-Re-ID-baseline"

    def build(self, clone: SimpleNamespace, setup: Setup) -> nn.Module:
        """embed_net with no_local and gm_pool on."""
        self._id, self._triplet = nn.CrossEntropyLoss(), clone.loss.TripletLoss_WRT()
        return clone.model.embed_net(setup.classes, no_local="on", gm_pool="on", arch="resnet50")

    def transform(self, clone: SimpleNamespace, size: tuple[int, int]) -> Callable:
        """`transform_train`."""
        return _transform(size, [], [])

    def step(self) -> None:
        """One iteration of `train`, train.py."""
        first, second, label1, label2 = next(self._batches)
        labels = torch.cat((label1, label2), 0)
        first, second = first.to(self.device), second.to(self.device)
        labels = labels.to(self.device)
        feature, logits = self._net(first, second)
        loss_id = self._id(logits, labels)
        loss_triplet, _ = self._triplet(feature, labels)
        predicted = logits.max(1)[1]
        predicted.eq(labels).sum().item()
        self.update(loss_id + loss_triplet, loss_id, loss_triplet)


class DeenLoop(PublicLoop):
    """DEEN for SYSU-MM01: three-fold embeddings, ID, triplet, CPM and orthogonality losses."""

    name, option, inner, modules = "DEEN (public)", "--deen", "DEEN", ("random_erasing",)
    repository = "github.com/ZYK100/LLCM"

    def build(self, clone: SimpleNamespace, setup: Setup) -> nn.Module:
        """embed_net of data set "sysu"."""
        self._id = nn.CrossEntropyLoss()
        self._triplet = clone.loss.OriTripletLoss(batch_size=setup.batch // 2, margin=0.3)
        self._cpm = clone.loss.CPMLoss(margin=0.2)
        return clone.model.embed_net(setup.classes, "sysu", arch="resnet50")

    def transform(self, clone: SimpleNamespace, size: tuple[int, int]) -> Callable:
        """`transform_sysu`."""
        erasing = clone.random_erasing.RandomErasing(
            probability=0.5, sl=0.2, sh=0.8, r1=0.3, mean=MEAN
        )
        return _transform(size, [T.RandomGrayscale(p=0.5)], [erasing])

    def step(self) -> None:
        """One iteration of `train`, DEEN/train.py, with its lambda_1 0.8 and lambda_2 0.01."""
        first, second, label1, label2 = next(self._batches)
        four = torch.cat((label1, label2) * 2, 0)
        six = torch.cat((label1, label2) * 3, 0)
        first, second = first.to(self.device), second.to(self.device)
        four, six = four.to(self.device), six.to(self.device)
        feature, logits, loss_ort = self._net(first, second)
        loss_id = self._id(logits, six)
        loss_triplet = self._triplet(feature, six)
        part1, part2, part3 = torch.chunk(feature, 3, 0)
        loss_cpm = 0.8 * (
            self._cpm(torch.cat((part1, part2), 0), four)
            + self._cpm(torch.cat((part1, part3), 0), four)
        )
        loss_ort = 0.01 * loss_ort
        loss = loss_id + loss_triplet + loss_cpm + loss_ort
        self.update(loss, loss_id, loss_triplet, loss_cpm, loss_ort)


def three_groups(net: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of both train.py: bottleneck and classifier at ten times the others' rate."""
    heads = [*net.bottleneck.parameters(), *net.classifier.parameters()]
    known = {id(parameter) for parameter in heads}
    base = [parameter for parameter in net.parameters() if id(parameter) not in known]
    return torch.optim.SGD(
        [
            {"params": base, "lr": 0.1 * _LR},
            {"params": net.bottleneck.parameters()},
            {"params": net.classifier.parameters()},
        ],
        lr=_LR,
        weight_decay=5e-4,
        momentum=0.9,
        nesterov=True,
    )


def _transform(size: tuple[int, int], before_crop: list, at_end: list) -> Callable:
    """The transforms of both train.py."""
    crop = [T.Pad(10), *before_crop, T.RandomCrop(size), T.RandomHorizontalFlip()]
    return T.Compose([T.ToPILImage(), *crop, T.ToTensor(), T.Normalize(MEAN, STD), *at_end])


def normalised(pixels: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) by ImageNet's mean and deviation."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (as_floats(pixels) / 255 - mean) / std


def _random_batches(setup: Setup) -> list[Batch]:
    """The batches of `random_batches`, normalised and halved as their loader gives them."""
    half = setup.batch // 2
    return [
        (*normalised(batch["images"]).split(half), *batch["targets"].split(half))
        for batch in random_batches(setup)
    ]


def _loaded_batches(
    clone: SimpleNamespace, transform: Callable, cfg: CfgNode, setup: Setup
) -> Iterator[Batch]:
    """Endless batches of their SYSUData and IdentitySampler on the images below `setup.root`.

    Their data set reads one large array; here its arrays are filled from the tree.
    """
    data = clone.data_loader.SYSUData.__new__(clone.data_loader.SYSUData)
    visible, infrared = _training_images(cfg, setup)
    data.train_color_image, data.train_color_label = visible
    data.train_thermal_image, data.train_thermal_label = infrared
    data.transform = transform
    labels = data.train_color_label, data.train_thermal_label
    positions = clone.utils.GenIdx(*labels)
    identities = setup.batch // (2 * setup.instances)
    while True:
        sampler = clone.utils.IdentitySampler(*labels, *positions, setup.instances, identities, 0)
        data.cIndex, data.tIndex = sampler.index1, sampler.index2
        yield from DataLoader(
            data,
            batch_size=setup.batch // 2,
            sampler=sampler,
            num_workers=setup.workers,
            drop_last=True,
        )


def _training_images(cfg: CfgNode, setup: Setup) -> list[tuple[np.ndarray, np.ndarray]]:
    """(images (N, H, W, 3) uint8, labels (N,)) of the visible, then of the infrared modality."""
    paths: dict[int, dict[int, list[str]]] = {}
    for name in cfg.DATASETS.NAMES:
        data = load_dataset(cfg, name)
        for item, modality in zip(data.train, modalities_of(data, data.train)):
            paths.setdefault(item[1], {}).setdefault(modality, []).append(item[0])
    both = [one for one in paths.values() if len(one) == 2][:_IDENTITIES]
    needed = setup.batch // (2 * setup.instances)
    if len(both) < needed:
        raise UserError(
            f"{setup.root}: {len(both)} training identities are seen in both modalities, a batch "
            f"of {setup.batch} needs {needed}"
        )
    return [_read([one[modality] for one in both], setup.size) for modality in (VISIBLE, INFRARED)]


def _read(paths: list[list[str]], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, 3) uint8 and labels (N,) of each identity's paths."""
    images = [np.array(read_image(path).resize(size[::-1])) for own in paths for path in own]
    labels = [label for label, own in enumerate(paths) for _ in own]
    return np.stack(images), np.array(labels)


def load_clone(
    option: str, folder: str | Path, inner: str, extra: tuple[str, ...] = ()
) -> SimpleNamespace:
    """The clone's modules, by name; its networks start from random weights (no download).

    Both loops name their files `model`, `resnet`, `loss`, `utils`, so nothing stays in sys.modules.

    Args:
        option: the command-line option that named the folder, for errors.
        folder: the clone, or the folder in it that holds model.py.
        inner: where model.py lies in the clone ("." for its root).
        extra: modules to load besides _MODULES.

    Raises:
        UserError: no model.py there, or it does not import.
    """
    with _isolated_imports(locate_clone(option, folder, inner), _MODULES + extra):
        try:
            resnet = importlib.import_module("resnet")
            build = resnet.resnet50  # called with pretrained=True, which would download
            resnet.resnet50 = lambda pretrained=False, **options: build(pretrained=False, **options)
            return SimpleNamespace(
                **{name: importlib.import_module(name) for name in _MODULES + extra}
            )
        except ImportError as error:
            raise UserError(f"{option} {folder}: its code does not import ({error})") from None


def locate_clone(option: str, folder: str | Path, inner: str) -> Path:
    """The folder of model.py; arguments and errors as `load_clone`'s."""
    candidates = [Path(folder) / inner, Path(folder)]
    for candidate in candidates:
        if (candidate / "model.py").is_file():
            return candidate
    raise UserError(f"{option} {folder}: no model.py in {candidates[0]}; name a clone")


@contextmanager
def _isolated_imports(folder: Path, names: tuple[str, ...]) -> Iterator[None]:
    """`folder` first on sys.path and `names` not in sys.modules; both as before afterwards."""
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(folder.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(folder.resolve()))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)
