"""Bars for people who would rather look: one SVG a section that names a column to draw.

The pictures are deterministic, so that a result that did not change leaves no trace in git.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from couchside.benchmarks.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from couchside.benchmarks.tables.table import Section

OURS, OTHERS = "#2563a8", "#9aa5b1"
WIDE = 20.0
"""A largest bar more than this many times the smallest needs a logarithmic axis."""


def draw(section: Section, file: Path) -> bool:
    """Draw the section's chart into ``file``; False if it has none or nothing to draw.

    Raises:
        UsageError: matplotlib is not installed.
    """
    place = next((i for i, c in enumerate(section.columns) if c.name == section.chart), None)
    if place is None:
        return False
    bars = [
        (row.name, row.cells[place].value or 0.0, row.ours)
        for row in section.rows
        if row.cells[place].value is not None
    ]
    if len(bars) < 2:
        return False
    column = section.columns[place]
    title = f"{column.name} ({column.unit})" if column.unit else column.name
    hint = {"less": ", less is better", "more": ", more is better", "": ""}[column.better]
    _bars(bars, title + hint, file)
    return True


def _bars(bars: list[tuple[str, float, bool]], title: str, file: Path) -> None:
    try:
        import matplotlib as mpl  # noqa: PLC0415 - a second, and only for the page
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            "the page's charts need matplotlib: pip install 'couchside[dev]'"
        ) from error
    mpl.rcParams.update({"svg.hashsalt": "couchside", "svg.fonttype": "none", "font.size": 9})
    figure = Figure(figsize=(8, 0.6 + 0.3 * len(bars)), layout="constrained")
    axes = figure.add_subplot()
    names, values, ours = zip(*reversed(bars), strict=True)
    axes.barh(range(len(bars)), values, color=[OURS if own else OTHERS for own in ours])
    axes.set_yticks(range(len(bars)), names)
    positive = [value for value in values if value > 0]
    if len(positive) == len(values) and max(values) > WIDE * min(values):
        axes.set_xscale("log")
        title += ", logarithmic"
    axes.set_xlabel(title)
    axes.spines[["top", "right"]].set_visible(False)
    # matplotlib writes the date into an SVG unless told not to.
    figure.savefig(file, metadata={"Date": None, "Creator": "couchside.benchmarks"})
