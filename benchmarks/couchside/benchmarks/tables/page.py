"""The generated page ``benchmarks/README.md``: machine first, caveats beside the numbers.

    python -m couchside.benchmarks.bench page

It holds what the documents in ``benchmarks/results`` say and nothing else; a test compares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from couchside.benchmarks.tables import charts, render
from couchside.benchmarks.tables.catalogue import TABLES
from couchside.benchmarks.tables.results import read_promises_report, read_results

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from couchside.benchmarks.promises.report import PromisesReport
    from couchside.benchmarks.tables.table import Result

FOREWORD = """\
# Benchmarks

What Couchside costs, and what others cost that do the same work. **This page is generated** by
`python -m couchside.benchmarks.bench page` from the documents in [results/](results); whoever
doubts a number repeats it with the command beside it.

- `benchmark_latency BUNDLE`: how long does one answer of this model take on *your* board, and is it
  the right answer? [How to use it](../docs/benchmark_latency.md); [on a Jetson](../docs/jetson.md).
- `make bench`: is every promise kept on this machine, and how do we stand against others? In ten
  minutes. [How it measures](../docs/benchmarks.md).
- `make bench-full`: the same without haste; it wrote this page.

**How to read it.** CPU-bound figures are CPU time on one thread, as the machine is shared; what is
compared took turns in one run, so trust ratios before times. Brackets hold the lowest and the
highest round or run, or a 95 % interval where the text says so. Our rows are bold. Where we lose,
the table shows it. Nothing here was measured on an ARM board: for that, run `benchmark_latency`.
"""
GENERATED = "\n<!-- Generated: change the results or page.py, not this file. -->\n"


def write_page(results: Path, page: Path) -> None:
    """Write the page, and the pictures beside the results.

    Raises:
        UsageError: a result is damaged, or matplotlib is missing.
    """
    found = read_results(results)
    pictures: dict[str, list[str]] = {}
    for name, result in found.items():
        for place, section in enumerate(result.body.sections):
            file = results / f"{name}-{place + 1}.svg"
            drawn = charts.draw(section, file)
            pictures.setdefault(name, []).append(f"{results.name}/{file.name}" if drawn else "")
    page.write_text(page_text(found, read_promises_report(results), pictures), encoding="utf-8")


def page_text(
    results: Mapping[str, Result],
    promises: PromisesReport | None,
    pictures: Mapping[str, list[str]],
) -> str:
    """The page as Markdown."""
    return "\n".join(_lines(results, promises, pictures)) + "\n"


def _lines(
    results: Mapping[str, Result],
    promises: PromisesReport | None,
    pictures: Mapping[str, list[str]],
) -> Iterator[str]:
    yield FOREWORD.rstrip("\n")
    yield GENERATED.rstrip("\n")
    if promises is not None:
        yield ""
        yield "## Promises"
        yield ""
        yield from render.promises(promises)
    for table in TABLES:
        result = results.get(table.name)
        if result is not None:
            yield ""
            yield f"## {result.title}"
            yield ""
            yield from render.table(result, pictures.get(table.name, ()))
