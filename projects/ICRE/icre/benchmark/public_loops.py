"""Rows of two public training loops, run from a user's clone: AGW and DEEN.

AGW: github.com/mangye16/Cross-Modal-Re-ID-baseline, `train.py` (Ye et al., TPAMI 2021). DEEN:
github.com/ZYK100/LLCM, `DEEN/train.py` (Zhang and Wang, CVPR 2023). Network, losses, data set and
sampler are the clone's; `step` does what the function `train` of that file does with a batch, in
its order and with the readings for its meters. Both train in float32, as they are.
"""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import transforms as T

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.benchmark.measure import Marks
from icre.benchmark.public_code import load_clone
from icre.benchmark.public_data import MEAN, STD, normalised, public_batches, random_public_batches
from icre.benchmark.rows import Row, Setup, endless

_LR = 0.1 / 10  # their first epoch's (`adjust_learning_rate`); a tenth of it for the backbone


class PublicRow(Row):
    """What the two loops share: SGD in three groups, both halves moved, features of their test.

    Args:
        folder: the clone.
        cfg: names the training sets, where `setup.root` is set.
        setup: what all rows share.
    """

    precision = "fp32"
    option: str
    inner = "."
    modules: tuple[str, ...] = ()

    def __init__(self, folder: str, cfg: CfgNode, setup: Setup):
        torch.manual_seed(setup.seed)
        self.device, self.marks = setup.device, Marks(setup.device)
        clone = load_clone(self.option, folder, self.inner, self.modules)
        self.model = self.build(clone, setup).to(setup.device).train()
        self._net = self.marks.seen(self.model)
        self._optimizer = three_groups(self.model)
        self._batches: Iterator[Any]
        if setup.root:
            self._batches = public_batches(clone, self.transform(clone, setup.size), cfg, setup)
        else:
            self._batches = endless(random_public_batches(setup))

    def build(self, clone: SimpleNamespace, setup: Setup) -> nn.Module:
        """The clone's network; keeps its losses."""
        raise NotImplementedError

    def transform(self, clone: SimpleNamespace, size: tuple[int, int]) -> Callable:
        """The training transform of its train.py."""
        raise NotImplementedError

    def update(self, loss: Tensor) -> None:
        """The end of both loops' iterations."""
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    def test_mode(self) -> None:
        """Evaluation mode."""
        self.model.eval()

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


class AgwRow(PublicRow):
    """`--method agw`: non-local blocks, GeM pooling, ID and weighted-regularised triplet loss."""

    name, option = "AGW (public)", "--agw"

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
        loss = loss_id + loss_triplet
        self.update(loss)
        _read(loss, loss_id, loss_triplet)


class DeenRow(PublicRow):
    """DEEN for SYSU-MM01: three-fold embeddings, ID, triplet, CPM and orthogonality losses."""

    name, option, inner, modules = "DEEN (public)", "--deen", "DEEN", ("random_erasing",)

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
        self.update(loss)
        _read(loss, loss_id, loss_triplet, loss_cpm, loss_ort)


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


def _transform(size: tuple[int, int], before: list, after: list) -> Callable:
    """Both train.py's chain; `before` stands ahead of the crop, `after` at the end."""
    return T.Compose(
        [
            T.ToPILImage(),
            T.Pad(10),
            *before,
            T.RandomCrop(size),
            T.RandomHorizontalFlip(),
            T.ToTensor(),
            T.Normalize(MEAN, STD),
            *after,
        ]
    )


def _read(*losses: Tensor) -> None:
    """Their meters read each loss on the host, in every iteration."""
    for loss in losses:
        loss.item()
