"""The demo's cloud: couchside-cloud as real commands, and a thief who owns the broker.

The thief has every message that was ever published and may publish what he likes; of the keys he
has none.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from couchside.benchmarks.errors import BenchmarkError
from couchside.cloud_sync import topics
from couchside.cloud_sync.blocks import BlockStore
from couchside.cloud_sync.cloud.repository import Repository
from couchside.cloud_sync.mqtt import Session

if TYPE_CHECKING:
    from couchside.cloud_sync.address import BrokerAddress

CHANNEL = "stable"
PUBLISH_S = 60.0
"""Patience with the broker."""


class Cloud:
    """A release repository with its keys in a folder, driven by ``couchside-cloud``.

    Args:
        folder: for keys, metadata and blocks; made by ``keys``.
        broker: where releases are published.
    """

    def __init__(self, folder: Path, broker: BrokerAddress) -> None:
        self.folder, self._broker = folder, broker

    def keys(self) -> Path:
        """Make every key and an empty repository; the root of trust that TVs are built with."""
        return Path(self.run("keys")["root for the TVs"])

    def sign(self, bundle: Path, version: int) -> dict[str, int]:
        """Sign a Bundle as a release; what it costs a TV that has nothing, by name of the figure.

        Raises:
            BenchmarkError: ``couchside-cloud`` refuses; the message is its own.
        """
        told: dict[str, Any] = self.run("release", str(bundle), "--as-version", str(version))
        (released,) = told.values()
        return dict(released)

    def publish(self) -> int:
        """Retain the newest release at the broker; bytes sent."""
        port = f"{self._broker.host}:{self._broker.port}"
        return int(self.run("publish", before=("--broker", port))["bytes sent"])

    def head(self) -> bytes:
        """The signed head of the newest release, as everybody can read it at the broker."""
        return self._repository.head()

    def list_block(self) -> tuple[str, bytes]:
        """Name and content of the first block that a TV fetches of the newest release."""
        (destination,) = self._repository.releases().values()
        name = destination.blocks[0]
        return name, BlockStore(self.folder / "blocks").read(name)

    @property
    def _repository(self) -> Repository:
        return Repository(self.folder, self.folder / "keys")

    def run(self, *arguments: str, before: tuple[str, ...] = ()) -> dict[str, Any]:
        """What ``couchside-cloud`` answers.

        Args:
            arguments: the command and its flags.
            before: flags that come before the command.

        Raises:
            BenchmarkError: it refuses; the message is its own.
        """
        module = "couchside.cloud_sync.cloud.cli"
        flags = ("--repository", str(self.folder), "--json", *before)
        command = [sys.executable, "-m", module, *flags, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchmarkError(done.stderr.strip() or f"couchside-cloud {arguments[0]} failed")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


class Thief:
    """Whoever took the broker over.

    Args:
        folder: for keys of his own making.
        broker: his now.
    """

    def __init__(self, folder: Path, broker: BrokerAddress) -> None:
        self._folder, self._broker = folder, broker

    def forge(self, bundle: Path, version: int) -> bytes:
        """A head that is right in everything but the keys that signed it."""
        repository, now = Repository(self._folder, self._folder / "keys"), datetime.now(UTC)
        repository.create(now)
        repository.release(CHANNEL, [bundle], now, version=version)
        return repository.head()

    def show_head(self, head: bytes) -> None:
        """Retain another head."""
        self._retain((topics.head(CHANNEL), head))

    def show_flipped(self, name: str, block: bytes, head: bytes) -> None:
        """Retain a block with one bit flipped, and then the true head that leads to it."""
        middle = len(block) // 2
        flipped = block[:middle] + bytes([block[middle] ^ 1]) + block[middle + 1 :]
        self._retain((topics.block(name), flipped), (topics.head(CHANNEL), head))

    def _retain(self, *messages: tuple[str, bytes]) -> None:
        session = Session(self._broker, "thief")
        try:
            session.wait_connected(PUBLISH_S)
            session.publish_all(list(messages), timeout_s=PUBLISH_S)
        finally:
            session.close()
