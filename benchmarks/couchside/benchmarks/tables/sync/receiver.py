"""A TV that only receives: couchside-sync behind a link, and the installer that it starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from couchside.benchmarks.delivery.cloud import CHANNEL
from couchside.benchmarks.errors import InvalidRunError

if TYPE_CHECKING:
    from pathlib import Path

    from couchside.benchmarks.tables.sync.link import Link

LIMIT_S = 90.0
POLL_S = 0.001
STOP_S = 10.0
SETTINGS = """\
device_id = "tv"
channel = "{channel}"
flavour = "{flavour}"
[broker]
host = "{link.address.host}"
port = {link.address.port}
protocol = "{link.address.protocol}"
[paths]
root = "{root}"
spool = "{folder}/spool"
state = "{folder}/install"
slots = "{folder}/slots"
[limits]
window = {window}
retry_s = 5.0
"""


@dataclass(frozen=True, slots=True)
class Crossed:
    """What one run of couchside-sync cost."""

    received: int
    sent: int
    blocks: int
    """Asked for, the block list's included."""
    seconds: float


class Receiver:
    """A TV that left its factory with a root of trust.

    Args:
        folder: made here.
        root: the first root of trust.
        link: its way to the broker.
        flavour: what it can run.
        window: blocks under way at once.
    """

    def __init__(
        self, folder: Path, root: Path, link: Link, flavour: str, *, window: int = 1
    ) -> None:
        folder.mkdir()
        self._folder, self._link = folder, link
        self._settings = folder / "sync.toml"
        self._settings.write_text(
            SETTINGS.format(
                channel=CHANNEL, flavour=flavour, link=link, root=root, folder=folder, window=window
            ),
            encoding="utf-8",
        )

    def take(self) -> Crossed:
        """Take the newest release, to its end.

        Raises:
            InvalidRunError: it was not installed.
        """
        before, began = (self._link.received, self._link.sent), time.monotonic()
        sync = self._start("--once", "--timeout", str(LIMIT_S))
        out, log = sync.communicate(timeout=LIMIT_S + STOP_S)
        took = time.monotonic() - began
        changes = [json.loads(line) for line in out.splitlines()]
        told = [change for change in changes if "state" in change]
        if not told or told[-1]["state"] not in {"installed", "current"}:
            raise InvalidRunError(f"couchside-sync did not install: {told[-1:]} {log[-1000:]}")
        return Crossed(
            received=self._link.received - before[0],
            sent=self._link.sent - before[1],
            blocks=sum(change["blocks"] for change in told if change["state"] == "wanted"),
            seconds=took,
        )

    def rest(self, seconds: float) -> Crossed:
        """Follow the channel for a while in which nothing happens."""
        before = (self._link.received, self._link.sent)
        sync = self._start("--timeout", str(seconds))
        sync.communicate(timeout=seconds + STOP_S)
        return Crossed(self._link.received - before[0], self._link.sent - before[1], 0, seconds)

    def die_at(self, blocks: int, after_s: float) -> int:
        """``kill -9`` that long after so many blocks are on the disk; how many are.

        Raises:
            InvalidRunError: they did not come, or it was faster than the kill.
        """
        sync = self._start("--once")
        end = time.monotonic() + LIMIT_S
        try:
            while len(self.held()) < blocks:
                if time.monotonic() > end or sync.poll() is not None:
                    raise InvalidRunError("couchside-sync could not be killed half way")
                time.sleep(POLL_S)
            time.sleep(after_s)
        finally:
            os.killpg(sync.pid, signal.SIGKILL)
            sync.communicate(timeout=STOP_S)
        return len(self.held())

    def held(self) -> set[str]:
        """Names of the blocks on its disk."""
        folder = self._folder / "spool" / "blocks"
        names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
        return {name for name in names if len(name) == 64}

    def _start(self, *flags: str) -> subprocess.Popen[Any]:
        module = "couchside.cloud_sync.tv.sync"
        command = [sys.executable, "-m", module, "--json", "--config", str(self._settings)]
        return subprocess.Popen(
            [*command, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that a kill takes an installer at work as well
        )
