"""Every setting of couchside-sync and couchside-install; one TOML file for both.

Strict like the daemon's: an unknown, mistyped or out-of-bounds setting is refused with its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from couchside.cloud_sync.address import BrokerAddress
from couchside.cloud_sync.topics import is_name
from couchside.device import strict
from couchside.device.config import LogLevel, read_settings, within

NEARBY = BrokerAddress()


@dataclass(frozen=True, slots=True)
class Paths:
    """Where things lie, and whose they are."""

    root: str = "/usr/share/couchside/1.root.json"
    """The first root of trust, on the read-only system image."""
    spool: str = "/var/lib/couchside-sync"
    """What sync received: head/ and blocks/. Nothing in it is trusted."""
    state: str = "/var/lib/couchside-install"
    """The installer's: sync.db with the floors, and verified metadata."""
    slots: str = "/var/lib/couchside-bundles"
    """Bundle slots: the installer writes, the daemon reads."""
    verdicts: str = ""
    """The daemon's verdicts.json, read-only; empty if the installer may not read it."""
    updates: str = ""
    """The daemon's folder of sealed Updates (its paths.updates), read-only; empty: this TV does not
    learn with others."""
    rounds: str = ""
    """Where Rounds and receipts go: the daemon's paths.rounds; empty: rounds/ in the spool."""
    socket: str = ""
    """Unix socket behind which couchside-install runs as its own user; empty: sync starts it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much, how long."""

    window: int = within(1, 1, 16)
    """Blocks under way at once, which is how many a kill loses; a far broker gives window x 60 KiB
    in each round trip."""
    block_s: float = within(60.0, 0.1, 3600.0)
    """Seconds without any block after which a transfer pauses."""
    retry_s: float = within(900.0, 0.1, 86400.0)
    """Longest wait, in seconds, before a failed release or connection is tried again."""
    bundle_bytes: int = within(256 << 20, 1 << 16, 1 << 32)
    """Largest Bundle taken, bytes."""
    spare_bytes: int = within(8 << 20, 0, 1 << 32)
    """Free bytes that must be left on the disk."""
    golden_s: float = within(60.0, 1.0, 600.0)
    """Seconds that the golden vectors may take; a hanging model is killed then."""
    golden_bytes: int = within(256 << 20, 64 << 20, 1 << 32)
    """Most data memory of the process that runs them, bytes."""


@dataclass(frozen=True, slots=True)
class SyncConfig:
    """All settings of ``couchside-sync`` and ``couchside-install``."""

    device_id: str = "tv"
    """Names this TV to the broker."""
    channel: str = "stable"
    flavour: str = "litert-int8"
    """Which of a release's Bundles this TV takes."""
    broker: BrokerAddress = NEARBY
    paths: Paths = Paths()
    limits: Limits = Limits()
    log_level: LogLevel = "INFO"

    @property
    def head(self) -> Path:
        """The head as received."""
        return Path(self.paths.spool) / "head" / "pack"

    @property
    def blocks(self) -> Path:
        """The blocks as received."""
        return Path(self.paths.spool) / "blocks"

    @property
    def rounds(self) -> Path:
        """The Round and receipts as received."""
        return Path(self.paths.rounds) if self.paths.rounds else Path(self.paths.spool) / "rounds"

    @property
    def state(self) -> Path:
        """The installer's folder."""
        return Path(self.paths.state)

    @property
    def slots(self) -> Path:
        """The Bundle slots."""
        return Path(self.paths.slots)


def read_config(path: Path) -> SyncConfig:
    """Read the settings of both processes.

    Raises:
        ConfigError: see ``read_settings``; or a name can't stand in a topic.
    """
    return read_settings(SyncConfig, path, manual="cloud_sync/README.md", check=_check_names)


def _check_names(config: SyncConfig) -> None:
    for setting in ("device_id", "channel", "flavour"):
        if not is_name(getattr(config, setting)):
            raise strict.StrictError(setting, "must be lower-case letters, digits and hyphens")
