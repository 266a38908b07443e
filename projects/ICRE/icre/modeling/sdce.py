"""SDCE: deep features take from the clues (cross-attention), then settle (self-attention).

Semantic Distillation Cascade Enhancement of ICRE (arXiv 2512.04522). The paper states a two-stage
transformer, cross- then self-attention with a nonlinear refinement; pre-norm residual blocks, as
in ViT (Dosovitskiy et al., ICLR 2021), are our reading (method card, projects/ICRE/README.md).

Shapes: B images, N = h*w tokens of d channels, C channels of layer4, H heads.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from icre.utils.choice import pick
from icre.utils.errors import UserError


def to_tokens(x: Tensor) -> Tensor:
    """(B, d, h, w) -> (B, N, d)."""
    return x.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, N, d) -> (B, d, h, w)."""
    return tokens.transpose(1, 2).unflatten(2, grid)


class Attention(nn.Module):
    """Multi-head attention MHA(q, k, v) with k and v from one source.

    Args:
        dim: channels d of queries and source.
        heads: H; must divide d.
        dropout: share of attention weights dropped in training.
    """

    def __init__(self, *, dim: int, heads: int, dropout: float = 0.0):
        super().__init__()
        if dim % heads:
            raise UserError(f"MODEL.SDCE.HEADS {heads} does not divide MODEL.MPFR.DIM {dim}")
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, asking: Tensor, answering: Tensor) -> Tensor:
        """(B, N, d) asks, (B, M, d) answers -> (B, N, d)."""
        q = self._split(self.query(asking))  # (B, H, N, d/H)
        k, v = (self._split(x) for x in self.key_value(answering).chunk(2, dim=-1))
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """(B, N, d) -> (B, H, N, d/H)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Sequential):
    """FFN(LN x): (B, N, d) -> (B, N, d), with `ratio` * d hidden channels and GELU."""

    def __init__(self, *, dim: int, ratio: float, dropout: float):
        hidden = int(dim * ratio)
        super().__init__(
            nn.LayerNorm(dim),
            nn.Linear(dim, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, dim),
            nn.Dropout(dropout),
        )


class Order(NamedTuple):
    """How the two stages are strung together.

    `combine` is (SDCE, T, U) -> (B, N, d); `distils` and `settles` say which stages it calls, so
    that no other one is built (a parameter without gradient stops DDP).
    """

    combine: Callable[["SDCE", Tensor, Tensor], Tensor]
    distils: bool
    settles: bool


# MODEL.SDCE.ORDER, of T (asks) and U (answers)
ORDERS = {
    # settle(distil(T, U))
    "cascade": Order(lambda sdce, t, u: sdce.settle(sdce.distil(t, u)), True, True),
    # distil(T, U)
    "cross": Order(lambda sdce, t, u: sdce.distil(t, u), True, False),
    # settle(T + U): the clues are added, not attended to
    "self": Order(lambda sdce, t, u: sdce.settle(t + u), False, True),
    # distil(T, U) + settle(T) - T: both stages start from T, and add what they find
    "parallel": Order(lambda sdce, t, u: sdce.distil(t, u) + sdce.settle(t) - t, True, True),
}

# MODEL.SDCE.QUERY: (what is of the deep map, what is of the clues) -> (what asks, what answers)
QUERIES: dict[str, Callable] = {
    "deep": lambda deep, clues: (deep, clues),
    "clue": lambda deep, clues: (clues, deep),
}


class SDCE(nn.Module):
    """The cascade, on maps.

    distil: T1 = T   + MHA(LN T, LN U, LN U)        T1' = T1 + FFN(LN T1)   take from the clues
    settle: T2 = T1' + MHA(LN T1', LN T1', LN T1')  T2' = T2 + FFN(LN T2)   among own tokens

    Each image attends to itself only, so inference is per image.

    Args:
        in_channels: C of the deep map.
        dim: d of the clue map, of all tokens and of the result.
        heads: H; must divide d.
        ffn_ratio: hidden width of the feed-forward over d.
        dropout: rate inside attention and feed-forward.
        query: one of QUERIES; which of the two maps asks (and is enhanced).
        order: one of ORDERS.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        dim: int,
        heads: int,
        ffn_ratio: float = 4.0,
        dropout: float = 0.0,
        query: str = "deep",
        order: str = "cascade",
    ):
        super().__init__()
        self.roles = pick("MODEL.SDCE.QUERY", query, QUERIES)
        self.order = pick("MODEL.SDCE.ORDER", order, ORDERS)
        self.ask = nn.Conv2d(in_channels, dim, 1)
        if self.order.distils:
            self.norm_deep = nn.LayerNorm(dim)
            self.norm_clues = nn.LayerNorm(dim)
            self.cross_attention = Attention(dim=dim, heads=heads, dropout=dropout)
            self.cross_ffn = FeedForward(dim=dim, ratio=ffn_ratio, dropout=dropout)
        if self.order.settles:
            self.norm_self = nn.LayerNorm(dim)
            self.self_attention = Attention(dim=dim, heads=heads, dropout=dropout)
            self.self_ffn = FeedForward(dim=dim, ratio=ffn_ratio, dropout=dropout)
        self.apply(_init_weights)

    def forward(self, deep: Tensor, clues: Tensor) -> Tensor:
        """Enhance one map by the other.

        Args:
            deep: X_4, (B, C, h, w).
            clues: F_c, (B, d, h, w).

        Returns:
            T2' as a map, (B, d, h, w).
        """
        t, u = self.roles(to_tokens(self.ask(deep)), to_tokens(clues))  # (B, N, d) each
        return to_map(self.order.combine(self, t, u), deep.shape[-2:])

    def distil(self, t: Tensor, u: Tensor) -> Tensor:
        """T, U -> T1', (B, N, d) each."""
        norm_t, norm_u = self.roles(self.norm_deep, self.norm_clues)
        t = t + self.cross_attention(norm_t(t), norm_u(u))
        return t + self.cross_ffn(t)

    def settle(self, t: Tensor) -> Tensor:
        """T1' -> T2', (B, N, d) each."""
        s = self.norm_self(t)
        t = t + self.self_attention(s, s)
        return t + self.self_ffn(t)


class CluesOnly(nn.Module):
    """Stands where SDCE is off: the clue map itself is what gets added to the deep map."""

    def forward(self, deep: Tensor, clues: Tensor) -> Tensor:
        """(B, C, h, w), (B, d, h, w) -> clues (B, d, h, w)."""
        return clues


def _init_weights(module: nn.Module) -> None:
    """Xavier for linear layers (as torch's own transformer), Kaiming for the convolution."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
        nn.init.zeros_(module.bias)
