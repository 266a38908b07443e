"""A loss over the batches of all ranks: centres and negatives of the whole batch, not of a part."""

import torch
import torch.distributed as dist
from torch import Tensor


class _Gather(torch.autograd.Function):
    """All ranks' rows, in the order of the ranks.

    Every rank computes the same loss of all rows, and DDP averages the ranks' gradients. So each
    rank's share of the gradient is handed on times the number of ranks, and the average is the
    gradient of that one loss.
    """

    @staticmethod
    def forward(ctx, mine: Tensor) -> Tensor:
        """(B, ...) -> (R B, ...)."""
        parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, mine.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        """(R B, ...) -> (B, ...)."""
        ranks = dist.get_world_size()
        return ranks * gradient.chunk(ranks)[dist.get_rank()]


def across_ranks(mine: Tensor, on: bool = True) -> Tensor:
    """(B, ...) of each of R ranks -> (R B, ...), with gradient; as it is, alone or with `on` False.

    Every rank calls this, with the same shape.
    """
    several = on and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return _Gather.apply(mine) if several else mine
