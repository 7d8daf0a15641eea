"""What the bench found out about the promises, as records: ``benchmarks/results/promises.json``."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - strict reads the types of these records
from dataclasses import dataclass

from couchside.benchmarks.machine.board import Board  # noqa: TC001 - as above
from couchside.benchmarks.promises.budgets import Conditions, Line  # noqa: TC001 - as above

ALSO = {
    "rows_p50": "rows over the socket, median (ms)",
    "rows_undisturbed_p99": "rows less what threads waited for a core, 99th percentile (ms)",
    "rows_quiet_p95": "rows at least ten calls after an event, 95th percentile (ms)",
    "rows_cpu_mean": "CPU time of the daemon a rows, background included, mean (ms)",
    "rows_cpu_p99": "the same, 99th percentile (ms)",
    "first_answer_cpu": "CPU time from start to first answer (s)",
    "event_p50": "an event until it is on disk and acknowledged, median (ms)",
    "catalogue_load": "loading the whole catalogue (s)",
    "learn_rows_ratio_undisturbed": "rows while learning / idle, less waiting for a core (times)",
}
"""Measurements without a promise, in words."""


@dataclass(frozen=True, slots=True)
class PromisesReport:
    """Everything that was measured for the promises."""

    bundle_id: str
    version: int
    recipe: str
    conditions: Conditions
    runs: int
    command: str
    made_at: str
    """UTC, ISO 8601."""
    commit: str | None
    promises: tuple[Line, ...]
    measured: Mapping[str, tuple[float, ...]]
    """Every measurement, promised or not, one value a run; units as in ``budgets.toml``."""
    board: Board
