"""What a latency run leaves behind: everything as records, and one line for a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from couchside.benchmarks.machine.board import Board
    from couchside.benchmarks.machine.throttle import Throttling
    from couchside.benchmarks.timing.artefact import Artefact, Parity
    from couchside.benchmarks.timing.percentiles import Summary
    from couchside.device.bundle import QualityRecord

MB = 1e6


@dataclass(frozen=True, slots=True)
class Config:
    """How it was measured."""

    scenario: str
    graph: str
    backend: str
    threads: int
    warmup_ms: float
    iterations: int
    duration_s: float
    titles: int | None
    """Rows of the table that was scored; None where there is none."""
    k: int | None
    seed: int
    in_flight: int = 1
    percentile_method: str = "nearest rank"
    gc: str = "disabled while timed"


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of wall time."""

    load: float
    """Opening the model, with the import of its runtime."""
    first: float
    """The first run after it, which everything later is warmer than."""
    steady: Summary | None
    """The timed runs; None if there were none."""


@dataclass(frozen=True, slots=True)
class Validity:
    """Whether the numbers may be quoted."""

    valid: bool
    partial: bool
    """Interrupted before the minimums were met."""
    reasons: tuple[str, ...]
    """Why not, if not."""


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """Everything about one run of ``benchmark_latency``."""

    artefact: Artefact
    config: Config
    parity: Parity
    latency_ms: Latency
    cpu_ms: Summary | None
    """CPU time of each timed run over all threads of the process."""
    preemptions: int
    """Times that the kernel took the processor away meanwhile: each adds milliseconds to a run."""
    memory: Mapping[str, int]
    """Of this process, Python and benchmark included, after the timed runs."""
    quality: QualityRecord | None
    board: Board
    throttle: Throttling
    validity: Validity


def human_line(report: LatencyReport) -> str:
    """Speed, what it was measured on, what it costs, how good it is, and whether to believe it."""
    parts = (
        _speed(report),
        f"load {report.latency_ms.load:.1f} ms, first {report.latency_ms.first:.2f} ms",
        f"RSS {report.memory['rss_bytes'] / MB:.1f} MB",
        _parity(report.parity),
        _quality(report),
        f"throttle: {report.throttle.verdict}",
        _validity(report.validity),
    )
    return " | ".join(part for part in parts if part)


def _speed(report: LatencyReport) -> str:
    steady, config = report.latency_ms.steady, report.config
    if steady is None:
        return "nothing timed"
    what = config.graph if config.scenario == "graph" else config.scenario
    cpu = "" if report.cpu_ms is None else f", CPU {_worst(report.cpu_ms)}"
    return (
        f"{what} on {config.backend}: {_times(steady)} ms{cpu} ms (n={steady.n:,}, "
        f"{config.in_flight} in flight, {_plural(config.threads, 'thread')}, "
        f"preempted {_plural(report.preemptions, 'time')})"
    )


def _times(summary: Summary) -> str:
    shown = [f"{name} {ms:.3f}" for name, ms in summary.percentiles.items() if ms is not None]
    return "  ".join(shown) or f"mean {summary.mean:.3f}"


def _worst(summary: Summary) -> str:
    """The last percentile that enough runs stand behind."""
    return _times(summary).split("  ")[-1]


def _plural(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def _parity(parity: Parity) -> str:
    if not parity.checked:
        return "answers NOT checked: a bare file has no golden vectors"
    return f"golden vectors met (cosine {parity.cosine:.4f})"


def _quality(report: LatencyReport) -> str:
    quality = report.quality
    if report.artefact.kind == "file":
        return ""
    if quality is None:
        return "quality never measured: a draft"
    return (
        f"NDCG@10 {quality.ndcg_at_10:.4f}, loss to the float student {quality.ndcg_loss:+.1%} "
        f"[{quality.ndcg_loss_low:+.1%}, {quality.ndcg_loss_high:+.1%}]"
    )


def _validity(validity: Validity) -> str:
    if validity.valid:
        return "VALID"
    return f"{'PARTIAL, ' if validity.partial else ''}INVALID: {'; '.join(validity.reasons)}"
