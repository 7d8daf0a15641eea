"""Households made of real people's ratings: what they watched since the Bundle, and later.

Every user of the recipe's data who rated something between the Bundle's cut and the middle of what
came after it is a household. What it rated until then is its history; what anybody rates afterwards
is what the shelf should have shown. No TV, Round or lab sees anything of the later part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from couchside.compression.data import Interactions, Target, load_interactions
from couchside.compression.evaluate import Judge, PerUser, bundle_scores
from couchside.device.learning.examples import History

if TYPE_CHECKING:
    from couchside.compression.recipe import DataRecipe
    from couchside.device.bundle import Bundle

LEAST_EVENTS = 3


@dataclass(frozen=True, slots=True)
class Home:
    """One household."""

    user: int
    events: np.ndarray
    """Rows of its events until the middle, oldest first: int64 [h]."""
    new: int
    """How many of them are newer than the Bundle."""


@dataclass(frozen=True)
class Panel:
    """All households, and what they watched later."""

    interactions: Interactions
    homes: tuple[Home, ...]
    later: tuple[Target, ...]
    middle: float
    """POSIX seconds on the data's clock."""

    def history(self, home: Home, bundle: Bundle, vectors: np.ndarray) -> History:
        """A household's history as its TV's child gets it; ``vectors`` are the item table's."""
        events = home.events[-bundle.model.history_length :]
        rows = self.interactions.items[events].astype(np.int32)
        return History(
            rows,
            vectors[rows],
            self.interactions.signals[events].astype(np.int32),
            self.interactions.gaps[events].astype(np.int32),
        )

    def quality(self, bundle: Bundle) -> PerUser:
        """NDCG@10 of the shown ranking on what was watched later, by the TV's own code."""
        scores = bundle_scores(bundle, self.interactions, self.later)
        popularity = np.asarray(bundle.tensor("popularity"), dtype=np.float32)
        judge = Judge(self.interactions, self.later)
        return judge.per_user(scores + np.float32(bundle.popularity_weight) * popularity)


def read_panel(recipe: DataRecipe, bundle: Bundle) -> Panel:
    """The panel of a Bundle made from the same data."""
    interactions = load_interactions(recipe)
    cut = bundle.manifest.popularity_as_of
    after = interactions.times[interactions.times >= cut]
    middle = float(np.median(after))
    known = interactions.counts(-np.inf, middle) > 0
    homes, later = [], []
    for user, rows in interactions.by_user.items():
        times = interactions.times[rows]
        past = rows[times < middle]
        new = int((times[times < middle] >= cut).sum())
        if new and len(past) >= LEAST_EVENTS:
            homes.append(Home(user, past, new))
        later += [
            Target(user, int(interactions.items[row]), rows[:place])
            for place, row in enumerate(rows)
            if place and times[place] >= middle and known[interactions.items[row]]
        ]
    return Panel(interactions, tuple(homes), tuple(later), middle)
