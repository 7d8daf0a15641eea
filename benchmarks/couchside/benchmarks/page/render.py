"""Report in, HTML out: one file that needs no network, no script and no other file."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from couchside.benchmarks.page import words
from couchside.benchmarks.page.charts import Axis, axis
from couchside.benchmarks.page.posters import poster
from couchside.device.records import RowCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from couchside.benchmarks.page.report import (
        DemoReport,
        Scene,
        ShownCard,
        ShownRow,
        ShownShelf,
    )

FOLDER = Path(__file__).parent
HOUR = 3600.0
LANDSCAPE = (RowCode.CONTINUE_WATCHING, RowCode.LIVE_NOW)
"""Rows whose cards are stills in the wide format, as players show them."""


def render(report: DemoReport) -> str:
    """The page as a whole."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        clock=partial(words.clock, utc_offset_h=report.utc_offset_h),
        day=words.day,
        span=words.span,
        size=words.size,
        change=words.change,
        percent=words.percent,
    )
    return environment.get_template("page.html.j2").render(_context(report))


def _context(report: DemoReport) -> dict[str, Any]:
    gains = [quality.over_popularity for quality in report.qualities]
    return {
        "report": report,
        "words": words,
        "poster": poster,
        "landscape": LANDSCAPE,
        "shelves": (report.before, *report.after),
        "chosen": min(1, len(report.after)),
        "featured": featured,
        "evening": _evening_axis(report.scenes, report.utc_offset_h),
        "viewers": list(dict.fromkeys(scene.viewer for scene in report.scenes)),
        "bytes_axis": axis([size.models for size in report.sizes]),
        "gain_axis": axis([end for gain in gains for end in (gain.low, gain.high)]),
        "shipped_size": next((size for size in report.sizes if size.runs), None),
        "shipped_quality": next((quality for quality in report.qualities if quality.runs), None),
        "total_s": sum(part.seconds for part in report.parts),
    }


def featured(shelf: ShownShelf) -> tuple[ShownRow, ShownCard] | None:
    """The card that the shelf opens with: the best for this viewer, else the first there is."""
    rows = [row for row in shelf.rows if row.cards]
    best = [row for row in rows if row.code is RowCode.FOR_YOU] or rows
    return (best[0], best[0].cards[0]) if best else None


def _evening_axis(scenes: Sequence[Scene], utc_offset_h: float) -> Axis:
    """From the first scene to the end of the last, with the full hours of the household's clock."""
    if not scenes:
        return Axis(0.0, 1.0, ())
    low = min(scene.began_at for scene in scenes)
    high = max(scene.ended_at for scene in scenes)
    shift = utc_offset_h * HOUR
    first, last = math.ceil((low + shift) / HOUR), math.floor((high + shift) / HOUR)
    return Axis(low, high, tuple(hour * HOUR - shift for hour in range(first, last + 1)))
