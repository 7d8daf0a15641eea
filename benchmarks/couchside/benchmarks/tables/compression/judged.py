"""The yardstick: the lab's test targets, ranked with somebody's graphs or item table.

A tool's two graphs take the place of the float student's: its text encoder reads every title, so
the content part of the item vectors is its own, and its user model reads every history. Deltas,
projection, popularity and its weight stay the student's in float. NDCG@10 is of the shown ranking,
on the targets of the lab's quality table (equal split SHA-256), and a loss is paired over users.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from couchside.benchmarks.errors import UsageError
from couchside.compression import data
from couchside.compression.errors import CompressionError
from couchside.compression.evaluate import Judge, PerUser, loss_to
from couchside.compression.recipe import read_recipe_json
from couchside.device.bundle import project, unit
from couchside.device.encoders import tokens
from couchside.device.features import user_model_inputs
from couchside.device.quality import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from couchside.compression.data import Interactions, Split, Target
    from couchside.compression.recipe import Recipe
    from couchside.compression.student import Models
    from couchside.device.bundle import Bundle
    from couchside.device.runtime.graph import Graph

USER_MODEL, TEXT_ENCODER = "user_model", "text_encoder"
GRAPHS = (USER_MODEL, TEXT_ENCODER)
CALIBRATION = 64
"""Histories, and titles, that tools which calibrate get; the histories are from before the test."""


@dataclass(frozen=True)
class Lab:
    """What a run of ``couchside-compress`` left beside its Bundles."""

    folder: Path
    recipe: Recipe
    models: Models
    """The float student."""
    interactions: Interactions
    split: Split
    popularity_weight: float

    @property
    def prior(self) -> NDArray[np.float32]:
        """Weighted popularity at the cut [titles]."""
        half_life = self.recipe.data.popularity_half_life_days
        popularity = self.interactions.popularity(self.split.test_from, half_life)
        return np.asarray(np.float32(self.popularity_weight) * popularity, dtype=np.float32)

    def targets(self, most: int | None) -> list[Target]:
        """The test's targets, or about ``most`` of them, spread over all users."""
        every = data.targets(self.interactions, self.split.test_from, np.inf)
        return every if most is None else every[:: max(1, len(every) // most)]


def read_lab(bundles_folder: Path) -> Lab:
    """The lab's run that the folder of Bundles belongs to.

    Raises:
        UsageError: the Bundles were moved away from it.
    """
    # Late, as it brings torch, which somebody who looks at a page of results can do without.
    from couchside.compression.student import load_models  # noqa: PLC0415

    lab = bundles_folder.resolve().parent
    try:
        recipe = read_recipe_json(lab / "work" / "graphs" / "recipe.json")
        models = load_models(
            recipe,
            recipe.student_text,
            recipe.student_user,
            lab / "work" / "student" / "models.npz",
        )
        report = json.loads((lab / "quality.json").read_bytes())
        interactions = data.load_interactions(recipe.data)
    except (CompressionError, OSError, ValueError) as error:
        raise UsageError(
            f"{error}: the Bundles must lie in the folder that couchside-compress made them in"
        ) from error
    split = data.split(interactions, recipe.data)
    if report["split_sha256"] != split.sha256:
        raise UsageError(f"{lab}: its ratings are not those of today; run couchside-compress again")
    return Lab(lab, recipe, models, interactions, split, float(report["popularity_weight"]))


@dataclass(frozen=True)
class Yardstick:
    """The float student on test targets, ready to judge files."""

    lab: Lab
    bundle: Bundle
    """A float one: sizes, projection and what is personal as it ships."""
    wanted: Sequence[Target]
    judge: Judge
    calibration: Sequence[Target]
    prior: NDArray[np.float32]
    delta: NDArray[np.float32]
    """Bounded deltas in float [titles, d]."""
    projection: NDArray[np.float32]
    batches: Sequence[NDArray[np.int32]]
    """Tokens of all titles, in batches of the text encoder."""
    vectors: NDArray[np.float32]
    """The student's item vectors in float [titles, d]."""

    def history(self, target: Target, vectors: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Inputs of the user model for a target's history, among these item vectors."""
        events, length = self.lab.interactions, self.bundle.model.history_length
        rows = target.history[-length:]
        feeds = user_model_inputs(
            vectors[events.items[rows]], events.signals[rows], events.gaps[rows], length=length
        )
        return {**feeds, "personal": self.bundle.shipped_personal}

    def content(self, graph: Graph) -> NDArray[np.float32]:
        """Content vectors of all titles by a text encoder [titles, content_d]."""
        rows = np.concatenate([graph.run({"tokens": batch})["content"] for batch in self.batches])
        return unit(rows[: len(self.delta)])

    def item_vectors(self, content: NDArray[np.float32]) -> NDArray[np.float32]:
        """Item vectors with somebody's content part [titles, d]."""
        return project(content, self.projection) + self.delta

    def users(
        self, graph: Graph, vectors: NDArray[np.float32], wanted: Sequence[Target] | None = None
    ) -> NDArray[np.float32]:
        """User vectors by a user model [targets, d]; of the test's targets if no others."""
        chosen = self.wanted if wanted is None else wanted
        return np.stack([graph.run(self.history(target, vectors))["user"][0] for target in chosen])

    def per_user(self, users: NDArray[np.float32], vectors: NDArray[np.float32]) -> PerUser:
        """Metrics of the shown ranking."""
        return self.judge.per_user((users @ vectors.T + self.prior).astype(np.float32))

    def samples(self) -> dict[str, list[dict[str, NDArray[Any]]]]:
        """The calibration's inputs by graph: 64 histories, and 64 titles in batches."""
        histories = [self.history(target, self.vectors) for target in self.calibration]
        size = self.bundle.model.text_batch
        every = np.concatenate(list(self.batches))[: len(self.delta)]
        some = every[
            np.linspace(0, len(every) - 1, max(size, CALIBRATION // size * size), dtype=int)
        ]
        batches = [{"tokens": part} for part in np.split(some, len(some) // size)]
        return {USER_MODEL: histories, TEXT_ENCODER: batches}


def loss_percent(mine: PerUser, reference: PerUser) -> Interval:
    """Relative loss in NDCG@10 to the reference in per cent; positive is worse."""
    loss = loss_to(mine, reference)
    return Interval(*(100 * value + 0.0 for value in (loss.low, loss.mean, loss.high)))  # no -0


def yardstick(lab: Lab, bundle: Bundle, most: int | None) -> Yardstick:
    """Prepare the test targets, about ``most`` of them."""
    wanted = lab.targets(most)
    before = data.targets(lab.interactions, lab.split.validation_from, lab.split.test_from)
    table = lab.models.ranker.table
    return Yardstick(
        lab=lab,
        bundle=bundle,
        wanted=wanted,
        judge=Judge(lab.interactions, wanted),
        calibration=before[:: max(1, len(before) // CALIBRATION)][:CALIBRATION],
        prior=lab.prior,
        delta=table.bounded_delta().detach().numpy(),
        projection=table.projection.detach().numpy(),
        batches=_token_batches(lab, bundle),
        vectors=table().detach().numpy(),
    )


def _token_batches(lab: Lab, bundle: Bundle) -> list[NDArray[np.int32]]:
    """All titles' tokens; the last batch is filled up with padding."""
    model, titles = bundle.model, lab.interactions.titles
    count = -(-len(titles) // model.text_batch)
    rows = np.zeros((count * model.text_batch, model.text_tokens), dtype=np.int32)
    for place, title in enumerate(titles):
        rows[place] = tokens(title, length=model.text_tokens, buckets=model.text_buckets)
    return np.split(rows, count)
