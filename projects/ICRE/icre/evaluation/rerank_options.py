"""The re-ranking algorithms, their differences, and a checked choice of one.

Two of the same name are in use, and their numbers differ:

- `fastreid`: what fast-reid's evaluator mixes in (utils/compute_dist.py:58, after OpenUnReID). k1
  neighbours with the image itself among them; weights exp(-d^2); plain part 1 - cosine.
- `original`: Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR
  2017, as in fast-reid's evaluation/rerank.py. k1 neighbours beside the image itself; d^2 over the
  row's farthest d^2 among all queries and gallery images, in the weights and as the plain part.
"""

import argparse
import numbers
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from icre.utils.errors import UserError

if TYPE_CHECKING:
    from fastreid.config import CfgNode


@dataclass(frozen=True)
class Lists:
    """How many neighbours each step looks at, the image itself among them.

    Args:
        search: neighbours to find.
        full, half: for R(i, k1), and for the R(j, k1 / 2) that expand it.
        expand: how many codes are averaged (k2); 1: none.
    """

    search: int
    full: int
    half: int
    expand: int

    def within(self, images: int) -> "Lists":
        """The lists where there are only so many images."""
        return Lists(*(min(one, images) for one in astuple(self)))


@dataclass(frozen=True)
class Algorithm:
    """The differences between the algorithms.

    Args:
        lists: (k1, k2) -> Lists. Halves are rounded to even, as Python and NumPy do.
        relative: squared distances count in units of the row's largest.
        plain: ((q, D), (G, D), (q,) one over that largest) -> (q, G), what is mixed in.
    """

    lists: Callable[[int, int], Lists]
    relative: bool
    plain: Callable[[Tensor, Tensor, Tensor], Tensor]


def _fastreid_lists(k1: int, k2: int) -> Lists:
    return Lists(k1, k1, min(round(k1 / 2) + 1, k1), min(k2, k1))


def _original_lists(k1: int, k2: int) -> Lists:
    return Lists(max(k1 + 1, k2), k1 + 1, round(k1 / 2) + 1, k2)


def _cosine(query: Tensor, gallery: Tensor, scale: Tensor) -> Tensor:
    return (query @ gallery.T).neg_().add_(1)


def _relative_square(query: Tensor, gallery: Tensor, scale: Tensor) -> Tensor:
    norms = gallery.square().sum(1) + query.square().sum(1, keepdim=True)
    return norms.addmm_(query, gallery.T, alpha=-2).clamp_(min=0).mul_(scale[:, None])


ALGORITHMS = {
    "fastreid": Algorithm(_fastreid_lists, relative=False, plain=_cosine),
    "original": Algorithm(_original_lists, relative=True, plain=_relative_square),
}


@dataclass(frozen=True)
class Reranking:
    """A choice of algorithm and numbers.

    Args:
        algorithm: key of `ALGORITHMS`.
        k1: neighbours of the reciprocal lists, at least 1.
        k2: codes that are averaged, at least 1 (1: none).
        lambda_value: share of the plain distance, 0 to 1.

    Raises:
        UserError: a value outside of these.
    """

    algorithm: str = "fastreid"
    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            names = ", ".join(ALGORITHMS)
            raise UserError(f"unknown re-ranking '{self.algorithm}'; the names are {names}")
        for name in ("k1", "k2"):
            value = getattr(self, name)
            if not isinstance(value, numbers.Integral) or value < 1:
                raise UserError(f"re-ranking: {name} is {value}, it must be an integer from 1 on")
        if not 0 <= self.lambda_value <= 1:
            raise UserError(f"re-ranking: lambda is {self.lambda_value}, it must be from 0 to 1")

    @property
    def label(self) -> dict[str, Any]:
        """What a result record says of it."""
        return {
            "algorithm": self.algorithm,
            "k1": self.k1,
            "k2": self.k2,
            "lambda": self.lambda_value,
        }

    @property
    def method(self) -> Algorithm:
        """The algorithm of that name."""
        return ALGORITHMS[self.algorithm]


def reranking(cfg: "CfgNode") -> Reranking | None:
    """TEST.RERANK -> the choice; None where it is off.

    Raises:
        UserError: an unknown algorithm, or a number out of its range.
    """
    node = cfg.TEST.RERANK
    if not node.ENABLED:
        return None
    try:
        return Reranking(node.ALGORITHM, node.K1, node.K2, node.LAMBDA)
    except UserError as error:
        raise UserError(f"TEST.RERANK: {error}") from None


def from_arguments(args: argparse.Namespace) -> Reranking | None:
    """The choice by --rerank, --k1, --k2 and --lambda; None without --rerank.

    Raises:
        UserError: a number out of its range, or one without --rerank.
    """
    values = {name: getattr(args, name) for name in ("k1", "k2", "lambda_value")}
    given = {name: value for name, value in values.items() if value is not None}
    if args.rerank is None:
        if given:
            option = "--" + next(iter(given)).removesuffix("_value")
            raise UserError(f"{option} is re-ranking's: name --rerank {'|'.join(ALGORITHMS)} too")
        return None
    return Reranking(args.rerank, **given)
