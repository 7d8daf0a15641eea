"""``learn``: histories → one step of SGD with the Bundle's training step, as on the TV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from couchside.benchmarks.errors import UsageError
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
from couchside.device.features import GAPS, Signal
from couchside.device.learning.examples import ExampleMaker, History
from couchside.device.learning.study import Learned, Student

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from couchside.benchmarks.timing.choice import Choice
    from couchside.device.bundle import Bundle

RATE = 0.05
"""Of SGD; it does not change what a step costs."""


class Learn(Workload):
    """One batch of invented histories, as many as the training step takes, and one step."""

    def __init__(self, bundle: Bundle, choice: Choice) -> None:
        if choice.batch != 1:
            raise UsageError("--batch: the training step's batch is fixed in its graph")
        self._choice = choice
        self._bundle = on_backend(bundle, "training_step", choice)
        self._batch, length = bundle.graph("training_step").inputs["target"].shape
        steps = length + 1 if choice.history is None else choice.history
        if steps < 2:
            raise UsageError("--history 1: a step is learned from the one before it, give 2")
        self._table = bundle.item_vectors()
        self.subject = Subject(
            describe_bundle(bundle, "training_step"),
            "learn",
            "training_step",
            bundle.manifest.quality,
            steps,
            (f"one step of SGD on {self._batch} histories; a lesson is several",),
        )

    @property
    def backend(self) -> str:
        """What runs the training step."""
        return backend_name(self._bundle.runtime)

    def load(self) -> tuple[Case, ...]:
        """Open the training step and its weights."""
        insist(self._choice.backend)
        student = Student(self._bundle, threads=self._choice.threads)
        rng = np.random.default_rng(self._choice.seed)
        maker = ExampleMaker(self._bundle, rng)
        histories = [self._invent(rng) for _ in range(self._batch)]
        chosen = [np.ones(len(history), dtype=np.bool_) for history in histories]
        places = np.arange(len(student.theta))

        def learn(batches: list[dict[str, NDArray[Any]]]) -> Learned:
            return student.learn(batches, steps=1, rate=RATE, places=places)

        stages = (
            Stage("pre", lambda _: maker.batches(histories, chosen)),
            Stage("model", learn),
        )
        return (Case(Size("one training step", self._batch), Query(stages)),)

    def check(self) -> Parity:
        """By the golden vectors."""
        return golden_parity(self._bundle, "training_step", self._choice.threads)

    def _invent(self, rng: np.random.Generator) -> History:
        steps = self.subject.history or 2
        rows = rng.integers(0, len(self._table), steps, dtype=np.int32)
        signals = rng.integers(Signal.NEUTRAL, Signal.POSITIVE + 1, steps, dtype=np.int32)
        return History(
            rows, self._table[rows], signals, rng.integers(0, GAPS, steps, dtype=np.int32)
        )
