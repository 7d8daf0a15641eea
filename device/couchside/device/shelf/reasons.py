"""Why a card stands where it stands: the past choices without which it would fall furthest.

Counterfactual, hence true by construction: a part of the history is left out, the user model runs
again, and what moved the card's rank down most is named. Nothing is named where nothing moves the
card. Episodes of one series count as one choice. At most 8 deletions are tried for a whole shelf,
those that look most like its cards, since each costs a run of the user model.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from couchside.device.bundle import unit
from couchside.device.records import Reason, ReasonCode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from couchside.device.shelf.taste import Steps

_log = logging.getLogger(__name__)

DELETIONS = 8
EVIDENCE = 2
"""Titles named at most: more is a list, not a reason."""
PAUSE_S = 0.01
"""Between two deletions in the background, so that a request waits for one of them at most."""
SHARE = 0.5
"""A second title is named only if it moves the card at least half as far as the first."""


@dataclass(frozen=True, slots=True)
class Question:
    """What to explain, frozen at one moment so that the answer fits what was shown.

    n titles in the catalogue, h steps in the history, d the width of vectors.
    """

    steps: Steps
    """The history as the user model read it."""
    groups: NDArray[np.int32]
    """[h]; the group (series) of each step's title."""
    visible: NDArray[np.bool_]
    """[h]; false where the step's title may not be named: behind a fence, or not liked."""
    scores: NDArray[np.float32]
    """[n]; what the shelf was ranked by."""
    candidates: NDArray[np.bool_]
    """[n]; the titles that the cards were ranked among."""
    cards: NDArray[np.int64]
    """[c]; rows of the cards to explain."""
    card_vectors: NDArray[np.float32]
    """[c, d]; item vectors of the cards."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A question with all that is needed to answer it later."""

    version: object
    """Of the profile's taste; equal versions have equal histories."""
    title_ids: tuple[str, ...]
    """Of the question's cards."""
    question: Question
    rescore: Callable[[Steps], NDArray[np.float32]]
    """Scores [n] of all titles for another history."""


def explain(
    question: Question,
    rescore: Callable[[Steps], NDArray[np.float32]],
    *,
    pause_s: float = 0.0,
) -> list[Reason | None]:
    """A reason for each card of ``question``, or None where none is true.

    Args:
        question: what to explain.
        rescore: scores [n] of all titles for another history; called at most 8 times.
        pause_s: seconds to rest after each, for the sake of other threads.
    """
    deletions = _most_relevant(question)
    if not deletions or not len(question.cards):
        return [None] * len(question.cards)
    before = ranks(question.scores, question.candidates, question.cards)
    falls = np.empty((len(deletions), len(question.cards)), dtype=np.int64)
    for place, group in enumerate(deletions):
        scores = rescore(_without(question, group))
        falls[place] = ranks(scores, question.candidates, question.cards) - before
        time.sleep(pause_s)
    return [_reason(question, deletions, falls[:, card]) for card in range(len(question.cards))]


def ranks(
    scores: NDArray[np.float32], candidates: NDArray[np.bool_], cards: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Rank of each card among the candidates, 0 for the best; ties count for the card."""
    ordered = np.sort(scores[candidates])
    return np.asarray(len(ordered) - np.searchsorted(ordered, scores[cards], side="right"))


def _most_relevant(question: Question) -> list[int]:
    """The groups of the history that look most like the cards; they may be named, at most 8.

    The cosine between step and card stands in for the gradient, which no runtime gives us.
    """
    if not len(question.steps):
        return []
    likeness = unit(question.steps.vectors) @ unit(question.card_vectors).T
    # Each card votes for steps in proportion to how far they stand out for it.
    votes = np.maximum(likeness - likeness.mean(axis=0), 0.0).sum(axis=1)
    total: dict[int, float] = {}
    for group, visible, vote in zip(question.groups, question.visible, votes, strict=True):
        if visible:
            total[int(group)] = total.get(int(group), 0.0) + float(vote)
    return sorted(total, key=lambda group: (-total[group], group))[:DELETIONS]


def _without(question: Question, group: int) -> Steps:
    return question.steps.where(question.groups != group)


def _reason(
    question: Question, deletions: Sequence[int], falls: NDArray[np.int64]
) -> Reason | None:
    """Name the choices whose absence lets the card fall furthest, if any does."""
    order = np.argsort(-falls, kind="stable")[:EVIDENCE]
    furthest = int(falls[order[0]])
    if furthest <= 0:
        return None
    named = [deletions[place] for place in order if falls[place] >= SHARE * furthest]
    return Reason(ReasonCode.WATCHED, tuple(_last_title(question, group) for group in named))


def _last_title(question: Question, group: int) -> str:
    """The title of the group that was watched last."""
    place = int(np.flatnonzero((question.groups == group) & question.visible)[-1])
    return question.steps.title_ids[place]


class ReasonBook:
    """Finds reasons off the request path, in one thread, and remembers the last ones.

    Reasons belong to a *version* of a profile's taste: a newer version makes them worthless, so a
    card never shows one that was true yesterday.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pages: dict[str, tuple[object, dict[str, Reason | None]]] = {}
        self._asked: dict[str, Inquiry] = {}
        self._epoch = 0
        self._stopping = False
        self.failures = 0
        self._thread = threading.Thread(target=self._work, name="reasons", daemon=True)
        self._thread.start()

    def known(self, profile_id: str, version: object) -> Mapping[str, Reason | None]:
        """Reasons by title_id for exactly this version; None as a value: none is true."""
        with self._changed:
            page_version, reasons = self._pages.get(profile_id, (None, {}))
            return dict(reasons) if page_version == version else {}

    def ask(self, profile_id: str, inquiry: Inquiry) -> None:
        """Have an inquiry answered soon; it replaces an older one of the same profile."""
        with self._changed:
            waiting = self._asked.get(profile_id)
            if waiting is None or waiting.version != inquiry.version:
                self._asked[profile_id] = inquiry
                self._changed.notify()

    def answer(
        self, profile_id: str, inquiry: Inquiry, *, pause_s: float = 0.0
    ) -> dict[str, Reason | None]:
        """Answer an inquiry now, and remember it."""
        epoch = self._epoch
        reasons = explain(inquiry.question, inquiry.rescore, pause_s=pause_s)
        found = dict(zip(inquiry.title_ids, reasons, strict=True))
        with self._changed:
            if epoch != self._epoch:  # forgotten meanwhile
                return found
            version, page = self._pages.get(profile_id, (None, {}))
            kept = page if version == inquiry.version else {}
            self._pages[profile_id] = (inquiry.version, {**kept, **found})
        return found

    def forget(self) -> None:
        """Drop everything: what it was true of may be gone."""
        with self._changed:
            self._epoch += 1
            self._pages.clear()
            self._asked.clear()

    def stop(self) -> None:
        """End the thread after what it is doing."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._asked or self._stopping)
                if self._stopping:
                    return
                profile_id, inquiry = self._asked.popitem()
            try:
                self.answer(profile_id, inquiry, pause_s=PAUSE_S)
            except Exception:  # noqa: BLE001 - the one place: the thread must go on
                self.failures += 1
                _log.exception("no reasons this time")
