"""The cloud's two servers that learn: the aggregator and the unmasking helper, real processes."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from couchside.benchmarks.delivery.cloud import CHANNEL
from couchside.benchmarks.errors import BenchmarkError, InvalidRunError
from couchside.device.process import memory

if TYPE_CHECKING:
    from types import TracebackType

    from couchside.benchmarks.delivery.cloud import Cloud
    from couchside.cloud_sync.address import BrokerAddress

MODULE = "couchside.cloud_sync.cloud.cli"
STOP_S = 10.0


class Servers:
    """Helper and aggregator of one cloud, each in a process of its own.

    Args:
        folder: made here; the helper's own, which the cloud never sees.
        cloud: whose Rounds.
        broker: by which everybody talks.
        least_cohort: the helper unmasks no smaller sum.
    """

    def __init__(
        self, folder: Path, cloud: Cloud, broker: BrokerAddress, *, least_cohort: int = 500
    ) -> None:
        folder.mkdir(exist_ok=True)
        self._least_cohort = least_cohort
        self._folder, self._cloud = folder, cloud
        self._broker = f"{broker.host}:{broker.port}"
        self._running = ExitStack()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._rounds_key = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.close()

    def introduce(self) -> None:
        """Make the helper's keys and have the cloud trust them, before its first release."""
        command = [sys.executable, "-m", MODULE, "helper", "--state", str(self._folder), "--show"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchmarkError(done.stderr.strip() or "couchside-cloud helper failed")
        identity = self._folder / "helper.json"
        identity.write_text(done.stdout, encoding="utf-8")
        told = self._cloud.run("round", "trust", str(identity))
        self._rounds_key = str(told["rounds key for the helper"])

    def start(self) -> None:
        """Start both servers."""
        rules = ("--rounds-key", self._rounds_key, "--least-cohort", str(self._least_cohort))
        self._start("helper", "helper", "--state", str(self._folder), *rules)
        repository = ("--repository", str(self._cloud.folder))
        self._start("aggregator", *repository, "aggregate", "--channel", CHANNEL)

    def open_round(self, bundle: Path, *flags: str) -> dict[str, Any]:
        """Sign and publish a Round for a Bundle; what couchside-cloud said."""
        wanted = ("round", "open", "--channel", CHANNEL, "--bundle", str(bundle), *flags)
        return self._cloud.run(*wanted, before=("--broker", self._broker))

    def close_round(self, out: Path, *flags: str) -> dict[str, Any]:
        """Seal, unmask, and write the result into ``out``."""
        wanted = ("round", "close", "--channel", CHANNEL, "--out", str(out), *flags)
        return self._cloud.run(*wanted, before=("--broker", self._broker))

    def pids(self) -> dict[str, int]:
        """Process of each server."""
        return {name: server.pid for name, server in self._processes.items()}

    def peak_rss(self) -> dict[str, int]:
        """Peak resident bytes of each server until now.

        Raises:
            InvalidRunError: one of them has ended; the message quotes its log.
        """
        for name, server in self._processes.items():
            if server.poll() is not None:
                raise InvalidRunError(f"the {name} ended ({server.returncode}):\n{self.logs()}")
        return {
            name: memory(Path(f"/proc/{server.pid}/status"))["peak_rss_bytes"]
            for name, server in self._processes.items()
        }

    def logs(self) -> str:
        """The end of what each server has said."""
        return "\n".join(
            f"{name}: {(self._folder / f'{name}.log').read_text(errors='replace')[-1500:]}"
            for name in self._processes
        )

    def _start(self, name: str, *arguments: str) -> None:
        command = [sys.executable, "-m", MODULE, "--broker", self._broker, *arguments]
        with (self._folder / f"{name}.log").open("wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log)
        self._processes[name] = server
        self._running.callback(_end, server)


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
