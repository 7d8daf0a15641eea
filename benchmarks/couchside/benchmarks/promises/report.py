"""What ``make bench`` leaves behind: everything as records, and tables for a person."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TextIO

    from couchside.benchmarks.board import Board
    from couchside.benchmarks.lab import LabReport
    from couchside.benchmarks.promises.budgets import Budget, Conditions, Line
    from couchside.benchmarks.promises.peers import Result
    from couchside.device.quality import Interval

ALSO = {
    "rows_p50": "rows over the socket, median (ms)",
    "rows_undisturbed_p99": "rows less what threads waited for a core, 99th percentile (ms)",
    "rows_quiet_p95": "rows at least ten calls after an event, 95th percentile (ms)",
    "rows_cpu_mean": "CPU time of the daemon a rows, background included, mean (ms)",
    "rows_cpu_p99": "the same, 99th percentile (ms)",
    "first_answer_cpu": "CPU time from start to first answer (s)",
    "event_p50": "an event until it is on disk and acknowledged, median (ms)",
    "catalogue_load": "loading the whole catalogue (s)",
}
"""Measurements without a promise, in words."""


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Everything that was measured."""

    bundle_id: str
    version: int
    recipe: str
    conditions: Conditions
    runs: int
    promises: tuple[Line, ...]
    measured: Mapping[str, tuple[float, ...]]
    """Every measurement, promised or not, one value a run; units as in ``budgets.toml``."""
    peers: tuple[Result, ...]
    quality: LabReport | None
    """Sizes and quality as the compression measured them; None where they did not come along."""
    board: Board


def print_report(report: BenchReport, stream: TextIO) -> None:
    """Write the tables: promises, other measurements, quality, sizes, peers."""
    for lines in (_promises(report), _others(report), _quality(report), _sizes(report)):
        stream.writelines(f"{line}\n" for line in lines)
    stream.writelines(f"{line}\n" for line in _peers(report.peers))


def _promises(report: BenchReport) -> Iterator[str]:
    conditions, board = report.conditions, report.board
    yield (
        f"\nPromises: {conditions.flavour} of {report.recipe} {report.version}, "
        f"{conditions.titles:,} titles, {conditions.rows:,} rows, {report.runs} runs, "
        f"on {board.model or board.cpu} with {board.cores} cores"
    )
    load = ", ".join(f"{value:g}" for value in board.load_average)
    yield f"(load average {load}; unclear: the runs disagree, or others had the processor)"
    yield f"{'':76} {'measured':>20} {'budget':>9} {'left':>7}  verdict"
    for line in report.promises:
        yield (
            f"{line.budget.what + f' ({line.budget.unit})':76} {spread(line.values):>20} "
            f"{_bound(line.budget):>9} {_number(line.left):>7}  {line.verdict}"
        )


def _bound(budget: Budget) -> str:
    return f"{'≥' if budget.at_most is None else '≤'} {budget.limit:g}"


def _others(report: BenchReport) -> Iterator[str]:
    yield "\nAlso measured"
    for name, what in ALSO.items():
        yield f"{what:76} {spread(report.measured.get(name, ())):>20}"


def _quality(report: BenchReport) -> Iterator[str]:
    if report.quality is None:
        yield "\nQuality and sizes: no quality.json beside the folder of Bundles"
        return
    yield "\nQuality on the full catalogue, paired 95 % intervals"
    yield f"{'':44} NDCG@10    over popularity-7d, frozen  loss to float student"
    for row in report.quality.rows:
        loss = _interval(row.loss) if row.loss else ""
        gain = _interval(row.over_popularity)
        yield f"{row.name:44} {row.ndcg_at_10:.4f}    {gain:26} {loss}"


def _sizes(report: BenchReport) -> Iterator[str]:
    """A line a form; ratios are to the teacher, where it has that part."""
    if report.quality is None:
        return
    sizes = {(row.form, row.part): row.bytes for row in report.quality.sizes}
    forms, parts = (list(dict.fromkeys(column)) for column in zip(*sizes, strict=True))
    yield "\nBytes (teacher / this)"
    yield f"{'':16}" + "".join(f"{part:>24}" for part in parts)
    for form in forms:
        teacher = {part: sizes.get((forms[0], part)) for part in parts if form != forms[0]}
        cells = [_size(sizes.get((form, part)), teacher.get(part)) for part in parts]
        yield f"{form:16}" + "".join(f"{cell:>24}" for cell in cells)


def _size(size: int | None, teacher: int | None) -> str:
    if size is None:
        return "–"
    return f"{size:,}" + (f" ({teacher / size:.1f}×)" if teacher and size else "")


def _peers(results: Sequence[Result]) -> Iterator[str]:
    if results:
        yield "\nThe same work, turn by turn in one process, CPU time on one thread"
        yield f"{'':28} {'':24} {'ms a call':>10}   peer / this [lowest, highest round]"
    for result in results:
        ratio = f"{result.ratio:.2f} [{result.ratio_low:.2f}, {result.ratio_high:.2f}]"
        against = "the peer" if result.contender == result.peer else ratio
        yield f"{result.work:28} {result.contender:24} {result.cpu_ms:>10.4f}   {against}"


def spread(values: Sequence[float]) -> str:
    """Median with the lowest and highest run; the one value alone where there is one."""
    if not values:
        return "–"
    median = _number(statistics.median(values))
    if len(values) == 1:
        return median
    return f"{median} [{_number(min(values))}, {_number(max(values))}]"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _interval(value: Interval) -> str:
    return f"{value.mean:+.1%} [{value.low:+.1%}, {value.high:+.1%}]"
