"""Features of all ranks, so that a loss has the centres and negatives of the whole batch."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _Gather(torch.autograd.Function):
    """Concatenation over the ranks, in their order.

    Every rank computes the same loss of all features, and DistributedDataParallel averages the
    ranks' gradients. So each rank's part of the gradient is multiplied by the number of ranks; the
    average then is the gradient of that one loss.
    """

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        """(B, ...) -> (R B, ...)."""
        parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, mine.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """(R B, ...) -> (B, ...)."""
        ranks = dist.get_world_size()
        return ranks * gradient.chunk(ranks)[dist.get_rank()]


def across_ranks(mine: Tensor, on: bool = True) -> Tensor:
    """(B, ...) of each of R ranks -> (R B, ...), with gradient.

    Every rank must call this, with the same shape. The input itself if there is one rank or `on`
    is False.
    """
    several = on and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return _Gather.apply(mine) if several else mine
