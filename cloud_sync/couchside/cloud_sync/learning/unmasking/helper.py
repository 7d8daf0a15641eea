"""The unmasking helper: it holds seeds, sees no Update, and gives away only noised sums of masks.

It must belong to somebody else than the aggregator: together they could open every Update. What it
grants, it grants by the signed Round and by limits of its own: once a Round, for a set of enough
TVs that it knows, with noise on every value. Its limit: it believes the aggregator which device
sent what. Nothing certifies TVs yet, so from an aggregator that invents most of a cohort the noise
alone protects the rest.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from couchside.cloud_sync import topics
from couchside.cloud_sync.errors import BrokerError, LetterError, RoundError
from couchside.cloud_sync.learning.letters import (
    Answer,
    Check,
    Sealed,
    Unmask,
    read_ask,
    write_answer,
)
from couchside.cloud_sync.learning.unmasking.noise import discrete_gaussian
from couchside.device.errors import LearningError
from couchside.device.learning.masking import mask, unseal
from couchside.device.learning.round import Round, read_round
from couchside.device.learning.update import seal_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from couchside.cloud_sync.learning.identity import HelperKeys
    from couchside.cloud_sync.learning.unmasking.seeds import SeedStore
    from couchside.cloud_sync.mqtt import Session

_log = logging.getLogger("couchside.helper")

LEAST_COHORT = 500
"""TVs below which no sum is unmasked, whatever a Round says."""
POLL_S = 0.5
FORGET_S = 3600.0


@dataclass(frozen=True, slots=True)
class Policy:
    """Whom the helper obeys, and how far."""

    rounds_keys: tuple[bytes, ...]
    """Public keys that may sign Rounds and asks."""
    least_cohort: int = LEAST_COHORT


def judge(ask: Check | Unmask, policy: Policy, keys: HelperKeys, store: SeedStore) -> Answer:
    """The helper's answer to a letter that was signed as it should be; its ``of`` is left empty."""
    try:
        asked = read_round(ask.signed_round, policy.rounds_keys)
        if isinstance(ask, Check):
            return Answer("", "", verdicts=_checked(ask, asked, keys, store))
        return Answer("", "", masks=_unmasked(ask, asked, policy, store))
    except (LearningError, RoundError) as error:
        return Answer("", str(error))


def _checked(ask: Check, asked: Round, keys: HelperKeys, store: SeedStore) -> tuple[str, ...]:
    opened = [_opened(update, asked, keys) for update in ask.updates]
    good = [
        (update.update_id, update.device, seed)
        for update, seed in zip(ask.updates, opened, strict=True)
        if seed is not None
    ]
    kept = iter(store.keep(asked, ask.signed_round, good))
    return tuple("its seed does not open" if seed is None else next(kept) for seed in opened)


def _opened(update: Sealed, asked: Round, keys: HelperKeys) -> bytes | None:
    return unseal(update.seed, keys.seal, seal_context(asked.round_id, update.update_id))


def _unmasked(ask: Unmask, asked: Round, policy: Policy, store: SeedStore) -> bytes:
    least = max(asked.cohort_least, policy.least_cohort)
    if not least <= len(ask.update_ids) <= asked.cohort_most:
        raise RoundError(
            f"round {asked.round_id}: {len(ask.update_ids)} Updates; "
            f"this helper unmasks from {least} to {asked.cohort_most}"
        )

    def make(seeds: list[bytes]) -> bytes:
        total = np.zeros(asked.values, dtype=np.uint16)
        for seed in seeds:
            total += mask(seed, asked.values)
        noise = discrete_gaussian(asked.sigma, asked.values)
        return (total - (noise % (1 << 16)).astype(np.uint16)).astype("<u2").tobytes()

    return store.answer(asked, ask.signed_round, ask.update_ids, make)


class Helper:
    """The running process.

    Args:
        policy: whom it obeys.
        keys: its own.
        store: its memory.
        session: to the broker.
        report: told about every change, for people and tests.
        clock: POSIX seconds.
    """

    def __init__(
        self,
        policy: Policy,
        keys: HelperKeys,
        store: SeedStore,
        session: Session,
        *,
        report: Callable[[dict[str, Any]], None],
        clock: Callable[[], float],
    ) -> None:
        self._policy, self._keys, self._store, self._session = policy, keys, store, session
        self._report, self._clock = report, clock
        self._forget_at = 0.0
        self._connected = False
        self.refused = 0
        """Letters that got no answer, or no for an answer."""
        self.stopping = False

    def run(self) -> None:
        """Answer until told to stop."""
        self._session.subscribe(topics.ASK)
        while not self.stopping:
            for message in self._session.poll(POLL_S):
                if message.topic == topics.ASK:
                    self._take(message.payload)
            if self._session.connected != self._connected:
                self._connected = self._session.connected
                self._report({"connected": self._connected, "why": self._session.why})
            if self._clock() >= self._forget_at:
                self._forget_at = self._clock() + FORGET_S
                self._store.forget(self._clock())

    def _take(self, letter: bytes) -> None:
        try:
            ask, name = read_ask(letter, self._policy.rounds_keys)
        except LetterError as error:
            self._refuse(str(error))  # who can't sign gets no answer
            return
        answer = judge(ask, self._policy, self._keys, self._store)
        if answer.refused:
            self._refuse(answer.refused)
        else:
            self._tell(ask, answer)
        signed = write_answer(
            Answer(name, answer.refused, answer.verdicts, answer.masks), self._keys.sign
        )
        try:
            self._session.publish(topics.ANSWER, signed, retain=False)
        except BrokerError as error:
            _log.warning("%s; it will be asked again", error)

    def _tell(self, ask: Check | Unmask, answer: Answer) -> None:
        if isinstance(ask, Check):
            good = answer.verdicts.count("")
            self._report({"checked": len(answer.verdicts), "good": good})
        else:
            self._report({"unmasked": len(ask.update_ids)})

    def _refuse(self, why: str) -> None:
        self.refused += 1
        _log.warning("refused a letter: %s", why)
        self._report({"refused": self.refused, "why": why})
