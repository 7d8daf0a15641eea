"""The way up: sealed Updates to the aggregator, the Round and receipts down to the spool.

couchside-sync understands none of it: frames were masked and sealed by the learning child, and a
Round is verified there. A frame is read from the daemon's folder at the moment of sending and sent
again until its receipt is here (a broker's acknowledgement is no delivery), after a random wait
that grows: a fleet must not send in step. A frame that the daemon took back is not sent any more.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from couchside.cloud_sync import topics
from couchside.device import strict
from couchside.device.errors import UpdateError
from couchside.device.learning.receipt import RECEIPT_BYTES, read_receipt
from couchside.device.learning.spool import ROUND_BYTES, Spool, round_id_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from couchside.cloud_sync.mqtt import Message, Session

_log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Between two looks into the folder of Updates."""
FIRST_RETRY_S = 4.0
SIGNATURE_BYTES = 64
SPREAD_MOST_S = 86_400.0


@dataclass
class Attempt:
    """One Update on its way."""

    due: float
    """Monotonic seconds of the next sending."""
    sent: int = 0


class Uplink:
    """Carries Updates; quiet until the daemon has put one into the spool.

    Args:
        spool: both folders.
        device: this TV's name to the broker.
        channel: whose Round.
        most_wait_s: longest wait between two sendings, seconds.
        report: told about every change, for people and tests.
        rng: for the jitter.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        device: str,
        channel: str,
        most_wait_s: float,
        report: Callable[[dict[str, Any]], None],
        rng: random.Random | None = None,
    ) -> None:
        self._spool, self._device, self._channel = spool, device, channel
        self._most_wait_s, self._report = most_wait_s, report
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self._attempts: dict[str, Attempt] = {}
        self._next_look = 0.0

    def begin(self, session: Session) -> None:
        """Ask for the Round and for receipts."""
        session.subscribe(topics.round_of(self._channel))
        session.subscribe(topics.receipt(self._device))

    def take(self, message: Message) -> None:
        """A Round or a receipt; whatever else arrives is somebody else's."""
        if message.topic == topics.round_of(self._channel):
            self._take_round(message.payload)
        elif message.topic == topics.receipt(self._device):
            self._take_receipt(message.payload)

    def look(self, session: Session, now: float) -> None:
        """Send what is due, if there is a connection."""
        if now < self._next_look:
            return
        self._next_look = now + LOOK_S
        queued = self._spool.queued()
        self._attempts = {name: self._attempts.get(name) or self._first(now) for name in queued}
        self._spool.drop_receipts()
        answered = {receipt.update_id for receipt in self._spool.receipts()}
        for name, attempt in self._attempts.items():
            if session.connected and name not in answered and now >= attempt.due:
                self._send(session, name, attempt, now)

    def _first(self, now: float) -> Attempt:
        return Attempt(now + self._rng.uniform(0.0, _spread(self._spool.round())))

    def _send(self, session: Session, name: str, attempt: Attempt, now: float) -> None:
        frame = self._spool.read_update(name)
        if frame is None:  # taken back a moment ago
            return
        round_id = round_id_of(frame)
        session.publish(topics.update(round_id, self._device), frame, retain=False)
        most = min(FIRST_RETRY_S * 2**attempt.sent, self._most_wait_s)
        attempt.sent = min(attempt.sent + 1, 20)
        attempt.due = now + most / 2 + self._rng.uniform(0.0, most / 2)
        self._report({"update": "sent", "round_id": round_id, "bytes": len(frame)})

    def _take_round(self, payload: bytes) -> None:
        if len(payload) > ROUND_BYTES or payload == self._spool.round():
            return
        try:
            self._spool.put_round(payload)
        except OSError as error:  # it comes again with the next connection
            _log.warning("the Round can't be kept: %s", error)
            return
        self._report({"round": "open" if payload else "none", "bytes": len(payload)})

    def _take_receipt(self, payload: bytes) -> None:
        try:
            receipt = read_receipt(payload)
        except UpdateError:
            return
        if receipt.update_id in self._spool.queued():
            try:
                self._spool.put_receipt(receipt.update_id, payload[:RECEIPT_BYTES])
            except OSError as error:  # the Update is sent again, and answered again
                _log.warning("a receipt can't be kept: %s", error)
                return
            self._report({"update": receipt.verdict.value, "why": receipt.why})


def _spread(raw: bytes) -> float:
    """The window that a Round names, unverified: a forger can delay, as his broker can anyway."""
    try:
        spread = strict.loads(raw[SIGNATURE_BYTES:])["spread_s"]
    except (strict.StrictError, KeyError, TypeError):
        return 0.0
    # Compared before it is turned into a float: whole numbers of JSON may be too large for one.
    if type(spread) not in (int, float) or not 0 <= spread <= SPREAD_MOST_S:
        return 0.0
    return float(spread)
