"""``couchside-sync``: the only process on the TV with a network; nobody trusts it.

It keeps the newest head and the wanted blocks in its spool, and asks couchside-install what to
fetch and when all is there. It can't read the history, has no way to the daemon's socket, and can
install nothing by itself. Every block is on the disk before the next is looked at, so a kill
loses none that had arrived.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from couchside.cloud_sync import head, topics
from couchside.cloud_sync.blocks import BlockStore
from couchside.cloud_sync.errors import DamagedBlockError
from couchside.cloud_sync.mqtt import Message, Session
from couchside.cloud_sync.tv.config import SyncConfig, read_config
from couchside.cloud_sync.tv.plan import Plan
from couchside.cloud_sync.tv.transfer import Transfer
from couchside.cloud_sync.tv.uplink import Uplink
from couchside.device import strict
from couchside.device.durable import write_bytes_durably
from couchside.device.errors import ConfigError
from couchside.device.learning.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_log = logging.getLogger("couchside.sync")

OK, REFUSED, USAGE, LATER = 0, 1, 2, 3
POLL_S = 0.5
SETTLE_S = 0.3
"""Roots and head arrive one after another; the installer is asked once they have settled."""
ANSWER_S = 900.0
"""Longest that an installation may take."""
ANSWER_BYTES = 4 << 20
SETTLED = frozenset({"current", "installed"})


class Sync:
    """The running process.

    Args:
        config: its settings.
        session: to the broker.
        ask: runs couchside-install with a command.
        report: told about every change, for people and tests.
        uplink: carries Updates; None where this TV does not learn with others.
        clock: monotonic seconds.
        rng: for the jitter.
    """

    def __init__(
        self,
        config: SyncConfig,
        session: Session,
        *,
        ask: Callable[[str], Plan],
        report: Callable[[dict[str, Any]], None],
        uplink: Uplink | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._config, self._session, self._uplink = config, session, uplink
        self._ask, self._report = ask, report
        self._clock, self._rng = clock, rng or random.Random()  # noqa: S311 - jitter, no secret
        self._store = BlockStore(config.blocks)
        self._transfer: Transfer | None = None
        self._due: float | None = None
        self._failures = 0
        self._heard = False
        self.plan: Plan | None = None
        """The installer's last answer to the newest head."""
        self.stopping = False

    def run(self, *, once: bool = False, timeout_s: float | None = None) -> None:
        """Follow the channel until told to stop; with ``once``, until a release has settled."""
        end = None if timeout_s is None else self._clock() + timeout_s
        self._ask_for_roots()
        self._session.subscribe(topics.head(self._config.channel))
        if self._uplink is not None:
            self._uplink.begin(self._session)
        if self._config.head.exists():
            self._due = self._clock() + SETTLE_S  # go on where a kill stopped us
        while not self.stopping and (end is None or self._clock() < end):
            for message in self._session.poll(POLL_S if self._transfer is None else 0.1):
                self._take(message)
            self._look_after_transfer()
            if self._uplink is not None:
                self._uplink.look(self._session, self._clock())
            if self._due is not None and self._clock() >= self._due:
                self._advance()
            if once and self.outcome in {"refused", *SETTLED}:
                return

    @property
    def outcome(self) -> str:
        """State of the release that the broker has shown since we began; empty before that."""
        return self.plan.state if self.plan and self._heard else ""

    def _take(self, message: Message) -> None:
        """Sort what arrived; whatever was not asked for is dropped."""
        name = topics.block_name(message.topic)
        version = topics.root_version(message.topic)
        if name is not None:
            self._take_block(name, message.payload)
        elif version is not None and version <= topics.ROOTS:
            self._take_head(head.root_file(version), message.payload, topics.ROOT_BYTES)
        elif message.topic == topics.head(self._config.channel):
            self._take_head(head.PACK, message.payload, topics.HEAD_BYTES)
        elif self._uplink is not None:
            self._uplink.take(message)

    def _take_head(self, name: str, payload: bytes, limit: int) -> None:
        file = self._config.head.with_name(name)
        if not 0 < len(payload) <= limit:
            _log.warning("%s: %d bytes are none or too many; dropped", name, len(payload))
            return
        self._heard = self._heard or name == head.PACK
        if not file.exists() or file.read_bytes() != payload:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_bytes_durably(file, payload)
            self.plan = None
            self._due = self._clock() + SETTLE_S
            if name == head.PACK:
                self._failures = 0
        elif self.plan is None:
            self._due = self._clock() + SETTLE_S

    def _ask_for_roots(self) -> None:
        """Take the roots that the broker has now, and only those.

        A forged root beside a good head would be refused for ever, even after the broker was
        cleaned. What was verified is in the installer's own folder; nothing is lost here.
        """
        for file in self._config.head.parent.glob("*.root.json"):
            file.unlink()
        self._session.unsubscribe(topics.ANY_ROOT)
        self._session.subscribe(topics.ANY_ROOT)

    def _take_block(self, name: str, payload: bytes) -> None:
        transfer = self._transfer
        if transfer is None or name not in transfer.under_way:
            return
        self._session.unsubscribe(topics.block(name))
        try:
            self._store.put(name, payload)
        except DamagedBlockError as error:
            _log.warning("%s", error)
            transfer.refused(name)
        except OSError as error:
            self._give_up(f"{self._config.blocks}: {error.strerror}")
        else:
            transfer.took(name, self._clock())

    def _look_after_transfer(self) -> None:
        transfer = self._transfer
        if transfer is None:
            return
        if transfer.hopeless:
            self._give_up(f"the broker has only damaged copies of block {transfer.hopeless}")
            return
        for name in transfer.next():
            self._session.subscribe(topics.block(name))
        if transfer.done:
            self._transfer, self._due = None, self._clock()
        elif not self._session.connected:
            transfer.last_arrival = self._clock()
        elif self._clock() - transfer.last_arrival > self._config.limits.block_s:
            self._give_up(f"block {min(transfer.under_way)} does not come")

    def _end_transfer(self) -> None:
        if self._transfer is not None:
            for name in self._transfer.under_way:
                self._session.unsubscribe(topics.block(name))
            self._transfer = None

    def _give_up(self, why: str) -> None:
        self._end_transfer()
        self._settle(Plan("failed", why=why))

    def _advance(self) -> None:
        """Ask the installer where we stand and do what follows from it."""
        self._due = None
        if self.plan and self.plan.state == "refused" and self._session.connected:
            self.plan, self._due = None, self._clock() + SETTLE_S
            self._ask_for_roots()
            return
        self._end_transfer()
        plan = self._ask("plan")
        if plan.state == "ready":
            plan = self._ask("apply")
        if plan.state == "wanted":
            self.plan = plan
            self._report(self._event(plan))
            self._transfer = Transfer(
                plan.blocks, window=self._config.limits.window, now=self._clock()
            )
        else:
            self._settle(plan)

    def _settle(self, plan: Plan) -> None:
        """Nothing is under way: clean up, or come back later."""
        self.plan = plan
        self._report(self._event(plan))
        if plan.state in SETTLED:
            self._store.keep_only(())
            self._failures = 0
            return
        if plan.state == "damaged":
            for name in plan.blocks:
                self._store.discard(name)
        most = min(1.0 * 2**self._failures, self._config.limits.retry_s)
        self._failures = min(self._failures + 1, 20)
        self._due = self._clock() + self._rng.uniform(0, most)

    def _event(self, plan: Plan) -> dict[str, Any]:
        """One line about where we stand."""
        return {
            **strict.to_json(plan),
            "blocks": len(plan.blocks),
            "bytes_in": self._session.bytes_in,
            "bytes_out": self._session.bytes_out,
        }


def spawned(config_file: Path) -> Callable[[str], Plan]:
    """Asks a couchside-install that is started for each question, as this user."""

    def ask(command: str) -> Plan:
        line = [sys.executable, "-m", "couchside.cloud_sync.tv.install"]
        line += ["--config", str(config_file), command]
        try:
            done = subprocess.run(
                line,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                check=False,
                timeout=ANSWER_S,
            )
        except (subprocess.TimeoutExpired, OSError) as error:
            return Plan("failed", why=f"couchside-install: {error}")
        return _answer(done.stdout, f"couchside-install {command} ended with {done.returncode}")

    return ask


def behind_socket(path: str) -> Callable[[str], Plan]:
    """Asks a couchside-install that systemd starts as its own user behind a Unix socket."""

    def ask(command: str) -> Plan:
        answer = b""
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(ANSWER_S)
                line.connect(path)
                line.sendall(command.encode() + b"\n")
                while (part := line.recv(1 << 16)) and len(answer) < ANSWER_BYTES:
                    answer += part
        except OSError as error:
            return Plan("failed", why=f"{path}: {error.strerror or error}")
        return _answer(answer, f"{path}: no answer to {command}")

    return ask


def _answer(line: bytes, otherwise: str) -> Plan:
    try:
        return strict.from_json(Plan, strict.loads(line))
    except (strict.StrictError, UnicodeDecodeError):
        return Plan("failed", why=otherwise)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``couchside-sync``; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        config = read_config(options.config)
    except ConfigError as error:
        sys.stderr.write(f"couchside-sync: {error}\n")
        return USAGE
    logging.basicConfig(
        level=config.log_level, stream=sys.stderr, format="%(levelname)s %(message)s"
    )
    os.umask(0o027)
    session = Session(
        config.broker, f"couchside-{config.device_id}", most_wait_s=config.limits.retry_s
    )
    installer = config.paths.socket
    sync = Sync(
        config,
        session,
        ask=behind_socket(installer) if installer else spawned(options.config),
        report=_print if options.json else _tell,
        uplink=_uplink(config, _print if options.json else _tell_uplink),
    )

    def stop(_signal: int, _frame: object) -> None:
        sync.stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    sync.run(once=options.once, timeout_s=options.timeout)
    status = _status(sync, session) if options.once else OK
    session.close()
    return status


def _uplink(config: SyncConfig, report: Callable[[dict[str, Any]], None]) -> Uplink | None:
    if not config.paths.updates:
        return None
    return Uplink(
        Spool(Path(config.paths.updates), config.rounds),
        device=config.device_id,
        channel=config.channel,
        most_wait_s=config.limits.retry_s,
        report=report,
    )


def _status(sync: Sync, session: Session) -> int:
    if not sync.outcome:
        why = session.why or "it is there"
        sys.stderr.write(f"couchside-sync: no release came in time; the broker: {why}\n")
    return {"refused": REFUSED, "current": OK, "installed": OK}.get(sync.outcome, LATER)


def _print(event: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def _tell_uplink(event: dict[str, Any]) -> None:
    _log.info("%s", ", ".join(f"{name} {value}" for name, value in event.items()))


def _tell(event: dict[str, Any]) -> None:
    why = f": {event['why']}" if event["why"] else ""
    level = logging.WARNING if event["state"] in {"refused", "failed", "damaged"} else logging.INFO
    _log.log(level, "version %d is %s%s", event["version"], event["state"], why)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="couchside-sync", description="Fetches Bundles for this TV; knows no history."
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="settings, TOML")
    parser.add_argument("--once", action="store_true", help="end when the newest release settled")
    parser.add_argument("--timeout", type=float, metavar="S", help="end after so many seconds")
    parser.add_argument("--json", action="store_true", help="print every change as a JSON line")
    return parser


if __name__ == "__main__":
    sys.exit(main())
