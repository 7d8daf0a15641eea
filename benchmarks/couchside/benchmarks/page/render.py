"""Report in, HTML out: one file that needs no network, no script and no other file."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from couchside.benchmarks.page import words
from couchside.benchmarks.page.charts import axis
from couchside.benchmarks.page.posters import poster
from couchside.device.records import RowCode

if TYPE_CHECKING:
    from couchside.benchmarks.page.charts import Axis
    from couchside.benchmarks.page.report import DemoReport, Scene, ShownCard, ShownShelf

FOLDER = Path(__file__).parent
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
        signed=words.signed,
    )
    environment.globals.update(
        poster=poster,
        heading=words.heading,
        reason=words.reason,
        because=words.because,
        scene_words=words.scene,
        times=words.times,
        landscape=LANDSCAPE,
    )
    return environment.get_template("page.html.j2").render(_context(report))


def _context(report: DemoReport) -> dict[str, Any]:
    shelves = (*report.after, report.before)
    return {
        "report": report,
        "shelves": shelves,
        "features": [_feature(shelf) for shelf in shelves],
        "evening": _evening_axis(report.scenes),
        "viewers": list(dict.fromkeys(scene.viewer for scene in report.scenes)),
        "hours": _whole_hours(report),
        "bytes_axis": axis([size.models for size in report.sizes]),
        "gain_axis": axis(
            [end for q in report.qualities for end in (q.over_popularity.low, q.over_popularity.high)]
        ),
        "shipped_size": next((size for size in report.sizes if size.runs), None),
        "shipped_quality": next((quality for quality in report.qualities if quality.runs), None),
        "total_s": sum(part.seconds for part in report.parts),
        "now": datetime.fromtimestamp(report.made_at, UTC),
    }
