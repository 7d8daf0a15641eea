"""A model that hangs must not hang the TV: every run of one is timed from outside.

One changed byte in a model file can make an inference runtime spin for ever, perhaps while it
holds the interpreter's lock, so no Python thread could notice. The timer is ``faulthandler``'s: a
C thread that ends the process. A marker names the Bundle while a model runs; the next start finds
it and takes another slot (``slots``).
"""

from __future__ import annotations

import faulthandler
import json
import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARKER = "in-flight"
STACK = "hang.txt"
RECORD = 512
"""Bytes of the marker: one block, overwritten in place, so that it costs the flash next to nothing.
It is never synced: it must outlive the process only. It names the boot, because after a power cut
it would accuse the innocent."""


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
        folder: where the marker and the stack of a hang are written.
        boot_id: of this boot.
        limit_s: seconds for a run.
    """

    def __init__(self, folder: Path, *, boot_id: str, limit_s: float) -> None:
        self._boot_id = boot_id
        self._limit_s = limit_s
        self._stack = (folder / STACK).open("w", encoding="utf-8")
        self._marker = os.open(folder / MARKER, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        self._lock = threading.Lock()
        self._mark({})

    @contextmanager
    def running(self, bundle_id: str, what: str, *, limit_s: float | None = None) -> Iterator[None]:
        """Do ``what`` with a model inside this; beyond the limit the process ends with status 1."""
        with self._lock:
            self._mark({"bundle_id": bundle_id, "boot_id": self._boot_id, "what": what})
            faulthandler.dump_traceback_later(
                self._limit_s if limit_s is None else limit_s, exit=True, file=self._stack
            )
            try:
                yield
            finally:
                faulthandler.cancel_dump_traceback_later()
                self._mark({})

    def close(self) -> None:
        """Close the files."""
        self._stack.close()
        os.close(self._marker)

    def _mark(self, record: dict[str, str]) -> None:
        os.pwrite(self._marker, json.dumps(record).encode().ljust(RECORD), 0)


def take_in_flight(folder: Path, *, boot_id: str) -> InFlight | None:
    """What the process before was doing when it died in this boot, if a model was running."""
    try:
        record = json.loads((folder / MARKER).read_bytes())
        if record.get("boot_id") != boot_id:
            return None
        hung = (folder / STACK).stat().st_size > 0
        return InFlight(str(record["bundle_id"]), str(record["what"]), hung)
    except (OSError, ValueError, KeyError, AttributeError):
        return None  # the first start, or a marker that nobody finished writing
