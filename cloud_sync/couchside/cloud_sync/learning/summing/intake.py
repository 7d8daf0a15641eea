"""What the aggregator can tell of an Update by looking at it: pure, and before anything is kept."""

from __future__ import annotations

from dataclasses import dataclass

from couchside.cloud_sync.errors import RoundError
from couchside.cloud_sync.learning.rounds import Refusal, is_due
from couchside.device.errors import UpdateError
from couchside.device.learning.receipt import Verdict
from couchside.device.learning.round import Round  # noqa: TC001 - a field of a record
from couchside.device.learning.spool import FRAME_BYTES, ID_BYTES
from couchside.device.learning.update import Update, check_belongs, read_update

VERDICTS = {
    Refusal.OVERSIZE: Verdict.BAD,
    Refusal.DAMAGED: Verdict.BAD,
    Refusal.FOREIGN: Verdict.BAD,
    Refusal.SEED: Verdict.BAD,
    Refusal.DUPLICATE: Verdict.DUPLICATE,
    Refusal.LATE: Verdict.LATE,
    Refusal.BUSY: None,  # no receipt: the TV sends it again
}


_NAME = slice(28, 28 + ID_BYTES)
"""Where a frame's header has the name; see ``couchside.device.learning.update``."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """An Update that is whole, and the TV whose topic it came on."""

    round_id: int
    device: str
    update: Update


class RefusedUpdateError(RoundError):
    """An Update must not be summed; ``refusal`` is why, in a word that is counted."""

    def __init__(self, refusal: Refusal, why: str) -> None:
        super().__init__(why)
        self.refusal = refusal


def read_frame(round_id: int, device: str, frame: bytes) -> Arrived:
    """The Update in a frame that came on the topic of ``round_id`` and ``device``.

    Raises:
        RefusedUpdateError: it is no whole frame, or its topic names another Round.
    """
    if len(frame) > FRAME_BYTES:
        raise RefusedUpdateError(
            Refusal.OVERSIZE, f"{len(frame)} bytes, the limit is {FRAME_BYTES}"
        )
    try:
        update = read_update(frame)
    except UpdateError as error:
        raise RefusedUpdateError(Refusal.DAMAGED, str(error)) from error
    if update.round_id != round_id:
        raise RefusedUpdateError(
            Refusal.FOREIGN, f"it is of round {update.round_id}, sent as of round {round_id}"
        )
    return Arrived(round_id, device, update)


def named_id(frame: bytes) -> bytes:
    """The Update's name in a frame that may be damaged; empty where it is too short for one.

    Its TV knows its Update by that name only, and sends it again until a receipt has it.
    """
    name = frame[_NAME]
    return name if len(name) == ID_BYTES else b""


def check_wanted(arrived: Arrived, asked: Round, folded: int, now: float) -> None:
    """Whether the open Round ``asked``, with so many folded, takes what arrived.

    Raises:
        RefusedUpdateError: it is not what the Round asked for, or it comes too late.
    """
    try:
        check_belongs(arrived.update, asked)
    except UpdateError as error:
        raise RefusedUpdateError(Refusal.FOREIGN, str(error)) from error
    if is_due(asked, folded, now):
        raise RefusedUpdateError(Refusal.LATE, f"round {asked.round_id} is full or over")
