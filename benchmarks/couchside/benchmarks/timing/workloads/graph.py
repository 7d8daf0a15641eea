"""One graph, as a Bundle or a bare model file brings it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from couchside.benchmarks.errors import UsageError
from couchside.benchmarks.timing.artefact import (
    Artefact,
    Parity,
    backend_name,
    describe_bundle,
    golden_parity,
    insist,
    on_backend,
    runtime_for,
)
from couchside.benchmarks.timing.choice import SENSES
from couchside.benchmarks.timing.signature import read_signature
from couchside.benchmarks.timing.stopwatch import Query, Stage, one_stage
from couchside.benchmarks.timing.workload import Case, Size, Subject, Workload
from couchside.device.bundle import project, unit
from couchside.device.runtime.graph import load_graph, open_graph

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from couchside.benchmarks.timing.choice import Choice
    from couchside.device.bundle import Bundle, GraphRecord, RuntimeName

DEFAULT: dict[str, RuntimeName] = {".tflite": "litert", ".onnx": "onnxruntime"}
"""What opens each kind of bare file."""


class BundleGraph(Workload):
    """One graph, fed with its first golden vector: a valid input of the lab's choice."""

    def __init__(self, bundle: Bundle, choice: Choice) -> None:
        name = SENSES.get(choice.scenario) or choice.graph or "user_model"
        if name not in bundle.manifest.graphs and choice.scenario in SENSES:
            have = ", ".join(sorted(bundle.manifest.graphs))
            raise UsageError(
                f"{bundle.path}: no {name}, so nothing for --scenario {choice.scenario}; "
                f"it has {have}"
            )
        self._bundle, self._name, self._choice = on_backend(bundle, name, choice), name, choice
        if choice.batch != 1:
            raise UsageError(
                f"--batch {choice.batch}: the shapes of a Bundle's graphs are fixed; "
                "--scenario encode-text takes any batch"
            )
        self.subject = Subject(
            describe_bundle(bundle, name), choice.scenario, name, bundle.manifest.quality
        )

    @property
    def backend(self) -> str:
        """The runtime."""
        return backend_name(self._bundle.runtime)

    def load(self) -> tuple[Case, ...]:
        """Open the graph."""
        insist(self._choice.backend)
        bundle, golden = self._bundle, self._bundle.manifest.golden[0]
        feeds = {port: np.array(bundle.tensor(tensor)) for port, tensor in golden.inputs.items()}
        graph = open_graph(bundle, self._name, threads=self._choice.threads)
        if self._choice.scenario == "graph":
            return (Case(Size(self._name), one_stage(lambda: graph.run(feeds))),)
        stages = (Stage("model", lambda _: graph.run(feeds)), Stage("post", self._vector))
        return (Case(Size(self._choice.scenario), Query(stages)),)

    def check(self) -> Parity:
        """By its golden vectors."""
        return golden_parity(self._bundle, self._name, self._choice.threads)

    def _vector(self, answers: dict[str, Any]) -> NDArray[np.float32]:
        """Item vectors of what an encoder saw, as those of a text."""
        content = next(iter(answers.values()))
        return project(unit(content), self._bundle.projection)


class BareFile(Workload):
    """A model file as it is, fed with random numbers in the shapes of its own signature."""

    def __init__(self, path: Path, choice: Choice) -> None:
        if choice.scenario != "graph" or choice.graph is not None:
            raise UsageError(f"{path} is one bare graph: --scenario and --graph need a Bundle")
        if path.suffix not in DEFAULT:
            raise UsageError(
                f"{path}: model files end in {' or '.join(DEFAULT)}; give one, or a Bundle"
            )
        self._runtime = runtime_for(choice, path.name, DEFAULT[path.suffix])
        self._path, self._choice = path, choice
        raw = path.read_bytes()
        self.subject = Subject(
            Artefact(str(path), "file", hashlib.sha256(raw).hexdigest(), len(raw)),
            "graph",
            path.stem,
            notes=("answers NOT checked: a bare file has no golden vectors",),
        )

    @property
    def backend(self) -> str:
        """The runtime."""
        return backend_name(self._runtime)

    def load(self) -> tuple[Case, ...]:
        """Open the file; reading its signature is part of it."""
        insist(self._choice.backend)
        batch = self._choice.batch
        record, is_open = read_signature(self._path, self._runtime, batch)
        if batch > 1 and not is_open:
            raise UsageError(f"--batch {batch}: {self._path} leaves no dimension open for it")
        graph = load_graph(self._runtime, self._path, record, threads=self._choice.threads)
        feeds = _random_feeds(record, self._choice.seed)
        return (Case(Size(self._path.stem, batch), one_stage(lambda: graph.run(feeds))),)

    def check(self) -> Parity:
        """There is nothing to compare with."""
        return Parity(checked=False, graph=self._path.stem, cosine=None)


def _random_feeds(record: GraphRecord, seed: int) -> dict[str, NDArray[Any]]:
    """Standard normal numbers, and 0 or 1 for whole ones, as those may be rows of a table."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, NDArray[Any]] = {}
    for name, port in record.inputs.items():
        if np.dtype(port.dtype).kind == "f":
            feeds[name] = rng.standard_normal(port.shape).astype(port.dtype)
        else:
            feeds[name] = rng.integers(0, 2, port.shape).astype(port.dtype)
    return feeds
