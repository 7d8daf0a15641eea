"""Ranking metrics and the paired bootstrap, once, in plain numpy, for lab and TV alike.

Ranks are over the full catalogue (sampled metrics mislead: Krichene & Rendle, KDD 2020) and
pessimistic: rank = number of scores greater or equal, so a model that scores everything alike
gets nothing for it. NDCG divides by the best achievable for the user's number of targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def ranks(
    scores: NDArray[np.float32], targets: NDArray[np.int64], exclude: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Pessimistic 1-based ranks of a user's targets among all titles but ``exclude``.

    Each target competes with the titles that are not targets, and with the targets above it.

    Args:
        scores: [n] over the full catalogue.
        targets: item rows [t] that the user went on to watch.
        exclude: item rows already seen, never recommended.

    Returns:
        int64 [t]: the place of each target in the user's list. NaN scores rank last.
    """
    clean = np.where(np.isnan(scores), -np.inf, scores).astype(np.float64)
    candidates = np.ones(len(clean), dtype=bool)
    candidates[exclude] = False
    candidates[targets] = False
    others = np.sort(clean[candidates])
    mine = clean[targets]
    above = len(others) - np.searchsorted(others, mine, side="left")
    order = np.argsort(-mine, kind="stable")
    places = np.empty(len(targets), dtype=np.int64)
    places[order] = np.arange(len(targets))
    return (above + places + 1).astype(np.int64)


def ndcg(target_ranks: NDArray[np.int64], k: int = 10) -> float:
    """NDCG@k of one user from the ranks of the targets (binary relevance)."""
    hits = target_ranks[target_ranks <= k]
    ideal = np.arange(1, min(k, len(target_ranks)) + 1)
    if not len(ideal):
        return 0.0
    return float((1.0 / np.log2(hits + 1)).sum() / (1.0 / np.log2(ideal + 1)).sum())


def hit_rate(target_ranks: NDArray[np.int64], k: int = 10) -> float:
    """1 if any target is among the first k, else 0."""
    return float((target_ranks <= k).any())


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % bootstrap interval."""

    low: float
    mean: float
    high: float


def paired_difference(
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    *,
    relative: bool = False,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean of ``ours - theirs`` over users with its paired 95 % percentile interval.

    Users, not events, are resampled, as one user's events are not independent.

    Args:
        ours: a metric per user [u].
        theirs: the same users' metric under the other ranking.
        relative: divide by the mean of ``theirs`` in the same resample.
        resamples: bootstrap size.
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(ours), size=(resamples, len(ours)))
    difference = (ours - theirs)[picks].mean(axis=1)
    mean = float((ours - theirs).mean())
    if relative:
        difference = difference / np.maximum(theirs[picks].mean(axis=1), 1e-12)
        mean /= max(float(theirs.mean()), 1e-12)
    low, high = np.percentile(difference, (2.5, 97.5))
    return Interval(float(low), mean, float(high))
