"""The user model of a study: SASRec with pre-norm blocks and tied title vectors.

Kang & McAuley, ICDM 2018, as later work trains it well: GELU, positions counted from the end of the
history, scores are products with the same title vectors that come in, no bias a title. Attention is
torch's fused one, which trains several times faster; the towers that TVs get
(``couchside.compression.towers``) are written for exporters instead.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from couchside.compression.study.measures import Scorer
    from couchside.compression.study.recipe import StudyRecipe

PADDING = 0
"""Row of the title table that stands for no title; title t has row t + 1."""


class Block(nn.Module):
    """Pre-norm causal transformer block."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, inner * width)
        self.down = nn.Linear(inner * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[b, n, width] → [b, n, width]; padding stands right, so causality hides it."""
        b, n, width = x.shape
        split = self.attention(self.norm1(x)).view(b, n, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.dropout(self.out(seen.transpose(1, 2).reshape(b, n, width)))
        inner = self.dropout(functional.gelu(self.up(self.norm2(x))))
        result: Tensor = x + self.dropout(self.down(inner))
        return result


class SasRec(nn.Module):
    """History → what comes next, at every step."""

    def __init__(self, recipe: StudyRecipe, titles: int) -> None:
        super().__init__()
        d = recipe.d
        self.length = recipe.length
        self.titles = nn.Embedding(titles + 1, d, padding_idx=PADDING)
        nn.init.normal_(self.titles.weight, std=0.5 / math.sqrt(d))
        self.positions = nn.Parameter(torch.randn(recipe.length, d) * 0.02)
        self.dropout = nn.Dropout(recipe.dropout)
        blocks = (
            Block(d, recipe.heads, recipe.inner, recipe.dropout) for _ in range(recipe.layers)
        )
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(d)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, rows: Tensor, positions: Tensor) -> Tensor:
        """Int [b, n] rows of the title table and places → float [b, n, d]."""
        x = self.dropout(self.titles(rows) + self.positions[positions])
        for block in self.blocks:
            x = block(x)
        return self.norm(x)  # type: ignore[no-any-return]

    @property
    def catalogue(self) -> Tensor:
        """Vectors of all titles [titles, d]."""
        return self.titles.weight[1:]


def padded(histories: Sequence[NDArray[np.int64]], length: int) -> tuple[Tensor, Tensor]:
    """Histories of at most ``length`` items → (rows, positions), int64 [b, longest], right-padded.

    The last item of each has position length - 1, however long the history is.
    """
    longest = max(len(items) for items in histories)
    rows = np.full((len(histories), longest), PADDING, dtype=np.int64)
    positions = np.zeros((len(histories), longest), dtype=np.int64)
    for row, items in enumerate(histories):
        rows[row, : len(items)] = items + 1
        positions[row, : len(items)] = np.arange(length - len(items), length)
    return torch.from_numpy(rows), torch.from_numpy(positions)


def scorer(model: SasRec) -> Scorer:
    """The model's scores of all titles for histories, in float32 and without dropout."""

    def score(histories: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        last = [items[-model.length :] for items in histories]
        model.eval()
        with torch.no_grad():
            states = model(*padded(last, model.length))
            ends = torch.tensor([len(items) - 1 for items in last])
            users = states[torch.arange(len(last)), ends]
            scores: NDArray[np.float32] = (users @ model.catalogue.T).numpy()
        return scores

    return score
