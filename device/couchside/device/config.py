"""Every setting of the TV, its default, its unit and its bounds; read from one TOML file.

A setting that is unknown, mistyped or out of bounds is refused with its place in the file: a TV
that silently ignores a misspelt fence is worse than one that does not start. Flags of
``couchside-device`` override the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from couchside.device import strict
from couchside.device.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


def within(default: float, low: float, high: float) -> Any:
    """A number with its bounds; whole where the default is whole."""
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True, slots=True)
class Paths:
    """Where things lie."""

    state: str = "/var/lib/couchside"
    """Folder of history.db, cache.db and verdicts; created with mode 0700."""
    socket: str = "/run/couchside/rpc.sock"
    """Unix socket of the RPC; created with mode 0660."""
    slots: str = ""
    """Folder of the Bundle slots; empty means ``slots`` inside the state folder."""
    rounds: str = ""
    """Folder in which couchside-sync puts the open Round and receipts; empty: no learning with
    others."""
    updates: str = ""
    """Folder in which sealed Updates wait for couchside-sync; empty: ``updates`` in the state
    folder."""


@dataclass(frozen=True, slots=True)
class RowSettings:
    """Caps and thresholds of the shelf; the caps default to Google Engage's."""

    rows: int = within(7, 1, 20)
    """Rows on the shelf at most."""
    cards: int = within(25, 1, 100)
    """Cards in a row at most."""
    continue_watching: int = within(10, 1, 40)
    """Cards in the continue-watching row at most."""
    because_rows: int = within(2, 0, 5)
    """"Because you watched" rows at most."""
    because_similarity: float = within(0.35, -1.0, 1.0)
    """Least centred cosine similarity to the seed; without enough such cards there is no row."""
    because_cards: int = within(3, 1, 25)
    """Fewest cards that make a "because you watched" row."""
    diversity: float = within(0.3, 0.0, 1.0)
    """Weight of being unlike the cards before, in the "for you" row; 0 is pure relevance."""
    pool: int = within(200, 25, 1000)
    """Best-scored titles among which diversity may choose."""
    new_days: float = within(14.0, 0.0, 365.0)
    """Days for which an arrival counts as new."""


@dataclass(frozen=True, slots=True)
class HistorySettings:
    """What history.db keeps and when it writes."""

    buffer_events: int = within(64, 1, 1024)
    """Progress heartbeats gathered in memory before they are written."""
    buffer_s: float = within(60.0, 0.0, 3600.0)
    """Seconds that a heartbeat may wait in memory."""
    max_events: int = within(50_000, 1000, 1_000_000)
    """Events kept; beyond it old heartbeats go first, then the oldest events."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How models run."""

    threads: int = within(1, 1, 16)
    """Threads of the inference runtime."""
    run_limit_s: float = within(5.0, 0.05, 600.0)
    """Seconds after which a model run counts as hung and ends the daemon."""
    load_limit_s: float = within(30.0, 0.05, 600.0)
    """The same for loading a Bundle and checking its golden vectors."""
    healthy_rows: int = within(3, 1, 1000)
    """Answered ``rows`` after which a freshly activated Bundle is committed."""


@dataclass(frozen=True, slots=True)
class LearningSettings:
    """What this TV allows, whatever a Round asks for; consent comes first in any case."""

    least_cohort: int = within(500, 2, 1 << 24)
    """Fewest TVs whose sum the helper may unmask; below 500 is for labs."""
    least_noise: float = within(1.0, 0.3, 1000.0)
    """Least noise multiplier of a Round."""
    most_epsilon: float = within(8.0, 0.01, 1000.0)
    """Most ε (at δ = 1e-6) that all Updates of 365 days may add up to."""
    most_updates: int = within(26, 0, 366)
    """Most Updates in 365 days."""
    limit_s: float = within(600.0, 1.0, 7200.0)
    """Seconds after which a learning child is killed."""
    personal: bool = False
    """Whether the TV fits layer norms to each profile for itself; never sent. Off until a data set
    shows a gain: on the sample none was found."""
    personal_steps: int = within(8, 1, 100)
    """Steps of SGD of that."""
    personal_rate: float = within(0.3, 0.0, 10.0)
    """Their learning rate."""
    personal_every: int = within(5, 1, 1000)
    """New steps of taste after which a profile is fitted again."""


@dataclass(frozen=True, slots=True)
class RpcSettings:
    """Who may call, and how many at once."""

    owner_uids: tuple[int, ...] = ()
    """Users with every right, besides root and the daemon's own; others get the viewer's."""
    connections: int = within(16, 1, 256)
    """Connections at once; a new one beyond it takes the place of the longest idle."""
    send_s: float = within(5.0, 0.1, 60.0)
    """Seconds a client may take to accept a reply before it is cut off."""


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of ``couchside-device``."""

    paths: Paths = Paths()
    rows: RowSettings = RowSettings()
    history: HistorySettings = HistorySettings()
    model: ModelSettings = ModelSettings()
    learning: LearningSettings = LearningSettings()
    rpc: RpcSettings = RpcSettings()
    log_level: LogLevel = "INFO"
    """DEBUG is the only level that may name titles."""

    @property
    def state(self) -> Path:
        """The state folder."""
        return Path(self.paths.state)

    @property
    def socket(self) -> Path:
        """The RPC socket."""
        return Path(self.paths.socket)

    @property
    def slots(self) -> Path:
        """The folder of Bundle slots."""
        return Path(self.paths.slots) if self.paths.slots else self.state / "slots"

    @property
    def rounds(self) -> Path | None:
        """The folder of Rounds and receipts; None: no learning with others."""
        return Path(self.paths.rounds) if self.paths.rounds else None

    @property
    def updates(self) -> Path:
        """The folder of sealed Updates."""
        return Path(self.paths.updates) if self.paths.updates else self.state / "updates"

    def with_paths(self, **changes: str | None) -> Config:
        """This configuration with those of ``state``, ``socket``, ``slots`` that are not None."""
        given = {name: value for name, value in changes.items() if value is not None}
        return replace(self, paths=replace(self.paths, **given))


def read_config(path: Path) -> Config:
    """Read the daemon's settings.

    Raises:
        ConfigError: see ``read_settings``.
    """
    return read_settings(Config, path, manual="device/README.md")


def read_settings(
    kind: type[T], path: Path, *, manual: str, check: Callable[[T], None] | None = None
) -> T:
    """Read settings of one kind from a TOML file.

    Args:
        kind: a dataclass; bounds stand in its fields' metadata.
        path: the file.
        manual: which document lists every setting.
        check: what more must hold; raises StrictError.

    Raises:
        ConfigError: the file can't be read, is not TOML, or a setting is unknown, of the wrong
            type or out of bounds; the message names the file and the setting.
    """
    # Late: a process without a file should not carry the parser.
    import tomllib  # noqa: PLC0415

    try:
        with path.open("rb") as stream:
            document = tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; check --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    try:
        settings = strict.from_json(kind, document)
        check_bounds(settings)
        if check is not None:
            check(settings)
    except strict.StrictError as error:
        raise ConfigError(f"{path}: {error}; {manual} lists every setting") from error
    return settings


def check_bounds(section: Any, path: str = "") -> None:
    """Check every number of a configuration against the bounds declared beside it.

    Raises:
        StrictError: a number is out of bounds.
    """
    for setting in fields(section):
        value = getattr(section, setting.name)
        name = f"{path}.{setting.name}" if path else setting.name
        if is_dataclass(value):
            check_bounds(value, name)
        elif "low" in setting.metadata:
            low, high = setting.metadata["low"], setting.metadata["high"]
            if not low <= value <= high:
                raise strict.StrictError(name, f"must be from {low} to {high}, not {value}")
