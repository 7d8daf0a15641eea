"""A Bundle or a bare model file → something to time, and the check that it computes the truth.

A Bundle carries golden vectors, so its speed is only printed after its answers were found right.
A bare ``.tflite`` or ``.onnx`` file carries none: it is fed random numbers in the shapes of its
own signature, and its speed may be that of garbage.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from couchside.benchmarks.errors import UsageError
from couchside.benchmarks.timing.signature import read_signature
from couchside.device.bundle import open_bundle
from couchside.device.features import GAPS, SIGNALS
from couchside.device.ranker import UserModel, score, top_k
from couchside.device.runtime.graph import check_golden, load_graph, open_graph

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from couchside.benchmarks.timing.choice import BackendChoice, Choice, Scenario
    from couchside.device.bundle import Bundle, GraphRecord, QualityRecord, RuntimeName

READS: dict[RuntimeName, str] = {
    "litert": ".tflite",
    "onnxruntime": ".onnx",
    "tensorrt": ".onnx",
}
"""Files that each backend opens."""
DEFAULT: dict[str, RuntimeName] = {".tflite": "litert", ".onnx": "onnxruntime"}


@dataclass(frozen=True, slots=True)
class Artefact:
    """What was timed, so that another can time the same bytes."""

    path: str
    kind: Literal["bundle", "file"]
    sha256: str
    """Of the file, or of the Bundle's manifest, which names the SHA-256 of everything else."""
    bytes: int
    """Of the model file that was loaded."""
    version: int | None = None
    recipe: str | None = None
    flavour: str | None = None


@dataclass(frozen=True, slots=True)
class Parity:
    """Whether its answers were found to be the lab's before it was timed."""

    checked: bool
    graph: str
    cosine: float | None
    """The lowest over all golden vectors of the graph; None where there are none."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Something to time."""

    artefact: Artefact
    backend: RuntimeName
    scenario: Scenario
    graph: str
    titles: int | None
    """Rows of the table that ``rank`` scores."""
    quality: QualityRecord | None
    """What the lab measured for this very flavour."""
    load: Callable[[], Callable[[], object]]
    """Opens the model and returns one run of it."""
    check: Callable[[], Parity]
    """Compares with the golden vectors; raises BundleError if they differ."""


def open_workload(path: Path, choice: Choice) -> Workload:
    """Prepare what ``choice`` asks of the Bundle folder or model file at ``path``.

    Raises:
        UsageError: there is nothing at the path, or the choice does not fit it.
        BundleError: the Bundle is damaged, or has no such graph or golden vectors for it.
    """
    if path.is_dir():
        return _bundle_workload(path, choice)
    if not path.is_file():
        raise UsageError(f"{path}: no such file or folder; give a Bundle or a model file")
    return _file_workload(path, choice)


def _bundle_workload(path: Path, choice: Choice) -> Workload:
    name = choice.graph or "user_model"
    if choice.scenario == "rank" and name != "user_model":
        raise UsageError(f"--scenario rank runs the user model: leave out --graph {name}")
    bundle = _on_backend(open_bundle(path), name, choice.backend)
    file = bundle.file(bundle.graph(name).file)
    return Workload(
        artefact=Artefact(
            str(path),
            "bundle",
            bundle.bundle_id,
            file.stat().st_size,
            bundle.version,
            bundle.manifest.recipe,
            bundle.flavour,
        ),
        backend=bundle.runtime,
        scenario=choice.scenario,
        graph=name,
        titles=bundle.tensor("popularity").shape[0] if choice.scenario == "rank" else None,
        quality=bundle.manifest.quality,
        load=_rank(bundle, choice) if choice.scenario == "rank" else _graph(bundle, name, choice),
        check=lambda: _golden(bundle, name, choice.threads),
    )


def _file_workload(path: Path, choice: Choice) -> Workload:
    if choice.scenario != "graph" or choice.graph is not None:
        raise UsageError(f"{path} is one bare graph: --scenario and --graph need a Bundle")
    if path.suffix not in DEFAULT:
        raise UsageError(
            f"{path}: model files end in {' or '.join(DEFAULT)}; give one, or a Bundle"
        )
    backend = _backend(choice.backend, path.name, DEFAULT[path.suffix])
    raw = path.read_bytes()
    artefact = Artefact(str(path), "file", hashlib.sha256(raw).hexdigest(), len(raw))
    return Workload(
        artefact=artefact,
        backend=backend,
        scenario="graph",
        graph=path.stem,
        titles=None,
        quality=None,
        load=_bare(path, backend, choice),
        check=lambda: Parity(checked=False, graph=path.stem, cosine=None),
    )


def _on_backend(bundle: Bundle, graph: str, wanted: BackendChoice) -> Bundle:
    """The Bundle with this graph alone, as if made for another backend that reads its file.

    Only what is timed is checked, so that nothing else warms the machine or fills the memory.

    Raises:
        UsageError: the backend reads other files, or the graph has no golden vectors.
        BundleError: no such graph.
    """
    record = bundle.graph(graph)
    golden = tuple(entry for entry in bundle.manifest.golden if entry.graph == graph)
    if not golden:
        raise UsageError(f"{bundle.path}: no golden vectors for {graph}, so it is not timed")
    alone = replace(
        bundle.manifest,
        runtime=_backend(wanted, record.file, bundle.runtime),
        graphs={graph: record},
        golden=golden,
    )
    return replace(bundle, manifest=alone)


def _backend(wanted: BackendChoice, file: str, default: RuntimeName) -> RuntimeName:
    backend: RuntimeName = default if wanted == "auto" else wanted
    if not file.endswith(READS[backend]):
        raise UsageError(
            f"--backend {backend} reads {READS[backend]} files, {file} is none: "
            "take another flavour or backend"
        )
    return backend


def _golden(bundle: Bundle, name: str, threads: int) -> Parity:
    return Parity(checked=True, graph=name, cosine=check_golden(bundle, threads=threads)[name])


def _graph(bundle: Bundle, name: str, choice: Choice) -> Callable[[], Callable[[], object]]:
    """One graph, fed with the first golden vector: a valid input of the lab's choice."""
    golden = bundle.manifest.golden[0]
    feeds = {port: np.array(bundle.tensor(tensor)) for port, tensor in golden.inputs.items()}

    def load() -> Callable[[], object]:
        graph = open_graph(bundle, name, threads=choice.threads)
        return lambda: graph.run(feeds)

    return load


def _rank(bundle: Bundle, choice: Choice) -> Callable[[], Callable[[], object]]:
    """History → user vector → scores of the Bundle's whole table → the best k."""

    def load() -> Callable[[], object]:
        model = UserModel(bundle, threads=choice.threads)
        table = bundle.item_vectors()
        popularity = np.array(bundle.tensor("popularity"))
        vectors, signals, gaps = _history(table, bundle.model.history_length, choice.seed)
        weight, k = bundle.popularity_weight, choice.k
        return lambda: top_k(
            score(model.user(vectors, signals, gaps), table, popularity, weight), k
        )

    return load


def _history(
    table: NDArray[np.float32], length: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
    """A full history of random titles: a short one is padded, so it costs the same."""
    rng = np.random.default_rng(seed)
    return (
        table[rng.integers(0, len(table), length)],
        rng.integers(0, SIGNALS, length, dtype=np.int32),
        rng.integers(0, GAPS, length, dtype=np.int32),
    )


def _bare(path: Path, backend: RuntimeName, choice: Choice) -> Callable[[], Callable[[], object]]:
    """A model file as it is; reading its signature is part of its loading."""

    def load() -> Callable[[], object]:
        record = read_signature(path, backend)
        graph = load_graph(backend, path, record, threads=choice.threads)
        feeds = _random_feeds(record, choice.seed)
        return lambda: graph.run(feeds)

    return load


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
