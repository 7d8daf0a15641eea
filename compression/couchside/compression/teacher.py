"""The text teacher: titles, genres and years → content vectors that know who watches what.

Its targets are relations, not labels: titles whose audiences overlap (truncated SVD of the
normalised user-title matrix) and titles that share genres should be near each other. Titles with
few viewers count less in the first, and titles nobody watched learn from the second alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse
from scipy.sparse import linalg
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from couchside.compression.towers import TextTower
from couchside.device.encoders import tokens

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from couchside.compression.data import Interactions
    from couchside.compression.recipe import Recipe, TextRecipe

BATCH = 256
LEARNING_RATE = 2e-3
GENRE_SHARE = 0.3
"""Weight of the genre relations beside the co-watching ones."""
MIN_VIEWERS = 3
"""Below this a title's co-watching vector is chance."""


@dataclass(frozen=True)
class Relations:
    """What content vectors should agree with."""

    cowatch: Tensor
    """Unit co-watching vectors [titles, k]."""
    trust: Tensor
    """Weight of each title's co-watching vector [titles], 0 for too few viewers."""
    genres: Tensor
    """Unit genre indicators [titles, genres]; a zero row has no genre."""


def relations(interactions: Interactions, until: float, rank: int) -> Relations:
    """Co-watching vectors from events before ``until``, and genres."""
    n = len(interactions.titles)
    chosen = interactions.times < until
    users, items = interactions.users[chosen], interactions.items[chosen]
    watched = sparse.csr_matrix(
        (np.ones(len(users), dtype=np.float32), (users, items)), shape=(users.max() + 1, n)
    )
    viewers = np.asarray(watched.sum(axis=0)).ravel()
    history = np.asarray(watched.sum(axis=1)).ravel()
    scaled = sparse.diags(1 / np.sqrt(np.maximum(history, 1))) @ watched
    # The fourth root keeps some weight on popular titles, whose vectors are the reliable ones.
    scaled = scaled @ sparse.diags(np.maximum(viewers, 1) ** -0.25)
    rank = min(rank, min(scaled.shape) - 1)
    _, strength, vectors = linalg.svds(scaled.astype(np.float64), k=rank, rng=0)
    cowatch = torch.from_numpy((vectors * strength[:, None]).T.astype(np.float32))
    trust = np.where(viewers >= MIN_VIEWERS, np.minimum(np.log1p(viewers), 4.0), 0.0)
    return Relations(
        cowatch=functional.normalize(cowatch, dim=1),
        trust=torch.from_numpy(trust.astype(np.float32)),
        genres=functional.normalize(torch.from_numpy(_genre_table(interactions)), dim=1),
    )


def _genre_table(interactions: Interactions) -> NDArray[np.float32]:
    names = sorted({genre for title in interactions.titles for genre in title.genres})
    table = np.zeros((len(interactions.titles), max(1, len(names))), dtype=np.float32)
    for row, title in enumerate(interactions.titles):
        for genre in title.genres:
            table[row, names.index(genre)] = 1.0
    return table


def token_table(interactions: Interactions, *, length: int, buckets: int) -> Tensor:
    """Token ids of every title, exactly as the TV computes them: int64 [titles, length]."""
    rows = [tokens(title, length=length, buckets=buckets) for title in interactions.titles]
    return torch.from_numpy(np.stack(rows).astype(np.int64))


def new_text_tower(recipe: Recipe, size: TextRecipe) -> TextTower:
    """An untrained text tower."""
    return TextTower(
        buckets=size.buckets,
        width=size.width,
        layers=size.layers,
        heads=size.heads,
        out=recipe.content_d,
    )


def content_vectors(tower: TextTower, table: Tensor) -> Tensor:
    """Unit content vectors of tokenised titles: [titles, content_d]."""
    tower.eval()
    with torch.no_grad():
        parts = [tower(part) for part in torch.split(table, 512)]
    return functional.normalize(torch.cat(parts), dim=1)


def fit_text_teacher(recipe: Recipe, interactions: Interactions, *, until: float) -> TextTower:
    """Train the text teacher on everything before ``until``."""
    size = recipe.teacher_text
    torch.manual_seed(recipe.training.seed)
    rng = np.random.default_rng(recipe.training.seed)
    wanted = relations(interactions, until, recipe.content_d)
    table = token_table(interactions, length=recipe.text_tokens, buckets=size.buckets)
    tower = new_text_tower(recipe, size)
    optimizer = torch.optim.AdamW(tower.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    batches = [
        torch.from_numpy(part)
        for _ in range(size.epochs)
        for part in np.array_split(rng.permutation(len(table)), max(1, len(table) // BATCH))
    ]
    progress = tqdm(batches, desc="teacher: text", unit="batch", mininterval=1.0)
    for rows in progress:
        loss = _relation_loss(tower(table[rows]), wanted, rows)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        progress.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
    return tower


def _relation_loss(output: Tensor, wanted: Relations, rows: Tensor) -> Tensor:
    content = functional.normalize(output, dim=1)
    near = content @ content.T
    watched = wanted.cowatch[rows]
    trust = wanted.trust[rows]
    weight = trust[:, None] * trust[None, :]
    cowatch_error = ((near - watched @ watched.T).square() * weight).sum()
    genres = wanted.genres[rows]
    genre_error = (near - genres @ genres.T).square().mean()
    # The diagonal is 1 on both sides and costs nothing.
    return cowatch_error / weight.sum().clamp(min=1.0) + GENRE_SHARE * genre_error
