"""``benchmark_latency``: how long one answer of a model takes on this board, and is it true?

Conventions are those that people with a Jetson know: warm-up, iterations and duration as trtexec
(both minimums must be met), percentiles by nearest rank and one query in flight as MLPerf's
single-stream scenario. Answers are compared with golden vectors before anything is timed.
The manual is docs/benchmark_latency.md.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from couchside.benchmarks.command import run_command
from couchside.benchmarks.errors import ExitCode
from couchside.benchmarks.timing import flags
from couchside.device.process import limit_blas_threads

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from couchside.benchmarks.timing.preflight import Asked
    from couchside.benchmarks.timing.report import LatencyReport

PROGRAM = "benchmark_latency"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``benchmark_latency``; the exit status."""
    return run_command(PROGRAM, lambda: _run(_parser().parse_args(arguments)))


def _parser() -> argparse.ArgumentParser:
    return flags.parser(PROGRAM)


def _run(options: argparse.Namespace) -> ExitCode:
    conditions = flags.read_conditions(options)
    if conditions.cores is not None:
        # Before any thread is started: each inherits it.
        os.sched_setaffinity(0, conditions.cores)
    limit_blas_threads()
    # Only now: numpy reads the number of threads when it is imported.
    from couchside.benchmarks.timing.line import human_lines  # noqa: PLC0415
    from couchside.benchmarks.timing.outputs import check_outputs, write_outputs  # noqa: PLC0415
    from couchside.benchmarks.timing.session import run_session  # noqa: PLC0415

    outputs = flags.read_outputs(options)
    asked = _asked(options)
    check_outputs(outputs)
    report, times = run_session(asked, _tell)
    # A document has standard output to itself where it goes there. People's lines come first: they
    # are left if the disk is full.
    stream = sys.stderr if "-" in outputs.by_flag.values() else sys.stdout
    stream.write("\n".join(human_lines(report)) + "\n")
    stream.flush()
    write_outputs(outputs, report, times)
    return exit_code(report)


def _asked(options: argparse.Namespace) -> Asked:
    from couchside.benchmarks.timing.compare import read_baseline  # noqa: PLC0415
    from couchside.benchmarks.timing.percentiles import parse_percentiles  # noqa: PLC0415
    from couchside.benchmarks.timing.preflight import Asked  # noqa: PLC0415
    from couchside.benchmarks.timing.slo import parse_slo  # noqa: PLC0415

    goals = parse_slo(options.slo)
    wanted = {goal.percent for goal in goals if goal.percent is not None}
    percentiles = parse_percentiles(options.percentiles)
    if wanted - {*percentiles}:
        percentiles = tuple(sorted({*percentiles, *wanted}))
    most = flags.read_max_regression(options)
    return Asked(
        path=options.artefact,
        choice=flags.read_choice(options),
        plan=flags.read_plan(options, percentiles),
        conditions=flags.read_conditions(options),
        goals=goals,
        baseline=None if options.compare is None else read_baseline(options.compare),
        most_regression=most,
        compare_anyway=options.compare_anyway,
        root=options.sysfs_root,
    )


def exit_code(report: LatencyReport) -> ExitCode:
    """What the command ends with; numbers that may not be quoted miss nothing."""
    if not report.validity.valid:
        return ExitCode.INVALID
    slower = report.comparison is not None and report.comparison.verdict == "regression"
    missed = any(one.verdict == "missed" for one in report.slo)
    return ExitCode.MISSED if slower or missed else ExitCode.OK


def _tell(what: str) -> None:
    sys.stderr.write(f"{PROGRAM}: {what}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
