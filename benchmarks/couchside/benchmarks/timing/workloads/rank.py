"""``rank``: a history → one user vector → scores of every candidate → the best k."""

from __future__ import annotations

import math
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from couchside.benchmarks.errors import UsageError
from couchside.benchmarks.machine.board import read_text
from couchside.benchmarks.timing.artefact import (
    Parity,
    backend_name,
    describe_bundle,
    golden_parity,
    insist,
    on_backend,
)
from couchside.benchmarks.timing.stopwatch import Query, Stage
from couchside.benchmarks.timing.workload import Case, Size, Subject, Workload
from couchside.device.errors import BundleError
from couchside.device.features import GAPS, SIGNALS, user_model_inputs
from couchside.device.ranker import score, top_k
from couchside.device.runtime.graph import open_graph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from couchside.benchmarks.timing.choice import Choice
    from couchside.benchmarks.timing.workload import Made
    from couchside.device.bundle import Bundle
    from couchside.device.runtime.graph import Graph

    Floats = NDArray[np.float32]

MEMINFO = Path("/proc/meminfo")
"""Of the machine that this runs on, whatever root a test gives."""
TOP = 10
LEAST_OVERLAP = 0.99
"""Of the ten best titles with the reference's."""
NUMPY_ALONE = "scoring and selection only: numpy runs no user model, the user vector is the lab's"


class Rank(Workload):
    """The daemon's ranking with the Bundle's own table, or as many titles as asked for."""

    def __init__(self, bundle: Bundle, choice: Choice) -> None:
        if choice.graph not in (None, "user_model"):
            raise UsageError(
                f"--scenario rank runs the user model: leave out --graph {choice.graph}"
            )
        if choice.batch != 1:
            raise UsageError("--batch: rank answers one household at a time")
        self._choice = choice
        self._alone = choice.backend == "numpy"
        self._bundle = bundle if self._alone else on_backend(bundle, "user_model", choice)
        if not any(golden.graph == "user_model" for golden in bundle.manifest.golden):
            raise UsageError(f"{bundle.path}: no golden vectors for user_model, so it is not timed")
        length = bundle.model.history_length
        steps = length if choice.history is None else choice.history
        notes = [NUMPY_ALONE] if self._alone else []
        if steps > length:
            notes.append(f"of {steps} steps of history the user model reads the last {length}")
        graph = None if self._alone else "user_model"
        self.subject = Subject(
            describe_bundle(bundle, graph),
            "rank",
            graph or "none",
            bundle.manifest.quality,
            None if self._alone else steps,
            tuple(notes),
        )

    @property
    def backend(self) -> str:
        """What runs the user model, or numpy."""
        return "numpy" if self._alone else backend_name(self._bundle.runtime)

    @cached_property
    def _table(self) -> Floats:
        return self._bundle.item_vectors()

    @cached_property
    def _popularity(self) -> Floats:
        return np.array(self._bundle.tensor("popularity"))

    def load(self) -> tuple[Case, ...]:
        """Open the user model, make the item vectors and lay the tables out."""
        before = () if self._alone else self._user_stages(self._open())
        counts = self._choice.candidates or (len(self._table),)
        self._check_room(counts)
        return tuple(self._case(count, before) for count in counts)

    def check(self) -> Parity:
        """By the golden vectors, and by whether the same ten titles win.

        Raises:
            BundleError: not the same ten.
        """
        cosine = None
        wanted = got = self._golden_user()
        if not self._alone:
            cosine = golden_parity(self._bundle, "user_model", self._choice.threads).cosine
            got = self._open().run(self._golden("inputs"))["user"][0]
        weight = self._bundle.popularity_weight
        overlap = top_overlap(wanted, got, self._table, self._popularity, weight)
        if overlap < LEAST_OVERLAP:
            raise BundleError(
                f"{self._bundle.path}: of the reference's ten best titles {self.backend} picks "
                f"{overlap:.0%}; take another flavour"
            )
        return Parity(True, self.subject.graph, cosine, overlap)  # noqa: FBT003

    def _check_room(self, counts: Sequence[int]) -> None:
        """A table that is swapped out would time the disk."""
        copied = sum(count for count in counts if count != len(self._table))
        wanted = copied * self._table[0].nbytes
        told = re.search(r"^MemAvailable:\s*(\d+) kB", read_text(MEMINFO) or "", re.MULTILINE)
        room = int(told[1]) * 1024 if told else math.inf
        if wanted > room:
            raise UsageError(
                f"--candidates: {copied:,} titles take {wanted / 1e9:.1f} GB, "
                f"and {room / 1e9:.1f} GB are free"
            )

    def _open(self) -> Graph:
        insist(self._choice.backend)
        return open_graph(self._bundle, "user_model", threads=self._choice.threads)

    def _user_stages(self, graph: Graph) -> tuple[Stage, ...]:
        """What ``ranker.UserModel`` does, in two parts."""
        bundle, steps = self._bundle, self.subject.history or 1
        history = invent_history(self._table, steps, self._choice.seed)
        personal, length = bundle.shipped_personal, bundle.model.history_length

        def pre(_: object) -> dict[str, Any]:
            return user_model_inputs(*history, length=length) | {"personal": personal}

        return (Stage("pre", pre), Stage("model", lambda feeds: graph.run(feeds)["user"][0]))

    def _case(self, count: int, before: tuple[Stage, ...]) -> Case:
        rows, made = choose_rows(len(self._table), count, self._choice.seed)
        table, popularity = self._table, self._popularity
        if made != "the whole table":
            table, popularity = table[rows], popularity[rows]
        weight, k = self._bundle.popularity_weight, self._choice.k
        lab = self._golden_user()

        def post(user: Floats | None) -> NDArray[np.int64]:
            return top_k(score(lab if user is None else user, table, popularity, weight), k)

        size = Size(f"rank of {count:,} titles", titles=count, made=made)
        return Case(size, Query((*before, Stage("post", post))))

    def _golden_user(self) -> Floats:
        return np.asarray(self._golden("outputs")["user"][0], dtype=np.float32)

    def _golden(self, side: str) -> dict[str, NDArray[Any]]:
        golden = next(one for one in self._bundle.manifest.golden if one.graph == "user_model")
        return {name: np.array(self._bundle.tensor(t)) for name, t in getattr(golden, side).items()}


def invent_history(
    table: Floats, steps: int, seed: int
) -> tuple[Floats, NDArray[np.int32], NDArray[np.int32]]:
    """A history of random titles: vectors [steps, d], signals and gaps [steps].

    A short one is padded for the user model, so it costs it the same.
    """
    rng = np.random.default_rng(seed)
    return (
        table[rng.integers(0, len(table), steps)],
        rng.integers(0, SIGNALS, steps, dtype=np.int32),
        rng.integers(0, GAPS, steps, dtype=np.int32),
    )


def choose_rows(n: int, count: int, seed: int) -> tuple[NDArray[np.int64], Made]:
    """``count`` rows of a table of ``n``: all, some by chance, or all again and again."""
    if count == n:
        return np.arange(n), "the whole table"
    if count < n:
        chosen = np.random.default_rng(seed).choice(n, count, replace=False)
        return np.sort(chosen), "a part of the table"
    return np.arange(count) % n, "the table repeated"


def top_overlap(
    wanted: Floats, got: Floats, table: Floats, popularity: Floats, weight: float
) -> float:
    """Share of the ten best titles by the reference that are picked for another user vector, too.

    The reference sorts all scores of the wanted vector, in float64. A title counts as one of
    the ten as well if the measured difference of the two vectors alone can lift it to the tenth:
    |Δu · v| is at most ‖Δu‖ ‖v‖. So rounding is no error, and a broken selection is.

    Args:
        wanted: the lab's user vector [d].
        got: ours [d].
        table: item vectors [n, d].
        popularity: [n].
        weight: of popularity.
    """
    reference = table.astype(np.float64) @ wanted + weight * popularity
    k = min(TOP, len(reference))
    tenth = np.sort(reference)[-k]
    away = float(np.linalg.norm(got - wanted))
    # Both the title and the tenth may have moved.
    slack = 2 * away * float(np.linalg.norm(table, axis=1).max()) + 1e-6 * abs(float(tenth))
    picked = top_k(score(got, table, popularity, weight), k)
    return float((reference[picked] >= tenth - slack).mean())
