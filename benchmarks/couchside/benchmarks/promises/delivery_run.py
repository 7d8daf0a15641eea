"""A Bundle's delivery as the promises see it: the memory of those who bring and try it.

A cloud signs a Bundle, a broker carries it, and a new TV fetches, verifies and installs it, all in
real processes. Meanwhile the memory of couchside-sync, of the installer and of the child that runs
the golden vectors is read from the kernel.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from couchside.benchmarks.delivery.journey import Journey
from couchside.benchmarks.errors import InvalidRunError
from couchside.benchmarks.promises.daemon_run import MB
from couchside.device.process import memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from couchside.device.bundle import Bundle

WATCHED = {
    "couchside.cloud_sync.tv.sync": "sync_peak",
    "couchside.cloud_sync.tv.install": "installer_peak",
    "couchside.cloud_sync.tv.golden": "golden_child_peak",
}
"""Modules that run as processes, and the measurement of each."""
POLL_S = 0.004
"""The golden child of a small Bundle lives for a third of a second."""


def run_delivery(bundle: Bundle, folder: Path) -> dict[str, float]:
    """Deliver it once to one new TV; MB of each process, by name as in ``budgets.toml``.

    Args:
        bundle: what travels.
        folder: empty, and short, as sockets lie in it.

    Raises:
        InvalidRunError: it did not arrive, or a process was never seen.
    """
    with Journey(folder, bundle, tvs=1) as journey:
        journey.begin()
        with _peaks(journey.tvs[0].folder) as peaks:
            journey.release()
    unseen = WATCHED.keys() - peaks.keys()
    if unseen:
        raise InvalidRunError(f"never seen during a delivery: {', '.join(sorted(unseen))}")
    return {name: peaks[module] / MB for module, name in WATCHED.items()}


@contextmanager
def _peaks(folder: Path) -> Iterator[dict[str, int]]:
    """Peak resident bytes, by module, of all processes that work in ``folder`` meanwhile."""
    peaks: dict[str, int] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(POLL_S):
            for process in Path("/proc").glob("[0-9]*"):
                _look(process, str(folder).encode(), peaks)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peaks
    finally:
        over.set()
        watcher.join()


def _look(process: Path, folder: bytes, peaks: dict[str, int]) -> None:
    try:
        command = (process / "cmdline").read_bytes()
        if folder not in command:
            return
        words = command.split(b"\0")
        module = words[words.index(b"-m") + 1].decode()
        peak = memory(process / "status")["peak_rss_bytes"]
    except (OSError, ValueError, KeyError, IndexError):  # it has just ended, or not begun
        return
    peaks[module] = max(peaks.get(module, 0), peak)
