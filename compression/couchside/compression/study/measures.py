"""How good is a ranking? Every measure of a study, for cases with one target each.

The whole catalogue competes except what the user has seen; ties count against the model:
rank = number of scores greater or equal (see ``couchside.device.quality``). With one target,
recall@10 equals HR@10, and MAP@10 is the reciprocal rank within the first ten; they are there
because tables elsewhere have those names.

Novelty, diversity and popularity bias follow RecTools' definitions of MeanInvUserFreq,
IntraListDiversity with the Hamming distance in genres, and AvgRecPopularity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from couchside.device.quality import paired_difference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from couchside.compression.study.split import Cases

    Scorer = Callable[[Sequence[NDArray[np.int64]]], NDArray[np.float32]]
    """Histories (items, oldest first) → scores of all titles, float32 [histories, titles]."""

K = 10
CASES_AT_ONCE = 256
NOBODY = -1
"""In a list: fewer than ten titles were left to recommend."""


@dataclass(frozen=True)
class Judged:
    """What a model did with each case."""

    ranks: NDArray[np.int64]
    """1-based place of the target [cases]."""
    candidates: NDArray[np.int64]
    """Titles that competed, the target among them [cases]."""
    lists: NDArray[np.int64]
    """The first ten titles, best first, ``NOBODY`` where there are fewer [cases, 10]."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measure with its 95 % bootstrap interval over users, where it is a mean over users."""

    value: float
    low: float | None = None
    high: float | None = None


def judge(scorer: Scorer, cases: Cases, *, what: str | None = None) -> Judged:
    """Rank every case.

    Args:
        scorer: gives scores of all titles; a NaN is worse than any number.
        cases: to be ranked.
        what: name on the progress bar; None shows none.
    """
    order = np.argsort([len(history) for history in cases.histories], kind="stable")
    ranks = np.empty(len(cases), dtype=np.int64)
    candidates = np.empty(len(cases), dtype=np.int64)
    lists = np.empty((len(cases), K), dtype=np.int64)
    blocks = range(0, len(cases), CASES_AT_ONCE)
    for start in tqdm(blocks, desc=what, disable=what is None, mininterval=1.0):
        rows = order[start : start + CASES_AT_ONCE]
        histories = [cases.histories[row] for row in rows]
        judged = _judge_block(scorer(histories), histories, cases.items[rows])
        ranks[rows], candidates[rows], lists[rows] = judged
    return Judged(ranks, candidates, lists)


def _judge_block(
    scores: NDArray[np.float32], histories: Sequence[NDArray[np.int64]], items: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    places = np.arange(len(items))
    scores = np.where(np.isnan(scores), -np.inf, scores)
    open_ = np.ones(scores.shape, dtype=bool)
    open_[np.repeat(places, [len(h) for h in histories]), np.concatenate(histories)] = False
    open_[places, items] = True  # seen before or not, the target itself is judged
    mine = scores[places, items]
    ranks = ((scores >= mine[:, None]) & open_).sum(axis=1)
    return ranks, open_.sum(axis=1), _first(scores, open_)


def _first(scores: NDArray[np.float32], open_: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Ten best open titles of each row; of equal ones the earlier row of the catalogue."""
    keys = np.where(open_, -scores, np.inf)
    width = min(K, keys.shape[1])
    found = np.argpartition(keys, width - 1, axis=1)[:, :width]
    found.sort(axis=1)
    best = np.argsort(np.take_along_axis(keys, found, axis=1), axis=1, kind="stable")
    found = np.take_along_axis(found, best, axis=1)
    found = np.where(np.take_along_axis(open_, found, axis=1), found, NOBODY)
    return np.pad(found, ((0, 0), (0, K - width)), constant_values=NOBODY)


def per_case(judged: Judged) -> dict[str, NDArray[np.float64]]:
    """Every measure of the target's place, by name, [cases]."""
    ranks = judged.ranks.astype(np.float64)
    hit = (ranks <= K).astype(np.float64)
    rivals = np.maximum(judged.candidates - 1, 1)
    return {
        "ndcg@10": hit / np.log2(ranks + 1),
        "hr@10": hit,
        "recall@20": (ranks <= 20).astype(np.float64),
        "mrr": 1 / ranks,
        "map@10": hit / ranks,
        "precision@10": hit / K,
        "recall@10": hit,
        "f1@10": 2 * hit / (K + 1),
        "auc": np.where(judged.candidates > 1, (judged.candidates - ranks) / rivals, 1.0),
    }


def per_case_lists(
    judged: Judged, watchers: NDArray[np.float64], users: int, genres: NDArray[np.bool_] | None
) -> dict[str, NDArray[np.float64]]:
    """Every measure of the list that is a mean over its titles, by name, [cases].

    Args:
        judged: with the lists.
        watchers: users of each title in training [titles].
        users: how many users there are in training.
        genres: bool [titles, genres]; None leaves diversity out.
    """
    shown = judged.lists != NOBODY
    count = np.maximum(shown.sum(axis=1), 1)
    rarity = -np.log2(np.maximum(watchers, 1) / max(users, 1))
    result = {
        "novelty@10": (rarity[judged.lists] * shown).sum(axis=1) / count,
        "popularity@10": (watchers[judged.lists] * shown).sum(axis=1) / count,
    }
    if genres is not None:
        result["diversity@10"] = _diversity(judged.lists, genres)
    return result


def _diversity(lists: NDArray[np.int64], genres: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean genres in which two titles of a list differ, over pairs of titles with any genre."""
    known = (lists != NOBODY) & genres[lists].any(axis=2)
    total, pairs = np.zeros(len(lists)), np.zeros(len(lists))
    for first in range(K):
        for second in range(first + 1, K):
            both = known[:, first] & known[:, second]
            differ = (genres[lists[:, first]] != genres[lists[:, second]]).sum(axis=1)
            total += differ * both
            pairs += both
    return total / np.maximum(pairs, 1)


def whole_lists(judged: Judged, titles: int) -> dict[str, float]:
    """Measures of all lists together: share of the catalogue shown, and its inequality.

    The Gini index is over how often each title of the whole catalogue is shown: 0 is all alike.
    """
    shown = judged.lists[judged.lists != NOBODY]
    counts = np.sort(np.bincount(shown, minlength=titles)).astype(np.float64)
    weights = 2 * np.arange(1, titles + 1) - titles - 1
    return {
        "coverage@10": float((counts > 0).mean()),
        "gini@10": float((weights * counts).sum() / (titles * counts.sum())),
    }


def by_user(values: NDArray[np.float64], users: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean of each user's cases, [users with cases]: a busy user counts once."""
    _, place = np.unique(users, return_inverse=True)
    return np.bincount(place, weights=values) / np.bincount(place)


def estimate(values: NDArray[np.float64], *, seed: int = 0) -> Estimate:
    """Mean over users [users] with its 95 % bootstrap interval."""
    interval = paired_difference(values, np.zeros_like(values), seed=seed)
    return Estimate(interval.mean, interval.low, interval.high)


def estimates(
    judged: Judged,
    cases: Cases,
    *,
    watchers: NDArray[np.float64],
    train_users: int,
    genres: NDArray[np.bool_] | None,
) -> Mapping[str, Estimate]:
    """Every measure of one model, by name."""
    values = per_case(judged) | per_case_lists(judged, watchers, train_users, genres)
    result = {name: estimate(by_user(value, cases.users)) for name, value in values.items()}
    whole = whole_lists(judged, len(watchers))
    return result | {name: Estimate(value) for name, value in whole.items()}
