"""Open a graph of a Bundle on the runtime it was made for, and check what it computes.

Every backend gives the same small thing: named arrays in, named arrays out, in the manifest's
names, one call at a time (not thread-safe). Shapes and dtypes are checked here, once, so that a
wrong feed is a clear error on every backend instead of garbage on one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from couchside.device.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from couchside.device.bundle import Bundle, GoldenRecord, GraphRecord, RuntimeName

Arrays = dict[str, Any]


class Backend(Protocol):
    """What a runtime must offer: run with the file's own tensor names."""

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Compute every output for ``feeds``."""


class Graph:
    """A loaded graph that speaks the manifest's names."""

    def __init__(self, record: GraphRecord, backend: Backend) -> None:
        self.record = record
        self._backend = backend

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Outputs by name for ``feeds`` by name.

        Raises:
            BundleError: an input is missing, unknown, of another shape or dtype, or an output
                is not finite.
        """
        inputs = self.record.inputs
        if feeds.keys() != inputs.keys():
            raise BundleError(
                f"{self.record.file} takes {sorted(inputs)}, was given {sorted(feeds)}"
            )
        native = {}
        for name, port in inputs.items():
            value = np.asarray(feeds[name])
            fits = np.can_cast(value.dtype, port.dtype, "same_kind")  # never 0.7 to 0
            if value.shape != port.shape or not fits:
                raise BundleError(
                    f"{self.record.file}: input {name!r} is {value.dtype} {value.shape}, "
                    f"takes {port.dtype} {port.shape}"
                )
            native[port.tensor] = np.ascontiguousarray(value, dtype=port.dtype)
        try:
            results = self._backend.run(native)
        except Exception as error:  # each runtime has its own, and some have no common base
            raise BundleError(f"{self.record.file}: the runtime can't run it: {error}") from error
        answers = {name: results[port.tensor] for name, port in self.record.outputs.items()}
        for name, value in answers.items():
            if not np.isfinite(value).all():
                raise BundleError(f"{self.record.file}: output {name!r} is not finite")
        return answers


def open_graph(bundle: Bundle, name: str, *, threads: int = 1) -> Graph:
    """Load the graph ``name`` of ``bundle``.

    Raises:
        BundleError: there is no such graph, or the runtime can't load it.
        RuntimeUnavailableError: the runtime is not installed; the message says what to install.
    """
    record = bundle.graph(name)
    return load_graph(bundle.runtime, bundle.file(record.file), record, threads=threads)


def load_graph(runtime: RuntimeName, path: Path, record: GraphRecord, *, threads: int = 1) -> Graph:
    """Load a model file that is not (yet) in a Bundle; ``record`` says what its border is.

    Raises:
        BundleError: the runtime can't load the file, or its border is another one.
        RuntimeUnavailableError: the runtime is not installed; the message says what to install.
    """
    try:
        backend = _open_backend(runtime, str(path), record, threads)
    except (RuntimeError, ValueError, OSError) as error:
        raise BundleError(f"{path}: {runtime} can't load it: {error}") from error
    return Graph(record, backend)


def _open_backend(runtime: str, path: str, record: GraphRecord, threads: int) -> Backend:
    # A TV has one runtime installed, so each is imported only when a Bundle asks for it.
    if runtime == "litert":
        from couchside.device.runtime.litert import LiteRTBackend  # noqa: PLC0415

        return LiteRTBackend(path, record, threads=threads)
    if runtime == "onnxruntime":
        from couchside.device.runtime.onnxruntime import OnnxRuntimeBackend  # noqa: PLC0415

        return OnnxRuntimeBackend(path, record, threads=threads)
    from couchside.device.runtime.tensorrt import TensorRTBackend  # noqa: PLC0415

    return TensorRTBackend(path, record)


def check_golden(bundle: Bundle, *, threads: int = 1) -> dict[str, float]:
    """Run every golden vector of ``bundle`` and compare with the lab's answers.

    Nothing else catches a runtime that accepts a file and computes garbage.

    Returns:
        The lowest cosine similarity seen per graph.

    Raises:
        BundleError: an answer is too far from the lab's, or not finite.
    """
    checked = {golden.graph for golden in bundle.manifest.golden}
    for graph in sorted(bundle.manifest.graphs.keys() - checked):
        raise BundleError(f"{bundle.path}: it carries no golden vectors of {graph!r}; refuse it")
    lowest: dict[str, float] = {}
    graphs: dict[str, Graph] = {}
    for golden in bundle.manifest.golden:
        if golden.graph not in graphs:
            graphs[golden.graph] = open_graph(bundle, golden.graph, threads=threads)
        cosine = _golden_cosine(bundle, golden, graphs[golden.graph])
        lowest[golden.graph] = min(lowest.get(golden.graph, 1.0), cosine)
    return lowest


def _golden_cosine(bundle: Bundle, golden: GoldenRecord, graph: Graph) -> float:
    results = graph.run({name: bundle.tensor(t) for name, t in golden.inputs.items()})
    lowest = 1.0
    for name, tensor in golden.outputs.items():
        got, expected = results[name], np.asarray(bundle.tensor(tensor))
        cosine, error = compare(got, expected)
        if not (cosine >= golden.min_cosine and error <= golden.max_relative_error):
            raise BundleError(
                f"{bundle.path}: graph {golden.graph!r} computes another {name!r} than the lab on "
                f"{bundle.runtime}: cosine {cosine:.4f} (at least {golden.min_cosine}), relative "
                f"error {error:.4f} (at most {golden.max_relative_error}); take another flavour"
            )
        lowest = min(lowest, cosine)
    return lowest


def compare(got: NDArray[Any], expected: NDArray[Any]) -> tuple[float, float]:
    """Lowest cosine over the rows, and relative error, of two arrays of one shape.

    A scalar or vector counts as one row. Anything not finite gives (-1, inf).
    """
    if got.shape != expected.shape or not np.isfinite(got).all():
        return -1.0, float("inf")
    rows = expected.shape[-1] if expected.ndim else 1
    a = np.asarray(got, dtype=np.float64).reshape(-1, rows)
    b = np.asarray(expected, dtype=np.float64).reshape(-1, rows)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = (np.abs(a).max(axis=1) == 0) & (np.abs(b).max(axis=1) == 0)
    cosine = np.where(both_zero, 1.0, (a * b).sum(axis=1) / np.maximum(norms, 1e-30))
    error = np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-30)
    return float(cosine.min()), float(error)
