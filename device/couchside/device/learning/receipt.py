"""What the aggregator says of an Update; until a TV has this, the Update is not delivered.

A broker's acknowledgement is no delivery (measured: 3,000 acknowledged, 1,020 delivered), so an
Update stays in the spool until its receipt is here. A receipt carries no signature: whoever could
forge one owns the broker, and could as well have dropped the Update.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from couchside.device import strict
from couchside.device.errors import UpdateError

RECEIPT_BYTES = 1024


class Verdict(StrEnum):
    """What became of an Update."""

    FOLDED = "folded"  # in the sum, and on the aggregator's disk
    DUPLICATE = "duplicate"  # this TV's Update of the Round was in the sum already
    LATE = "late"  # the Round is over, or full
    BAD = "bad"  # it must not be summed; ``why`` says what is wrong


@dataclass(frozen=True, slots=True)
class Receipt:
    """The aggregator's word on one Update."""

    round_id: int
    update_id: str
    """In hexadecimal; empty where the frame was too damaged to have one."""
    verdict: Verdict
    why: str = ""


def write_receipt(receipt: Receipt) -> bytes:
    """As it travels."""
    return json.dumps(strict.to_json(receipt), sort_keys=True).encode()


def read_receipt(raw: bytes) -> Receipt:
    """What came.

    Raises:
        UpdateError: it is no receipt.
    """
    if len(raw) > RECEIPT_BYTES:
        raise UpdateError(f"receipt: {len(raw)} bytes are too many")
    try:
        return strict.from_json(Receipt, strict.loads(raw))
    except strict.StrictError as error:
        raise UpdateError(f"receipt: {error}") from error
