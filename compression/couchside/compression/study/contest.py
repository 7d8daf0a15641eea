"""One data set, one split, every model on it: fit, judge once on the test, rows out."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from couchside.compression.study import OURS
from couchside.compression.study.baselines import (
    choose_prior,
    fit_baseline,
    watchers,
    with_prior,
)
from couchside.compression.study.measures import judge
from couchside.compression.study.model import scorer
from couchside.compression.study.ratings import (
    find_ratings,
    find_titles,
    read_genres,
    read_ratings,
)
from couchside.compression.study.results import (
    SCHEMA,
    Result,
    Tested,
    facts,
    quality_rows,
    this_machine,
)
from couchside.compression.study.split import make_split
from couchside.compression.study.train import Lesson, Trained, train

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from couchside.compression.study.checkpoint import Point
    from couchside.compression.study.recipe import StudyRecipe
    from couchside.compression.study.split import Split, SplitName


@dataclass(frozen=True)
class Plan:
    """What is compared on what."""

    ratings: str
    """As ``find_ratings`` takes it."""
    titles: Path | None
    """File of genres; None: the one beside the ratings, if there is one."""
    dataset: str
    """Its name in the result."""
    split: SplitName
    recipe: StudyRecipe
    models: tuple[str, ...]
    seeds: tuple[int, ...]
    minutes: float
    """At most so long for each training."""
    resume: bool
    out: Path
    """Of checkpoints and curves."""


def hold(plan: Plan, *, command: str) -> Result:
    """Fit and judge every model of ``plan``.

    Raises:
        CompressionError: data, checkpoint or training are at fault; it says what to do.
    """
    ratings = read_ratings(find_ratings(plan.ratings))
    listed = plan.titles or find_titles(plan.ratings)
    genres = None if listed is None else read_genres(listed, ratings.item_ids)
    split = make_split(ratings, plan.split)
    plan.out.mkdir(parents=True, exist_ok=True)
    tested = [_baseline(name, split, plan.seeds[0]) for name in plan.models if name != OURS]
    curves = []
    if OURS in plan.models:
        for one, curve in _ours(plan, split):
            tested.append(one)
            curves.append(curve)
    rows = quality_rows(
        tested,
        split.test,
        watchers=watchers(split.train, split.titles),
        train_users=len(split.train),
        genres=genres,
    )
    return Result(
        schema=SCHEMA,
        kind="quality",
        dataset=plan.dataset,
        split=facts(split),
        rows=rows,
        curve=curves[0] if curves else (),
        command=command,
        made_at=f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}",
        machine=this_machine(),
    )


def _baseline(name: str, split: Split, seed: int) -> Tested:
    print(f"Fitting {name}", flush=True)  # noqa: T201 - progress of a command
    started = time.process_time()
    fitted = fit_baseline(name, split, seed)
    cpu_s = time.process_time() - started
    return Tested(
        model=name,
        judged=judge(fitted.score, split.test),
        cpu_s=cpu_s,
        parameters=fitted.parameters,
        note=fitted.note,
        seed=seed if name == "ials" else None,
    )


def _ours(plan: Plan, split: Split) -> Iterator[tuple[Tested, tuple[Point, ...]]]:
    for seed in plan.seeds:
        folder = plan.out / f"seed-{seed}"
        lesson = Lesson(plan.recipe, seed, split.titles, split.development, split.validation)
        chosen = train(lesson, folder, resume=plan.resume, minutes=plan.minutes)
        final, cpu_s = chosen, chosen.cpu_s
        if split.refit:
            recipe = replace(plan.recipe, epochs=chosen.epoch)
            again = Lesson(recipe, seed, split.titles, split.train, None)
            final = train(again, folder / "refit", resume=plan.resume)
            cpu_s += final.cpu_s
        tested = Tested(
            model=OURS,
            judged=judge(scorer(final.model), split.test, what=f"test, seed {seed}"),
            cpu_s=cpu_s,
            parameters=sum(weights.numel() for weights in final.model.parameters()),
            note=note(plan.recipe, chosen, refit=split.refit),
            seed=seed,
            epochs=chosen.epoch,
        )
        yield tested, chosen.curve
        if split.recent is not None:
            yield _with_week(tested, chosen, final, split), chosen.curve


def _with_week(tested: Tested, chosen: Trained, final: Trained, split: Split) -> Tested:
    """Our model with last week's popularity as a prior, which is how a TV ranks."""
    started = time.process_time()
    weight = choose_prior(scorer(chosen.model), split)
    cpu_s = tested.cpu_s + time.process_time() - started
    recent = np.zeros(split.titles) if split.recent is None else split.recent
    return replace(
        tested,
        model=f"{OURS} + popularity-7d",
        judged=judge(with_prior(scorer(final.model), recent, weight), split.test),
        cpu_s=cpu_s,
        note=f"weight {weight:g} from validation; {tested.note}",
    )


def note(recipe: StudyRecipe, chosen: Trained, *, refit: bool) -> str:
    """How the model came about; a training that was cut short says so."""
    size = f"recipe {recipe.name}: d = {recipe.d}, {recipe.layers} blocks, L = {recipe.length}, "
    epochs = len(chosen.curve)
    looked = any(point.val_ndcg is not None for point in chosen.curve)
    which = "best of {} epochs by validation" if looked else "last of {} epochs"
    how = f"{recipe.loss}, {which.format(epochs)}"
    if chosen.ended == "out of time":
        how += f", stopped by the clock after {epochs}"
    if chosen.still_rising:
        how += ", still rising"
    return size + how + ("; learned again up to the cut" if refit else "")
