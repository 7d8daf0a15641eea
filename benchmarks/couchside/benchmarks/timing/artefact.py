"""The bytes that are timed, the backend that reads them, and the check that it computes the truth.

A Bundle carries golden vectors, so its speed is only printed after its answers were found right.
A bare ``.tflite`` or ``.onnx`` file carries none, and its speed may be that of garbage.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from couchside.benchmarks.errors import UsageError
from couchside.device.errors import RuntimeUnavailableError
from couchside.device.runtime.graph import check_golden

if TYPE_CHECKING:
    from collections.abc import Mapping

    from couchside.benchmarks.timing.choice import BackendChoice, Choice
    from couchside.device.bundle import Bundle, RuntimeName

RUNTIME: dict[BackendChoice, RuntimeName] = {
    "litert": "litert",
    "tflite": "litert",
    "onnxruntime": "onnxruntime",
    "tensorrt": "tensorrt",
}
"""What the device calls each backend; it takes tflite-runtime where there is no LiteRT."""
READS: dict[RuntimeName, str] = {
    "litert": ".tflite",
    "onnxruntime": ".onnx",
    "tensorrt": ".onnx",
}
"""Files that each runtime opens."""
PACKAGES: dict[BackendChoice, tuple[str, str]] = {
    "litert": ("ai_edge_litert", "pip install 'couchside[litert]' (or ai-edge-litert)"),
    "tflite": ("tflite_runtime", "pip install 'couchside[tflite]' (or tflite-runtime 'numpy<2')"),
}
"""Packages that both read TFLite files, and how to get them."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """What was timed, so that another can time the same bytes."""

    path: str
    kind: Literal["bundle", "file"]
    sha256: str
    """Of the file, or of the Bundle's manifest, which names the SHA-256 of everything else."""
    bytes: int
    """Of the model file that was loaded; of the item table where there is none."""
    version: int | None = None
    recipe: str | None = None
    flavour: str | None = None
    precision: Mapping[str, str] = field(default_factory=dict)
    """Of each kind of tensor: weights of graphs, what crosses their border, and the item table."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Whether its answers were found to be the lab's before it was timed."""

    checked: bool
    graph: str
    cosine: float | None
    """The lowest over all golden vectors of the graph; None where there are none."""
    top_10_overlap: float | None = None
    """Share of the reference's ten best titles that it picks, too; None where it ranks nothing."""


def describe_bundle(bundle: Bundle, graph: str | None) -> Artefact:
    """The record of a Bundle; ``graph`` is the one that is loaded, if any is."""
    file = bundle.graph(graph).file if graph else bundle.manifest.tensors["content"].file
    return Artefact(
        str(bundle.path),
        "bundle",
        bundle.bundle_id,
        bundle.file(file).stat().st_size,
        bundle.version,
        bundle.manifest.recipe,
        bundle.flavour,
        _precision(bundle, graph),
    )


def _precision(bundle: Bundle, graph: str | None) -> dict[str, str]:
    """A graph's activations are not here: the runtime chooses them."""
    manifest = bundle.manifest
    table = ("content", "delta", "projection", "popularity")
    found: dict[str, str] = {f"table {name}": manifest.tensors[name].dtype for name in table}
    if graph:
        record = manifest.graphs[graph]
        ports = {port.dtype for port in (*record.inputs.values(), *record.outputs.values())}
        found |= {f"{graph} weights": record.weights, f"{graph} border": ", ".join(sorted(ports))}
    return found


def on_backend(bundle: Bundle, graph: str, choice: Choice) -> Bundle:
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
        runtime=runtime_for(choice, record.file, bundle.runtime),
        graphs={graph: record},
        golden=golden,
    )
    return replace(bundle, manifest=alone)


def runtime_for(choice: Choice, file: str, default: RuntimeName) -> RuntimeName:
    """The device's name of the backend that was asked for.

    Raises:
        UsageError: it does not read such files, or runs no graphs at all.
    """
    if choice.backend == "numpy":
        raise UsageError(
            "--backend numpy runs no graph: it scores and selects, so it takes --scenario rank only"
        )
    runtime = RUNTIME.get(choice.backend, default)
    if not file.endswith(READS[runtime]):
        raise UsageError(
            f"--backend {choice.backend} reads {READS[runtime]} files, {file} is none: "
            "take another flavour or backend"
        )
    return runtime


def insist(backend: BackendChoice) -> None:
    """Make the device's reader of TFLite files take the one package that was asked for.

    The device takes whichever of the two there is. Here a name must mean one of them, so the other
    one is hidden from this process.

    Raises:
        RuntimeUnavailableError: it is not installed, or not with this NumPy.
    """
    if backend not in PACKAGES:
        return
    package, remedy = PACKAGES[backend]
    try:
        import_module(f"{package}.interpreter")
    except (ImportError, AttributeError) as error:  # an old binary on a new NumPy gives either
        raise RuntimeUnavailableError(
            f"--backend {backend} does not run here ({error}): {remedy}"
        ) from error
    if backend == "tflite":
        for name in ("ai_edge_litert", "ai_edge_litert.interpreter"):
            sys.modules[name] = None  # type: ignore[assignment]


def backend_name(runtime: RuntimeName) -> str:
    """What computes, by what was imported for it."""
    if runtime == "litert" and not sys.modules.get("ai_edge_litert.interpreter"):
        return "tflite"
    return runtime


def golden_parity(bundle: Bundle, graph: str, threads: int) -> Parity:
    """Run the golden vectors of a graph that is alone in its Bundle.

    Raises:
        BundleError: an answer is too far from the lab's.
    """
    return Parity(checked=True, graph=graph, cosine=check_golden(bundle, threads=threads)[graph])
