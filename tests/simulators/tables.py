"""A measured table that nobody measured, for tests of what is done with results.

>>> result().body.sections[0].rows[0].name
'ours'
"""

from pathlib import Path

from couchside.benchmarks.machine.board import read_board
from couchside.benchmarks.promises.budgets import Budget, judge, read_promises
from couchside.benchmarks.promises.report import PromisesReport
from couchside.benchmarks.tables.table import Body, Cell, Column, Result, Row, Section


def section(*, ratio: float = 2.0) -> Section:
    """Two rows, the second of which lost."""
    return Section(
        title="Speed",
        text="Both did the same.",
        columns=(Column("CPU", "ms", "less"), Column("ratio to peer", "times", "more")),
        rows=(
            Row("ours", (Cell(1.0, 0.9, 1.1), Cell(ratio, ratio - 0.1, ratio + 0.1)), ours=True),
            Row("peer", (Cell(2.0, 1.9, 2.1), Cell(1.0))),
        ),
        caveats=("not on ARM",),
        chart="CPU",
    )


def result(*, ratio: float = 2.0) -> Result:
    """A table of that section."""
    return Result(
        table="speed",
        title="Speed",
        question="who is faster?",
        command="python -m couchside.benchmarks.bench run BUNDLES --size quick speed",
        size="quick",
        made_at="2026-11-25T05:00:00+00:00",
        took_s=1.0,
        commit="0123456789ab",
        bundle_id="00" * 32,
        board=read_board(Path("/")),
        body=Body((section(ratio=ratio),), versions={"peer": "1.2.3"}),
    )


def promises(**measured: tuple[float, ...]) -> PromisesReport:
    """A report about one promise, ``daemon_rss`` of at most 66 MB."""
    budget = Budget("daemon_rss", "resident memory", "MB", at_most=66.0, noise=0.02)
    return PromisesReport(
        bundle_id="00" * 32,
        version=1,
        recipe="tv-small",
        conditions=read_promises().conditions,
        runs=3,
        command="python -m couchside.benchmarks.bench run BUNDLES --size quick promises",
        made_at="2026-11-25T05:00:00+00:00",
        commit="0123456789ab",
        promises=tuple(judge([budget], measured, recipe="tv-small")),
        measured=measured,
        board=read_board(Path("/")),
    )
