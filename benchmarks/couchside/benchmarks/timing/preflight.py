"""What can be known to be wrong before anything is timed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from couchside.benchmarks.errors import UsageError
from couchside.benchmarks.machine.clocks import require_locked_clocks, require_mode
from couchside.benchmarks.timing.percentiles import check_enough
from couchside.benchmarks.timing.slo import METERED, Goal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from couchside.benchmarks.machine.board import Board
    from couchside.benchmarks.machine.power import PowerMeter
    from couchside.benchmarks.timing.artefact import Artefact
    from couchside.benchmarks.timing.choice import Choice, Conditions, Plan
    from couchside.benchmarks.timing.compare import Baseline
    from couchside.benchmarks.timing.report import Config


@dataclass(frozen=True, slots=True)
class Asked:
    """Everything that was asked for."""

    path: Path
    """A Bundle folder or a model file."""
    choice: Choice
    plan: Plan
    conditions: Conditions
    goals: tuple[Goal, ...] = ()
    baseline: Baseline | None = None
    most_regression: float = 0.05
    compare_anyway: bool = False
    root: Path = Path("/")
    """Where the board's files are, ``/`` but in tests."""


def check_before(asked: Asked, tell: Callable[[str], None]) -> None:
    """Check what needs nothing opened.

    Raises:
        UsageError: percentiles that so few runs can't carry, or more streams than cores.
        InvalidRunError: the machine is not in the mode, or its clocks not as required.
    """
    plan, choice, conditions = asked.plan, asked.choice, asked.conditions
    check_enough(plan.percentiles, plan.iterations)
    cores = len(os.sched_getaffinity(0))
    if choice.streams > cores:
        raise UsageError(
            f"--streams {choice.streams} on {_cores(cores)}: callers would wait for each other, "
            "and the scheduler would be measured; take no more streams than cores"
        )
    if choice.streams * choice.threads > cores:
        tell(f"more threads than the {_cores(cores)} it may run on: they will wait for each other")
    if conditions.mode is not None:
        require_mode(asked.root, conditions.mode)
    if conditions.locked_clocks:
        require_locked_clocks(asked.root)


def _cores(count: int) -> str:
    return f"{count} core{'' if count == 1 else 's'}"


def check_metered(goals: Sequence[Goal], meter: PowerMeter | None) -> None:
    """Refuse limits of power where none is read.

    Raises:
        UsageError: names the limit.
    """
    wanted = [goal.key for goal in goals if goal.key in METERED]
    if wanted and meter is None:
        raise UsageError(
            f"--slo {wanted[0]}: no power meter is read here; name one that there is with --power"
        )


def check_baseline(
    asked: Asked, config: Config, board: Board, artefact: Artefact, cases: Sequence[str]
) -> tuple[str, ...]:
    """In what the baseline is another measurement; nothing without one.

    Raises:
        UsageError: it is another, and nobody asked to compare anyway; or has none of the cases.
    """
    if asked.baseline is None:
        return ()
    asked.baseline.in_both(cases)
    differs = asked.baseline.differences(config, board, artefact)
    if differs and not asked.compare_anyway:
        raise UsageError(
            f"--compare {asked.baseline.path}: not the same measurement: {'; '.join(differs)}; "
            "--compare-anyway compares them nevertheless"
        )
    return differs
