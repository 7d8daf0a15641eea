"""May a refreshed Bundle follow its base? What the TVs learned must not rank worse.

Judged is the user model with the popularity of the cut, on the targets after the cut, through the
TV's own runtime, refreshed against base, flavour by flavour, over the same users. What a Round
*counted* is not judged here: old targets can't tell whether fresh counts are right, so
``popularity`` bounds them instead. A loss too small to be seen passes, and such losses add up over
many Rounds; ``refresh.json`` says what each of them changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from couchside.compression import data, evaluate
from couchside.compression.errors import GateError
from couchside.device.quality import Interval, paired_difference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from couchside.compression.evaluate import PerUser
    from couchside.compression.recipe import DataRecipe
    from couchside.device.bundle import Bundle

MOST_LOSS = 0.02
"""Relative NDCG@10 that a refresh may lose on average. Few users make the interval so wide that no
loss is sure; on the sample it reaches about 2 % to each side when theta moves by 8 of its 28."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate measured of one flavour."""

    flavour: str
    base_ndcg_at_10: float
    ndcg_at_10: float
    change: Interval
    """Relative change in NDCG@10; positive is better."""


class Court:
    """The targets after the cut of one set of ratings, ready to judge."""

    def __init__(
        self, interactions: data.Interactions, recipe: DataRecipe, popularity_weight: float
    ) -> None:
        split = data.split(interactions, recipe)
        cut = split.test_from
        self.split_sha256 = split.sha256
        self.interactions = interactions
        self.wanted = data.targets(interactions, cut, np.inf)
        self._judge = evaluate.Judge(interactions, self.wanted)
        popularity = interactions.popularity(cut, recipe.popularity_half_life_days)
        self._prior = np.float32(popularity_weight) * popularity

    def measure(self, scores: NDArray[np.float32]) -> PerUser:
        """Metrics of a user model's scores [targets, titles].

        Raises:
            GateError: a score is not finite.
        """
        if not np.isfinite(scores).all():
            raise GateError("scores that are not finite: theta is out of bounds; run another Round")
        return self._judge.per_user(scores + self._prior)

    def measure_bundle(self, bundle: Bundle) -> PerUser:
        """Metrics of a Bundle's user model, by the TV's code."""
        return self.measure(evaluate.bundle_scores(bundle, self.interactions, self.wanted))


def judge(flavour: str, refreshed: PerUser, base: PerUser) -> Verdict:
    """Compare one flavour with its base.

    Raises:
        GateError: it ranks significantly worse, or worse by more than MOST_LOSS.
    """
    change = paired_difference(refreshed.ndcg, base.ndcg, relative=True)
    before, after = float(base.ndcg.mean()), float(refreshed.ndcg.mean())
    if not (change.high >= 0.0 and change.mean >= -MOST_LOSS):
        raise GateError(
            f"{flavour}: NDCG@10 {after:.4f} after the Round, {before:.4f} before, "
            f"{change.mean:+.1%} [{change.low:+.1%}, {change.high:+.1%}]; a loss that is sure, or "
            f"of more than {MOST_LOSS:.0%}, is refused: keep the base, run another Round"
        )
    return Verdict(flavour, before, after, change)
