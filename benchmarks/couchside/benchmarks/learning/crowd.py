"""Many simulated TVs: the code of the learning child, one process a core, and one MQTT session.

Each has its own history, device key, mask and name at the broker. What is not simulated: clip,
rounding, masks, seals, frames, topics, receipts, and the patience to send again.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from couchside.benchmarks.errors import InvalidRunError
from couchside.cloud_sync import topics
from couchside.cloud_sync.mqtt import Session
from couchside.device import process
from couchside.device.errors import UpdateError
from couchside.device.learning import study
from couchside.device.learning.lesson import UpdateOrder
from couchside.device.learning.receipt import Verdict, read_receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from couchside.cloud_sync.address import BrokerAddress
    from couchside.device.bundle import Bundle
    from couchside.device.learning.examples import History
    from couchside.device.learning.round import Limits

UNDER_WAY = 48
"""Updates without a receipt at once: the aggregator waits for its helper with 64 at most."""
AGAIN_S = 3.0
LIMIT_S = 120.0
CHUNK = 20


@dataclass(frozen=True, slots=True)
class Pupil:
    """One simulated TV."""

    device: str
    history: History
    new_steps: int


class _Desk:
    """What a worker process keeps between TVs."""

    bundle: Bundle
    student: study.Student
    raw: bytes
    limits: Limits


def _sit_down(path: str, raw: bytes, limits: Limits) -> None:
    process.limit_blas_threads()
    os.nice(5)
    from pathlib import Path  # noqa: PLC0415 - in the worker, after the threads' limit

    from couchside.device.bundle import open_bundle  # noqa: PLC0415

    _Desk.bundle, _Desk.raw, _Desk.limits = open_bundle(Path(path)), raw, limits
    _Desk.student = study.Student(_Desk.bundle)


def _learn(pupil: Pupil) -> tuple[str, str, bytes]:
    """Device, identifier and frame of one TV's Update."""
    order = UpdateOrder(
        round=_Desk.raw.hex(),
        device_key=os.urandom(32).hex(),
        limits=_Desk.limits,
        spent_updates=0,
        spent_rho=0.0,
        last_round=0,
        learn=True,
        count=True,
        new_steps=(pupil.new_steps,),
        now=time.time(),
    )
    asked, places, trusted = study.open_order(order, _Desk.bundle)
    made = study.make_update(
        asked,
        order,
        _Desk.bundle,
        [pupil.history],
        places,
        bytes.fromhex(trusted.helper_key),
        student=_Desk.student,
    )
    return pupil.device, made.update_id, made.frame


def study_together(
    pupils: Sequence[Pupil], bundle: Bundle, raw: bytes, limits: Limits, *, processes: int
) -> list[tuple[str, str, bytes]]:
    """Device, identifier and frame of every TV's Update of the signed Round ``raw``."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        processes, context, _sit_down, (str(bundle.path), raw, limits)
    ) as pool:
        return list(pool.map(_learn, pupils, chunksize=CHUNK))


def deliver(
    frames: Sequence[tuple[str, str, bytes]],
    round_id: int,
    broker: BrokerAddress,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[dict[str, int], int]:
    """Send Updates until each has a receipt.

    Returns:
        The number of each verdict, and the bytes sent.

    Raises:
        InvalidRunError: an Update has none in time.
    """
    session = Session(broker, "couchside-crowd")
    session.subscribe(topics.receipt("+"))
    waiting = {name: (device, frame) for device, name, frame in frames}
    sent: dict[str, float] = {}
    verdicts: dict[str, int] = {}
    end = clock() + LIMIT_S
    try:
        session.wait_connected(15.0)
        while waiting:
            if clock() > end:
                raise InvalidRunError(f"{len(waiting)} Updates have no receipt after {LIMIT_S:g} s")
            _send_some(session, waiting, sent, round_id, clock())
            for message in session.poll(0.02):
                _take(message.payload, waiting, verdicts)
        return verdicts, session.bytes_out
    finally:
        session.close()


def _send_some(
    session: Session,
    waiting: dict[str, tuple[str, bytes]],
    sent: dict[str, float],
    round_id: int,
    now: float,
) -> None:
    window = list(waiting)[:UNDER_WAY]
    for name in window:
        if session.connected and now - sent.get(name, -AGAIN_S) >= AGAIN_S:
            device, frame = waiting[name]
            session.publish(topics.update(round_id, device), frame, retain=False)
            sent[name] = now


def _take(payload: bytes, waiting: dict[str, tuple[str, bytes]], verdicts: dict[str, int]) -> None:
    try:
        receipt = read_receipt(payload)
    except UpdateError:
        return
    if waiting.pop(receipt.update_id, None) is not None:
        said = receipt.verdict.value
        verdicts[said] = verdicts.get(said, 0) + 1
        if receipt.verdict is Verdict.BAD:
            raise InvalidRunError(f"an Update was refused: {receipt.why}")
