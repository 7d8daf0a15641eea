"""Train a user model: every step of every history is a target, validation says when to end.

The weights that are judged are an average over the last steps (an exponential one), which is worth
more on these data than a falling learning rate and needs no length of the run in advance.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from couchside.compression.errors import DataError
from couchside.compression.study import checkpoint
from couchside.compression.study.batches import batches, stretches
from couchside.compression.study.checkpoint import Point
from couchside.compression.study.losses import check_loss, loss_of
from couchside.compression.study.measures import by_user, judge, per_case
from couchside.compression.study.model import PADDING, SasRec, padded, scorer
from couchside.device import strict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from couchside.compression.study.recipe import StudyRecipe
    from couchside.compression.study.split import Cases, Sequences

BETAS = (0.9, 0.98)
"""Of Adam: SASRec's own."""
LONGEST_GRADIENT = 5.0
Ending = Literal["all epochs", "no better for long", "out of time"]


@dataclass(frozen=True)
class Lesson:
    """What a run learns from."""

    recipe: StudyRecipe
    seed: int
    titles: int
    sequences: Sequences
    validation: Cases | None
    """Picks the best epoch; None: the last one is the model."""

    @property
    def key(self) -> str:
        """Identifies the run, however many epochs of it are wanted."""
        what = strict.to_json(replace(self.recipe, epochs=1, patience=1))
        digest = hashlib.sha256(json.dumps([what, self.seed, self.titles]).encode())
        for items in self.sequences:
            digest.update(np.append(items, -1).astype("<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Trained:
    """A model and how it came about."""

    model: SasRec
    curve: tuple[Point, ...]
    epoch: int
    """Whose weights these are."""
    ended: Ending

    @property
    def cpu_s(self) -> float:
        """CPU seconds of training, all epochs."""
        return self.curve[-1].cpu_s

    @property
    def still_rising(self) -> bool:
        """Whether the latest look at validation was the best one and more epochs were wanted."""
        looks = [point.epoch for point in self.curve if point.val_ndcg is not None]
        return self.ended != "no better for long" and bool(looks) and looks[-1] == self.epoch


@dataclass
class Run:
    """A training run between two epochs."""

    lesson: Lesson
    model: SasRec
    averaged: dict[str, torch.Tensor]
    best: dict[str, torch.Tensor]
    optimizer: torch.optim.Optimizer
    rng: np.random.Generator
    curve: list[Point] = field(default_factory=list)
    step: int = 0
    best_epoch: int = 0
    best_ndcg: float = -1.0

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on."""
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged,
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            # As text: its numbers have 128 bits.
            "numpy_rng": json.dumps(self.rng.bit_generator.state),
            "torch_rng": torch.get_rng_state(),
            "step": self.step,
            "best_epoch": self.best_epoch,
            "best_ndcg": self.best_ndcg,
        }

    def restore(self, state: dict[str, Any], curve: Sequence[Point]) -> None:
        """Go back to what ``state`` returned."""
        self.model.load_state_dict(state["model"])
        self.averaged, self.best = state["averaged"], state["best"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.bit_generator.state = json.loads(state["numpy_rng"])
        torch.set_rng_state(state["torch_rng"])
        self.step, self.best_epoch = state["step"], state["best_epoch"]
        self.best_ndcg, self.curve = state["best_ndcg"], list(curve)


def train(lesson: Lesson, folder: Path, *, resume: bool, minutes: float = float("inf")) -> Trained:
    """Train until the recipe's epochs, its patience or the time are used up.

    Args:
        lesson: what to learn.
        folder: of the checkpoint; made if it isn't there.
        resume: go on from the checkpoint in it, if there is one; False refuses to overwrite it.
        minutes: of this call; it ends with the epoch in which they are over.

    Raises:
        DataError: there is nothing to learn from.
        CompressionError: the loss is no longer a number, or the checkpoint can't be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = _begin(lesson)
    kept = checkpoint.load(folder, lesson.key)
    if kept and resume:
        run.restore(*kept)
    elif kept:
        raise DataError(f"{folder} holds a run already: go on with --resume, or name another --out")
    deadline = time.monotonic() + 60 * minutes
    while (ended := _ending(run, deadline)) is None:
        _epoch(run)
        checkpoint.save(folder, lesson.key, run.state(), tuple(run.curve))
    model = SasRec(lesson.recipe, lesson.titles)
    model.load_state_dict(run.best if run.best_epoch else run.averaged)
    return Trained(model, tuple(run.curve), run.best_epoch or len(run.curve), ended)


def _begin(lesson: Lesson) -> Run:
    if not any(len(items) > 1 for items in lesson.sequences):
        raise DataError("no user has two events to learn from")
    torch.manual_seed(lesson.seed)
    recipe = lesson.recipe
    model = SasRec(recipe, lesson.titles)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=BETAS
    )
    rng = np.random.default_rng(lesson.seed)
    return Run(lesson, model, _copy(model), _copy(model), optimizer, rng)


def _copy(model: SasRec) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _ending(run: Run, deadline: float) -> Ending | None:
    recipe = run.lesson.recipe
    looks = [point for point in run.curve if point.val_ndcg is not None]
    since = sum(point.epoch > run.best_epoch for point in looks)
    if since >= recipe.patience:
        return "no better for long"
    if len(run.curve) >= recipe.epochs:
        return "all epochs"
    return "out of time" if run.curve and time.monotonic() >= deadline else None


def _epoch(run: Run) -> None:
    """One pass over the sequences, and a look at validation where it is due."""
    recipe, epoch = run.lesson.recipe, len(run.curve) + 1
    started = time.process_time()
    before = run.curve[-1].cpu_s if run.curve else 0.0
    total, targets = 0.0, 0
    pieces = stretches(run.lesson.sequences, recipe, run.rng)
    run.model.train()
    bar = tqdm(
        batches(pieces, recipe.tokens, run.rng),
        desc=f"epoch {epoch}",
        unit="batch",
        mininterval=2.0,
    )
    for batch in bar:
        loss, count = _step(run, batch)
        total += check_loss(loss, epoch, run.step) * count
        targets += count
        bar.set_postfix(loss=f"{total / targets:.4f}", refresh=False)
    cpu = before + time.process_time() - started
    run.curve.append(_look(run, Point(epoch, total / targets, cpu)))


def _step(run: Run, batch: list[NDArray[np.int64]]) -> tuple[float, int]:
    recipe = run.lesson.recipe
    run.step += 1
    for group in run.optimizer.param_groups:
        group["lr"] = recipe.learning_rate * min(1.0, run.step / max(recipe.warm_up_steps, 1))
    rows, positions = padded([piece[:-1] for piece in batch], recipe.length)
    following, _ = padded([piece[1:] for piece in batch], recipe.length)
    present = following != PADDING
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
        states = run.model(rows, positions)[present]
        targets = following[present] - 1
        loss = loss_of(recipe, states, targets, run.model.catalogue, run.rng)
    run.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), LONGEST_GRADIENT)
    run.optimizer.step()
    with torch.no_grad():
        for name, value in run.model.state_dict().items():
            run.averaged[name].lerp_(value, 1 - recipe.averaging)
    return loss.item(), len(targets)


def _look(run: Run, point: Point) -> Point:
    """The point with validation, where it is due; keeps the best weights."""
    recipe, validation = run.lesson.recipe, run.lesson.validation
    if validation is None or point.epoch % recipe.validate_every:
        return point
    model = SasRec(recipe, run.lesson.titles)
    model.load_state_dict(run.averaged)
    values = per_case(judge(scorer(model), validation))
    ndcg = float(by_user(values["ndcg@10"], validation.users).mean())
    if ndcg > run.best_ndcg:
        run.best_ndcg, run.best_epoch = ndcg, point.epoch
        run.best = {name: value.clone() for name, value in run.averaged.items()}
    return replace(
        point, val_ndcg=ndcg, val_hr=float(by_user(values["hr@10"], validation.users).mean())
    )
