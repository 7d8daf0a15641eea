"""Results as Markdown: what the generated page holds and what a terminal shows."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from couchside.benchmarks.promises.report import ALSO

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from couchside.benchmarks.machine.board import Board
    from couchside.benchmarks.promises.budgets import Budget
    from couchside.benchmarks.promises.report import PromisesReport
    from couchside.benchmarks.tables.table import Cell, Column, Result, Section


def number(value: float | None) -> str:
    """Three digits above 1 and four decimals below, thousands with commas; a dash for None."""
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 1:
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    if 0 < abs(value) < 1e-4:
        return f"{value:.1e}"
    return f"{value:.4f}".rstrip("0").rstrip(".")


def spread(values: Sequence[float]) -> str:
    """Median with the lowest and highest run; the one value alone where there is one."""
    if not values:
        return "–"
    median = number(statistics.median(values))
    if len(values) == 1 or min(values) == max(values):
        return median
    return f"{median} [{number(min(values))}, {number(max(values))}]"


def cell(value: Cell) -> str:
    """The number, and the interval that it was seen in."""
    if value.value is None:
        return value.text or "–"
    shown = number(value.value)
    if value.low is not None and value.high is not None and value.low != value.high:
        shown += f" [{number(value.low)}, {number(value.high)}]"
    return f"{shown} {value.text}".strip()


def machine(board: Board) -> str:
    """One sentence about the machine."""
    memory = f", {board.memory_bytes / 2**30:.0f} GiB" if board.memory_bytes else ""
    load = "/".join(f"{value:g}" for value in board.load_average) or "unknown"
    runtimes = ", ".join(f"{name} {version}" for name, version in board.runtimes.items())
    return (
        f"{board.model or 'unknown board'}, {board.cpu or board.architecture}, {board.cores} cores"
        f"{memory}, load average {load}; Python {board.python}, {runtimes}"
    )


def promises(report: PromisesReport) -> Iterator[str]:
    """Lines of the table of promises, then what was measured besides."""
    conditions = report.conditions
    yield (
        f"{conditions.flavour} of `{report.recipe}`, {conditions.titles:,} titles, "
        f"{conditions.rows:,} `rows`, {report.runs} runs [lowest, highest]. `{report.command}`, "
        f"{report.made_at}, {machine(report.board)}."
    )
    yield ""
    yield from grid(
        ("promise", "unit", "measured", "budget", "left", "verdict"),
        [
            (line.budget.what, line.budget.unit, spread(line.values), _bound(line.budget),
             number(line.left), f"**{line.verdict}**" if line.verdict != "pass" else "pass")
            for line in report.promises
        ],
    )  # fmt: skip
    yield ""
    yield "Measured besides, without a promise:"
    yield ""
    rows = [(what, spread(report.measured.get(name, ()))) for name, what in ALSO.items()]
    yield from grid(("what", "measured"), rows)


def table(result: Result, charts: Sequence[str] = ()) -> Iterator[str]:
    """Lines of a table with all its sections; ``charts`` are paths of pictures, one a section."""
    yield f"*{result.question}* `{result.command}`, size {result.size}, {result.made_at}, "
    yield f"{machine(result.board)}."
    for place, section in enumerate(result.body.sections):
        yield ""
        yield f"### {section.title}"
        yield ""
        yield section.text
        yield ""
        yield from _section(section)
        if place < len(charts) and charts[place]:
            yield ""
            yield f"![{section.title}: {section.chart}]({charts[place]})"
        if section.caveats:
            yield ""
            yield from (f"- {caveat}" for caveat in section.caveats)
    if result.body.versions:
        yield ""
        versions = result.body.versions.items()
        yield "Versions: " + ", ".join(f"{name} {version}" for name, version in versions) + "."


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table whose columns also line up in a terminal."""
    clean = [[text.replace("|", "\\|").replace("\n", " ") for text in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*clean, strict=True)]
    for place, row in enumerate(clean):
        padded = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        yield "| " + " | ".join(padded) + " |"
        if place == 0:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"


def _section(section: Section) -> Iterator[str]:
    head = ["", *(_head(column) for column in section.columns)]
    rows = [
        [f"**{row.name}**" if row.ours else row.name, *map(cell, row.cells)] for row in section.rows
    ]
    yield from grid(head, rows)


def _head(column: Column) -> str:
    return f"{column.name} ({column.unit})" if column.unit else column.name


def _bound(budget: Budget) -> str:
    return f"{'≥' if budget.at_most is None else '≤'} {budget.limit:g}"
