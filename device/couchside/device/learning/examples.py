"""A history → the feeds of the Bundle's training step.

What is learned is what the lab taught: at each step, which title comes next, among the titles of
this batch and some drawn by chance. Popularity and the correction for titles that were not drawn
are fixed terms, as in the lab, so a TV does not learn popularity once more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from couchside.device.bundle import dequantize
from couchside.device.features import UNKNOWN_GAP, Signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from couchside.device.bundle import Bundle

UNKNOWN_ROW = -1


@dataclass(frozen=True, slots=True)
class History:
    """h steps of one profile, oldest first; d is the width of item vectors."""

    rows: NDArray[np.int32]
    """[h]; of the Bundle's item table, UNKNOWN_ROW for titles that it does not know."""
    vectors: NDArray[np.float32]
    """[h, d]; item vectors, which stand in where there is no row."""
    signals: NDArray[np.int32]
    """[h]."""
    gaps: NDArray[np.int32]
    """[h]."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def watched(self) -> NDArray[np.bool_]:
        """[h]; steps with a known title that was not rejected."""
        good: NDArray[np.bool_] = (self.rows != UNKNOWN_ROW) & (self.signals != Signal.NEGATIVE)
        return good

    @property
    def wanted(self) -> NDArray[np.bool_]:
        """[h]; steps worth predicting: watched, and something comes before them."""
        good = self.watched
        good[:1] = False
        return good


class ExampleMaker:
    """Makes batches for one Bundle.

    Args:
        bundle: the installed one; its training step says how large a batch is.
        rng: draws the titles that compete.
    """

    def __init__(self, bundle: Bundle, rng: np.random.Generator) -> None:
        ports = bundle.graph("training_step").inputs
        self._batch, self._length = ports["target"].shape
        self._candidates = ports["candidate_prior"].shape[0]
        self._bundle, self._rng = bundle, rng
        self._popularity = np.asarray(bundle.tensor("popularity"), dtype=np.float32)

    def batches(
        self, histories: Sequence[History], chosen: Sequence[NDArray[np.bool_]]
    ) -> list[dict[str, NDArray[Any]]]:
        """Feeds of the training step without ``theta`` and ``rate``, as many as it takes.

        Args:
            histories: of the profiles.
            chosen: of each history [h], the steps to be predicted; only those in ``wanted`` count.
        """
        pairs = [
            (history, steps & history.wanted)
            for history, steps in zip(histories, chosen, strict=True)
        ]
        pairs = [(history, steps) for history, steps in pairs if steps.any()]
        return [
            self._feeds(pairs[start : start + self._batch])
            for start in range(0, len(pairs), self._batch)
        ]

    def _feeds(self, pairs: Sequence[tuple[History, NDArray[np.bool_]]]) -> dict[str, NDArray[Any]]:
        model, shape = self._bundle.model, (self._batch, self._length)
        feeds: dict[str, NDArray[Any]] = {
            "content": np.zeros((*shape, model.content_d), np.float32),
            "delta": np.zeros((*shape, model.d), np.float32),
            "signals": np.zeros(shape, np.int32),
            "gaps": np.zeros(shape, np.int32),
            "mask": np.zeros(shape, np.float32),
            "target": np.full(shape, UNKNOWN_ROW, np.int32),
        }
        following = np.full(shape, UNKNOWN_ROW, np.int32)
        for place, (history, steps) in enumerate(pairs):
            n = min(len(history) - 1, self._length)
            seen = slice(-n - 1, -1)
            feeds["content"][place, -n:], feeds["delta"][place, -n:] = self._parts(history, seen)
            feeds["signals"][place, -n:] = history.signals[seen]
            feeds["gaps"][place, -n:] = history.gaps[seen]
            feeds["gaps"][place, -n] = UNKNOWN_GAP
            feeds["mask"][place, -n:] = 1.0
            following[place, -n:] = np.where(steps, history.rows, UNKNOWN_ROW)[-n:]
        rows, prior, target = self._compete(following)
        content, delta = self._table(rows)
        return feeds | {
            "candidate_content": content,
            "candidate_delta": delta,
            "candidate_prior": prior,
            "target": target,
        }

    def _compete(
        self, following: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int32]]:
        """Candidates, the fixed term of each, and where among them each step's next title is.

        At most half of the candidates are targets; of more, the oldest steps are not predicted.
        """
        n, flat = len(self._popularity), following.T[::-1].ravel()  # newest steps first
        known = flat[flat != UNKNOWN_ROW]
        _, first = np.unique(known, return_index=True)
        targets = known[np.sort(first)][: self._candidates // 2].astype(np.int64)
        others = np.setdiff1d(np.arange(n), targets, assume_unique=True)
        count = min(self._candidates - len(targets), len(others))
        drawn = self._rng.choice(others, size=count, replace=False)
        rows = np.concatenate([targets, drawn])
        prior = self._popularity[rows]
        prior[len(targets) :] += np.float32(math.log(len(others) / count))
        short = self._candidates - len(rows)  # a table smaller than the graph's candidates
        rows = np.concatenate([rows, np.zeros(short, np.int64)])
        prior = np.concatenate([prior, np.full(short, -1e4, np.float32)])
        place = np.full(n + 1, UNKNOWN_ROW, np.int32)  # the last stands for UNKNOWN_ROW
        place[targets] = np.arange(len(targets))
        return rows, prior, place[following]

    def _parts(
        self, history: History, steps: slice
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Content and delta of steps; what the Bundle does not know is all delta."""
        rows = history.rows[steps]
        content, delta = self._table(rows)
        unknown = (rows == UNKNOWN_ROW)[:, None]
        return np.where(unknown, 0.0, content), np.where(unknown, history.vectors[steps], delta)

    def _table(self, rows: NDArray[np.integer]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        tensor = self._bundle.tensor
        return (
            dequantize(tensor("content")[rows], tensor("content_scale")[rows]),
            dequantize(tensor("delta")[rows], tensor("delta_scale")[rows]),
        )
