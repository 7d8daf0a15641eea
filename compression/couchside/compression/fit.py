"""Train a user tower, its projection P and the bounded deltas on histories.

The loss is a softmax over titles, sampled or full. The logits carry the popularity of that morning
as a fixed term, so the model learns what people watch *beyond* what everyone watches; the TV adds
the Bundle's popularity back with a weight that validation picks. With a teacher, part of the loss
is the cross-entropy against its soft targets (Hinton et al., 2015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from couchside.compression.errors import CompressionError
from couchside.compression.towers import ItemTable, UserTower
from couchside.device.features import UNKNOWN_GAP, Signal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from couchside.compression.data import Interactions, Target
    from couchside.compression.recipe import Recipe, UserRecipe


@dataclass(frozen=True)
class Histories:
    """A batch of left-padded histories: every tensor is [b, L]."""

    items: Tensor
    signals: Tensor
    gaps: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Ranker:
    """A user tower with the items it ranks."""

    tower: UserTower
    table: ItemTable

    def users(self, vectors: Tensor, histories: Histories) -> Tensor:
        """User vectors at every step [b, L, d]."""
        present = vectors[histories.items] * histories.mask[:, :, None]
        return self.tower(present, histories.signals, histories.gaps, histories.mask)  # type: ignore[no-any-return]

    def scores(self, interactions: Interactions, wanted: Sequence[Target]) -> NDArray[np.float32]:
        """Scores of every title for each target's history: float32 [targets, titles]."""
        self.tower.eval()
        self.table.eval()
        parts = []
        with torch.no_grad():
            vectors = self.table()
            for start in tqdm(range(0, len(wanted), 256), desc="score", mininterval=1.0):
                rows = [target.history for target in wanted[start : start + 256]]
                batch = gather(interactions, rows, self.tower.length)
                parts.append((self.users(vectors, batch)[:, -1] @ vectors.T).numpy())
        return np.concatenate(parts)


def new_ranker(recipe: Recipe, size: UserRecipe, content: Tensor) -> Ranker:
    """An untrained ranker over titles with the given content vectors [titles, content_d]."""
    tower = UserTower(
        d=recipe.d,
        width=size.width,
        layers=size.layers,
        heads=size.heads,
        length=recipe.history_length,
        dropout=size.dropout,
    )
    training = recipe.training
    table = ItemTable(
        content,
        d=recipe.d,
        delta_bound=training.delta_bound,
        delta_dropout=training.delta_dropout,
    )
    return Ranker(tower, table)


def gather(
    interactions: Interactions, histories: Sequence[NDArray[np.int64]], length: int
) -> Histories:
    """The last ``length`` events of each history (event rows), left-padded."""
    shape = (len(histories), length)
    columns = {name: np.zeros(shape, dtype=np.int64) for name in ("items", "signals", "gaps")}
    mask = np.zeros(shape, dtype=np.float32)
    for row, events in enumerate(histories):
        last = events[-length:]
        if len(last):
            for name, column in columns.items():
                column[row, -len(last) :] = getattr(interactions, name)[last]
            columns["gaps"][row, -len(last)] = UNKNOWN_GAP  # as on the TV: nothing is before it
            mask[row, -len(last) :] = 1.0
    tensors = {name: torch.from_numpy(column) for name, column in columns.items()}
    return Histories(**tensors, mask=torch.from_numpy(mask))


def windows(
    interactions: Interactions, until: float, length: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Cut each user's events before ``until`` into stretches of length + 1, at a random phase."""
    found: list[NDArray[np.int64]] = []
    for rows in interactions.by_user.values():
        events = rows[interactions.times[rows] < until]
        phase = int(rng.integers(0, length)) if len(events) > length + 1 else 0
        ends = range(len(events) - phase, 1, -length)
        found.extend(events[max(0, end - length - 1) : end] for end in ends)
    order = rng.permutation(len(found))
    return [found[place] for place in order]


def fit(
    recipe: Recipe,
    size: UserRecipe,
    content: Tensor,
    interactions: Interactions,
    *,
    until: float,
    teacher: Ranker | None = None,
    label: str,
) -> Ranker:
    """Train a ranker on everything before ``until``.

    Args:
        recipe: widths, rates and seed.
        size: of the user tower.
        content: content vectors [titles, content_d].
        interactions: events.
        until: POSIX seconds; later events are never looked at.
        teacher: whose soft targets to learn from, if any.
        label: for the progress bar.

    Raises:
        CompressionError: the loss became NaN.
    """
    torch.manual_seed(recipe.training.seed)
    rng = np.random.default_rng(recipe.training.seed)
    ranker = new_ranker(recipe, size, content)
    optimizer = _optimizer(recipe, ranker)
    day, popularity = interactions.daily_popularity(recipe.data.popularity_half_life_days)
    context = _Context(recipe, interactions, day, torch.from_numpy(popularity))
    batches = list(_epochs(recipe, size, interactions, until, rng))
    progress = tqdm(batches, desc=label, unit="batch", mininterval=1.0)
    for step, batch in enumerate(progress):
        _set_rate(optimizer, recipe.training.learning_rate, step, len(batches))
        loss = _loss(context, ranker, teacher, batch, rng)
        if not torch.isfinite(loss):
            raise CompressionError(f"{label}: the loss is not finite; lower training.learning_rate")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(_parameters(ranker), 1.0)
        optimizer.step()
        progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    ranker.tower.eval()
    ranker.table.eval()
    return ranker


@dataclass(frozen=True)
class _Context:
    recipe: Recipe
    interactions: Interactions
    day: NDArray[np.int64]
    popularity: Tensor


def _epochs(
    recipe: Recipe,
    size: UserRecipe,
    interactions: Interactions,
    until: float,
    rng: np.random.Generator,
) -> Iterator[list[NDArray[np.int64]]]:
    for _ in range(size.epochs):
        stretches = windows(interactions, until, recipe.history_length, rng)
        for start in range(0, len(stretches), recipe.training.batch_size):
            yield stretches[start : start + recipe.training.batch_size]


def _parameters(ranker: Ranker) -> list[Tensor]:
    return [*ranker.tower.parameters(), *ranker.table.parameters()]


def _optimizer(recipe: Recipe, ranker: Ranker) -> torch.optim.Optimizer:
    dense = [*ranker.tower.parameters(), ranker.table.projection]
    groups = [
        {"params": dense, "weight_decay": recipe.training.weight_decay},
        {"params": [ranker.table.delta], "weight_decay": 0.0},  # its bound is its regulariser
    ]
    return torch.optim.AdamW(groups, lr=recipe.training.learning_rate)


def _set_rate(optimizer: torch.optim.Optimizer, peak: float, step: int, steps: int) -> None:
    """Linear warm-up over 30 steps, then a cosine down to 5 %."""
    warm = min(1.0, (step + 1) / 30)
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    for group in optimizer.param_groups:
        group["lr"] = peak * warm * (0.05 + 0.95 * cosine)


def _loss(
    context: _Context,
    ranker: Ranker,
    teacher: Ranker | None,
    stretches: Sequence[NDArray[np.int64]],
    rng: np.random.Generator,
) -> Tensor:
    recipe, interactions = context.recipe, context.interactions
    length = recipe.history_length
    seen = gather(interactions, [rows[:-1] for rows in stretches], length)
    following = gather(interactions, [rows[1:] for rows in stretches], length)
    days = np.zeros(seen.mask.shape, dtype=np.int64)
    for row, rows in enumerate(stretches):
        last = rows[1:][-length:]
        days[row, -len(last) :] = context.day[last]
    ranker.tower.train()
    ranker.table.train()
    present = seen.mask > 0
    places, target, correction = _competitors(context, following.items[present], rng)
    prior = context.popularity[torch.from_numpy(days)[present]][:, places] + correction
    student_view = _drop_channels(seen, recipe.training.channel_dropout, rng)
    vectors = ranker.table()
    logits = ranker.users(vectors, student_view)[present] @ vectors[places].T + prior
    loss = functional.cross_entropy(logits, target)
    if teacher is None:
        return loss
    with torch.no_grad():
        known = teacher.table()
        opinion = teacher.users(known, seen)[present] @ known[places].T + prior
        soft = torch.softmax(opinion, dim=1)
    share = recipe.training.distillation_weight
    return (1 - share) * loss + share * functional.cross_entropy(logits, soft)


def _competitors(
    context: _Context, wanted: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The titles in the batch's softmax: its targets, and uniform negatives (0 in the recipe: all).

    Adding log(1 / chance of being drawn) to a drawn negative keeps the expected partition sum that
    of the full softmax (Bengio & Senécal, 2008).

    Returns:
        (item rows [k], place of each target among them [p], correction of each logit [k]).
    """
    n, count = context.popularity.shape[1], context.recipe.training.negatives
    targets, place = torch.unique(wanted, return_inverse=True)
    others = np.setdiff1d(np.arange(n), targets.numpy(), assume_unique=True)
    if not count or count >= len(others):
        return torch.arange(n), wanted, torch.zeros(n)
    drawn = torch.from_numpy(rng.choice(others, size=count, replace=False))
    correction = torch.zeros(len(targets) + count)
    correction[len(targets) :] = math.log(len(others) / count)
    return torch.cat([targets, drawn]), place, correction


def _drop_channels(histories: Histories, chance: float, rng: np.random.Generator) -> Histories:
    """Show some signals and gaps as unknown: ratings know little, and the TV must not surprise."""
    shape = tuple(histories.items.shape)
    hide_signal = torch.from_numpy(rng.random(shape) < chance)
    hide_gap = torch.from_numpy(rng.random(shape) < chance)
    return Histories(
        items=histories.items,
        signals=histories.signals.masked_fill(hide_signal, int(Signal.UNKNOWN)),
        gaps=histories.gaps.masked_fill(hide_gap, UNKNOWN_GAP),
        mask=histories.mask,
    )
