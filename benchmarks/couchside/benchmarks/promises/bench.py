"""``make bench``: every promise beside what a real TV needs, and ratios to named peers.

    python -m couchside.benchmarks.promises.bench BUNDLES_DIR --json OUT

The exit status is 2 if a promise is clearly missed, and 0 if all are kept or unclear.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from couchside.benchmarks.board import read_board
from couchside.benchmarks.command import Parser, run_command
from couchside.benchmarks.document import check_target, to_document, write_document
from couchside.benchmarks.errors import ExitCode, UsageError
from couchside.benchmarks.lab import read_lab_report
from couchside.benchmarks.promises.budgets import Verdict, judge, read_promises
from couchside.benchmarks.promises.daemon_run import make_stock, run_day
from couchside.benchmarks.promises.learning_run import run_night
from couchside.benchmarks.promises.peers import run_contests
from couchside.benchmarks.promises.report import BenchReport, print_report
from couchside.benchmarks.tv.process import TvProcess
from couchside.device.bundle import MANIFEST, open_bundle

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from couchside.benchmarks.lab import LabReport
    from couchside.benchmarks.promises.budgets import Conditions
    from couchside.device.bundle import Bundle

QUALITY = "quality.json"
"""What the compression leaves beside the folder of Bundles."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status."""
    return run_command("bench", lambda: _run(_parser().parse_args(arguments)))


def _run(options: argparse.Namespace) -> ExitCode:
    if options.runs < 1:
        raise UsageError("--runs must be at least 1")
    check_target(options.json)
    report = _measure(options.bundles, runs=options.runs, peers=not options.without_peers)
    write_document(to_document("bench", report), options.json)
    # The document has standard output to itself where it goes there.
    print_report(report, sys.stderr if options.json == "-" else sys.stdout)
    missed = any(line.verdict is Verdict.MISS for line in report.promises)
    return ExitCode.MISSED if missed else ExitCode.OK


def _measure(folder: Path, *, runs: int, peers: bool) -> BenchReport:
    promises = read_promises()
    bundles = _open_bundles(folder)
    bundle = bundles.get(promises.conditions.flavour)
    if bundle is None:
        raise UsageError(
            f"{folder}: the promises are about {promises.conditions.flavour}, not there"
        )
    quality = _read_quality(folder.resolve().parent / QUALITY)
    measured = _run_days(bundle, promises.conditions, runs)
    gain = _gain(quality, bundle.flavour)
    if gain is not None:
        measured["gain_over_popularity"] = (gain,)
    if peers:
        _tell("ratios to peers")
    return BenchReport(
        bundle_id=bundle.bundle_id,
        version=bundle.version,
        recipe=bundle.manifest.recipe,
        conditions=promises.conditions,
        runs=runs,
        promises=tuple(judge(promises.budget, measured, recipe=bundle.manifest.recipe)),
        measured=measured,
        peers=tuple(run_contests(bundles)) if peers else (),
        quality=quality,
        board=read_board(Path("/")),
    )


def _open_bundles(folder: Path) -> dict[str, Bundle]:
    """Bundles by flavour.

    Raises:
        UsageError: there are none.
        BundleError: one is damaged.
    """
    paths = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
    if not paths:
        raise UsageError(f"{folder}: no Bundles there; make some with couchside-compress")
    return {bundle.flavour: bundle for bundle in map(open_bundle, paths)}


def _run_days(bundle: Bundle, conditions: Conditions, runs: int) -> dict[str, tuple[float, ...]]:
    """Each measurement's values, one a run; every run is a new TV."""
    now = time.time()
    stock = make_stock(conditions.titles, now=now)
    days = []
    for number in range(1, runs + 1):
        _tell(f"a TV's day, {number} of {runs}")
        folder = tempfile.TemporaryDirectory(prefix="couchside-")
        with folder as name, TvProcess(Path(name)) as tv:
            tv.install(bundle.path)
            day = run_day(tv, stock, rows=conditions.rows, now=now)
        _tell(f"a TV's night, {number} of {runs}")
        with tempfile.TemporaryDirectory(prefix="couchside-") as name:
            days.append(day | run_night(bundle, stock, Path(name), now=now))
    return {name: tuple(day[name] for day in days) for name in days[0]}


def _read_quality(file: Path) -> LabReport | None:
    """What the lab measured; None for Bundles that came without it."""
    return read_lab_report(file) if file.exists() else None


def _gain(quality: LabReport | None, flavour: str) -> float | None:
    """Lower bound of the shown ranking's gain over popularity, in per cent."""
    for row in quality.rows if quality else ():
        if row.name.startswith(f"{flavour},"):
            return 100.0 * row.over_popularity.low
    return None


def _tell(what: str) -> None:
    sys.stderr.write(f"bench: {what} …\n")


def _parser() -> Parser:
    parser = Parser(prog="bench", description="Every promise beside what was measured.")
    add = parser.add_argument
    add("bundles", type=Path, metavar="BUNDLES_DIR", help="a folder with a Bundle a flavour")
    add("--json", metavar="FILE", help="write everything there; - is standard output")
    add("--runs", type=int, default=3, help="repeated runs on new TVs (default: %(default)s)")
    add("--without-peers", action="store_true", help="leave out the ratios to other software")
    return parser


if __name__ == "__main__":
    sys.exit(main())
