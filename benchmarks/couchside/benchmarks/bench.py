"""Every promise beside what was measured, and every table beside its peers.

    python -m couchside.benchmarks.bench run BUNDLES_DIR --size quick --out DIR [TABLE …]
    python -m couchside.benchmarks.bench page          # benchmarks/README.md from its results
    python -m couchside.benchmarks.bench agree A B     # do two runs say the same?

``run`` goes on where it was killed. Its exit status is 2 if a promise is clearly missed.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import couchside.benchmarks
from couchside.benchmarks.command import Parser, run_command
from couchside.benchmarks.errors import ExitCode, InvalidRunError, UsageError
from couchside.benchmarks.machine.board import read_board
from couchside.benchmarks.promises.budgets import Verdict, judge, read_promises
from couchside.benchmarks.promises.measure import measure_tv
from couchside.benchmarks.promises.report import PromisesReport
from couchside.benchmarks.tables import agree, render
from couchside.benchmarks.tables.bench import Bench
from couchside.benchmarks.tables.catalogue import TABLES
from couchside.benchmarks.tables.page import write_page
from couchside.benchmarks.tables.quotes import DOCUMENTS, Sources
from couchside.benchmarks.tables.results import read_promises_report, read_results, write_result
from couchside.benchmarks.tables.table import Result

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from couchside.benchmarks.tables.table import Table
    from couchside.device.bundle import Bundle

PROMISES = "promises"
NAMES = (PROMISES, *(table.name for table in TABLES))
ROOT = Path("/")
RESULTS, PAGE = Path("benchmarks/results"), Path("benchmarks/README.md")
"""Within a checkout."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status."""
    options = _parser().parse_args(arguments)
    return run_command("bench", lambda: options.run(options))


def _measure(options: argparse.Namespace) -> ExitCode:
    if options.runs < 1:
        raise UsageError("--runs must be at least 1")
    unknown = sorted(set(options.tables) - set(NAMES))
    if unknown:
        raise UsageError(f"no table {unknown[0]!r}; there are {', '.join(NAMES)}")
    bench = Bench(
        size=options.size,
        bundles_folder=options.bundles,
        work=options.work,
        fingerprint="",
        peers=not options.without_peers,
    )
    bundles = bench.bundles()
    bench = replace(bench, fingerprint=_fingerprint(bundles, options.size))
    wanted = options.tables or list(NAMES)
    for table in TABLES:
        if table.name in wanted:
            _tabulate(bench, table, options.out, bundles)
    if PROMISES not in wanted:
        return ExitCode.OK
    report = _promise(bench, bundles, options.runs, options.out)
    missed = any(line.verdict is Verdict.MISS for line in report.promises)
    return ExitCode.MISSED if missed else ExitCode.OK


def _tabulate(bench: Bench, table: Table, out: Path, bundles: dict[str, Bundle]) -> None:
    bench.tell(f"table {table.name}: {table.question}")
    began = time.monotonic()
    body = table.run(bench)
    result = Result(
        table=table.name,
        title=table.title,
        question=table.question,
        command=_command(bench, table.name),
        size=bench.size,
        made_at=_now(),
        took_s=round(time.monotonic() - began, 1),
        commit=_commit(),
        bundle_id=_one_bundle(bundles).bundle_id,
        board=read_board(ROOT),
        body=body,
    )
    write_result(out, result)
    _print((f"\n## {result.title}\n", *render.table(result)))


def _promise(bench: Bench, bundles: dict[str, Bundle], runs: int, out: Path) -> PromisesReport:
    promises = read_promises()
    flavour = promises.conditions.flavour
    bundle = bundles.get(flavour)
    if bundle is None:
        raise UsageError(f"{bench.bundles_folder}: the promises are about {flavour}, not there")
    measured = measure_tv(bench, bundle, promises.conditions, runs)
    for result in read_results(out).values():
        measured |= result.body.promised
    recipe = bundle.manifest.recipe
    report = PromisesReport(
        bundle_id=bundle.bundle_id,
        version=bundle.version,
        recipe=recipe,
        conditions=promises.conditions,
        runs=runs,
        command=_command(bench, PROMISES),
        made_at=_now(),
        commit=_commit(),
        promises=tuple(judge(promises.budget, measured, recipe=recipe)),
        measured=measured,
        board=read_board(ROOT),
    )
    write_result(out, report)
    _print(("\n## Promises\n", *render.promises(report)))
    return report


def _page(options: argparse.Namespace) -> ExitCode:
    folder = options.checkout / RESULTS
    write_page(folder, options.checkout / PAGE)
    sources = Sources(read_results(folder), read_promises_report(folder))
    for name in DOCUMENTS:
        document = options.checkout / name
        text = document.read_text(encoding="utf-8")
        document.write_text(sources.fill(text), encoding="utf-8")
    return ExitCode.OK


def _agree(options: argparse.Namespace) -> ExitCode:
    reports = [read_promises_report(folder) for folder in (options.first, options.second)]
    first, second = reports
    if first is None or second is None:
        raise UsageError("both folders need a promises.json")
    bad = [
        *agree.contradictions(first, second),
        *agree.apart(read_results(options.first), read_results(options.second)),
    ]
    if bad:
        raise InvalidRunError("the two runs disagree:\n  " + "\n  ".join(bad))
    _print(("the two runs agree",))
    return ExitCode.OK


def _print(lines: Sequence[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


def _command(bench: Bench, name: str) -> str:
    """What repeats it, with the folder as ``make bench`` names it."""
    return f"python -m couchside.benchmarks.bench run BUNDLES --size {bench.size} {name}"


def _one_bundle(bundles: dict[str, Bundle]) -> Bundle:
    return bundles.get(read_promises().conditions.flavour) or next(iter(bundles.values()))


def _fingerprint(bundles: dict[str, Bundle], size: str) -> str:
    """Of everything that a unit's value depends on: our code, the Bundles, and the size."""
    digest = hashlib.sha256(size.encode())
    for portion in sorted(couchside.__path__):
        for file in sorted(Path(portion).rglob("*.py")):
            digest.update(file.read_bytes())
    for bundle in bundles.values():
        digest.update(bundle.bundle_id.encode())
    return digest.hexdigest()


def _commit() -> str | None:
    """Of the checkout that this code lies in; None where there is none."""
    git = ["git", "-C", couchside.benchmarks.__path__[0]]
    try:
        described = subprocess.run(
            [*git, "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _parser() -> Parser:
    parser = Parser(prog="bench", description="Promises and tables, measured.")
    commands = parser.add_subparsers(required=True, parser_class=Parser)
    run = commands.add_parser("run", help="measure; a killed run goes on where it was")
    run.set_defaults(run=_measure)
    add = run.add_argument
    add("bundles", type=Path, metavar="BUNDLES", help="a folder with a Bundle a flavour")
    add("tables", nargs="*", metavar="TABLE", help=f"leave out for all: {', '.join(NAMES)}")
    add("--size", choices=("quick", "full"), default="quick", help="ten minutes, or without haste")
    add(
        "--out", type=Path, default=Path("build/bench/results"), help="folder of the JSON documents"
    )
    add("--work", type=Path, default=Path("build/bench"), help="folder for units and peers")
    add("--runs", type=int, default=3, help="new TVs that the promises are measured on")
    add("--without-peers", action="store_true", help="install and ask nobody else's software")
    page = commands.add_parser("page", help="generate the page, and the numbers in the documents")
    page.set_defaults(run=_page)
    page.add_argument("--checkout", type=Path, default=Path(), help="where the documents are")
    both = commands.add_parser("agree", help="do two runs say the same?")
    both.set_defaults(run=_agree)
    both.add_argument("first", type=Path, metavar="RESULTS")
    both.add_argument("second", type=Path, metavar="RESULTS")
    return parser


if __name__ == "__main__":
    sys.exit(main())
