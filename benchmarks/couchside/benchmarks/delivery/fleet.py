"""One TV of a fleet: a real couchside-device and a real couchside-sync, and who restarts them.

with FleetTv("TV 1", folder, root, broker) as tv:
    tv.follow()
    while tv.version < 1:
        tv.look_after()
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from couchside.benchmarks.delivery.cloud import CHANNEL
from couchside.benchmarks.errors import InvalidRunError
from couchside.benchmarks.tv.process import TvProcess
from couchside.device.daemon import RENEW
from couchside.device.errors import UnreachableError
from couchside.device.slots import Slot, Slots

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from couchside.cloud_sync.address import BrokerAddress

STOP_LIMIT_S = 10.0
LOG_TAIL = 1500
"""Characters of couchside-sync's log that an error quotes."""
SETTINGS = """\
device_id = "{device}"
channel = "{channel}"
flavour = "{flavour}"
[broker]
host = "{broker.host}"
port = {broker.port}
protocol = "{broker.protocol}"
[paths]
root = "{root}"
spool = "{folder}/spool"
state = "{folder}/install"
slots = "{folder}/slots"
verdicts = "{folder}/state/verdicts.json"
updates = "{folder}/updates"
[limits]
retry_s = 10.0
"""
DEVICE_SETTINGS = """\
[paths]
rounds = "{folder}/spool/rounds"
updates = "{folder}/updates"
[learning]
least_cohort = {least_cohort}
"""


@dataclass(frozen=True, slots=True)
class Change:
    """What couchside-sync told at one moment."""

    state: str
    why: str
    version: int
    blocks: int
    """wanted: how many are to be fetched."""
    bytes_in: int
    """Received since it began, above TCP."""
    bytes_out: int


class FleetTv:
    """A TV that left its factory with a root of trust and without a Bundle.

    Args:
        name: for people.
        folder: made here; short, as a socket lies in it.
        root: the first root of trust.
        broker: where its releases come from.
        flavour: what it can run.
        least_cohort: it takes part in no smaller Round.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        root: Path,
        broker: BrokerAddress,
        flavour: str,
        *,
        least_cohort: int = 500,
    ) -> None:
        folder.mkdir()
        self.name, self.folder = name, folder
        self.changes: list[Change] = []
        """Everything that its couchside-sync has told of releases, oldest first."""
        (folder / "spool" / "rounds").mkdir(parents=True)
        settings = DEVICE_SETTINGS.format(folder=folder, least_cohort=least_cohort)
        self.process = TvProcess(folder, slots=folder / "slots", settings=settings)
        self._sync: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        device = name.lower().replace(" ", "-")
        text = SETTINGS.format(
            device=device, channel=CHANNEL, flavour=flavour, broker=broker, root=root, folder=folder
        )
        (folder / "sync.toml").write_text(text, encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def follow(self) -> None:
        """Start couchside-sync on the channel."""
        module = "couchside.cloud_sync.tv.sync"
        command = [sys.executable, "-m", module, "--json", "--config"]
        with (self.folder / "sync.log").open("wb") as log:
            # A group of its own, so that stopping it also ends an installer at work.
            self._sync = subprocess.Popen(
                [*command, str(self.folder / "sync.toml")],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                process_group=0,
            )
        self._reader = threading.Thread(target=self._listen, args=(self._sync,), daemon=True)
        self._reader.start()

    def look_after(self) -> None:
        """What systemd would do: start the daemon once there is a Bundle, and when it asks to be.

        Raises:
            InvalidRunError: a process ended that should not have; the message quotes its log.
        """
        if self._sync is not None and self._sync.poll() is not None:
            raise InvalidRunError(f"{self.name}: couchside-sync ended; its log:\n{self.sync_log()}")
        status = self.process.ended()
        if status not in (None, RENEW):
            log = self.process.log()
            raise InvalidRunError(f"{self.name}: couchside-device ended ({status}):\n{log}")
        if status == RENEW:
            self.process.stop()
        if not self.process.is_on and Slots(self.folder / "slots").path(Slot.CURRENT):
            self.process.start()

    @property
    def version(self) -> int:
        """Version of the Bundle that made the shelf just now; 0 while there is no shelf."""
        try:
            return self.shelf()[0] if self.process.is_on else 0
        except UnreachableError:  # it ends, to take a new Bundle
            return 0

    def shelf(self) -> tuple[int, int, float]:
        """Ask for the shelf: version of its Bundle, cards, and milliseconds that it took."""
        began = time.perf_counter()
        answer: Any = self.process.client.call("rows")
        took = 1000 * (time.perf_counter() - began)
        return answer["bundle_version"], sum(len(row["cards"]) for row in answer["rows"]), took

    def load(self, films: Path) -> None:
        """Hand it an app's catalogue."""
        self.process.client.call("catalogue.load", source="films", path=str(films))

    def sync_log(self) -> str:
        """The end of what couchside-sync has logged."""
        return (self.folder / "sync.log").read_text(errors="replace")[-LOG_TAIL:]

    def stop(self) -> None:
        """End both processes, and an installer if one is at work."""
        sync, self._sync = self._sync, None
        if sync is not None:
            _end_group(sync)
            if self._reader is not None:
                self._reader.join(STOP_LIMIT_S)
            if sync.stdout is not None:
                sync.stdout.close()
        self.process.stop()

    def _listen(self, sync: subprocess.Popen[str]) -> None:
        for line in sync.stdout or ():
            told = json.loads(line)
            if "state" in told:  # the others are of the way up
                self.changes.append(Change(**{name: told[name] for name in Change.__slots__}))


def _end_group(child: subprocess.Popen[str]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is None:
            os.killpg(child.pid, number)
            try:
                child.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                continue
