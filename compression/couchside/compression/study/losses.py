"""Losses of next-title prediction: how a step's state should score its target against the rest.

- softmax: cross-entropy over all titles.
- sampled softmax: over the batch's targets and titles drawn for the batch, whose logits are raised
  by the log of how many titles each of them stands for: the expected denominator is the full one.
- gBCE: binary cross-entropy whose positive term is weakened, so that few negatives don't make the
  model overconfident (Petrov & Macdonald, RecSys 2023, with their calibration t = 0.75).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from couchside.compression.errors import CompressionError

if TYPE_CHECKING:
    from couchside.compression.study.recipe import StudyRecipe

CALIBRATION = 0.75


def loss_of(
    recipe: StudyRecipe, states: Tensor, targets: Tensor, table: Tensor, rng: np.random.Generator
) -> Tensor:
    """Mean loss of a batch.

    Args:
        recipe: names the loss and its negatives.
        states: float [m, d], of every step that has a target.
        targets: int64 [m], rows into ``table``.
        table: vectors of all titles [titles, d].
        rng: draws the negatives.
    """
    if recipe.loss == "softmax":
        return functional.cross_entropy((states @ table.T).float(), targets)
    if recipe.loss == "sampled-softmax":
        return sampled_softmax(states, targets, table, recipe.negatives, rng)
    return gbce(states, targets, table, recipe.negatives, rng)


def sampled_softmax(
    states: Tensor, targets: Tensor, table: Tensor, negatives: int, rng: np.random.Generator
) -> Tensor:
    """Cross-entropy over the batch's own targets and ``negatives`` other titles."""
    mine, places = torch.unique(targets, return_inverse=True)
    others = np.setdiff1d(np.arange(len(table)), mine.numpy(), assume_unique=True)
    drawn = rng.choice(others, size=min(negatives, len(others)), replace=False)
    stands_for = math.log(len(others) / len(drawn)) if len(drawn) else 0.0
    raised = torch.cat([torch.zeros(len(mine)), torch.full((len(drawn),), stands_for)])
    chosen = table[torch.cat([mine, torch.from_numpy(drawn)])]
    return functional.cross_entropy((states @ chosen.T).float() + raised, places)


def gbce(
    states: Tensor, targets: Tensor, table: Tensor, negatives: int, rng: np.random.Generator
) -> Tensor:
    """Generalised binary cross-entropy with ``negatives`` titles drawn for the batch."""
    count = min(negatives, len(table) - 1)
    drawn = torch.from_numpy(rng.choice(len(table), size=count, replace=False))
    share = count / (len(table) - 1)
    weight = share * (CALIBRATION * (1 - 1 / share) + 1 / share)
    good = (states * table[targets]).sum(dim=1).float()
    bad = (states @ table[drawn].T).float()
    wrong = functional.softplus(bad).masked_fill(drawn[None, :] == targets[:, None], 0.0)
    return (weight * functional.softplus(-good) + wrong.sum(dim=1)).mean()


def check_loss(value: float, epoch: int, step: int) -> float:
    """``value``, if it is a number.

    Raises:
        CompressionError: it isn't, so the model has diverged.
    """
    if math.isfinite(value):
        return value
    raise CompressionError(
        f"epoch {epoch}, step {step}: the loss is {value}; lower learning_rate or set "
        f"bf16 = false, then run again with --resume to go on from epoch {epoch - 1}"
    )
