"""What a latency run leaves behind, as records; their names are those of the JSON document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from couchside.benchmarks.machine.board import Board
    from couchside.benchmarks.machine.power import Power
    from couchside.benchmarks.machine.throttle import Throttling
    from couchside.benchmarks.timing.artefact import Artefact, Parity
    from couchside.benchmarks.timing.compare import Comparison
    from couchside.benchmarks.timing.percentiles import Summary
    from couchside.benchmarks.timing.slo import Judgement
    from couchside.device.bundle import QualityRecord

TOTAL = "total"
"""Name of the whole query among its stages."""


@dataclass(frozen=True, slots=True)
class Timer:
    """The clock that times were read from, in nanoseconds."""

    clock: str
    resolution_ns: float
    """As the system promises."""
    overhead_ns: float
    """What timing nothing takes (median): no shorter stage can be told from none."""


@dataclass(frozen=True, slots=True)
class Config:
    """How it was measured."""

    scenario: str
    graph: str
    backend: str
    threads: int
    batch: int
    streams: int
    history: int | None
    k: int | None
    seed: int
    warmup_ms: float
    warmup_iters: int
    iterations: int
    duration_s: float
    repeat: int
    idle_ms: float
    spin_wait: bool
    cores: tuple[int, ...]
    """That the process might run on."""
    timer: Timer
    mode: str = "single-stream"
    in_flight: int = 1
    """Of each stream."""
    percentile_method: str = "nearest rank"
    interval_method: str = "order statistics, binomial, 95 %, runs taken as independent"
    gc: str = "disabled while timed"


@dataclass(frozen=True, slots=True)
class Start:
    """Milliseconds that are paid once."""

    load: float
    """Opening what answers, with the import of its runtime."""
    first: float
    """The first query after it, which everything later is warmer than."""


@dataclass(frozen=True, slots=True)
class Run:
    """One of the repeated measurements of a case, in milliseconds."""

    n: int
    mean: float
    p50: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class CaseReport:
    """One kind of query."""

    name: str
    items: int
    """Things answered by one query."""
    titles: int | None
    """Titles that were looked through; None where none are."""
    made: str | None
    """Where those titles come from."""
    latency_ms: Mapping[str, Summary]
    """Wall time of the whole query, ``total``, and of each stage; empty if nothing was timed."""
    cpu_ms: Summary | None
    """CPU time over all threads of whoever answers; None where it can't be told apart."""
    runs: tuple[Run, ...]
    queries_per_second: float
    """Of all streams together, rests included."""
    items_per_second: float


@dataclass(frozen=True, slots=True)
class Noise:
    """What the rest of the machine did to the timed runs."""

    preemptions: int | None
    """Times that the kernel took the processor away: each adds milliseconds to a run."""
    waiting: float | None
    """Share of the timed wall time that callers waited for a core; None if not counted."""


@dataclass(frozen=True, slots=True)
class ServerReport:
    """The process that answered, where it is not this one."""

    memory: Mapping[str, int]
    facts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Validity:
    """Whether the numbers may be quoted."""

    verdict: Literal["valid", "suspect", "invalid"]
    valid: bool
    """Not invalid."""
    partial: bool
    """Interrupted before the minimums were met."""
    reasons: tuple[str, ...]
    """Why not, if not."""
    doubts: tuple[str, ...]
    """What makes the numbers suspect, though they count."""


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """Everything about one run of ``benchmark_latency``."""

    artefact: Artefact
    config: Config
    parity: Parity
    start_ms: Start
    cases: tuple[CaseReport, ...]
    mlperf: Mapping[str, float] | None
    """With ``--mlperf``: the 90th percentile of each case in milliseconds."""
    noise: Noise
    memory: Mapping[str, int]
    """Of this process, Python and benchmark included, after the timed runs."""
    server: ServerReport | None
    power: Power
    quality: QualityRecord | None
    board: Board
    """Before the run."""
    temperatures_after_c: Mapping[str, float]
    """By thermal zone."""
    throttle: Throttling
    slo: tuple[Judgement, ...]
    comparison: Comparison | None
    notes: tuple[str, ...]
    """What a reader must know before quoting the numbers."""
    validity: Validity

    @property
    def rss_bytes(self) -> int:
        """Of the process that answers."""
        return (self.server.memory if self.server else self.memory)["rss_bytes"]
