"""What a model must beat: popularity, ItemKNN, EASE and iALS, on the same split.

Each one learns from the same sequences as the model and answers for a history. Where one has a
parameter that matters, validation picks it from a short grid.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from couchside.compression.errors import CompressionError
from couchside.compression.evaluate import nearest_titles
from couchside.compression.study import BASELINES
from couchside.compression.study.measures import judge, per_case

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from couchside.compression.study.measures import Scorer
    from couchside.compression.study.split import Sequences, Split

EASE_PENALTIES = (100.0, 300.0, 1000.0)
"""λ of EASE, around the 500 that is best on MovieLens-20M (Steck, WWW 2019)."""
PRIOR_WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
IALS_PENALTIES = (0.1, 1.0, 10.0)
IALS_FACTORS, IALS_ROUNDS, IALS_WEIGHT = 128, 15, 5.0


@dataclass(frozen=True)
class Baseline:
    """One that has learned."""

    score: Scorer
    note: str
    """What validation picked, or ''."""
    parameters: int
    """Numbers that it keeps."""


def fit_baseline(name: str, split: Split, seed: int) -> Baseline:
    """Fit one of ``study.BASELINES``.

    Raises:
        CompressionError: ``popularity-7d`` without a clock, or ``ials`` without implicit.
    """
    watched = matrix(split.train, split.titles)
    if name == "popularity":
        return Baseline(_constant(watchers(split.train, split.titles)), "", split.titles)
    if name == "popularity-7d":
        if split.recent is None:
            raise CompressionError("popularity-7d needs a cut in time: --split temporal")
        return Baseline(_constant(split.recent), "frozen at the cut", split.titles)
    if name == "item-knn":
        near = nearest_titles(watched)
        return Baseline(_linear(near), "cosine, 100 nearest", int(np.count_nonzero(near)))
    known = matrix(split.development, split.titles)
    if name == "ease":
        best = _best(EASE_PENALTIES, split, lambda penalty: ease(known, penalty))
        return Baseline(ease(watched, best), f"λ = {best:g} from validation", split.titles**2)
    if name == "ials":
        fit = _ials_with(seed)
        best = _best(IALS_PENALTIES, split, lambda penalty: fit(known, penalty))
        kept = IALS_FACTORS * split.titles
        note = f"implicit, {IALS_FACTORS} factors, penalty {best:g} from validation"
        return Baseline(fit(watched, best), note, kept)
    raise CompressionError(f"no baseline {name!r}: there are {', '.join(BASELINES)}")


def with_prior(score: Scorer, recent: NDArray[np.float64], weight: float) -> Scorer:
    """``score`` plus ``weight`` times the log of 1 + ``recent`` events of each title [titles]."""
    prior = np.float32(weight) * np.log1p(recent).astype(np.float32)
    return lambda histories: score(histories) + prior


def choose_prior(score: Scorer, split: Split) -> float:
    """The weight of last week's popularity that validation likes best beside ``score``.

    Raises:
        CompressionError: the split has no cut in time.
    """
    recent = split.recent_development
    if recent is None:
        raise CompressionError("a prior of last week needs a cut in time: --split temporal")
    return _best(PRIOR_WEIGHTS, split, lambda weight: with_prior(score, recent, weight))


def matrix(sequences: Sequence[NDArray[np.int64]], titles: int) -> sparse.csr_matrix:
    """Users x titles, 1 where the user has the title: float32."""
    once = [np.unique(items) for items in sequences]
    items = np.concatenate(once)
    users = np.repeat(np.arange(len(once)), [len(row) for row in once])
    ones = np.ones(len(items), dtype=np.float32)
    return sparse.csr_matrix((ones, (users, items)), shape=(len(sequences), titles))


def watchers(sequences: Sequences, titles: int) -> NDArray[np.float64]:
    """Users of each title [titles]."""
    total = matrix(sequences, titles).sum(axis=0)
    return np.asarray(total, dtype=np.float64).ravel()


def ease(watched: sparse.csr_matrix, penalty: float) -> Scorer:
    """EASE: the linear autoencoder with a zero diagonal in closed form (Steck, WWW 2019)."""
    inverse = _inverse_gram(watched, penalty)
    weights = inverse / -np.diag(inverse)[None, :]
    np.fill_diagonal(weights, 0.0)
    return _linear(weights)


def _inverse_gram(watched: sparse.csr_matrix, penalty: float) -> NDArray[np.float32]:
    """(XᵀX + λI)⁻¹, by way of users where they are fewer than titles (Woodbury)."""
    users, titles = watched.shape
    if titles <= users:
        gram = (watched.T @ watched).toarray().astype(np.float32)
        gram[np.diag_indices_from(gram)] += penalty
        return np.linalg.inv(gram)
    small = (watched @ watched.T).toarray().astype(np.float32)
    small[np.diag_indices_from(small)] += penalty
    shared = np.asarray(watched.T @ np.linalg.solve(small, watched.toarray()), dtype=np.float32)
    shared *= -1.0
    shared[np.diag_indices_from(shared)] += 1.0
    shared /= penalty
    return shared


def _ials_with(seed: int) -> Callable[[sparse.csr_matrix, float], Scorer]:
    try:
        als: Any = importlib.import_module("implicit.als")
    except ImportError as error:
        raise CompressionError(
            "ials needs the package implicit: pip install implicit, or leave ials out of --models"
        ) from error

    def fit(watched: sparse.csr_matrix, penalty: float) -> Scorer:
        model = als.AlternatingLeastSquares(
            factors=IALS_FACTORS,
            regularization=penalty,
            alpha=IALS_WEIGHT,
            iterations=IALS_ROUNDS,
            random_state=seed,
            num_threads=1,
        )
        model.fit(watched, show_progress=False)
        vectors = np.asarray(model.item_factors, dtype=np.float32)

        def score(histories: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
            rows = matrix(histories, watched.shape[1])
            users = model.recalculate_user(np.arange(len(histories)), rows)
            return np.asarray(users, dtype=np.float32) @ vectors.T

        return score

    return fit


def _best(grid: Sequence[float], split: Split, fit: Callable[[float], Scorer]) -> float:
    """The value of the grid with the best NDCG@10 on validation."""

    def quality(value: float) -> float:
        judged = judge(fit(value), split.validation)
        return float(per_case(judged)["ndcg@10"].mean())

    return max(grid, key=quality)


def _constant(scores: NDArray[np.float64]) -> Scorer:
    row = scores.astype(np.float32)
    return lambda histories: np.broadcast_to(row, (len(histories), len(row)))


def _linear(weights: NDArray[np.float32]) -> Scorer:
    """Scores are the history's row of 0 and 1 times ``weights`` [titles, titles]."""
    return lambda histories: np.asarray(matrix(histories, len(weights)) @ weights, dtype=np.float32)
