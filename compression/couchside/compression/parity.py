"""Do the exported files compute what torch computes? Asked through the TV's own runtime code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from couchside.compression.errors import ParityError
from couchside.compression.export import Exportable, graph_record
from couchside.device.runtime.graph import compare, load_graph

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from couchside.compression.export import Family
    from couchside.device.bundle import RuntimeName

LEAST_COSINE = {"float32": 0.9999, "int8": 0.98}
"""Against torch. parity.json of a run shows how far above this its files are; garbage is near 0."""
MOST_ERROR = {"float32": 0.005, "int8": 0.2}
"""‖file - torch‖ / ‖torch‖: a cosine is blind to scale, and a loss has nothing else."""
RUNTIME: dict[Family, RuntimeName] = {"onnx": "onnxruntime", "tflite": "litert"}


@dataclass(frozen=True, slots=True)
class Parity:
    """How one exported graph compares with torch, and what it answered."""

    graph: str
    cosine: float
    """The lowest over outputs and rows."""
    relative_error: float
    answers: dict[str, NDArray[Any]]


def check_parity(item: Exportable, path: Path, family: Family, *, quantized: bool) -> Parity:
    """Run the file at ``path`` on the sample inputs and compare with torch.

    Raises:
        ParityError: the file computes something else.
    """
    record = graph_record(item, family, quantized=quantized)
    graph = load_graph(RUNTIME[family], path, record)
    got = graph.run({name: value.numpy() for name, value in item.inputs.items()})
    expected = item.answers()
    pairs = [compare(got[name], expected[name].numpy()) for name in item.outputs]
    cosine, error = min(c for c, _ in pairs), max(e for _, e in pairs)
    least, most = LEAST_COSINE[record.weights], MOST_ERROR[record.weights]
    if not (cosine >= least and error <= most):
        raise ParityError(
            f"{path}: cosine {cosine:.4f} to torch (at least {least} is asked of {record.weights} "
            f"weights), relative error {error:.4f} (at most {most}); leave this flavour out of the "
            f"recipe"
        )
    return Parity(item.name, cosine, error, got)
