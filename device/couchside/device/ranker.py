"""User vector and titles → scores and the best k, exactly.

No index: up to 100,000 titles an exact scan is as fast as one and takes any mask
(docs/decisions/002). Selection, not the products, is what costs in numpy, hence ``top_k``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from couchside.device.bundle import unit
from couchside.device.features import user_model_inputs
from couchside.device.runtime.graph import open_graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from couchside.device.bundle import Bundle

SAMPLE = 2048
"""Scores looked at to guess a threshold in ``top_k``."""
MARGIN = 4
"""Places of the sample beyond 2k: at 100,000 titles 2k are four of them, and chance is wide."""
FEW = 8
"""A mask that allows less than one score in so many is applied first, and any other last."""


class UserModel:
    """The Bundle's user model: a history → one user vector."""

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        self.length = bundle.model.history_length
        self.d = bundle.model.d
        self._shipped = bundle.shipped_personal
        self._graph = open_graph(bundle, "user_model", threads=threads)

    def user(
        self,
        vectors: NDArray[np.float32],
        signals: NDArray[np.int32],
        gaps: NDArray[np.int32],
        personal: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """User vector float32 [d] of a history (see ``features``); zeros if it is empty.

        Args:
            vectors: item vectors [h, d], oldest first.
            signals: [h].
            gaps: [h].
            personal: what this TV learned for the profile [p]; None for what was shipped.
        """
        if not len(vectors):
            return np.zeros(self.d, dtype=np.float32)
        feeds = user_model_inputs(vectors, signals, gaps, length=self.length)
        feeds["personal"] = self._shipped if personal is None else personal
        return np.asarray(self._graph.run(feeds)["user"][0], dtype=np.float32)


def score(
    user: NDArray[np.float32],
    vectors: NDArray[np.float32],
    popularity: NDArray[np.float32],
    weight: float,
) -> NDArray[np.float32]:
    """Scores of titles: ``vectors @ user + weight * popularity``, float32 [n].

    Args:
        user: [d]; all zeros for a household without history, which leaves popularity alone.
        vectors: item vectors [n, d].
        popularity: [n], as in the Bundle; 0 for a title it does not know.
        weight: the Bundle's popularity weight.
    """
    return vectors @ user + np.float32(weight) * popularity


def top_k(
    scores: NDArray[np.float32], k: int, mask: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Indices of the k best scores where ``mask`` is true, best first, ties to the lower index.

    A strided sample gives a threshold that about 2k scores pass; only those are sorted. Fewer
    than k survivors fall back to a full sort, so the result is always exact.
    """
    allowed = len(scores) if mask is None else int(np.count_nonzero(mask))
    if k <= 0 or not allowed:
        return np.empty(0, dtype=np.int64)
    if mask is not None and allowed * FEW < len(scores):
        few = np.flatnonzero(mask)
        return few[top_k(scores[few], k)]
    survivors = np.flatnonzero(_passing(scores, k, mask))
    if len(survivors) < min(k, allowed):
        survivors = np.arange(len(scores)) if mask is None else np.flatnonzero(mask)
    order = np.argsort(-scores[survivors], kind="stable")[:k]
    return survivors[order].astype(np.int64)


def _passing(
    scores: NDArray[np.float32], k: int, mask: NDArray[np.bool_] | None
) -> NDArray[np.bool_]:
    """Which scores pass the sampled threshold, bool [n]; all that the mask allows if it saw none.

    The mask is applied last: comparing every score costs less than taking the allowed ones out.
    """
    stride = max(1, len(scores) // SAMPLE)
    sample = scores[::stride] if mask is None else scores[::stride][mask[::stride]]
    place = len(sample) - 1 - (2 * k // stride + MARGIN)
    least = np.partition(sample, place)[place] if place > 0 else -np.inf
    passes = scores >= least
    return passes if mask is None else passes & mask


def similarity(seed: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine similarity of a seed's item vector [d] to each of [n, d]: float32 [n]."""
    return unit(vectors) @ unit(seed)
