"""Promises as data, and the verdict on each: pass, miss, or unclear where the runs disagree.

Benchmarks run on shared machines, so one number proves little. What was measured is a *stretch*:
from the lowest run to the highest, and at least as wide as the budget's ``noise`` around the
median, which is how far two runs of the whole bench lie apart on one machine. A promise is kept or
missed only if the whole stretch says so; thus the bench never says pass today and miss tomorrow of
the same code. A time on the wall may also be missed because another process had the processor. Such
a promise names a *witness*, the same time less what others took: only if that misses the budget as
well is it a miss, else a quieter machine has to decide.
"""

from __future__ import annotations

import statistics
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import TYPE_CHECKING

from couchside.device import strict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FILE = "budgets.toml"


class Verdict(StrEnum):
    """What the runs say about a promise."""

    PASS = "pass"  # noqa: S105 - no password
    MISS = "miss"
    UNCLEAR = "unclear"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which the promises of the daemon hold."""

    flavour: str
    titles: int
    rows: int
    """Calls of ``rows`` before memory is looked at."""


@dataclass(frozen=True, slots=True)
class Budget:
    """One promise, with exactly one bound."""

    name: str
    what: str
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    noise: float = 0.0
    """Relative difference of two runs of the bench that means nothing; 0 for what is counted."""
    witness: str | None = None
    """Name of the measurement, same unit, that another process can't spoil."""
    recipe: str | None = None
    """Only Bundles of this recipe promise it."""

    def __post_init__(self) -> None:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError(f"budget {self.name!r} needs at_most or at_least, and not both")
        if not 0 <= self.noise < 1:
            raise ValueError(f"budget {self.name!r}: noise is {self.noise}, must be 0 … 1")

    @property
    def limit(self) -> float:
        """The bound."""
        return float(self.at_least if self.at_most is None else self.at_most)  # type: ignore[arg-type]

    def room(self, value: float) -> float:
        """What is left of the budget at ``value``; negative beyond it."""
        return value - self.limit if self.at_most is None else self.limit - value


@dataclass(frozen=True, slots=True)
class Promises:
    """``budgets.toml``."""

    conditions: Conditions
    budget: tuple[Budget, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A promise beside what was measured."""

    budget: Budget
    values: tuple[float, ...]
    """One a run."""
    left: float | None
    """Of the budget, at the median; None if nothing was measured."""
    verdict: Verdict

    @property
    def median(self) -> float | None:
        """Of the runs; None if there were none."""
        return statistics.median(self.values) if self.values else None


def read_promises() -> Promises:
    """The promises in this package.

    Raises:
        StrictError: the file has an unknown, missing or mistyped key.
    """
    text = (resources.files("couchside.benchmarks.promises") / FILE).read_text(encoding="utf-8")
    return parse_promises(text)


def parse_promises(text: str) -> Promises:
    """Promises as TOML text.

    Raises:
        StrictError: an unknown, missing or mistyped key.
        ValueError: not TOML, or a budget with no bound or two.
    """
    return strict.from_json(Promises, tomllib.loads(text))


def judge(
    budgets: Iterable[Budget], measured: Mapping[str, Sequence[float]], *, recipe: str
) -> list[Line]:
    """A line for each promise that holds for Bundles of ``recipe``, in their order."""
    return [
        _judge(budget, measured)
        for budget in budgets
        if budget.recipe is None or budget.recipe == recipe
    ]


def _judge(budget: Budget, measured: Mapping[str, Sequence[float]]) -> Line:
    values = tuple(measured.get(budget.name, ()))
    if not values:
        return Line(budget, (), None, Verdict.NOT_MEASURED)
    verdict = _agreement(budget, values)
    witness = measured.get(budget.witness or "", ())
    if verdict is Verdict.MISS and witness and _agreement(budget, witness) is not Verdict.MISS:
        verdict = Verdict.UNCLEAR
    return Line(budget, values, budget.room(statistics.median(values)), verdict)


def stretch(values: Sequence[float], noise: float) -> tuple[float, float]:
    """Lowest and highest value that the runs may stand for."""
    median = statistics.median(values)
    reach = abs(median) * noise
    return min(*values, median - reach), max(*values, median + reach)


def _agreement(budget: Budget, values: Sequence[float]) -> Verdict:
    kept = [budget.room(value) >= 0 for value in stretch(values, budget.noise)]
    if all(kept):
        return Verdict.PASS
    return Verdict.UNCLEAR if any(kept) else Verdict.MISS
