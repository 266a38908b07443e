"""SDCE: cross-attention from the deep map to the clue map, then self-attention.

Semantic Distillation Cascade Enhancement of ICRE (arXiv 2512.04522). The paper states a two-stage
transformer, cross- then self-attention with a nonlinear refinement; pre-norm residual blocks, as
in ViT (Dosovitskiy et al., ICLR 2021), are our reading (method card, projects/ICRE/README.md).

Shapes: B images, N = h*w tokens of d channels, C channels of layer4, H heads.
"""

from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from icre.utils.choice import one_of
from icre.utils.errors import UserError

T = TypeVar("T")

QUERIES = ("deep", "clue")  # MODEL.SDCE.QUERY
ORDERS = ("cascade", "cross", "self", "parallel")  # MODEL.SDCE.ORDER


def to_tokens(x: Tensor) -> Tensor:
    """(B, d, h, w) -> (B, N, d)."""
    return x.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, N, d) -> (B, d, h, w)."""
    return tokens.transpose(1, 2).unflatten(2, grid)


class Attention(nn.Module):
    """Multi-head attention MHA(q, k, v), keys and values from the same tokens.

    Args:
        dim: channels d of all tokens.
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

    def forward(self, query_tokens: Tensor, key_value_tokens: Tensor) -> Tensor:
        """(B, N, d) queries, (B, M, d) keys and values -> (B, N, d)."""
        q = self._split_heads(self.query(query_tokens))  # (B, H, N, d/H)
        k, v = self.key_value(key_value_tokens).chunk(2, dim=-1)  # (B, M, d) each
        k, v = self._split_heads(k), self._split_heads(v)  # (B, H, M, d/H) each
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)  # (B, H, N, d/H)
        return self.out(y.transpose(1, 2).flatten(2))  # (B, N, d)

    def _split_heads(self, x: Tensor) -> Tensor:
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


class SDCE(nn.Module):
    """The two-stage transformer, on maps.

    cross block: T1 = T   + MHA(LN T, LN U, LN U)        T1' = T1 + FFN(LN T1)
    self block:  T2 = T1' + MHA(LN T1', LN T1', LN T1')  T2' = T2 + FFN(LN T2)

    with query tokens T and key/value tokens U. An image attends to itself only, so inference is
    per image.

    Args:
        in_channels: C of the deep map.
        dim: d of the clue map, of all tokens and of the result.
        heads: H; must divide d.
        ffn_ratio: hidden width of the feed-forward over d.
        dropout: rate inside attention and feed-forward.
        query: "deep": T is of the deep map and U of the clue map; "clue": the other way round.
        order: of the blocks. "cascade": self(cross(T, U)); "cross": cross(T, U); "self":
            self(T + U), the clues are added, not attended to; "parallel": T plus what
            cross(T, U) and self(T) each add to it.
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
        self.query = one_of("MODEL.SDCE.QUERY", query, QUERIES)
        self.order = one_of("MODEL.SDCE.ORDER", order, ORDERS)
        self.deep_proj = nn.Conv2d(in_channels, dim, 1)
        # No block that is not used: DistributedDataParallel stops at a parameter without gradient.
        self.has_cross, self.has_self = order != "self", order != "cross"
        if self.has_cross:
            self.norm_deep = nn.LayerNorm(dim)
            self.norm_clues = nn.LayerNorm(dim)
            self.cross_attention = Attention(dim=dim, heads=heads, dropout=dropout)
            self.cross_ffn = FeedForward(dim=dim, ratio=ffn_ratio, dropout=dropout)
        if self.has_self:
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
        deep_tokens = to_tokens(self.deep_proj(deep))  # (B, N, d)
        t, u = self._query_first(deep_tokens, to_tokens(clues))  # queries; keys and values
        if self.order == "cascade":
            t = self.self_block(self.cross_block(t, u))
        elif self.order == "cross":
            t = self.cross_block(t, u)
        elif self.order == "self":
            t = self.self_block(t + u)
        else:  # parallel: both blocks start from T
            t = self.cross_block(t, u) + self.self_block(t) - t
        return to_map(t, (deep.shape[2], deep.shape[3]))  # (B, d, h, w)

    def cross_block(self, t: Tensor, u: Tensor) -> Tensor:
        """T, U -> T1', (B, N, d) each."""
        norm_t, norm_u = self._query_first(self.norm_deep, self.norm_clues)
        t = t + self.cross_attention(norm_t(t), norm_u(u))
        return t + self.cross_ffn(t)

    def self_block(self, t: Tensor) -> Tensor:
        """T1' -> T2', (B, N, d) each."""
        normed = self.norm_self(t)
        t = t + self.self_attention(normed, normed)
        return t + self.self_ffn(t)

    def _query_first(self, deep: T, clues: T) -> tuple[T, T]:
        """(of the deep map, of the clue map) -> (of the queries, of the keys and values)."""
        return (deep, clues) if self.query == "deep" else (clues, deep)


class CluesOnly(nn.Module):
    """In place of SDCE if it is off: the clue map itself is added to the deep map."""

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
        if module.bias is not None:
            nn.init.zeros_(module.bias)
