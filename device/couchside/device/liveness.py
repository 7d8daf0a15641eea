"""A model that hangs must not hang the TV: every run of one is timed from outside.

One changed byte in a model file can make an inference runtime spin for ever, perhaps while it
holds the interpreter's lock, so no Python thread could notice. The timer is ``faulthandler``'s: a
C thread that ends the process. A marker file names the Bundle while a model runs; the next start
finds it and takes another slot (``slots``).
"""

from __future__ import annotations

import faulthandler
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


MARKER = "in-flight.json"
STACK = "hang.txt"


@dataclass(frozen=True, slots=True)
class InFlight:
    """What a process was doing with a Bundle when it ended without a word."""

    bundle_id: str
    what: str
    hung: bool
    """The timer ended it; otherwise it crashed, or someone killed it."""


class RunGuard:
    """Runs models one at a time, each under a time limit.

    Args:
        folder: where the marker and the stack of a hang are written. They are not synced: they
            must outlive the process, and after a power cut they would accuse the innocent.
        limit_s: seconds for a run.
    """

    def __init__(self, folder: Path, *, limit_s: float) -> None:
        self._marker = folder / MARKER
        self._limit_s = limit_s
        self._stack = (folder / STACK).open("w", encoding="utf-8")
        self._lock = threading.Lock()

    @contextmanager
    def running(self, bundle_id: str, what: str, *, limit_s: float | None = None) -> Iterator[None]:
        """Do ``what`` with a model inside this; beyond the limit the process ends with status 1."""
        with self._lock:
            flight = {"bundle_id": bundle_id, "what": what}
            self._marker.write_text(json.dumps(flight), encoding="utf-8")
            faulthandler.dump_traceback_later(
                self._limit_s if limit_s is None else limit_s, exit=True, file=self._stack
            )
            try:
                yield
            finally:
                faulthandler.cancel_dump_traceback_later()
                self._marker.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file that a hang would be written to."""
        self._stack.close()


def take_in_flight(folder: Path) -> InFlight | None:
    """What the process before was doing when it died, if a model was running; told once."""
    marker, stack = folder / MARKER, folder / STACK
    try:
        record = json.loads(marker.read_text(encoding="utf-8"))
        hung = stack.exists() and stack.stat().st_size > 0
        found = InFlight(str(record["bundle_id"]), str(record["what"]), hung)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        found = None  # killed between creating and writing it: nobody to accuse
    marker.unlink(missing_ok=True)
    return found
