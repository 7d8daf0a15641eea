"""What a table is: a question, sections of measured rows, and the caveats that belong to them.

A table's module holds a ``TABLE`` and measures; it never prints and never formats. The page, the
terminal and the tests all read the same ``Result``, which is also the JSON document in
``benchmarks/results``.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - strict reads the types of a Result's fields
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from couchside.benchmarks.machine.board import Board  # noqa: TC001 - as above

if TYPE_CHECKING:
    from collections.abc import Callable

    from couchside.benchmarks.tables.bench import Bench

Size = Literal["quick", "full"]
"""``make bench`` in ten minutes together, or ``make bench-full`` without haste."""


@dataclass(frozen=True, slots=True)
class Column:
    """One measured property of the rows."""

    name: str
    unit: str = ""
    better: Literal["less", "more", ""] = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A number with the interval it was seen in, or words where there is no number."""

    value: float | None = None
    low: float | None = None
    """Lowest round or run, or lower 95 % bound: the section's text says which."""
    high: float | None = None
    text: str = ""
    """Instead of a number: ``not installed``, ``int8, per row`` …"""


@dataclass(frozen=True, slots=True)
class Row:
    """One contender."""

    name: str
    cells: tuple[Cell, ...]
    """One a column."""
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """Rows that may be compared with each other, as they did the same work in the same run."""

    title: str
    text: str
    """What was done, under which conditions, and what the intervals are."""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caveats: tuple[str, ...] = ()
    """What the numbers do not say; printed beside them."""
    chart: str = ""
    """Name of the column that people would rather see as bars; empty for none."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(f"{self.title}: {row.name} has {len(row.cells)} cells")
        if self.chart and self.chart not in {column.name for column in self.columns}:
            raise ValueError(f"{self.title}: no column {self.chart!r} to draw")


@dataclass(frozen=True, slots=True)
class Body:
    """What a table measured."""

    sections: tuple[Section, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of every peer that took part."""
    promised: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Values of budgets by their name in ``budgets.toml``, one a run."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table: what it asks, and how it finds out."""

    name: str
    """Of the JSON file, and on the command line."""
    title: str
    question: str
    run: Callable[[Bench], Body]


@dataclass(frozen=True, slots=True)
class Result:
    """A measured table, as it lies in ``benchmarks/results/NAME.json``."""

    table: str
    title: str
    question: str
    command: str
    """Repeats it."""
    size: Size
    made_at: str
    """UTC, ISO 8601."""
    took_s: float
    commit: str | None
    """Of the code; ends in ``+`` if files were changed since."""
    bundle_id: str | None
    board: Board
    body: Body
