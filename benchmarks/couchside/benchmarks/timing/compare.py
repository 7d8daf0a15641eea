"""Is it slower than it was? Only a difference that is larger than the noise of both may say so.

What is compared are the median and the 99th percentile of each case. Each is uncertain by the wider
of two spans: its confidence interval within the runs, and from the lowest to the highest of the
repeated measurements. A regression is one that even the kindest reading of both spans leaves.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from couchside.benchmarks.document import SCHEMA
from couchside.benchmarks.errors import UsageError
from couchside.device import strict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

COMPARED = ("p50", "p99")
SAME_CONFIG = (
    "scenario",
    "graph",
    "backend",
    "threads",
    "batch",
    "streams",
    "history",
    "k",
    "idle_ms",
)
SAME_BOARD = ("model", "cpu", "architecture", "cores", "power_mode")
SAME_ARTEFACT = ("kind", "recipe", "flavour")
Verdict = Literal["regression", "unclear", "no regression"]


@dataclass(frozen=True, slots=True)
class Change:
    """One time of one case, then and now, in milliseconds."""

    case: str
    what: str
    before: float
    now: float
    ratio: float
    """now / before."""
    low: float
    """The kindest reading of both spans."""
    high: float
    """The least kind one."""
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """This measurement beside an earlier one."""

    baseline: str
    """Its file."""
    baseline_sha256: str
    """Of the artefact measured there."""
    differs: tuple[str, ...]
    """In what the two measurements differ although they should not."""
    most: float
    """Share by which a time may grow."""
    changes: tuple[Change, ...]
    verdict: Verdict
    note: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """An earlier document of ``--json``."""

    path: Path
    document: Mapping[str, Any]

    def differences(self, config: Any, board: Any, artefact: Any) -> tuple[str, ...]:
        """In what it differs from a measurement that is about to be made."""
        pairs = (
            ("config", config, SAME_CONFIG),
            ("board", board, SAME_BOARD),
            ("artefact", artefact, SAME_ARTEFACT),
        )
        found = []
        for part, record, names in pairs:
            now = strict.to_json(record)
            for name in names:
                then = self.document[part].get(name)
                if then != now[name]:
                    found.append(f"{part} {name} was {then!r}, is {now[name]!r}")
        return tuple(found)

    def in_both(self, cases: Sequence[str]) -> list[str]:
        """Names of the cases that it has, too.

        Raises:
            UsageError: it has none of them.
        """
        before = [case["name"] for case in self.document["cases"]]
        both = [name for name in cases if name in before]
        if not both:
            raise UsageError(
                f"--compare {self.path}: it has {', '.join(before)}, this run {', '.join(cases)}"
            )
        return both


def read_baseline(path: Path) -> Baseline:
    """Read an earlier document.

    Raises:
        UsageError: it is no document of benchmark_latency, or nothing in it may be quoted.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        kind = (document["schema"], document["kind"])
        valid, cases = document["validity"]["valid"], document["cases"]
        parts = [document[part] for part in ("config", "board", "artefact")]
        whole = all(_readable(case) for case in cases) and all(isinstance(p, dict) for p in parts)
    except OSError as error:
        raise UsageError(f"--compare {path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"--compare {path}: no --json of this command: {error!r}") from error
    if kind != (SCHEMA, "latency") or not whole:
        raise UsageError(f"--compare {path}: is a document of {kind}, not of {SCHEMA}, latency")
    if not valid:
        raise UsageError(f"--compare {path}: that measurement was not valid; make another")
    return Baseline(path, document)


def _readable(case: Mapping[str, Any]) -> bool:
    total = case["latency_ms"]["total"]
    spans = [total["intervals"].get(what) for what in COMPARED]
    numbers = [total["percentiles"].get(what) for what in COMPARED]
    runs = [run[what] for run in case["runs"] for what in COMPARED]
    flat = [*numbers, *runs, *(end for span in spans if span for end in span)]
    return all(value is None or isinstance(value, int | float) for value in flat)


def compare(
    baseline: Baseline, cases: Sequence[Any], differs: tuple[str, ...], most: float
) -> Comparison:
    """Compare cases of the same name.

    Args:
        baseline: the earlier measurement.
        cases: ``CaseReport``s of this one.
        differs: as ``differences`` told.
        most: share by which a time may grow.

    Raises:
        UsageError: no case is in both.
    """
    before = {case["name"]: case for case in baseline.document["cases"]}
    now = {case["name"]: case for case in strict.to_json(tuple(cases))}
    both = baseline.in_both(list(now))
    changes = tuple(
        change
        for name in both
        for what in COMPARED
        if (change := _change(name, what, before[name], now[name], most)) is not None
    )
    return Comparison(
        str(baseline.path),
        str(baseline.document["artefact"].get("sha256")),
        differs,
        most,
        changes,
        _worst([change.verdict for change in changes]),
        _note(before, now),
    )


def _change(
    name: str, what: str, before: Mapping[str, Any], now: Mapping[str, Any], most: float
) -> Change | None:
    spans = [_span(case, what) for case in (before, now)]
    values = [_value(case, what) for case in (before, now)]
    if None in spans or None in values or not values[0]:
        return None
    (low_then, high_then), (low_now, high_now) = spans  # type: ignore[misc]
    ratio, low, high = values[1] / values[0], low_now / high_then, high_now / low_then
    if low > 1 + most:
        verdict: Verdict = "regression"
    else:
        verdict = "no regression" if high <= 1 + most else "unclear"
    return Change(name, what, values[0], values[1], ratio, low, high, verdict)


def _value(case: Mapping[str, Any], what: str) -> Any:
    return case["latency_ms"].get("total", {}).get("percentiles", {}).get(what)


def _span(case: Mapping[str, Any], what: str) -> tuple[float, float] | None:
    """From the lowest to the highest that the percentile may be."""
    interval = case["latency_ms"].get("total", {}).get("intervals", {}).get(what)
    runs = [run[what] for run in case["runs"] if run[what] is not None]
    ends = [*(interval or ()), *runs]
    return (min(ends), max(ends)) if interval and min(ends) > 0 else None


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
    if "regression" in verdicts:
        return "regression"
    return "unclear" if "unclear" in verdicts or not verdicts else "no regression"


def _note(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    fewest = min(len(case["runs"]) for case in (*before.values(), *now.values()))
    if fewest > 1:
        return ""
    return "measured once then or now: --repeat 3 both times tells noise from change"
