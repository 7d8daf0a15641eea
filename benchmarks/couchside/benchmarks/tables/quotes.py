"""Numbers in the documents, filled in from the results, so that none of them can grow old.

A measured number in a document stands between marks that no reader sees:

    <!--=promises/daemon_rss as {:.0f} MB-->62 MB<!--/-->

Before ``as`` is where the number comes from, behind it how it is written (no bar, which would end
a table's cell):

- ``promises/NAME`` the median of a measurement, ``promises/NAME/low`` and ``/high`` its runs
- ``budget/NAME`` what is promised
- ``TABLE/SECTION/ROW/COLUMN`` a cell, ``…/low`` and ``/high`` its interval
- ``code/MODULE/NAME`` a constant, for what is not measured but decided

``python -m couchside.benchmarks.bench page`` writes them anew; a test fails where one differs.
"""

from __future__ import annotations

import importlib
import re
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from couchside.benchmarks.errors import UsageError
from couchside.benchmarks.promises.budgets import read_promises

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from couchside.benchmarks.promises.report import PromisesReport
    from couchside.benchmarks.tables.table import Cell, Result

MARK = re.compile(
    r"<!--=(?P<source>[^>]+?) as (?P<form>[^>]*?)-->(?P<shown>.*?)<!--/-->", re.DOTALL
)
DOCUMENTS = (
    "README.md",
    "CHANGELOG.md",
    "device/README.md",
    "compression/README.md",
    "cloud_sync/README.md",
)
"""Those that quote measurements; the bench's own page is generated as a whole."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where numbers come from."""

    results: Mapping[str, Result]
    promises: PromisesReport | None

    def number(self, source: str) -> float:
        """The number that ``source`` names.

        Raises:
            UsageError: there is no such number.
        """
        kind, *path = source.strip().split("/")
        try:
            if kind == "budget":
                return next(b.limit for b in read_promises().budget if b.name == path[0])
            if kind == "code":
                return float(getattr(importlib.import_module(path[0]), path[1]))
            if kind == "promises" and self.promises is not None:
                return _of_runs(self.promises.measured[path[0]], path[1:])
            return _of_cell(self.results[kind], path)
        except (KeyError, IndexError, StopIteration, AttributeError, ImportError) as error:
            raise UsageError(f"a document quotes {source}: no such number") from error

    def fill(self, text: str) -> str:
        """The document with every marked number as it is now."""
        return MARK.sub(self._mark, text)

    def _mark(self, found: re.Match[str]) -> str:
        shown = found["form"].format(self.number(found["source"]))
        return f"<!--={found['source']} as {found['form']}-->{shown}<!--/-->"


def _of_runs(values: Sequence[float], end: Sequence[str]) -> float:
    if not end:
        return statistics.median(values)
    return {"low": min, "high": max}[end[0]](values)


def _of_cell(result: Result, path: Sequence[str]) -> float:
    section_name, row_name, column_name, *end = path
    section = next(s for s in result.body.sections if s.title == section_name)
    place = next(i for i, c in enumerate(section.columns) if c.name == column_name)
    cell: Cell = next(row for row in section.rows if row.name == row_name).cells[place]
    value = {"": cell.value, "low": cell.low, "high": cell.high}[end[0] if end else ""]
    if value is None:
        raise KeyError(column_name)
    return value
