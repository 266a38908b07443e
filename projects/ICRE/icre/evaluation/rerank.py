"""k-reciprocal re-ranking, exact and sparse: memory O(N k) beside a block of query x gallery.

fast-reid's two functions build dense matrices of all N = Q + G images; here every image keeps its
short lists, and the results are the same. Where there are fewer images than a list is long, the
list ends with them. Which of equally near images (copies) comes first in a list is not defined.
"""

from collections.abc import Iterator
from functools import partial
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from icre.evaluation import rerank_tensor
from icre.evaluation.neighbours import bar, block_rows, nearest
from icre.evaluation.rerank_options import Reranking
from icre.evaluation.reranked import Reranker
from icre.utils.errors import UserError

Features = np.ndarray | Tensor
_UNIT = 1e-3  # how far from 1 a norm may lie


def rerank(
    query: Features,
    gallery: Features,
    *,
    algorithm: str = "fastreid",
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
) -> Features:
    """Re-ranked distances of every query to every gallery image (Zhong et al., CVPR 2017).

    They depend on the whole set: all queries and the gallery are each other's neighbours.

    Args:
        query, gallery: (Q, D) and (G, D) float32, L2-normalised; both arrays, or both tensors on
            one device. Compiled loops work on a CPU's; a GPU's are worked on where they are.
        algorithm: "fastreid" or "original", see `rerank_options`.
        k1: neighbours of the reciprocal lists, at least 1.
        k2: codes that are averaged, at least 1 (1: none).
        lambda_value: share of the plain distance, 0 to 1.

    Returns:
        (Q, G) float32, (1 - lambda) * Jaccard + lambda * plain distance, smaller is nearer; an
        array or a tensor as the features are.

    Raises:
        UserError: one line that says what is wrong with the features or the numbers.

    >>> import numpy as np, icre
    >>> angles = np.radians([0, 12, 20, 80, 90])
    >>> features = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    >>> icre.rerank(features[:2], features[2:], k1=2, k2=1, lambda_value=0.3).round(2)
    array([[0.72, 0.95, 1.  ],
           [0.02, 0.89, 0.94]], dtype=float32)
    """
    choice = Reranking(algorithm, k1, k2, lambda_value)
    return rerank_with(choice, query, gallery)


def rerank_with(choice: Reranking, query: Features, gallery: Features) -> Features:
    """`rerank` by a choice that is made already."""
    features = _joined(query, gallery)
    result = whole(_blocks(features, len(query), choice), len(query), len(gallery))
    return result.numpy() if isinstance(query, np.ndarray) else result


def rerank_blocks(
    choice: Reranking, query: Features, gallery: Features, rows: int | None = None
) -> Iterator[tuple[slice, Features]]:
    """`rerank` in blocks of queries, for a result that need not be kept whole.

    Args:
        choice, query, gallery: see `rerank_with`; checked at once.
        rows: queries a block; None: what suits the device.

    Returns:
        (places of the queries, their (q, G) distances) in order; the work begins with the first.
    """
    blocks = _blocks(_joined(query, gallery), len(query), choice, rows)
    if isinstance(query, np.ndarray):
        return ((places, block.numpy()) for places, block in blocks)
    return blocks


def reranker(choice: Reranker | Reranking | str | None) -> Reranker | None:
    """The re-ranker of `score` and `ProtocolEvaluator`; None for None.

    Args:
        choice: one that is made already, its numbers, or an algorithm's name for the default ones.
    """
    choice = Reranking(choice) if isinstance(choice, str) else choice
    if choice is None or isinstance(choice, Reranker):
        return choice
    return Reranker(choice.label, partial(rerank_with, choice))


def jaccard_distance(query: Tensor, gallery: Tensor, k1: int, k2: int) -> np.ndarray:
    """fast-reid's `build_dist(query, gallery, "jaccard")`: (Q, G), features of any norm."""
    features = torch.cat([query, gallery]).float()
    choice = Reranking("fastreid", k1, k2, lambda_value=0)
    blocks = _blocks(features, len(query), choice)
    return whole(blocks, len(query), len(gallery)).cpu().numpy()


def whole(blocks: Iterator[tuple[slice, Tensor]], queries: int, gallery: int) -> Tensor:
    """Put blocks that cover all queries together, (Q, G)."""
    result: Tensor | None = None
    for places, block in blocks:
        if result is None:
            result = block.new_empty((queries, gallery))
        result[places] = block
    assert result is not None  # there is at least one query
    return result


def path_for(device: torch.device) -> ModuleType:
    """The module that encodes and overlaps: compiled loops on a CPU, torch elsewhere."""
    if device.type != "cpu":
        return rerank_tensor
    # numba takes half a second to import, which only those who re-rank should wait for.
    from icre.evaluation import rerank_compiled

    return rerank_compiled


def mix(
    path: ModuleType,
    choice: Reranking,
    features: Tensor,
    queries: int,
    near: Tensor,
    far: Tensor | None,
    rows: int | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """All that follows the neighbour search.

    Args:
        path: `rerank_compiled` or `rerank_tensor`.
        features: (N, D), the queries first.
        queries: Q.
        near, far: as `neighbours.nearest` gives them.
        rows: queries a block.

    Returns:
        See `rerank_blocks`.
    """
    images, share = len(features), choice.lambda_value
    lists = choice.method.lists(choice.k1, choice.k2).within(images)
    # Copies of one image alone have no farthest; their distances are 0 in any unit.
    scale = features.new_ones(images) if far is None else far.clamp(min=1e-30).reciprocal()
    codes = path.encode(features, near, scale, lists, queries)
    gallery, step = features[queries:], rows or block_rows(features.device, images - queries)
    starts = range(0, queries, step)
    for start in bar(starts, "re-ranking", images):
        places = slice(start, min(start + step, queries))
        common = path.overlap(codes, places)
        jaccard = 1 - common / (2 - common)
        plain = choice.method.plain(features[places], gallery, scale[places])
        yield places, jaccard.clamp_(min=0).mul_(1 - share).add_(plain, alpha=share)


def _blocks(
    features: Tensor, queries: int, choice: Reranking, rows: int | None = None
) -> Iterator[tuple[slice, Tensor]]:
    lists = choice.method.lists(choice.k1, choice.k2).within(len(features))
    near, far = nearest(features, lists.search, farthest=choice.method.relative)
    yield from mix(path_for(features.device), choice, features, queries, near, far, rows)


def _joined(query: Features, gallery: Features) -> Tensor:
    """Query and gallery checked and stacked, (Q + G, D) float32."""
    pair = (query, gallery)
    if not any(all(isinstance(one, kind) for one in pair) for kind in (np.ndarray, Tensor)):
        kinds = " and ".join(type(one).__name__ for one in pair)
        raise UserError(f"features are {kinds}: give two arrays or two tensors")
    first, second = (one.detach() if isinstance(one, Tensor) else torch.tensor(one) for one in pair)
    sides = {"query": first, "gallery": second}
    for name, side in sides.items():
        if side.ndim != 2 or 0 in side.shape:
            shape = tuple(side.shape)
            raise UserError(f"{name} features must be (N, D) and not empty, not {shape}")
        if not side.is_floating_point():
            raise UserError(f"{name} features must be float32, not {side.dtype}")
    for what, one, other in (
        ("dimensions", first.shape[1], second.shape[1]),
        ("device", first.device, second.device),
    ):
        if one != other:
            raise UserError(f"features differ in {what}: query {one}, gallery {other}")
    for name, side in sides.items():
        _check_values(name, side)
    return torch.cat([first.float(), second.float()])


def _check_values(name: str, features: Tensor) -> None:
    broken = (~features.isfinite()).any(1).nonzero()
    if len(broken):
        raise UserError(f"{name} features of row {int(broken[0])} hold NaN or infinity")
    norms = torch.linalg.vector_norm(features.float(), dim=1)
    wrong = ((norms - 1).abs() > _UNIT).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise UserError(
            f"{name} features of row {row} have norm {norms[row]:.4g}: L2-normalise them first"
        )
