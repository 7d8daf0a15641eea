"""The life of a Round: open, sealed, then closed or void. Pure: no clock, no database.

Open, it takes Updates. Sealed, its sum stands still until the helper has unmasked it; that may take
as long as it takes, the helper gives the same set the same answer. Void is a Round that too few
took part in, or that was given up: nothing of it is ever unmasked.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from couchside.cloud_sync.errors import RoundError

if TYPE_CHECKING:
    from couchside.device.learning.round import Round


class State(StrEnum):
    """Where in its life a Round is."""

    OPEN = "open"  # Updates are folded
    SEALED = "sealed"  # no more are; the sum is still masked
    CLOSED = "closed"  # unmasked, the result is on the disk
    VOID = "void"  # ended without a result, never unmasked


MOVES = {
    State.OPEN: frozenset({State.SEALED}),
    State.SEALED: frozenset({State.CLOSED, State.VOID}),
    State.CLOSED: frozenset[State](),
    State.VOID: frozenset[State](),
}


class Refusal(StrEnum):
    """Why an Update was not folded, coarse enough to be counted."""

    OVERSIZE = "oversize"  # larger than any frame
    DAMAGED = "damaged"  # no whole frame: cut off, wrong hash, scale that is no number
    FOREIGN = "foreign"  # of another Round, Bundle, size or scale
    SEED = "seed"  # the helper can't open its seed, or has another of this TV
    DUPLICATE = "duplicate"  # this TV, or this Update, is in the sum
    LATE = "late"  # the Round is over or full
    BUSY = "busy"  # no room before the helper has answered; the TV sends it again


def move(round_id: int, state: State, to: State) -> State:
    """The next state.

    Raises:
        RoundError: no way leads there.
    """
    if to not in MOVES[state]:
        raise RoundError(f"round {round_id} is {state} and can't become {to}")
    return to


def is_due(asked: Round, folded: int, now: float) -> bool:
    """Whether an open Round takes no more: its goal or its end is reached."""
    return folded >= asked.cohort_most or now >= asked.closes_at


def end_of(asked: Round, folded: int) -> State:
    """What a sealed Round can become by the number of TVs in it."""
    return State.CLOSED if folded >= asked.cohort_least else State.VOID
