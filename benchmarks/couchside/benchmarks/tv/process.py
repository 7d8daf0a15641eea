"""A real ``couchside-device`` in a folder of its own: real process, real socket, real SQLite.

with TvProcess(folder) as tv:
    tv.install(bundle)
    seconds = tv.start()
    shelf = tv.client.call("rows")
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from couchside.benchmarks.errors import BenchmarkError, InvalidRunError
from couchside.device.errors import UnreachableError
from couchside.device.process import memory
from couchside.device.rpc.client import Client

if TYPE_CHECKING:
    from types import TracebackType

ENTRY = "import sys; from couchside.device.daemon import main; sys.exit(main())"
"""What the console script does, by the interpreter and code of this very process."""
START_LIMIT_S = 30.0
STOP_LIMIT_S = 10.0
POLL_S = 0.002
LOG_TAIL = 2000
"""Characters of the daemon's log that an error quotes."""


class TvProcess:
    """One TV, which may be started and stopped several times on the same state.

    Args:
        folder: exists, is empty, and its path is short: a Unix socket's has 107 bytes at most.
        slots: where its Bundles lie; None for the daemon's own place in its state.
        settings: of the daemon, TOML.
    """

    def __init__(self, folder: Path, slots: Path | None = None, settings: str = "") -> None:
        self.folder = folder
        self._settings = settings
        self._slots = slots or folder / "state" / "slots"
        self._process: subprocess.Popen[bytes] | None = None
        self._client: Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def client(self) -> Client:
        """A connection to the running daemon."""
        if self._client is None:
            raise InvalidRunError("the TV is off: start it first")
        return self._client

    @property
    def pid(self) -> int:
        """Process id of the running daemon."""
        if self._process is None:
            raise InvalidRunError("the TV is off: start it first")
        return self._process.pid

    @property
    def is_on(self) -> bool:
        """Whether it was started, and not stopped since."""
        return self._process is not None

    def ended(self) -> int | None:
        """Exit status of a daemon that ended by itself; None while it runs or was never started."""
        return None if self._process is None else self._process.poll()

    def install(self, bundle: Path) -> None:
        """Make a Bundle current.

        Raises:
            BenchmarkError: ``couchside-device`` refuses it; the message is its own.
        """
        command = self._command("install", str(bundle.resolve()))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchmarkError(done.stderr.strip() or f"{bundle}: couchside-device refuses it")

    def start(self) -> float:
        """Start the daemon and ask for the shelf until it is there.

        Returns:
            Seconds from the start of the process to the first answered ``rows``.

        Raises:
            InvalidRunError: it ended, or gave no answer in time; the message quotes its log.
        """
        began = time.monotonic()
        with (self.folder / "log").open("wb") as log:
            # A group of its own, so that Ctrl-C in a terminal is ours to answer and not the TV's.
            self._process = subprocess.Popen(
                self._command("run"), stdout=log, stderr=log, process_group=0
            )
        self._client = self._connect()
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() - began > START_LIMIT_S:
                self.stop()
                raise InvalidRunError(f"couchside-device does not answer; its log:\n{self.log()}")
            time.sleep(POLL_S)
        return time.monotonic() - began

    def stop(self) -> None:
        """Stop the daemon as its supervisor would; kill it if it does not listen."""
        if self._client is not None:
            self._client.close()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._client = self._process = None

    def memory(self) -> dict[str, int]:
        """Resident, anonymous and peak bytes of the daemon."""
        return memory(Path(f"/proc/{self.pid}/status"))

    def cpu_ns(self) -> int:
        """CPU time that the daemon has used in all its threads, in nanoseconds."""
        # What clock_getcpuclockid(3) makes of a process id.
        return time.clock_gettime_ns((~self.pid << 3) | 2)

    def waited_ns(self) -> int | None:
        """Nanoseconds that threads wanted a core and had none; None if the kernel does not count.

        Summed over the daemon's threads and ours, so two that waited at once count twice.
        """
        ours = _waited_ns(Path("/proc/thread-self/schedstat"))
        if ours is None:
            return None
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return ours + sum(filter(None, map(_waited_ns, tasks)))

    def log(self) -> str:
        """The end of what the daemon has logged."""
        return (self.folder / "log").read_text(errors="replace")[-LOG_TAIL:]

    def _connect(self) -> Client:
        """A client of the daemon, which need not be there yet; other servers have other ones."""
        return Client(self.folder / "rpc.sock")

    def _answers(self) -> bool:
        try:
            self.client.call("rows")
        except UnreachableError:
            return False
        return True

    def _command(self, *arguments: str) -> list[str]:
        state, sock = self.folder / "state", self.folder / "rpc.sock"
        places = {"--state": state, "--socket": sock, "--slots": self._slots}
        if self._settings:
            places["--config"] = self.folder / "device.toml"
            places["--config"].write_text(self._settings, encoding="utf-8")
        flags = [word for flag, path in places.items() for word in (flag, str(path))]
        return [sys.executable, "-c", ENTRY, *flags, *arguments]


def _waited_ns(schedstat: Path) -> int | None:
    """The second number of a schedstat; None without such a file, or if the thread just ended."""
    try:
        return int(schedstat.read_text(encoding="ascii").split()[1])
    except OSError:
        return None
