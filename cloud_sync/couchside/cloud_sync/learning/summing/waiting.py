"""The room in which Updates wait for the helper's word: bounded, one question at a time. Pure.

While a question is with the helper, the next batch gathers; with both full there is no room, and a
TV hears nothing and sends again. A question that gets no answer is asked again as it was, which
harms nothing: the helper says the same.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from couchside.cloud_sync.errors import LetterError
from couchside.cloud_sync.learning.letters import BATCH, Check, Sealed, read_answer, write_ask

if TYPE_CHECKING:
    from couchside.cloud_sync.learning.identity import AskingKeys
    from couchside.cloud_sync.learning.summing.intake import Arrived

_log = logging.getLogger("couchside.aggregate")

CHECK_S = 0.2
"""Longest that an Update waits for others before the helper is asked."""
ANSWER_S = 2.0
"""Until the helper is asked the same again."""
AGAIN_S = 1.0
"""The same after a reconnection: the question may have been lost with the connection."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A batch, and what the helper said of it."""

    batch: tuple[Arrived, ...]
    verdicts: tuple[str, ...]
    """For each an empty word if its seed is good, else why not."""
    refused: str
    """Why the helper judged none of them; empty if it did."""


@dataclass(frozen=True, slots=True)
class _Question:
    letter: bytes
    name: str
    batch: tuple[Arrived, ...]


class WaitingRoom:
    """At most ``BATCH`` Updates that wait, and as many that the helper is asked about.

    Args:
        keys: to ask with.
    """

    def __init__(self, keys: AskingKeys) -> None:
        self._keys = keys
        self._waiting: list[Arrived] = []
        self._question: _Question | None = None
        self._due = 0.0
        self.away = False
        """Whether the helper owes us an answer for longer than it should."""

    @property
    def is_full(self) -> bool:
        """Whether there is no place for another Update."""
        return len(self._waiting) >= BATCH

    def has(self, arrived: Arrived) -> bool:
        """Whether this TV, or this Update, waits already: its receipt comes in a moment."""
        asked = self._question.batch if self._question else ()
        return any(
            other.device == arrived.device or other.update.update_id == arrived.update.update_id
            for other in (*self._waiting, *asked)
        )

    def add(self, arrived: Arrived, now: float) -> None:
        """Let an Update in; ``now`` in monotonic seconds, here and below."""
        if not self._waiting and self._question is None:
            self._due = now + CHECK_S
        self._waiting.append(arrived)

    def letter(self, signed_round: bytes, now: float) -> bytes | None:
        """What to send to the helper at this moment, if anything."""
        if self._question is not None:
            if now < self._due:
                return None
            self.away = True
        elif self._waiting and (self.is_full or now >= self._due):
            self._question = self._ask(signed_round)
        else:
            return None
        self._due = now + ANSWER_S
        return self._question.letter

    def hear(self, letter: bytes, now: float) -> Judged | None:
        """What the helper says to our question; None if this is no answer to it."""
        if self._question is None:
            return None
        try:
            answer = read_answer(letter, (self._keys.helper_sign,))
        except LetterError as error:
            _log.warning("%s; ignored", error)  # anybody on the broker can write there
            return None
        batch = self._question.batch
        if answer.of != self._question.name:
            return None
        self._question, self._due, self.away = None, now, False
        if not answer.refused and len(answer.verdicts) != len(batch):
            return Judged(batch, (), "it judged others than it was asked about")
        return Judged(batch, answer.verdicts, answer.refused)

    def ask_again_soon(self, now: float) -> None:
        """The connection is new: the question may have been lost with the old one."""
        self._due = min(self._due, now + AGAIN_S)

    def leave(self) -> list[Arrived]:
        """Everybody goes; who was here, in the order of coming."""
        asked = self._question.batch if self._question else ()
        left = [*asked, *self._waiting]
        self._question, self._waiting = None, []
        return left

    def _ask(self, signed_round: bytes) -> _Question:
        batch, self._waiting = tuple(self._waiting), []
        sealed = tuple(
            Sealed(each.update.update_id, each.device, each.update.sealed) for each in batch
        )
        letter, name = write_ask(Check(signed_round, sealed), self._keys.key)
        return _Question(letter, name, batch)
