"""``encode-text``: titles as an app lists them → item vectors, words and all."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

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
from couchside.device.bundle import project, unit
from couchside.device.encoders import tokens
from couchside.device.runtime.graph import open_graph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from couchside.benchmarks.timing.choice import Choice
    from couchside.device.bundle import Bundle
    from couchside.device.records import Title
    from couchside.device.runtime.graph import Graph

QUERIES = 20
"""Different queries that take turns, so that no title's length decides; as many as divide a tenth
of the usual runs, or drift would compare long titles with short ones."""


class EncodeText(Workload):
    """What the daemon does with titles that the Bundle has never seen; here its own ones."""

    def __init__(self, bundle: Bundle, choice: Choice) -> None:
        self._choice = choice
        self._titles = tuple(bundle.titles())
        self._bundle = on_backend(bundle, "text_encoder", choice)
        at_once = bundle.model.text_batch
        runs = -(-choice.batch // at_once)
        told = (
            f"the graph takes {at_once} titles at once, padded: {choice.batch} "
            f"{'is' if choice.batch == 1 else 'are'} {runs} {'run' if runs == 1 else 'runs'}"
        )
        self.subject = Subject(
            describe_bundle(bundle, "text_encoder"),
            "encode-text",
            "text_encoder",
            bundle.manifest.quality,
            notes=(told,),
        )

    @property
    def backend(self) -> str:
        """The runtime."""
        return backend_name(self._bundle.runtime)

    def load(self) -> tuple[Case, ...]:
        """Open the text encoder."""
        insist(self._choice.backend)
        graph = open_graph(self._bundle, "text_encoder", threads=self._choice.threads)
        batch = self._choice.batch
        rng = np.random.default_rng(self._choice.seed)
        drawn = rng.integers(0, len(self._titles), (QUERIES, batch)).tolist()
        said = cycle([[self._titles[row] for row in rows] for rows in drawn])
        name = "one title" if batch == 1 else f"{batch:,} titles"
        query = encoding(self._bundle, graph)
        first = query[0]
        stages = (Stage(first.name, lambda _: first.call(next(said))), *query[1:])
        return (Case(Size(f"encoding of {name}", batch), Query(stages)),)

    def check(self) -> Parity:
        """By the golden vectors."""
        return golden_parity(self._bundle, "text_encoder", self._choice.threads)


def encoding(bundle: Bundle, graph: Graph) -> tuple[Stage, ...]:
    """What ``encoders.TextEncoder`` does, in parts: titles → item vectors float32 [n, d]."""
    model, projection = bundle.model, bundle.projection

    def pre(titles: Sequence[Title]) -> list[tuple[NDArray[np.int32], int]]:
        batches = []
        for start in range(0, len(titles), model.text_batch):
            batch = np.zeros((model.text_batch, model.text_tokens), dtype=np.int32)
            part = titles[start : start + model.text_batch]
            for row, title in enumerate(part):
                batch[row] = tokens(title, length=model.text_tokens, buckets=model.text_buckets)
            batches.append((batch, len(part)))
        return batches

    def run(batches: list[tuple[NDArray[np.int32], int]]) -> list[NDArray[np.float32]]:
        return [graph.run({"tokens": batch})["content"][:used] for batch, used in batches]

    def post(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        return project(unit(np.concatenate(parts)), projection)

    return Stage("pre", pre), Stage("model", run), Stage("post", post)
