"""The two networks, at any size: the teacher and the student differ only in their numbers.

``TextTower`` reads a title's hashed tokens; ``UserTower`` reads a history. The user tower is a
pre-norm causal transformer in the manner of SASRec (Kang & McAuley, ICDM 2018) trained with the
full softmax (eSASRec, Petrov et al., RecSys 2025). Item vectors are ``unit(content @ P) + delta``
with ‖delta‖ bounded ("Let it go", RecSys 2025), so a film that nobody watched still has one.

Attention is written out instead of calling ``scaled_dot_product_attention``, and small tables are
one-hot products: every exporter and runtime takes plain matrix products, forwards and backwards.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from couchside.device.features import GAPS, SIGNALS

MASKED = -1e4
"""Added to attention logits that must not count; large enough, and finite in float16 too."""


class Attention(nn.Module):
    """Multi-head self-attention with an additive bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """[b, n, width] with bias [b, 1, n or 1, n] → [b, n, width]."""
        b, n, width = x.shape
        split = (b, n, self.heads, width // self.heads)
        query, key, value = (
            part.reshape(split).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1)
        )
        logits = query @ key.transpose(-1, -2) / math.sqrt(width // self.heads) + bias
        mixed = torch.softmax(logits, dim=-1) @ value
        result: Tensor = self.out(mixed.transpose(1, 2).reshape(b, n, width))
        return result


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """[b, n, width] → [b, n, width]."""
        x = x + self.dropout(self.attention(self.norm1(x), bias))
        result: Tensor = x + self.dropout(self.down(functional.gelu(self.up(self.norm2(x)))))
        return result


class TextTower(nn.Module):
    """Hashed tokens of a title → content vector (not normalised: that stays out of the graph)."""

    def __init__(self, *, buckets: int, width: int, layers: int, heads: int, out: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(buckets, width)
        nn.init.normal_(self.embedding.weight, std=0.5 / math.sqrt(width))
        self.blocks = nn.ModuleList(Block(width, heads, 0.1) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, out)

    def forward(self, tokens: Tensor) -> Tensor:
        """Int [b, t], 0 is padding → float [b, out]."""
        present = (tokens != 0).to(self.embedding.weight.dtype)
        x = self.embedding(tokens)
        bias = ((1.0 - present) * MASKED)[:, None, None, :]
        for block in self.blocks:
            x = block(x, bias)
        weights = present / present.sum(dim=1, keepdim=True).clamp(min=1.0)
        pooled: Tensor = (x * weights[:, :, None]).sum(dim=1)
        return self.out(self.norm(pooled))  # type: ignore[no-any-return]


class UserTower(nn.Module):
    """History → user vector at every step."""

    def __init__(
        self, *, d: int, width: int, layers: int, heads: int, length: int, dropout: float
    ) -> None:
        super().__init__()
        self.length = length
        self.enter = nn.Linear(d, width)
        self.position = nn.Parameter(torch.randn(length, width) * 0.02)
        self.signal = nn.Parameter(torch.randn(SIGNALS, width) * 0.02)
        self.gap = nn.Parameter(torch.randn(GAPS, width) * 0.02)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, d)

    def forward(self, vectors: Tensor, signals: Tensor, gaps: Tensor, mask: Tensor) -> Tensor:
        """[b, L, d], int [b, L], int [b, L], float [b, L] → user vectors [b, L, d]."""
        x = (
            self.enter(vectors)
            + self.position
            + _rows(signals, self.signal)
            + _rows(gaps, self.gap)
        )
        x = self.dropout(x * mask[:, :, None])
        future = torch.triu(torch.full((self.length, self.length), MASKED), diagonal=1)
        bias = future[None, None] + ((1.0 - mask) * MASKED)[:, None, None, :]
        for block in self.blocks:
            x = block(x, bias)
        return self.leave(self.norm(x))  # type: ignore[no-any-return]


def _rows(ids: Tensor, table: Tensor) -> Tensor:
    """Rows of a small table as a one-hot product: its gradient needs no scatter (LiteRT)."""
    classes = torch.arange(table.shape[0], dtype=torch.int32)
    return (ids[:, :, None] == classes).to(table.dtype) @ table


class ItemTable(nn.Module):
    """Item vectors from content, a shared projection P and a bounded delta an item."""

    def __init__(
        self, content: Tensor, *, d: int, delta_bound: float, delta_dropout: float
    ) -> None:
        super().__init__()
        self.register_buffer("content", functional.normalize(content, dim=1))
        self.projection = nn.Parameter(torch.empty(content.shape[1], d))
        nn.init.orthogonal_(self.projection)
        self.delta = nn.Parameter(torch.zeros(content.shape[0], d))
        self.delta_bound = delta_bound
        self.delta_dropout = delta_dropout

    def bounded_delta(self) -> Tensor:
        """Deltas [N, d] with norms at most ``delta_bound``."""
        norm = self.delta.norm(dim=1, keepdim=True).clamp(min=1e-12)
        shrink: Tensor = (self.delta_bound / norm).clamp(max=1.0)
        return self.delta * shrink

    def forward(self) -> Tensor:
        """All item vectors [N, d]; in training some titles lose their delta, as cold ones do."""
        delta = self.bounded_delta()
        if self.training:
            keep = torch.rand(len(delta), 1) >= self.delta_dropout
            delta = delta * keep
        vectors: Tensor = item_vectors(self.content, self.projection, delta)  # type: ignore[arg-type]
        return vectors


def item_vectors(content: Tensor, projection: Tensor, delta: Tensor) -> Tensor:
    """``unit(content @ P) + delta``, the torch twin of ``couchside.device.bundle``."""
    result: Tensor = functional.normalize(content @ projection, dim=-1) + delta
    return result
