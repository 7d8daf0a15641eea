"""The flags of ``benchmark_latency``, and what they mean; refused here if they can't mean anything.

Names and meanings are trtexec's and MLPerf's where those have one. No numpy here, see ``choice``.
"""

from __future__ import annotations

import argparse
import math
import os
import re
from pathlib import Path
from typing import Any

from couchside.benchmarks.command import Parser
from couchside.benchmarks.errors import UsageError
from couchside.benchmarks.machine.clocks import parse_celsius
from couchside.benchmarks.machine.power import SOURCES
from couchside.benchmarks.timing.choice import (
    BACKENDS,
    GRAPHS,
    MLPERF_PERCENT,
    MLPERF_QUERIES,
    MLPERF_S,
    MODES,
    SCENARIOS,
    Choice,
    Conditions,
    Outputs,
    Plan,
)

MOST_THREADS = 256
MOST_CANDIDATES = 10_000_000
"""Titles: with d = 64 as float32 that many take 2.6 GB."""


def parser(program: str) -> argparse.ArgumentParser:
    """The command line."""
    built = Parser(
        prog=program,
        description="Time one answer of a model, after checking that it is the right one.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    built.add_argument("artefact", type=Path, help="a Bundle's folder, or a .tflite or .onnx file")
    _what(built.add_argument_group("what is run"))
    _how_long(built.add_argument_group("for how long"))
    _machine(built.add_argument_group("the machine"))
    _judged(built.add_argument_group("what is made of it"))
    return built


def _what(group: argparse._ArgumentGroup) -> None:
    add, choice = group.add_argument, Choice()
    add("--scenario", choices=SCENARIOS, default=choice.scenario, help="see the manual")
    add("--graph", choices=GRAPHS, help="of a Bundle; user_model if not given")
    add("--backend", choices=BACKENDS, default=choice.backend, help="auto: what the file is for")
    add("--threads", type=int, default=choice.threads, help="of the inference runtime")
    add("--batch", type=int, default=choice.batch, help="titles, or rows, in one query")
    add("--streams", type=int, default=choice.streams,
        help="independent callers, each with one query in flight")  # fmt: skip
    add("--candidates", metavar="N,N,…",
        help="titles that rank scores; the Bundle's whole table if not given")  # fmt: skip
    add("--history", type=int, help="steps of the invented history; as many as are read")
    add("--k", type=int, default=choice.k, help="titles that rank picks")
    add("--seed", type=int, default=choice.seed, help="of invented inputs")


def _how_long(group: argparse._ArgumentGroup) -> None:
    add, plan = group.add_argument, Plan()
    add("--warmup-ms", type=float, default=plan.warmup_ms, help="fewest ms of untimed runs")
    add("--warmup-iters", type=int, default=plan.warmup_iters, help="fewest untimed runs")
    add("--iterations", type=int, default=plan.iterations, help="fewest timed runs")
    add("--duration", type=float, default=plan.duration_s, help="fewest seconds of timed runs")
    add("--mlperf", action="store_true",
        help="at least 1024 runs and 60 s; the 90th percentile is the result")  # fmt: skip
    add("--mode", choices=MODES, default=MODES[0], help="the next query when the last is done")
    add("--repeat", type=int, default=plan.repeat, help="measure everything so often, in turns")
    add("--idle-ms", type=float, default=plan.idle_ms, help="rest before each timed run")
    add("--spin-wait", action="store_true", help="rest by looking at the clock, not asleep")
    add("--percentiles", default=",".join(f"{p:g}" for p in plan.percentiles),
        help="with commas; ten runs must lie at or beyond each")  # fmt: skip


def _machine(group: argparse._ArgumentGroup) -> None:
    add, usual = group.add_argument, Conditions()
    add("--cpu-affinity", metavar="0-3,5", help="run on these cores only")
    add("--settle", type=float, default=usual.settle_s, metavar="S",
        help="seconds of rest between loading and timing")  # fmt: skip
    add("--cooldown-until", metavar="55C", help="wait for this before each measurement")
    add("--require-mode", metavar="MODE", help="power mode that must be on: MAXN, 15W or its id")
    add("--require-locked-clocks", action="store_true", help="as jetson_clocks locks them")
    add("--fail-on-throttle", action="store_true",
        help="invalid unless the throttle verdict is clean")  # fmt: skip
    add("--fail-on-noise", metavar="5%",
        help="invalid if more of the time went by waiting for a core")  # fmt: skip
    add("--power", choices=SOURCES, default=usual.power, help="where watts are read")
    add("--power-hz", type=float, default=usual.power_hz, help="readings a second")
    add("--baseline-idle", type=float, default=usual.baseline_idle_s, metavar="S",
        help="seconds of rest in which the idle power is measured, if a meter is read")  # fmt: skip
    add("--sysfs-root", type=Path, default=Path("/"), metavar="DIR",
        help="read the board's files below it")  # fmt: skip


def _judged(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--slo", metavar="p99=50ms,…", help="limits; exit 2 if one is missed")
    add("--compare", type=Path, metavar="FILE", help="an earlier --json of the same measurement")
    add("--max-regression", metavar="5%", help="how much slower is too slow; 5%% if not given")
    add("--compare-anyway", action="store_true", help="though scenario or board differ")
    add("--json", metavar="FILE", help="write everything there; - is standard output")
    add("--export-times", metavar="FILE", help="write the time of every run")
    add("--csv", metavar="FILE", help="write a line for each case")
    add("--markdown", metavar="FILE", help="write a table with what it was measured on")


def read_choice(options: argparse.Namespace) -> Choice:
    """What to run.

    Raises:
        UsageError: a number is out of its range.
    """
    if not 1 <= options.threads <= MOST_THREADS:
        raise UsageError(f"--threads must be from 1 to {MOST_THREADS}")
    for flag in ("k", "batch", "streams"):
        _at_least(options, flag, 1)
    _at_least(options, "seed", 0)
    if options.history is not None:
        _at_least(options, "history", 1)
    return Choice(
        scenario=options.scenario,
        graph=options.graph,
        backend=options.backend,
        threads=options.threads,
        batch=options.batch,
        streams=options.streams,
        candidates=_candidates(options.candidates),
        history=options.history,
        k=options.k,
        seed=options.seed,
    )


def read_plan(options: argparse.Namespace, percentiles: tuple[float, ...]) -> Plan:
    """For how long; ``--mlperf`` raises what is below its minimums.

    Raises:
        UsageError: a number is out of its range, or flags contradict each other.
    """
    for flag in ("iterations", "repeat"):
        _at_least(options, flag, 1)
    _at_least(options, "warmup_iters", 0)
    for flag in ("warmup_ms", "duration", "idle_ms"):
        _not_negative(options, flag)
    if options.spin_wait and not options.idle_ms:
        raise UsageError("--spin-wait is a way to rest: it needs --idle-ms")
    iterations, duration = options.iterations, options.duration
    if options.mlperf:
        if (options.streams, options.batch) != (1, 1):
            raise UsageError("--mlperf is SingleStream: leave out --streams and --batch")
        iterations, duration = max(iterations, MLPERF_QUERIES), max(duration, MLPERF_S)
        percentiles = tuple(sorted({*percentiles, MLPERF_PERCENT}))
    return Plan(
        warmup_ms=options.warmup_ms,
        warmup_iters=options.warmup_iters,
        iterations=iterations,
        duration_s=duration,
        percentiles=percentiles,
        idle_ms=options.idle_ms,
        spin_wait=options.spin_wait,
        repeat=options.repeat,
        mlperf=options.mlperf,
    )


def read_conditions(options: argparse.Namespace) -> Conditions:
    """What the machine must be like.

    Raises:
        UsageError: a number is out of its range, or this machine has no such core.
    """
    for flag in ("settle", "baseline_idle"):
        _not_negative(options, flag)
    if not 0 < options.power_hz <= 1000:
        raise UsageError("--power-hz must lie above 0 and be at most 1000")
    if not options.sysfs_root.is_dir():
        raise UsageError(f"--sysfs-root {options.sysfs_root}: no such folder")
    cooldown, noise = options.cooldown_until, options.fail_on_noise
    return Conditions(
        cores=_cores(options.cpu_affinity),
        settle_s=options.settle,
        cooldown_c=None if cooldown is None else parse_celsius(cooldown),
        mode=options.require_mode,
        locked_clocks=options.require_locked_clocks,
        fail_on_throttle=options.fail_on_throttle,
        most_waiting=None if noise is None else percent("--fail-on-noise", noise) / 100,
        power=options.power,
        power_hz=options.power_hz,
        baseline_idle_s=options.baseline_idle,
    )


def read_outputs(options: argparse.Namespace) -> Outputs:
    """Where results go."""
    return Outputs(options.json, options.export_times, options.csv, options.markdown)


def read_max_regression(options: argparse.Namespace) -> float:
    """The share by which a time may grow.

    Raises:
        UsageError: it is no percentage, or there is nothing to compare with.
    """
    if options.compare is None and (options.max_regression is not None or options.compare_anyway):
        raise UsageError("--max-regression and --compare-anyway need --compare FILE")
    return percent("--max-regression", options.max_regression or "5%") / 100


def percent(flag: str, text: str) -> float:
    """The number in "5%" or "5", which is 0 or more.

    Raises:
        UsageError: it is something else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%?", text.strip())
    if found is None:
        raise UsageError(f"{flag} {text}: a number and %, please")
    return float(found[1])


def _at_least(options: argparse.Namespace, flag: str, least: int) -> None:
    if getattr(options, flag) < least:
        wanted = "must not be negative" if not least else f"must be at least {least}"
        raise UsageError(f"{_spelled(flag)} {wanted}")


def _not_negative(options: argparse.Namespace, flag: str) -> None:
    value: Any = getattr(options, flag)
    # Written so that NaN is refused as well.
    if not 0 <= value < math.inf:
        raise UsageError(f"{_spelled(flag)} must be 0 or more")


def _spelled(flag: str) -> str:
    return f"--{flag.replace('_', '-')}"


def _candidates(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,8}", word) for word in words):
        raise UsageError(f"--candidates {text}: whole numbers with commas between, please")
    counts = tuple(int(word) for word in words)
    if not all(1 <= count <= MOST_CANDIDATES for count in counts):
        raise UsageError(f"--candidates {text}: each must be from 1 to {MOST_CANDIDATES:,}")
    if len(set(counts)) < len(counts):
        raise UsageError(f"--candidates {text}: one of them appears twice")
    return counts


def _cores(text: str | None) -> frozenset[int] | None:
    """Cores of a list such as ``0-3,5``, as taskset(1) takes it."""
    if text is None:
        return None
    cores: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", part)
        if found is None or int(found[1]) > int(found[2] or found[1]):
            raise UsageError(f"--cpu-affinity {text}: cores such as 0-3,5, please")
        cores.update(range(int(found[1]), int(found[2] or found[1]) + 1))
    missing = cores - usable_cores()
    if missing:
        raise UsageError(
            f"--cpu-affinity {text}: this process may not use core "
            f"{', '.join(map(str, sorted(missing)))}; it has {_named(usable_cores())}"
        )
    return frozenset(cores)


def usable_cores() -> frozenset[int]:
    """Cores that this process may run on."""
    return frozenset(os.sched_getaffinity(0))


def _named(cores: frozenset[int]) -> str:
    return f"{'core' if len(cores) == 1 else 'cores'} {', '.join(map(str, sorted(cores)))}"
