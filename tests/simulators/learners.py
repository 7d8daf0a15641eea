"""TVs that learn together, the cloud that asks them, and its helper: real processes, real frames.

cloud = LearningCloud(tmp_path, broker.address)
asked = cloud.open_round(bundle, "--goal", 20, "--least", 10)
with cloud.helper(), cloud.aggregator():
    crowd = Crowd(broker.address, [cloud.tv(asked, f"tv-{n}") for n in range(20)])
    crowd.deliver()
assert cloud.close()["folded"] == 20
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
from typing import TYPE_CHECKING, Self

import numpy as np
from simulators.fleet import until

from couchside.cloud_sync import topics
from couchside.cloud_sync.learning.identity import (
    AskingKeys,
    asking_keys,
    helper_keys,
    rounds_key,
    trust_helper,
)
from couchside.cloud_sync.learning.journal import Journal
from couchside.cloud_sync.learning.lifecycle import Rounds
from couchside.cloud_sync.learning.plan import Wish
from couchside.cloud_sync.mqtt import Session
from couchside.device import strict
from couchside.device.learning import masking, privacy
from couchside.device.learning.receipt import Receipt, Verdict, read_receipt
from couchside.device.learning.update import Update, seal_context, write_update

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from couchside.cloud_sync.address import BrokerAddress
    from couchside.device.learning.round import Round

DONE = frozenset({Verdict.FOLDED, Verdict.DUPLICATE})


@dataclass
class Learner:
    """A TV with its Update of a Round."""

    device: str
    values: NDArray[np.int64]
    """What it would say in the open: units [n]."""
    update: Update
    frame: bytes
    receipt: Receipt | None = None
    seed: bytes = b""


def whole_numbers(asked: Round, rng: np.random.Generator) -> NDArray[np.int64]:
    """What a TV's training leaves, as units: a clipped change, and titles that it watched."""
    exact = privacy.clip(rng.normal(size=asked.coordinates), asked.clipping_bound) * asked.scale
    bound = privacy.rounded_bound(asked.clipping_bound * asked.scale, asked.coordinates)
    change = privacy.round_randomly(exact, bound, rng).clip(-asked.value_cap, asked.value_cap)
    titles = np.zeros(asked.titles, dtype=np.int64)
    if asked.titles:
        watched = rng.choice(asked.titles, size=asked.title_cap, replace=False)
        titles[watched] = asked.title_weight
    return np.concatenate([change, titles])


def learner(
    asked: Round, device: str, helper_key: bytes, truth: NDArray[np.int64], **changes: object
) -> Learner:
    """A TV whose Update says ``truth``, masked and sealed as on a TV; ``changes`` spoil it."""
    seed, update_id = os.urandom(32), os.urandom(16)
    said = {
        "round_id": asked.round_id,
        "bundle_version": asked.bundle_version,
        "update_id": update_id,
        "scale": asked.scale,
        "sealed": masking.seal(seed, helper_key, seal_context(asked.round_id, update_id)),
        "values": masking.masked(truth, seed),
    }
    update = Update(**{**said, **changes})
    return Learner(device, truth, update, write_update(update), seed=seed)


class Crowd:
    """TVs behind one connection; each sends until it has a receipt."""

    def __init__(self, broker: BrokerAddress, learners: Sequence[Learner]) -> None:
        self.learners = list(learners)
        self.session = Session(broker, f"crowd-{os.urandom(4).hex()}", most_wait_s=0.5)
        self.session.subscribe(topics.receipt("+"))
        self.session.wait_connected(20)
        self.receipts: list[tuple[str, Receipt]] = []

    def send(self, *learners: Learner) -> None:
        for each in learners or self.learners:
            self.publish(each.update.round_id, each.device, each.frame)

    def publish(self, round_id: int, device: str, frame: bytes) -> None:
        self.session.publish(topics.update(round_id, device), frame, retain=False)

    def listen(self, timeout_s: float = 0.05) -> None:
        for message in self.session.poll(timeout_s):
            device = message.topic.rpartition("/")[2]
            receipt = read_receipt(message.payload)
            self.receipts.append((device, receipt))
            for each in self.learners:
                if each.device == device and receipt.update_id == each.update.update_id.hex():
                    each.receipt = receipt

    def deliver(self, timeout_s: float = 30.0, again_s: float = 1.5) -> None:
        """Until every TV has a receipt; whoever has none sends again, as TVs do."""
        next_at = 0.0

        def settled() -> bool:
            nonlocal next_at
            missing = self.missing()
            if missing and time.monotonic() >= next_at and self.session.connected:
                next_at = time.monotonic() + again_s
                self.send(*missing)
            self.listen(0.02)
            return not self.missing()

        until(settled, timeout_s)

    def missing(self) -> list[Learner]:
        return [each for each in self.learners if each.receipt is None]

    def receipt_of(self, device: str, timeout_s: float = 10.0) -> Receipt:
        """The next receipt of a TV."""
        found: list[Receipt] = []

        def heard() -> bool:
            self.listen()
            found[:] = [receipt for name, receipt in self.receipts if name == device]
            return bool(found)

        until(heard, timeout_s)
        self.receipts = [pair for pair in self.receipts if pair[0] != device]
        return found[0]

    def close(self) -> None:
        self.session.close()


class Running:
    """A process of the cloud that tells what it does in lines of JSON."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.changes: list[dict] = []
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_changes, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_changes(self) -> None:
        for line in self.process.stdout:
            self.changes.append(json.loads(line))

    def _read_errors(self) -> None:
        for line in self.process.stderr:
            self.errors.append(line)

    def told(self, **wanted: object) -> None:
        """Waits until it has told a change with these values."""
        until(lambda: self.process.poll() is not None or self.has_told(**wanted), 30)
        assert self.has_told(**wanted), (wanted, self.changes, self.errors)

    def has_told(self, **wanted: object) -> bool:
        return any(wanted.items() <= change.items() for change in list(self.changes))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and waits; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(20)
        for reader in self._readers:
            reader.join(5)
        self.process.stdout.close()
        self.process.stderr.close()
        return status

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class LearningCloud:
    """A repository that trusts a helper; both with their processes at one broker."""

    def __init__(self, folder: Path, broker: BrokerAddress, least_cohort: int = 2) -> None:
        self.folder, self.broker, self.least_cohort = folder, broker, least_cohort
        self.repository, self.state = folder / "cloud", folder / "helper"
        self.state.mkdir(parents=True)
        self.repository.mkdir()
        self.identity = helper_keys(self.state).identity
        (folder / "helper.json").write_text(json.dumps(strict.to_json(self.identity)))
        trust_helper(self.repository, folder / "helper.json")
        rounds_key(self.repository / "keys", self.repository)

    @property
    def helper_key(self) -> bytes:
        return bytes.fromhex(self.identity.seal)

    def command(self, *arguments: object) -> list[str]:
        start = [sys.executable, "-m", "couchside.cloud_sync.cloud.cli", "--json"]
        start += ["--repository", str(self.repository)]
        start += ["--broker", f"{self.broker.host}:{self.broker.port}"]
        start += ["--protocol", self.broker.protocol]
        return [*start, *map(str, arguments)]

    def run(self, *arguments: object) -> dict:
        """Runs a command to its end; what it printed. ``status`` and ``stderr`` say more."""
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=90, check=False
        )
        self.status, self.stderr = done.returncode, done.stderr
        return json.loads(done.stdout) if done.stdout else {}

    def helper(self) -> Running:
        key = self.repository / "rounds.pub"
        running = Running(
            self.command(
                "helper",
                *("--state", self.state, "--rounds-key", key),
                *("--least-cohort", self.least_cohort),
            )
        )
        running.told(connected=True)
        return running

    def aggregator(self) -> Running:
        running = Running(self.command("aggregate"))
        running.told(connected=True)
        return running

    def open_round(self, bundle: Path, *flags: object) -> Round:
        opened = self.run("round", "open", "--bundle", bundle, *flags)
        assert self.status == 0, self.stderr
        return self.round(opened["round_id"])

    def open_quietly(self, bundle: Path, channel: str = "stable", **wish: object) -> Round:
        """Opens a Round without a process; the aggregator publishes it."""
        rounds = Rounds(self.repository, self.repository / "keys")
        try:
            return rounds.open_round(
                channel, bundle, Wish(**wish), int(time.time()), os.urandom(32)
            )
        finally:
            rounds.close()

    def signed(self, round_id: int) -> bytes:
        """A Round as it was signed."""
        journal = Journal(self.repository / "rounds.db")
        try:
            kept = journal.get(round_id)
            assert kept is not None
            return kept.signed
        finally:
            journal.close()

    def keys(self) -> AskingKeys:
        """What whoever stole the cloud's online keys could ask with."""
        return asking_keys(self.repository, self.repository / "keys")

    def round(self, round_id: int) -> Round:
        rounds = Rounds(self.repository, self.repository / "keys")
        try:
            kept = rounds.journal.get(round_id)
            assert kept is not None
            return rounds.round_of(kept)
        finally:
            rounds.close()

    def tv(self, asked: Round, device: str, **changes: object) -> Learner:
        rng = np.random.default_rng(int.from_bytes(os.urandom(8), "big"))
        return learner(asked, device, self.helper_key, whole_numbers(asked, rng), **changes)

    def close(self, *flags: object) -> dict:
        return self.run("round", "close", *flags)

    def state_of(self, round_id: int) -> tuple[str, int]:
        """State of a Round and the number of TVs in it."""
        journal = Journal(self.repository / "rounds.db")
        try:
            kept = journal.get(round_id)
            assert kept is not None
            return str(kept.state), kept.folded
        finally:
            journal.close()


@dataclass
class Season:
    """A Round that is open, and who serves it."""

    cloud: LearningCloud
    asked: Round
    helper: Running
    aggregator: Running

    @property
    def folded(self) -> int:
        return self.cloud.state_of(self.asked.round_id)[1]

    def hears(self, learner: Learner) -> Receipt:
        """Sends the frame of one TV, once, and waits for the receipt."""
        crowd = Crowd(self.cloud.broker, [])
        crowd.send(learner)
        receipt = crowd.receipt_of(learner.device)
        crowd.close()
        return receipt
