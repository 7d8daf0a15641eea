"""Do two runs of the bench on one machine say the same? A bench that contradicts itself is noise.

No promise may be kept in one and missed in the other, and a ratio to a peer, which both measured
turn by turn, may differ by :data:`MOST` at most. Absolute times are not compared: they age with the
machine's mood, which is why nothing is promised about them without a witness.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from couchside.benchmarks.promises.budgets import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from couchside.benchmarks.promises.report import PromisesReport
    from couchside.benchmarks.tables.table import Result

MOST = 0.15
"""Relative difference of a paired ratio between two runs."""
RATIO = "times"
"""Unit of a column of paired ratios."""


def contradictions(first: PromisesReport, second: PromisesReport) -> Iterator[str]:
    """Promises that one run says are kept and the other that they are missed, in words."""
    said = {line.budget.name: line.verdict for line in first.promises}
    for line in second.promises:
        pair = {said.get(line.budget.name), line.verdict}
        if pair == {Verdict.PASS, Verdict.MISS}:
            yield f"{line.budget.name}: {said[line.budget.name]}, then {line.verdict}"


def apart(first: Mapping[str, Result], second: Mapping[str, Result]) -> Iterator[str]:
    """Ratios that lie further apart than :data:`MOST`, in words."""
    before = dict(_ratios(first))
    for place, ratio in _ratios(second):
        old = before.get(place)
        if old and ratio and abs(ratio / old - 1) > MOST and abs(old / ratio - 1) > MOST:
            yield f"{' / '.join(place)}: {old:.2f}, then {ratio:.2f}"


def _ratios(results: Mapping[str, Result]) -> Iterator[tuple[tuple[str, ...], float]]:
    for name, result in results.items():
        for section in result.body.sections:
            for row in section.rows:
                for column, value in zip(section.columns, row.cells, strict=True):
                    if column.unit == RATIO and value.value is not None:
                        yield (name, section.title, row.name, column.name), value.value
