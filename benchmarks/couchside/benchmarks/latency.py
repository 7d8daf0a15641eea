"""``benchmark_latency``: how long one answer of a model takes on this board, and is it true?

Conventions are those that people with a Jetson know: warm-up, iterations and duration as trtexec
(both minimums must be met), percentiles by nearest rank and one query in flight as MLPerf's
single-stream scenario. Answers are compared with golden vectors before anything is timed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from couchside.benchmarks.command import Parser, run_command
from couchside.benchmarks.document import check_target, to_document, write_document
from couchside.benchmarks.errors import ExitCode, UsageError
from couchside.benchmarks.timing.choice import BACKENDS, GRAPHS, SCENARIOS, Choice, Plan
from couchside.device.process import limit_blas_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = "benchmark_latency"
MOST_THREADS = 256


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``benchmark_latency``; the exit status."""
    return run_command(PROGRAM, lambda: _run(_parser().parse_args(arguments)))


def _run(options: argparse.Namespace) -> ExitCode:
    limit_blas_threads()
    # Only now: numpy reads the number of threads when it is imported.
    from couchside.benchmarks.timing.percentiles import parse_percentiles  # noqa: PLC0415
    from couchside.benchmarks.timing.report import human_line  # noqa: PLC0415
    from couchside.benchmarks.timing.session import run_session  # noqa: PLC0415

    percentiles = parse_percentiles(options.percentiles)
    choice, plan = _choice(options), _plan(options, percentiles)
    check_target(options.json)
    if not options.sysfs_root.is_dir():
        raise UsageError(f"--sysfs-root {options.sysfs_root}: no such folder")
    report = run_session(options.artefact, choice, plan, root=options.sysfs_root, tell=_tell)
    write_document(to_document("latency", report), options.json)
    # The document has standard output to itself where it goes there.
    stream = sys.stderr if options.json == "-" else sys.stdout
    stream.write(human_line(report) + "\n")
    return ExitCode.OK if report.validity.valid else ExitCode.INVALID


def _tell(what: str) -> None:
    sys.stderr.write(f"{PROGRAM}: {what}\n")
    sys.stderr.flush()


def _choice(options: argparse.Namespace) -> Choice:
    if not 1 <= options.threads <= MOST_THREADS:
        raise UsageError(f"--threads must be from 1 to {MOST_THREADS}")
    if options.k < 1:
        raise UsageError("--k must be at least 1")
    if options.seed < 0:
        raise UsageError("--seed must not be negative")
    return Choice(
        scenario=options.scenario,
        graph=options.graph,
        backend=options.backend,
        threads=options.threads,
        k=options.k,
        seed=options.seed,
    )


def _plan(options: argparse.Namespace, percentiles: tuple[float, ...]) -> Plan:
    if options.iterations < 1:
        raise UsageError("--iterations must be at least 1")
    for flag in ("warmup_ms", "duration"):
        # Written so that NaN is refused as well.
        if not 0 <= getattr(options, flag) < float("inf"):
            raise UsageError(f"--{flag.replace('_', '-')} must be 0 or more")
    return Plan(options.warmup_ms, options.iterations, options.duration, percentiles)


def _parser() -> argparse.ArgumentParser:
    choice, plan = Choice(), Plan()
    parser = Parser(
        prog=PROGRAM,
        description="Time one answer of a model, after checking that it is the right one.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("artefact", type=Path, help="a Bundle's folder, or a .tflite or .onnx file")
    add("--scenario", choices=SCENARIOS, default=choice.scenario,
        help="one graph, or history to the best k of the Bundle's whole table")  # fmt: skip
    add("--graph", choices=GRAPHS, help="of a Bundle; user_model if not given")
    add("--backend", choices=BACKENDS, default=choice.backend, help="auto: what the file is for")
    add("--threads", type=int, default=choice.threads, help="of the inference runtime")
    add("--k", type=int, default=choice.k, help="titles that rank picks")
    add("--seed", type=int, default=choice.seed, help="of invented inputs")
    add("--warmup-ms", type=float, default=plan.warmup_ms, help="runs before the clock starts")
    add("--iterations", type=int, default=plan.iterations, help="fewest timed runs")
    add("--duration", type=float, default=plan.duration_s, help="fewest seconds of timed runs")
    add("--percentiles", default=",".join(f"{p:g}" for p in plan.percentiles),
        help="with commas; ten runs must lie at or beyond each")  # fmt: skip
    add("--json", metavar="FILE", help="write everything there; - is standard output")
    add("--sysfs-root", type=Path, default=Path("/"), metavar="DIR",
        help="read the board's files below it")  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
