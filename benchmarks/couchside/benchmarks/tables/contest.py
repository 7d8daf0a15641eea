"""The same work done by several contenders, turn by turn in one process.

An absolute time ages with the machine; a ratio to something that everybody has stays readable. The
contenders take turns of a few milliseconds, so that a neighbour on the machine slows all of them
alike; what counts is CPU time, and a ratio is taken within a round. Whoever calls compares answers
first: a fast wrong answer is no contender.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from couchside.benchmarks.timing.stopwatch import no_collections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROUNDS = 9
TURN_NS = 25_000_000
"""CPU time of a turn: long beside the clock, short beside the moods of a shared machine."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How one contender did."""

    contender: str
    cpu_ms: float
    """Median over the rounds of the CPU time of one call."""
    ratio: float
    """Median over the rounds of peer / contender: above 1 it needs less than the peer."""
    ratio_low: float
    ratio_high: float
    """Lowest and highest round but one, of nine or more: one disturbed round is no interval."""


def contest(
    contenders: Mapping[str, Callable[[], object]],
    *,
    rounds: int = ROUNDS,
    turn_ns: int = TURN_NS,
    before: Callable[[], object] | None = None,
    clock: Callable[[], int] = time.process_time_ns,
) -> Iterator[Standing]:
    """Let the contenders take turns; the first is the peer that the others are compared with.

    Args:
        contenders: a call of each, by name.
        rounds: turns of each.
        turn_ns: shortest turn.
        before: called before every single call, off the clock: to empty caches, say.
        clock: nanoseconds; the CPU time of all threads of this process.
    """
    for run in contenders.values():
        run()
    with no_collections():
        table = [
            {name: _turn(run, turn_ns, before, clock) for name, run in contenders.items()}
            for _ in range(rounds)
        ]
    peer = next(iter(contenders))
    for name in contenders:
        ratios = sorted(row[peer] / row[name] for row in table)
        outer = 1 if len(ratios) >= ROUNDS else 0
        yield Standing(
            contender=name,
            cpu_ms=statistics.median(row[name] for row in table) / 1e6,
            ratio=statistics.median(ratios),
            ratio_low=ratios[outer],
            ratio_high=ratios[-1 - outer],
        )


def _turn(
    run: Callable[[], object],
    turn_ns: int,
    before: Callable[[], object] | None,
    clock: Callable[[], int],
) -> float:
    """Nanoseconds a call."""
    calls, took = 0, 0
    if before is None:
        began = clock()
        while (took := clock() - began) < turn_ns:
            run()
            calls += 1
        return took / calls
    while took < turn_ns:
        before()
        began = clock()
        run()
        took += clock() - began
        calls += 1
    return took / calls
