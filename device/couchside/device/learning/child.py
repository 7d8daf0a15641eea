"""``couchside-learn``: the process that learns, at the lowest priority, and ends.

The daemon starts it when the TV is idle and hands it a lesson on standard input; the answer goes
to standard output. It has no network and writes no file; it verifies the Round itself, against the
keys that the installed Bundle pins. It ends at once when the daemon does, or closes the pipe.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from couchside.device import process
from couchside.device.errors import CouchsideError, LearningError, RoundRefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from couchside.device.bundle import Bundle
    from couchside.device.learning.examples import History
    from couchside.device.learning.lesson import Answer, Lesson

DATA_BYTES = 256 << 20
"""Most data memory: a model file is a program, and this one may be wrong."""
GOOD, FAILED = 0, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``couchside-learn``; the exit status."""
    argparse.ArgumentParser(
        prog="couchside-learn", description="Started by couchside-device; reads a lesson."
    ).parse_args(arguments)
    _step_back()
    process.limit_blas_threads()
    process.keep_memory_small()
    process.refuse_networks()
    # Only now: numpy reads the number of threads when it is imported.
    from couchside.device.learning.lesson import read_lesson, write_answer  # noqa: PLC0415

    try:
        lesson, histories = read_lesson(sys.stdin.buffer)
        threading.Thread(target=_end_with_input, daemon=True).start()
        answer, arrays = study(lesson, histories)
        write_answer(sys.stdout.buffer, answer, arrays)
    except (CouchsideError, OSError, MemoryError) as error:
        sys.stderr.write(f"couchside-learn: {error or 'it needs more memory than it may have'}\n")
        return FAILED
    return GOOD


def study(lesson: Lesson, histories: list[History]) -> tuple[Answer, list[NDArray[Any]]]:
    """Do what a lesson asks.

    Raises:
        BundleError: the Bundle is damaged, or computes something that is not finite.
        LearningError: the lesson asks for nothing, or an Update can't be made.
    """
    from couchside.device.bundle import open_bundle  # noqa: PLC0415 - after the threads' limit

    bundle = open_bundle(Path(lesson.bundle))
    if lesson.update is not None:
        return _take_part(lesson, bundle, histories)
    if lesson.personal is not None:
        return _make_personal(lesson, bundle, histories)
    raise LearningError("the lesson asks for nothing")


def _take_part(
    lesson: Lesson, bundle: Bundle, histories: list[History]
) -> tuple[Answer, list[NDArray[Any]]]:
    import numpy as np  # noqa: PLC0415

    from couchside.device.learning import study as studying  # noqa: PLC0415
    from couchside.device.learning.lesson import Answer  # noqa: PLC0415

    order = lesson.update
    if order is None:
        raise LearningError("the lesson has no Round")
    try:
        asked, places, trusted = studying.open_order(order, bundle)
    except RoundRefusedError as error:
        return Answer("refused", why=str(error)), []
    why = studying.abstention(asked, order)
    if why:
        return Answer("sits_out", why=why, round_id=asked.round_id, opens_at=asked.opens_at), []
    helper = bytes.fromhex(trusted.helper_key)
    sealed = studying.make_update(asked, order, bundle, histories, places, helper)
    answer = Answer(
        "update",
        round_id=asked.round_id,
        update_id=sealed.update_id,
        rho=asked.rho,
        opens_at=asked.opens_at,
        spread_s=asked.spread_s,
        loss_before=sealed.learned.loss_before,
        loss_after=sealed.learned.loss_after,
        peak_rss_bytes=_peak(),
    )
    return answer, [np.frombuffer(sealed.frame, np.uint8)]


def _make_personal(
    lesson: Lesson, bundle: Bundle, histories: list[History]
) -> tuple[Answer, list[NDArray[np.float32]]]:
    from couchside.device.learning.lesson import Answer  # noqa: PLC0415
    from couchside.device.learning.study import make_personal  # noqa: PLC0415

    order = lesson.personal
    if order is None:
        raise LearningError("the lesson has no personal part")
    values = make_personal(bundle, histories, steps=order.steps, rate=order.rate)
    return Answer("personal", peak_rss_bytes=_peak()), values


def _peak() -> int:
    return process.memory(Path("/proc/self/status"))["peak_rss_bytes"]


def _step_back() -> None:
    """Take only what nobody else wants: the household may come back at any moment."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the daemon blocks signals, and we inherit it
    os.nice(19)
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    resource.setrlimit(resource.RLIMIT_DATA, (DATA_BYTES, DATA_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _end_with_input() -> None:
    """The daemon holds the pipe open as long as it wants the answer."""
    os.read(0, 1)  # not through sys.stdin, whose lock would trouble a normal exit
    os._exit(FAILED)


if __name__ == "__main__":
    sys.exit(main())
