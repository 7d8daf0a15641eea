"""The text student: the teacher's content vectors from a fraction of its parameters.

It learns each vector (cosine) and the relations between vectors (relational distillation, Park et
al., CVPR 2019), on the titles at hand and on titles with words dropped, so that it answers for
names it has not met.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from couchside.compression.teacher import BATCH, LEARNING_RATE, new_text_tower, token_table

if TYPE_CHECKING:
    from couchside.compression.data import Interactions
    from couchside.compression.recipe import Recipe
    from couchside.compression.towers import TextTower

TOKEN_DROPOUT = 0.1


def distill_text(recipe: Recipe, interactions: Interactions, teacher_content: Tensor) -> TextTower:
    """Train the text student on the teacher's unit content vectors [titles, content_d]."""
    size = recipe.student_text
    torch.manual_seed(recipe.training.seed)
    rng = np.random.default_rng(recipe.training.seed)
    table = token_table(interactions, length=recipe.text_tokens, buckets=size.buckets)
    tower = new_text_tower(recipe, size)
    optimizer = torch.optim.AdamW(tower.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    batches = [
        torch.from_numpy(part)
        for _ in range(size.epochs)
        for part in np.array_split(rng.permutation(len(table)), max(1, len(table) // BATCH))
    ]
    progress = tqdm(batches, desc="student: text", unit="batch", mininterval=1.0)
    for rows in progress:
        shown = table[rows]
        shown = shown * torch.from_numpy(rng.random(tuple(shown.shape)) >= TOKEN_DROPOUT)
        loss = _distillation_loss(tower(shown), teacher_content[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        progress.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
    return tower


def _distillation_loss(output: Tensor, wanted: Tensor) -> Tensor:
    content = functional.normalize(output, dim=1)
    direction = (1.0 - (content * wanted).sum(dim=1)).mean()
    relation = (content @ content.T - wanted @ wanted.T).square().mean()
    return direction + relation
