"""``couchside-device``: the process on the TV that knows the household and reaches no network.

It never dies of input; it ends on a signal (within 2 seconds, nothing acknowledged is lost), when
its Bundle has failed, so that its supervisor's restart takes another slot, or when an installer has
made another Bundle current, so that the restart takes that one.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import signal
import sqlite3
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from couchside.device import process
from couchside.device.config import Config, read_config
from couchside.device.errors import ConfigError, CouchsideError
from couchside.device.slots import Slot, Slots
from couchside.device.verdicts import Verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from couchside.device.catalogue.library import Library
    from couchside.device.tv import TV

_log = logging.getLogger("couchside.device")

OK, FAILED, USAGE, RENEW = 0, 1, 2, 3
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
MOVED = signal.SIGIO
"""The kernel's word that a link among the slots was renamed, or that a Round or receipt came."""
TICK_S = 15.0
"""Between two looks at the clock; a TV in standby should not be woken more often."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``couchside-device``; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        config = _config(options)
        logging.basicConfig(level=config.log_level, format=_log_format(), stream=sys.stderr)
        if options.command == "install":
            return install(config, options.bundle)
        if options.command == "check":
            return check(config, options.bundle)
        return Daemon(config).run()
    except ConfigError as error:
        print(f"couchside-device: {error}", file=sys.stderr)  # noqa: T201
        return USAGE
    except (CouchsideError, OSError) as error:
        print(f"couchside-device: {error}", file=sys.stderr)  # noqa: T201
        return FAILED


def install(config: Config, source: Path) -> int:
    """Copy a Bundle into the slots and make it current; a running daemon ends to take it."""
    slots = Slots(config.slots)
    bundle = slots.place(source)
    slots.activate(bundle)
    print(f"{config.slots}: version {bundle.version} ({bundle.flavour}) is current")  # noqa: T201
    print(  # noqa: T201
        "a running couchside-device ends with status 3; its next start puts it on trial"
    )
    return OK


def check(config: Config, source: Path | None) -> int:
    """Check the configuration (by having read it), and a Bundle with its golden vectors."""
    if source is None:
        print(f"configuration: good; state folder {config.state}")  # noqa: T201
        return OK
    process.limit_blas_threads()
    from couchside.device.bundle import open_bundle  # noqa: PLC0415
    from couchside.device.runtime.graph import check_golden  # noqa: PLC0415

    bundle = open_bundle(source)
    cosines = check_golden(bundle, threads=config.model.threads)
    seen = ", ".join(f"{graph} {cosine:.4f}" for graph, cosine in cosines.items())
    print(  # noqa: T201
        f"{source}: version {bundle.version} ({bundle.flavour}): good; least cosine {seen}"
    )
    return OK


class Daemon:
    """The running process.

    Args:
        config: its settings.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._main_thread = threading.get_ident()
        self._failure = ""
        self._successor = ""

    def run(self) -> int:
        """Serve until a signal comes, the Bundle fails or another is current; the exit status."""
        os.umask(0o077)
        # Blocked in every thread and taken by sigtimedwait: no handler ever interrupts anything.
        signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP_SIGNALS, MOVED))
        self._config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._config.state / "lock").open("a+", encoding="utf-8") as lock:
            _take(lock.fileno(), self._config.state)
            self._serve()
        if self._failure:
            _log.error("the Bundle failed: %s; the next start takes another slot", self._failure)
            return FAILED
        if self._successor:
            _log.info("Bundle %s is current now; the next start takes it", self._successor[:12])
            return RENEW
        return OK

    def _serve(self) -> None:
        process.limit_blas_threads()
        # Only now: numpy reads the number of threads when it is imported.
        from couchside.device.rpc.server import Server  # noqa: PLC0415
        from couchside.device.rpc.service import Service  # noqa: PLC0415
        from couchside.device.tv import open_tv  # noqa: PLC0415

        process.keep_memory_small()
        process.refuse_networks()
        config = self._config
        _watch(config.slots)
        if config.rounds is not None:
            _watch(config.rounds)
        # Before the choice: a link that moves during it is noticed by the first look.
        began_with = _current(config.slots)
        tv = open_tv(config, boot_id=process.boot_id(Path("/proc")), give_up=self._give_up)
        service = Service(tv, owner_uids={0, os.getuid(), *config.rpc.owner_uids})
        server = Server(
            config.socket,
            service.handle,
            connections=config.rpc.connections,
            send_s=config.rpc.send_s,
        )
        try:
            server.start()
            _adopt_aside(tv.library)
            process.return_memory()
            _notify("READY=1")
            _log.info("serving Bundle version %d on %s", tv.choice.bundle.version, config.socket)
            replaced = partial(self._look_for_successor, tv, began_with)
            self._wait(tv.store.flush, replaced, tv.tutor.look)
        finally:
            _notify("STOPPING=1")
            server.stop()
            tv.close()

    def _wait(
        self, flush: Callable[[], int], replaced: Callable[[], bool], look: Callable[[], None]
    ) -> None:
        """Flush heartbeats and tell systemd that we live, until a signal or a new Bundle comes."""
        watchdog_s = int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
        tick = min(filter(None, (TICK_S, watchdog_s, self._config.history.buffer_s)))
        flushed = time.monotonic()
        while not replaced():
            _try_look(look)
            came = signal.sigtimedwait((*STOP_SIGNALS, MOVED), tick)
            if came is not None and came.si_signo in STOP_SIGNALS:
                return
            _notify("WATCHDOG=1")
            if time.monotonic() - flushed >= self._config.history.buffer_s:
                _try_flush(flush)
                flushed = time.monotonic()

    def _look_for_successor(self, tv: TV, began_with: str) -> bool:
        """Whether ``current`` leads to another Bundle than at the start, and one that may run.

        Compared with the start and not only with what runs: where the choice fell on another slot,
        a restart would end the same way, again and again.
        """
        name = _current(self._config.slots)
        if name in ("", began_with, tv.choice.bundle.bundle_id):
            return False
        if Verdicts(self._config.state / "verdicts.json").of(name).refusal:
            return False
        self._successor = name
        return True

    def _give_up(self, why: str) -> None:
        """Called from any thread: end, and be restarted with another Bundle."""
        self._failure = self._failure or why
        signal.pthread_kill(self._main_thread, signal.SIGTERM)


def _take(lock: int, state: Path) -> None:
    """Be the only daemon on this state folder.

    Raises:
        ConfigError: another one is.
    """
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        other = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
        raise ConfigError(
            f"paths.state: another couchside-device (process {other}) uses {state}; stop it first"
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)


def _current(slots: Path) -> str:
    """Name of the folder that ``current`` leads to; empty if there is none."""
    path = Slots(slots).path(Slot.CURRENT)
    return path.name if path else ""


def _watch(folder: Path) -> None:
    """Have the kernel send MOVED at each rename in a folder (dnotify, fcntl(2)).

    Where it can't, the tick notices a little later.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # until we end
        fcntl.fcntl(descriptor, fcntl.F_NOTIFY, fcntl.DN_RENAME | fcntl.DN_MULTISHOT)
    except OSError as error:
        _log.debug("%s: not watched: %s", folder, error)


def _adopt_aside(library: Library) -> None:
    """Fit the cached titles to a new Bundle beside answering: it may take seconds."""
    if not library.belongs:
        threading.Thread(target=library.adopt, name="adopt", daemon=True).start()


def _try_look(look: Callable[[], None]) -> None:
    try:
        look()
    except (sqlite3.Error, OSError) as error:
        _log.warning("nothing is learned just now: %s", error)


def _try_flush(flush: Callable[[], int]) -> None:
    try:
        flush()
    except sqlite3.Error as error:
        _log.warning("heartbeats still wait in memory: %s", error)


def _notify(state: str) -> None:
    process.notify(state, os.environ.get("NOTIFY_SOCKET"))


def _log_format() -> str:
    """As journald wants it where it listens: it adds the time itself."""
    if "JOURNAL_STREAM" in os.environ:
        return "%(levelname)s %(name)s: %(message)s"
    return "%(asctime)s %(levelname)s %(name)s: %(message)s"


def _config(options: argparse.Namespace) -> Config:
    config = Config() if options.config is None else read_config(options.config)
    config = config.with_paths(state=options.state, socket=options.socket, slots=options.slots)
    return replace(config, log_level=options.log_level or config.log_level)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="couchside-device", description="The recommender on the TV. Reaches no network."
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings, TOML")
    parser.add_argument("--state", metavar="DIR", help="paths.state: history and caches")
    parser.add_argument("--socket", metavar="PATH", help="paths.socket: where to serve")
    parser.add_argument("--slots", metavar="DIR", help="paths.slots: installed Bundles")
    parser.add_argument(
        "--log-level", choices=("DEBUG", "INFO", "WARNING", "ERROR"), help="log_level"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("run", help="serve until stopped (the default)")
    installing = commands.add_parser("install", help="put a Bundle into the current slot")
    installing.add_argument("bundle", type=Path, metavar="BUNDLE", help="its folder")
    checking = commands.add_parser("check", help="check the configuration, and a Bundle if named")
    checking.add_argument("bundle", type=Path, nargs="?", metavar="BUNDLE", help="its folder")
    return parser


if __name__ == "__main__":
    sys.exit(main())
