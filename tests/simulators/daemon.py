"""A real couchside-device in a process of its own, with a state folder that a test may look into.

with running_daemon(tmp_path, slots) as daemon:
    daemon.client.call("rows")
    daemon.kill()          # as a power cut would
    daemon.start()
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from couchside.device.process import memory
from couchside.device.rpc import Client

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

START_S = 20.0
STOP_S = 10.0


class DaemonProcess:
    """One daemon and a client connected to it."""

    def __init__(
        self,
        state: Path,
        slots: Path,
        *,
        wrapper: Sequence[str] = (),
        flags: Sequence[str] = (),
        settings: str = "",
        environment: dict[str, str] | None = None,
    ) -> None:
        self.state = state
        self.socket = state / "s"
        self.log = state.parent / f"{state.name}.log"
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = state.parent / f"{state.name}.toml"
        config.write_text(settings, encoding="utf-8")
        paths = ("--state", str(state), "--socket", str(self.socket), "--slots", str(slots))
        module = (sys.executable, "-m", "couchside.device.daemon")
        self.command = [*wrapper, *module, "--config", str(config), *paths, *flags]
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self.client = self.new_client()

    def new_client(self) -> Client:
        """Another client, for another thread."""
        return Client(self.socket, timeout_s=60.0, patience_s=START_S)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self.command, stderr=log, env=self._environment)

    def kill(self) -> None:
        """End it without a chance to say goodbye."""
        self.client.close()
        self.process.kill()
        self.process.wait(STOP_S)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit status."""
        self.client.close()
        self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def memory(self) -> dict[str, int]:
        """Resident and anonymous bytes of the process, from outside."""
        return memory(Path(f"/proc/{self.process.pid}/status"))

    def logged(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


@contextmanager
def running_daemon(
    folder: Path,
    slots: Path,
    *,
    wrapper: Sequence[str] = (),
    flags: Sequence[str] = (),
    settings: str = "",
    environment: dict[str, str] | None = None,
) -> Iterator[DaemonProcess]:
    """A daemon that answers; it is stopped at the end if the test has not done so."""
    daemon = DaemonProcess(
        folder / "state",
        slots,
        wrapper=wrapper,
        flags=flags,
        settings=settings,
        environment=environment,
    )
    daemon.start()
    try:
        daemon.client.call("health")
        yield daemon
    finally:
        daemon.client.close()
        if daemon.process.poll() is None:
            daemon.process.kill()
        daemon.process.wait(STOP_S)
