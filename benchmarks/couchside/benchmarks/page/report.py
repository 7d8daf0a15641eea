"""What one run of the demo found out, as plain records; the page shows these and nothing else.

Times are POSIX seconds, sizes bytes, durations seconds unless a field says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from couchside.benchmarks.promises.budgets import Line
    from couchside.device.quality import Interval
    from couchside.device.records import Reason, RowCode

Outcome = Literal["zapped", "left", "stopped", "finished"]


@dataclass(frozen=True, slots=True)
class ShownCard:
    """A card with what the launcher knows of its title."""

    title_id: str
    name: str
    genres: tuple[str, ...] = ()
    year: int | None = None
    reason: Reason | None = None
    because: tuple[str, ...] = ()
    """Names of the reason's evidence."""
    progress: float | None = None
    """Watched fraction in [0, 1]."""
    channel: str | None = None
    """Name of the channel of a broadcast."""
    starts_at: float | None = None
    ends_at: float | None = None
    episode: str | None = None
    """For example "S2 E7"."""

    @property
    def on_air(self) -> bool:
        """Whether it is a broadcast; the shelf shows those only while they run."""
        return self.starts_at is not None

    def gone(self, now: float) -> float | None:
        """Share of it that is over, in [0, 1]: watched, or of a broadcast's time; None if none."""
        if self.starts_at is None or self.ends_at is None:
            return self.progress
        return min(max((now - self.starts_at) / (self.ends_at - self.starts_at), 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row of the shelf."""

    code: RowCode
    cards: tuple[ShownCard, ...]
    seed: str | None = None
    """Name of the title that "because you watched" names."""


@dataclass(frozen=True, slots=True)
class ShownShelf:
    """What one viewer saw at one moment."""

    viewer: str
    at: float
    rows: tuple[ShownRow, ...]
    note: str = ""
    """One sentence on what makes this shelf what it is."""

    @property
    def cards(self) -> int:
        """How many cards it has."""
        return sum(len(row.cards) for row in self.rows)


@dataclass(frozen=True, slots=True)
class Scene:
    """Somebody and a title, from pressing play to letting go."""

    viewer: str
    name: str
    began_at: float
    ended_at: float
    outcome: Outcome
    genres: tuple[str, ...] = ()
    channel: str | None = None
    fraction: float | None = None
    """Watched share of an on-demand title, in [0, 1]."""
    opinion: str | None = None
    """ "like" or "dislike", if somebody said so."""


@dataclass(frozen=True, slots=True)
class Why:
    """One card explained by the daemon."""

    viewer: str
    card: ShownCard
    row: RowCode | None
    """Where it stands; None if it is on no row."""


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of one form of the models; encoders, user model and item table never hide in a sum."""

    name: str
    encoder: int
    user_model: int
    item_table: int
    whole: int | None = None
    """The whole Bundle with its training step, global weights, titles and golden vectors."""
    runs: bool = False
    """The one that this run installed on the TV."""

    @property
    def models(self) -> int:
        """All three parts, without what else a Bundle carries."""
        return self.encoder + self.user_model + self.item_table


@dataclass(frozen=True, slots=True)
class Quality:
    """How well one ranking predicts the titles that people went on to watch."""

    name: str
    ndcg_at_10: float
    hr_at_10: float
    over_popularity: Interval
    """Relative gain in NDCG@10 over popularity frozen at the cut-off, paired."""
    loss: Interval | None = None
    """Relative loss in NDCG@10 against the float student, paired; flavours only."""
    runs: bool = False


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of one operation, one in flight."""

    what: str
    n: int
    p50_ms: float
    p99_ms: float | None
    """None where too few runs stand behind it."""
    longest_ms: float


@dataclass(frozen=True, slots=True)
class Sockets:
    """What the daemon had open, by the kernel's tables."""

    looks: int
    """How many times the demo looked."""
    unix: int
    """Most Unix sockets at one look."""
    internet: int
    """Most sockets of any other family at one look."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One release on one TV."""

    tv: str
    before: int
    """Version that ran there; 0 where the TV had no Bundle."""
    after: int
    seconds: float
    """From the cloud's beginning to publish until the TV's shelf came from it."""
    bytes_in: int
    """Received by couchside-sync, above TCP."""
    bytes_out: int
    fetched: int
    """Blocks that came over the wire."""


@dataclass(frozen=True, slots=True)
class Release:
    """What the cloud signed and published, and where it arrived."""

    version: int
    bundle_bytes: int
    """On the disk of a TV."""
    wire_bytes: int
    """Of all its blocks."""
    blocks: int
    head_bytes: int
    """Of the signed metadata that every TV receives."""
    arrivals: tuple[Arrival, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """What somebody tried who owned the broker."""

    attack: str
    words: str
    """A TV's own."""
    tvs: int
    """That refused."""
    seconds: float
    """Until the last of them had."""
    version: int
    """That made every shelf afterwards."""
    rows_ms: float
    """The slowest of those shelves."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the Bundle arrived."""

    broker: str
    """Which broker carried it."""
    releases: tuple[Release, ...]
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class LearningTv:
    """A real TV in a Round."""

    tv: str
    events: int
    """That its household left behind."""
    child_peak_bytes: int
    """Most resident memory of the learning child, which has ended."""
    epsilon: float
    """Of this TV's Updates in 365 days, by its own ledger."""
    came: tuple[str, ...]
    """Names that entered the row "for you" with the new Bundle."""
    went: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Learning:
    """A Round, and the Bundle that came of it."""

    households: int
    """In the sum."""
    real: int
    """Of them with processes of their own."""
    round_id: int
    parameters: str
    uplink_bytes: int
    """Of one TV's Update."""
    epsilon: float
    delta: float
    noise_multiplier: float
    count_sigma: float
    """Standard deviation of the noise on each title's count, in TVs."""
    change_norm: float
    """Of the parameters that the cloud changed."""
    ndcg_before: float
    ndcg_after: float
    gain: Interval
    """Relative, paired over users, on what was watched after the Round."""
    users: int
    targets: int
    tvs: tuple[LearningTv, ...]
    server_rss: tuple[tuple[str, int], ...]
    """Peak resident bytes of helper and aggregator."""


@dataclass(frozen=True, slots=True)
class Timed:
    """A part of the demo and how long it took."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class DemoReport:
    """Everything on the page."""

    made_at: float
    utc_offset_h: float
    """Of the simulated household's clock."""
    recipe: str
    bundle: str
    """Flavour and version of the Bundle on the TV."""
    titles: int
    """In the TV's catalogue."""
    programmes: int
    """Of them in the guide."""
    events: int
    """That the evening left behind."""
    before: ShownShelf
    after: tuple[ShownShelf, ...]
    """One a viewer, the most active first."""
    scenes: tuple[Scene, ...]
    whys: tuple[Why, ...]
    sizes: tuple[Size, ...]
    """Teacher, student, flavours."""
    qualities: tuple[Quality, ...]
    targets: int
    """Events that the rankings were to predict."""
    users: int
    latencies: tuple[Latency, ...]
    promises: tuple[Line, ...]
    """Those that this run measured, beside their budgets."""
    sockets: Sockets
    delivery: Delivery
    learning: Learning
    parts: tuple[Timed, ...]
    facts: tuple[tuple[str, str], ...]
    """What ran where: pairs of name and value."""
