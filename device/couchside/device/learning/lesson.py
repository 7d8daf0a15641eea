"""What the learning child is asked and what it answers: histories in, an Update or values out.

The daemon hands the last steps of each profile over a pipe, and gets a sealed frame or personal
values back. The child opens no database and no network; it needs the Bundle and nothing else.

A lesson is a line of JSON and then arrays in NumPy's own format (no pickle); an answer is the same.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from couchside.device import strict
from couchside.device.errors import LearningError
from couchside.device.learning.examples import History
from couchside.device.learning.round import Limits  # noqa: TC001 - read at run time by strict

if TYPE_CHECKING:
    from typing import IO

    from numpy.typing import NDArray

T = TypeVar("T")
LINE_BYTES = 64 * 1024
ARRAYS_MOST = 4096
BODY_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class UpdateOrder:
    """Take part in a Round."""

    round: str
    """The signed Round as received, in hexadecimal; nobody has checked it yet."""
    device_key: str
    """32 bytes in hexadecimal; born on this TV, and never leaves it."""
    limits: Limits
    spent_updates: int
    spent_rho: float
    """Of the last 365 days."""
    last_round: int
    """The newest Round that this TV took part in; an older one is not new."""
    learn: bool
    """Consent: the change of the parameters may leave."""
    count: bool
    """Consent: the titles may be counted."""
    new_steps: tuple[int, ...]
    """Of each history, how many of its last steps are newer than the last Update."""
    now: float
    """POSIX seconds by the TV's clock, which may stand in 1970."""


@dataclass(frozen=True, slots=True)
class PersonalOrder:
    """Fit the personal parameters of every profile to its history."""

    steps: int
    rate: float


@dataclass(frozen=True, slots=True)
class Lesson:
    """One order with what it needs."""

    bundle: str
    """Folder of the installed Bundle."""
    threads: int
    update: UpdateOrder | None = None
    personal: PersonalOrder | None = None


Outcome = Literal["update", "personal", "sits_out", "refused"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the child found. ``arrays`` follow it: the frame as bytes, or values of each profile."""

    outcome: Outcome
    why: str = ""
    round_id: int = 0
    update_id: str = ""
    rho: float = 0.0
    opens_at: int = 0
    """POSIX seconds that have certainly passed: signed by the cloud."""
    spread_s: float = 0.0
    loss_before: float = 0.0
    loss_after: float = 0.0
    peak_rss_bytes: int = 0


def write_lesson(stream: IO[bytes], lesson: Lesson, histories: list[History]) -> None:
    """Hand a lesson over."""
    arrays = [
        array for one in histories for array in (one.rows, one.vectors, one.signals, one.gaps)
    ]
    _write(stream, lesson, arrays)


def read_lesson(stream: IO[bytes]) -> tuple[Lesson, list[History]]:
    """Take a lesson.

    Raises:
        LearningError: it is not whole.
    """
    lesson, arrays = _read(stream, Lesson)
    return lesson, [History(*arrays[at : at + 4]) for at in range(0, len(arrays), 4)]


def write_answer(stream: IO[bytes], answer: Answer, arrays: list[NDArray[Any]]) -> None:
    """Hand an answer over."""
    _write(stream, answer, arrays)


def read_answer(stream: IO[bytes]) -> tuple[Answer, list[NDArray[Any]]]:
    """Take an answer.

    Raises:
        LearningError: it is not whole.
    """
    return _read(stream, Answer)


def _write(stream: IO[bytes], head: Lesson | Answer, arrays: list[NDArray[Any]]) -> None:
    body = io.BytesIO()
    for array in arrays:
        np.lib.format.write_array(body, np.ascontiguousarray(array), allow_pickle=False)
    line = {"head": strict.to_json(head), "arrays": len(arrays), "bytes": body.tell()}
    stream.write(json.dumps(line, allow_nan=False).encode() + b"\n" + body.getvalue())
    stream.flush()


def _read(stream: IO[bytes], kind: type[T]) -> tuple[T, list[NDArray[Any]]]:
    try:
        line = strict.loads(stream.readline(LINE_BYTES))
        head = strict.from_json(kind, line["head"], "head")
        size, count = int(line["bytes"]), int(line["arrays"])
        if not (0 <= size <= BODY_BYTES and 0 <= count <= ARRAYS_MOST):
            raise LearningError(f"{count} arrays in {size} bytes are too many")
        body = io.BytesIO(stream.read(size))
        arrays = [np.lib.format.read_array(body, allow_pickle=False) for _ in range(count)]
    except (strict.StrictError, KeyError, TypeError, ValueError, OSError) as error:
        raise LearningError(f"the other side of the pipe broke off: {error}") from error
    return head, arrays
