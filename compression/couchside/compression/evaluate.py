"""How good is the ranking? Full catalogue, frozen models, growing histories, paired intervals.

Each target is ranked among every title its user has not seen. NDCG@10 and HR@10 are averaged
within a user first, so a household counts once however much it watches, and users are what the
bootstrap resamples. Scores of the flavours are computed by the TV's own code on the TV's own
runtime, from the packed Bundle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from tqdm import tqdm

from couchside.compression.data import BASELINE_WINDOW_DAYS
from couchside.device.features import DAY
from couchside.device.quality import Interval, paired_difference
from couchside.device.ranker import UserModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from couchside.compression.data import Interactions, Target
    from couchside.device.bundle import Bundle

Scores = "NDArray[np.float32]"
NEIGHBOURS = 100
K = 10


@dataclass(frozen=True)
class PerUser:
    """Metrics of each user, in order of user number."""

    ndcg: NDArray[np.float64]
    hit_rate: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class QualityRow:
    """A line of the quality table."""

    name: str
    ndcg_at_10: float
    hr_at_10: float
    over_popularity: Interval
    """Relative gain in NDCG@10 over popularity-7d frozen at the cut-off."""
    loss: Interval | None = None
    """Relative loss in NDCG@10 against the float student, where that is the point."""


@dataclass(frozen=True, slots=True)
class QualityTable:
    """Everything measured on one split."""

    split_sha256: str
    test_from: float
    users: int
    targets: int
    cold_events_left_out: int
    popularity_weight: float
    rows: tuple[QualityRow, ...]


class Judge:
    """The targets of one split, ready to judge scores of every title: float32 [targets, titles]."""

    def __init__(self, interactions: Interactions, wanted: Sequence[Target]) -> None:
        self.interactions = interactions
        self.wanted = wanted
        self._items = np.array([target.item for target in wanted])
        _, self._user = np.unique([target.user for target in wanted], return_inverse=True)
        pairs = [(row, interactions.items[target.history]) for row, target in enumerate(wanted)]
        self._seen_rows = np.concatenate([np.full(len(seen), row) for row, seen in pairs])
        self._seen_items = np.concatenate([seen for _, seen in pairs])

    @property
    def users(self) -> int:
        """How many users there are."""
        return int(self._user.max()) + 1

    def ranks(self, scores: NDArray[np.float32]) -> NDArray[np.int64]:
        """Pessimistic rank of each target among unseen titles (see ``quality.ranks``)."""
        places = np.arange(len(self.wanted))
        hidden = np.where(np.isnan(scores), -np.inf, scores).astype(np.float32)
        mine = hidden[places, self._items]
        hidden[self._seen_rows, self._seen_items] = np.nan  # above nobody, not even above -inf
        hidden[places, self._items] = np.nan  # seen before or not, the target itself is judged
        above = (hidden >= mine[:, None]).sum(axis=1)
        return np.asarray(1 + above, dtype=np.int64)

    def per_user(self, scores: NDArray[np.float32]) -> PerUser:
        """NDCG@10 and HR@10, averaged within each user."""
        ranks = self.ranks(scores)
        hit = (ranks <= K).astype(np.float64)
        gain = hit / np.log2(ranks + 1)
        count = np.bincount(self._user)
        return PerUser(
            ndcg=np.bincount(self._user, weights=gain) / count,
            hit_rate=np.bincount(self._user, weights=hit) / count,
        )

    def constant(self, scores: NDArray[np.floating]) -> NDArray[np.float32]:
        """The same scores of titles [titles] for every target."""
        return np.broadcast_to(
            scores.astype(np.float32), (len(self.wanted), len(self.interactions.titles))
        )


def choose_popularity_weight(
    judge: Judge,
    scores: NDArray[np.float32],
    popularity: NDArray[np.float32],
    grid: Sequence[float],
) -> tuple[float, dict[float, float]]:
    """The middle of the weights that validation can't tell from the best one.

    Validation is short and flat at the top, so its highest point is partly chance. The weights
    whose paired shortfall is at most one standard error (the one-standard-error rule of Breiman
    et al., 1984, says which those are) form a plateau; its middle is safest on both sides.

    Returns:
        (weight, NDCG@10 of every weight).
    """
    per_user = {w: judge.per_user(scores + np.float32(w) * popularity).ndcg for w in sorted(grid)}
    means = {weight: float(ndcg.mean()) for weight, ndcg in per_user.items()}
    best = per_user[max(means, key=lambda weight: means[weight])]
    plateau = [weight for weight, ndcg in per_user.items() if _equal_within_error(best, ndcg)]
    return plateau[len(plateau) // 2], means


def _equal_within_error(best: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    shortfall = best - other
    if len(shortfall) == 1:  # one user has no spread: only an equal is equal
        return float(shortfall[0]) <= 0.0
    error = float(shortfall.std(ddof=1)) / math.sqrt(len(shortfall))
    return float(shortfall.mean()) <= error


def item_knn(
    interactions: Interactions, until: float, wanted: Sequence[Target]
) -> NDArray[np.float32]:
    """ItemKNN: cosine between titles' audiences before ``until``, summed over the history.

    Sarwar et al., WWW 2001; the 100 nearest titles of each.
    """
    chosen = interactions.times < until
    shape = (int(interactions.users.max()) + 1, len(interactions.titles))
    ones = np.ones(int(chosen.sum()), dtype=np.float32)
    pairs = (interactions.users[chosen], interactions.items[chosen])
    watched = sparse.csr_matrix((ones, pairs), shape=shape)
    near = nearest_titles(watched)
    rows = np.concatenate([np.full(len(t.history), row) for row, t in enumerate(wanted)])
    items = np.concatenate([interactions.items[t.history] for t in wanted])
    histories = sparse.csr_matrix(
        (np.ones(len(rows), dtype=np.float32), (rows, items)), shape=(len(wanted), shape[1])
    )
    return np.asarray(histories @ near, dtype=np.float32)


def nearest_titles(watched: sparse.csr_matrix) -> NDArray[np.float32]:
    """Cosines between the audiences of titles, all but each title's 100 nearest as 0.

    Args:
        watched: users x titles, 1 where one watched the other.

    Returns:
        float32 [titles, titles]; 0 on the diagonal.
    """
    norm = np.sqrt(np.maximum(np.asarray(watched.multiply(watched).sum(axis=0)).ravel(), 1e-9))
    scaled = watched @ sparse.diags(1 / norm)
    near = (scaled.T @ scaled).toarray()
    np.fill_diagonal(near, 0.0)
    if near.shape[0] > NEIGHBOURS:
        least = np.partition(near, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS]
        near[near < least[:, None]] = 0.0
    return np.asarray(near, dtype=np.float32)


def rolling_popularity(interactions: Interactions, wanted: Sequence[Target]) -> NDArray[np.float32]:
    """Events of the last 7 days before each target's day: what a connected service could know."""
    rows = _target_rows(wanted, interactions)
    times = interactions.times[rows]
    days = np.floor(times / DAY)
    scores = np.empty((len(wanted), len(interactions.titles)), dtype=np.float32)
    for day in np.unique(days):
        start = float(day) * DAY
        counts = interactions.counts(start - BASELINE_WINDOW_DAYS * DAY, start)
        scores[days == day] = counts
    return scores


def _target_rows(wanted: Sequence[Target], interactions: Interactions) -> NDArray[np.int64]:
    """Event row of each target: the one after its history."""
    return np.array([interactions.by_user[target.user][len(target.history)] for target in wanted])


def bundle_scores(
    bundle: Bundle, interactions: Interactions, wanted: Sequence[Target]
) -> NDArray[np.float32]:
    """Scores by the TV's code, without popularity: float32 [targets, titles]."""
    model = UserModel(bundle)
    vectors = bundle.item_vectors()
    users = np.empty((len(wanted), vectors.shape[1]), dtype=np.float32)
    progress = tqdm(wanted, desc=f"evaluate: {bundle.flavour}", unit="target", mininterval=1.0)
    for row, target in enumerate(progress):
        last = target.history[-model.length :]
        users[row] = model.user(
            vectors[interactions.items[last]], interactions.signals[last], interactions.gaps[last]
        )
    return users @ vectors.T


def quality_row(
    name: str, ours: PerUser, popularity: PerUser, student: PerUser | None = None
) -> QualityRow:
    """A line of the table with its paired intervals."""
    return QualityRow(
        name=name,
        ndcg_at_10=float(ours.ndcg.mean()),
        hr_at_10=float(ours.hit_rate.mean()),
        over_popularity=paired_difference(ours.ndcg, popularity.ndcg, relative=True),
        loss=None if student is None else loss_to(ours, student),
    )


def loss_to(ours: PerUser, student: PerUser) -> Interval:
    """Relative loss in NDCG@10 against the float student; positive is worse."""
    gain = paired_difference(ours.ndcg, student.ndcg, relative=True)
    return Interval(-gain.high, -gain.mean, -gain.low)
