"""Every setting of couchside-sync and couchside-install; one TOML file for both.

Strict like the daemon's: an unknown, mistyped or out-of-bounds setting is refused with its place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from couchside.cloud_sync.address import BrokerAddress
from couchside.cloud_sync.topics import is_name
from couchside.device import strict
from couchside.device.config import LogLevel, check_bounds
from couchside.device.errors import ConfigError


def _within(default: float, low: float, high: float) -> Any:
    return field(default=default, metadata={"low": low, "high": high})


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
    socket: str = ""
    """Unix socket behind which couchside-install runs as its own user; empty: sync starts it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much, how long."""

    window: int = _within(4, 1, 16)
    """Blocks under way at once."""
    block_s: float = _within(60.0, 0.1, 3600.0)
    """Seconds without any block after which a transfer pauses."""
    retry_s: float = _within(900.0, 0.1, 86400.0)
    """Longest wait, in seconds, before a failed release or connection is tried again."""
    bundle_bytes: int = _within(256 << 20, 1 << 16, 1 << 32)
    """Largest Bundle taken, bytes."""
    spare_bytes: int = _within(8 << 20, 0, 1 << 32)
    """Free bytes that must be left on the disk."""
    golden_s: float = _within(60.0, 1.0, 600.0)
    """Seconds that the golden vectors may take; a hanging model is killed then."""
    golden_bytes: int = _within(256 << 20, 64 << 20, 1 << 32)
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
    def state(self) -> Path:
        """The installer's folder."""
        return Path(self.paths.state)

    @property
    def slots(self) -> Path:
        """The Bundle slots."""
        return Path(self.paths.slots)


def read_config(path: Path) -> SyncConfig:
    """Read the TOML file at ``path``.

    Raises:
        ConfigError: the file can't be read, is not TOML, or a setting is unknown, of the wrong
            type or out of bounds; the message names the file and the setting.
    """
    import tomllib  # noqa: PLC0415 - as in the daemon

    try:
        with path.open("rb") as stream:
            document = tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; check --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    try:
        config = strict.from_json(SyncConfig, document)
        check_bounds(config)
        _check_names(config)
    except strict.StrictError as error:
        raise ConfigError(f"{path}: {error}; cloud_sync/README.md lists every setting") from error
    return config


def _check_names(config: SyncConfig) -> None:
    for setting in ("device_id", "channel", "flavour"):
        if not is_name(getattr(config, setting)):
            raise strict.StrictError(setting, "must be lower-case letters, digits and hyphens")
