"""The aggregator: a process that takes Updates from the broker and folds them into one sum.

It sees masked vectors and sealed seeds, hence noise. For each Update: is it whole, does it belong
to the open Round, is this TV in the sum already, does the helper open its seed; only then it is
folded, on the disk, and has its receipt. Whatever gets no receipt is sent again by its TV, so
nothing else has to be kept: not through a kill, not while the helper is away, not without room.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from couchside.cloud_sync import topics
from couchside.cloud_sync.errors import BrokerError, RoundError
from couchside.cloud_sync.learning.rounds import Refusal, State, is_due
from couchside.cloud_sync.learning.summing.intake import (
    VERDICTS,
    Arrived,
    RefusedUpdateError,
    check_wanted,
    named_id,
    read_frame,
)
from couchside.cloud_sync.learning.summing.waiting import WaitingRoom
from couchside.device.learning.receipt import Receipt, Verdict, write_receipt
from couchside.device.learning.round import Round, read_round

if TYPE_CHECKING:
    from collections.abc import Callable

    from couchside.cloud_sync.learning.identity import AskingKeys
    from couchside.cloud_sync.learning.journal import Journal, Kept
    from couchside.cloud_sync.learning.summing.aggregate import Accumulator
    from couchside.cloud_sync.learning.summing.waiting import Judged
    from couchside.cloud_sync.mqtt import Session

_log = logging.getLogger("couchside.aggregate")

POLL_S = 0.05
LOOK_S = 0.5
"""Between two looks at the journal: Rounds are opened and closed by other processes."""


@dataclass(slots=True)
class _Open:
    """The Round that takes Updates."""

    asked: Round
    signed: bytes
    total: Accumulator


class Aggregator:
    """The running process of one channel.

    Args:
        channel: whose Rounds.
        journal: where sums are kept.
        session: to the broker.
        keys: to ask the helper with.
        report: told about every change, for people and tests.
        clock: POSIX seconds.
        monotonic: seconds.
    """

    def __init__(
        self,
        channel: str,
        journal: Journal,
        session: Session,
        keys: AskingKeys,
        *,
        report: Callable[[dict[str, Any]], None],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._channel, self._journal, self._session = channel, journal, session
        self._keys, self._report = keys, report
        self._clock, self._monotonic = clock, monotonic
        self._open: _Open | None = None
        self._room = WaitingRoom(keys)
        self._look_at = 0.0
        self._away = self._connected = False
        self._refused: Counter[tuple[int, Refusal]] = Counter()
        self.stopping = False

    def run(self) -> None:
        """Take Updates until told to stop."""
        self._session.subscribe(topics.ANY_UPDATE)
        self._session.subscribe(topics.ANSWER)
        while not self.stopping:
            self.step(POLL_S)
        self._write_counters()

    def step(self, timeout_s: float) -> None:
        """One turn of ``run``."""
        if self._monotonic() >= self._look_at:
            self._look()
        for message in self._session.poll(timeout_s):
            if message.topic == topics.ANSWER:
                self._hear(message.payload)
            else:
                self._take(message.topic, message.payload)
        if self._session.connected != self._connected:
            self._reconnected()
        if self._open is not None:
            self._ask_if_due(self._open)

    # The Round.

    def _look(self) -> None:
        """Follow what other processes did with the channel's Round; seal it when it is time."""
        self._look_at = self._monotonic() + LOOK_S
        self._write_counters()
        live = self._journal.live(self._channel)
        if self._open is not None and (
            live is None or live.state != State.OPEN or live.round_id != self._open.asked.round_id
        ):
            self._leave(self._open)
        if self._open is None and live is not None and live.state == State.OPEN:
            self._enter(live)
        if self._open is not None:
            self._seal_if_due(self._open)

    def _enter(self, kept: Kept) -> None:
        asked = read_round(kept.signed, (self._keys.rounds_public,))
        self._open = _Open(asked, kept.signed, self._journal.total(kept.round_id))
        self._publish(topics.round_of(self._channel), kept.signed, retain=True)
        self._report({"state": "open", "round": kept.round_id, "folded": self._open.total.folded})

    def _leave(self, was: _Open) -> None:
        """The Round takes no more: what waits is late, unless it is in the sum."""
        self._open, left = None, self._room.leave()
        self._publish(topics.round_of(self._channel), b"", retain=True)
        kept = self._journal.get(was.asked.round_id)
        state = str(kept.state) if kept else "gone"
        self._report({"state": state, "round": was.asked.round_id, "folded": was.total.folded})
        for arrived in left:
            self._judge(arrived)

    def _seal_if_due(self, now_open: _Open) -> None:
        if not is_due(now_open.asked, now_open.total.folded, self._clock()):
            return
        try:
            self._journal.move(now_open.asked.round_id, State.SEALED, int(self._clock()))
        except RoundError as error:
            _log.info("%s", error)  # another process was faster
        self._leave(now_open)

    def _reconnected(self) -> None:
        """After a restart the broker may have forgotten the Round, and the helper's ask."""
        self._connected = self._session.connected
        self._report({"connected": self._connected, "why": self._session.why})
        if self._connected and self._open is not None:
            self._publish(topics.round_of(self._channel), self._open.signed, retain=True)
            self._room.ask_again_soon(self._monotonic())

    # An Update.

    def _take(self, topic: str, frame: bytes) -> None:
        named = topics.update_of(topic)
        if named is None:
            return  # nobody to send a receipt to
        try:
            self._judge(read_frame(*named, frame))
        except RefusedUpdateError as error:
            if self._mine(named[0]):
                self._refuse(*named, named_id(frame), error)

    def _judge(self, arrived: Arrived) -> None:
        """Queue an Update for the helper's word, or refuse it."""
        if self._room.has(arrived) or not self._mine(arrived.round_id):
            return
        try:
            self._check(arrived)
        except RefusedUpdateError as error:
            self._refuse(arrived.round_id, arrived.device, arrived.update.update_id, error)
            return
        self._room.add(arrived, self._monotonic())

    def _check(self, arrived: Arrived) -> None:
        held = self._journal.holds(arrived.round_id, arrived.update.update_id, arrived.device)
        if held:
            raise RefusedUpdateError(Refusal.DUPLICATE, held)
        if self._open is None or self._open.asked.round_id != arrived.round_id:
            kept = self._journal.get(arrived.round_id)
            if kept is None:
                raise RefusedUpdateError(Refusal.FOREIGN, f"there is no round {arrived.round_id}")
            raise RefusedUpdateError(Refusal.LATE, f"round {arrived.round_id} is {kept.state}")
        check_wanted(arrived, self._open.asked, self._open.total.folded, self._clock())
        if self._room.is_full:
            raise RefusedUpdateError(Refusal.BUSY, "no room; send it again")

    def _mine(self, round_id: int) -> bool:
        """Whether a Round is this channel's, or nobody's; the newest may be opened just now."""
        if self._open is not None and self._open.asked.round_id == round_id:
            return True
        kept = self._journal.get(round_id)
        if kept is not None and kept.channel == self._channel and kept.state == State.OPEN:
            self._look()
        return kept is None or kept.channel == self._channel

    def _refuse(
        self, round_id: int, device: str, update_id: bytes, error: RefusedUpdateError
    ) -> None:
        self._refused[round_id, error.refusal] += 1
        verdict = VERDICTS[error.refusal]
        if verdict is None:
            return
        self._send(device, Receipt(round_id, update_id.hex(), verdict, str(error)))
        self._report(
            {"refused": str(error.refusal), "why": str(error), "round": round_id, "device": device}
        )

    # The helper.

    def _ask_if_due(self, now_open: _Open) -> None:
        letter = self._room.letter(now_open.signed, self._monotonic())
        if letter is not None:
            self._publish(topics.ASK, letter, retain=False)
        if self._room.away != self._away:
            self._away = self._room.away
            self._report({"helper": "away" if self._away else "answers"})
            if self._away:
                _log.warning("the helper does not answer; what has no room is sent again")

    def _hear(self, letter: bytes) -> None:
        judged = self._room.hear(letter, self._monotonic())
        if judged is None or self._open is None:
            return
        if judged.refused:
            _log.warning("the helper refuses: %s", judged.refused)
            self._report({"helper": "refuses", "why": judged.refused})
            self._refused[self._open.asked.round_id, Refusal.BUSY] += len(judged.batch)
        else:
            self._fold(self._open, judged)

    def _fold(self, now_open: _Open, judged: Judged) -> None:
        """Sum, commit, and only then send receipts."""
        round_id, before = now_open.asked.round_id, now_open.total.folded
        pairs = list(zip(judged.batch, judged.verdicts, strict=True))
        good = [arrived for arrived, why in pairs if not why]
        room = max(0, now_open.asked.cohort_most - before)
        good, late = good[:room], good[room:]
        after = now_open.total.with_all(arrived.update.values for arrived in good)
        names = [(arrived.update.update_id, arrived.device) for arrived in good]
        try:
            self._journal.fold(round_id, before, after, names)
        except RoundError as error:
            _log.warning("%s", error)
            self._leave(now_open)  # what is on the disk counts
            self._look()
            for arrived in good:
                self._judge(arrived)
            return
        now_open.total = after
        if good:
            self._report({"folded": after.folded, "round": round_id})
        self._tell(round_id, good, [(arrived, why) for arrived, why in pairs if why])
        self._seal_if_due(now_open)
        for arrived in late:
            self._judge(arrived)

    def _tell(self, round_id: int, good: list[Arrived], bad: list[tuple[Arrived, str]]) -> None:
        """Receipts for a batch whose sum is on the disk."""
        for arrived in good:
            receipt = Receipt(round_id, arrived.update.update_id.hex(), Verdict.FOLDED)
            self._send(arrived.device, receipt)
        for arrived, why in bad:
            refused = RefusedUpdateError(Refusal.SEED, why)
            self._refuse(round_id, arrived.device, arrived.update.update_id, refused)

    def _send(self, device: str, receipt: Receipt) -> None:
        self._publish(topics.receipt(device), write_receipt(receipt), retain=False)

    def _publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        try:
            self._session.publish(topic, payload, retain=retain)
        except BrokerError as error:
            _log.debug("%s: %s", topic, error)  # whatever it was, it is sent again when asked for

    def _write_counters(self) -> None:
        for (round_id, refusal), number in self._refused.items():
            self._journal.count_refused(round_id, {refusal: number})
        self._refused.clear()
