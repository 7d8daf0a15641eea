"""What a study found, as JSON: one row a model, every mean with its interval over users."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping  # noqa: TC003 - strict asks at run time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from couchside.compression.study.checkpoint import Point  # noqa: TC001 - strict asks at run time
from couchside.compression.study.measures import Estimate, by_user, estimates, per_case
from couchside.device.quality import paired_difference

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from couchside.compression.study.measures import Judged
    from couchside.compression.study.split import Cases, Split

SCHEMA = "couchside.bench/1"
HEADLINE = "ndcg@10"


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """Which targets these are."""

    name: str
    sha256: str
    users: int
    """With at least one target."""
    targets: int
    items: int
    """Titles in the catalogue, all of which compete."""
    left_out: int
    """Users (leave-one-out) or events (temporal) that could not be targets."""


@dataclass(frozen=True, slots=True)
class Row:
    """One model on one split."""

    model: str
    seed: int | None
    """None: it has none."""
    metrics: Mapping[str, Estimate]
    over_popularity: Estimate | None
    """Relative gain in NDCG@10, paired over users; None for popularity itself."""
    cpu_s: float
    """CPU seconds of fitting, the choice of its parameters included, all threads."""
    parameters: int
    epochs: int | None
    """Whose weights were tested; None: not trained by epochs."""
    note: str


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it ran."""

    cpu: str
    cores: int


@dataclass(frozen=True, slots=True)
class Result:
    """One run of the command."""

    schema: str
    kind: str
    dataset: str
    split: SplitFacts
    rows: tuple[Row, ...]
    curve: tuple[Point, ...]
    """Of the first seed."""
    command: str
    made_at: str
    machine: Machine


@dataclass(frozen=True)
class Tested:
    """A model's answers to the test, before they become a row."""

    model: str
    judged: Judged
    cpu_s: float
    parameters: int
    note: str = ""
    seed: int | None = None
    epochs: int | None = None


def facts(split: Split) -> SplitFacts:
    """What identifies a split."""
    return SplitFacts(
        name=split.name,
        sha256=split.sha256,
        users=len(set(split.test.users.tolist())),
        targets=len(split.test),
        items=split.titles,
        left_out=split.left_out,
    )


def quality_rows(
    tested: Sequence[Tested],
    cases: Cases,
    *,
    watchers: NDArray[np.float64],
    train_users: int,
    genres: NDArray[np.bool_] | None,
) -> tuple[Row, ...]:
    """Rows of the quality table, in the order given.

    Args:
        tested: every model, judged on ``cases``; popularity among them is what is paired against.
        cases: the test.
        watchers: users of each title in training [titles].
        train_users: users in training.
        genres: bool [titles, genres], or None.
    """
    popular = next((_ndcg(one, cases) for one in tested if one.model == "popularity"), None)
    return tuple(
        Row(
            model=one.model,
            seed=one.seed,
            metrics=estimates(
                one.judged, cases, watchers=watchers, train_users=train_users, genres=genres
            ),
            over_popularity=_gain(_ndcg(one, cases), popular, one.model),
            cpu_s=round(one.cpu_s, 1),
            parameters=one.parameters,
            epochs=one.epochs,
            note=one.note,
        )
        for one in tested
    )


def _ndcg(one: Tested, cases: Cases) -> NDArray[np.float64]:
    return by_user(per_case(one.judged)[HEADLINE], cases.users)


def _gain(
    ours: NDArray[np.float64], popular: NDArray[np.float64] | None, name: str
) -> Estimate | None:
    if popular is None or name == "popularity":
        return None
    interval = paired_difference(ours, popular, relative=True)
    return Estimate(interval.mean, interval.low, interval.high)


def this_machine() -> Machine:
    """The processor's own name, and the cores this process may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return Machine(next(named, platform.machine()), len(os.sched_getaffinity(0)))


def table_text(result: Result) -> str:
    """The table for a person."""
    split = result.split
    targets = f"{split.targets:,} targets of {split.users:,} users, {split.items:,} titles"
    lines = [
        f"{result.dataset}, {split.name}: {targets}, split {split.sha256[:12]}",
        f"{'':24}{'NDCG@10':>9}{'95 % interval':>18}{'HR@10':>9}{'coverage':>10}{'CPU s':>9}",
    ]
    for row in result.rows:
        ndcg, name = row.metrics[HEADLINE], row.model
        name += f", seed {row.seed}" if row.seed is not None else ""
        lines.append(
            f"{name:24}{ndcg.value:9.4f}   [{ndcg.low:.4f}, {ndcg.high:.4f}]"
            f"{row.metrics['hr@10'].value:9.4f}{row.metrics['coverage@10'].value:10.3f}"
            f"{row.cpu_s:9.0f}  {row.note}"
        )
    return "\n".join(lines)
