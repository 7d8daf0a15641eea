"""A latency report without a run: a thousand times from 1 to 1,000 µs, on an invented board.

>>> from simulators.latency_report import report
>>> report().cases[0].latency_ms["total"].percentiles["p50"]
0.5
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from simulators.jetson import Jetson

from couchside.benchmarks.machine.board import read_board
from couchside.benchmarks.machine.power import Power
from couchside.benchmarks.machine.throttle import Throttling
from couchside.benchmarks.timing.artefact import Artefact, Parity
from couchside.benchmarks.timing.choice import Plan
from couchside.benchmarks.timing.report import (
    Config,
    LatencyReport,
    Noise,
    ServerReport,
    Start,
    Timer,
    Validity,
)
from couchside.benchmarks.timing.stopwatch import Samples
from couchside.benchmarks.timing.summary import describe_case
from couchside.benchmarks.timing.workload import Size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from couchside.benchmarks.machine.board import Board
    from couchside.benchmarks.timing.report import CaseReport

TIMER = Timer("perf_counter_ns", 1.0, 50.0)
PLAN = Plan(percentiles=(50.0, 90.0, 99.0))


def samples(times_us: Sequence[float]) -> Samples:
    """One stream's samples with these wall times; CPU times are the same."""
    made = Samples(("model",))
    for microseconds in times_us:
        nanoseconds = round(microseconds * 1000)
        made.rows.extend((nanoseconds, nanoseconds, nanoseconds))
        made.elapsed_ns += nanoseconds
    return made


def shuffled(slower: float = 1.0) -> list[float]:
    """1 to 1,000 in an order without a drift, times ``slower``."""
    return [(1 + (i * 377) % 1000) * slower for i in range(1000)]


def case(name: str = "rank of 200 titles", *, slower: float = 1.0, repeat: int = 1) -> CaseReport:
    """A case whose times are those of ``shuffled``, measured ``repeat`` times."""
    measured = [[samples(shuffled(slower))] for _ in range(repeat)]
    return describe_case(Size(name, titles=200), measured, PLAN)


def report(cases: tuple[CaseReport, ...] | None = None, **changes: Any) -> LatencyReport:
    """A valid report; ``server_rss`` makes another process answer."""
    server_rss = changes.pop("server_rss", None)
    made: dict[str, Any] = {
        "artefact": Artefact("bundle", "bundle", "ab" * 32, 158_000, 1, "tv-small", "litert-int8"),
        "config": config(),
        "parity": Parity(True, "user_model", 0.9999, 1.0),  # noqa: FBT003
        "start_ms": Start(22.0, 1.5),
        "cases": cases or (case(),),
        "mlperf": None,
        "noise": Noise(0, 0.0),
        "memory": {"rss_bytes": 61_000_000, "anonymous_bytes": 40_000_000},
        "server": server_rss and ServerReport({"rss_bytes": server_rss}, {"socket_p50_ms": 0.1}),
        "power": Power("ok", "ina3221", 40, 4.0, 6.1, 4.0, 24.4, 0.002),
        "quality": None,
        "board": board(),
        "temperatures_after_c": {"cpu-thermal": 51.0},
        "throttle": Throttling("clean", {}, ()),
        "slo": (),
        "comparison": None,
        "notes": (),
        "validity": Validity("valid", True, False, (), ()),  # noqa: FBT003
    }
    return LatencyReport(**made | changes)


def config(**changes: Any) -> Config:
    """As ``benchmark_latency`` without flags but ``--scenario rank``."""
    made: dict[str, Any] = {
        "scenario": "rank",
        "graph": "user_model",
        "backend": "litert",
        "threads": 1,
        "batch": 1,
        "streams": 1,
        "history": 50,
        "k": 100,
        "seed": 0,
        "warmup_ms": 200.0,
        "warmup_iters": 20,
        "iterations": 1000,
        "duration_s": 3.0,
        "repeat": 1,
        "idle_ms": 0.0,
        "spin_wait": False,
        "cores": (0, 1),
        "timer": TIMER,
    }
    return Config(**made | changes)


def board(**changes: Any) -> Board:
    """An Orin Nano; see ``simulators.jetson``."""
    with TemporaryDirectory() as folder:
        return replace(read_board(Jetson(Path(folder)).root), **changes)
