"""Everybody's int8 of the same two float graphs: ours, the runtimes' own tools, other tools'.

Each tool gets its defaults, as somebody meets them who does not tune; where it needs to calibrate,
the same samples. Files made in a peer's environment are run here, on our runtimes.
"""

from __future__ import annotations

import sys
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from couchside.benchmarks.tables import peers
from couchside.benchmarks.tables.compression.judged import GRAPHS
from couchside.benchmarks.tables.peers import TORCH, Peer, PeerMissingError
from couchside.device.errors import BundleError
from couchside.device.runtime.graph import Graph, load_graph
from couchside.device.runtime.litert import LiteRTBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from couchside.benchmarks.tables.bench import Bench
    from couchside.device.bundle import Bundle, GraphRecord

    Feeds = Mapping[str, NDArray[Any]]
    Samples = Mapping[str, Sequence[Feeds]]
    Make = Callable[[str, Path], object]

# requests and huggingface_hub: imported by the tools, but not among what they say they need.
OLIVE = Peer(
    "olive",
    ("olive-ai==0.13.0", "onnxruntime==1.26.0", "numpy==2.4.6", "requests==2.34.2", TORCH),
)
MODELOPT = Peer(
    "modelopt",
    ("nvidia-modelopt[onnx]==0.47.0", TORCH, "requests==2.34.2", "huggingface_hub==2.4.0"),
)
FLOAT = {"onnxruntime": "float, onnxruntime", "litert": "float, LiteRT"}


@dataclass(frozen=True, slots=True)
class Contender:
    """A tool's files of both graphs, or why there are none."""

    name: str
    flavour: str
    """Float Bundle whose graphs it replaces; says runtime and border."""
    files: Mapping[str, Path] = field(default_factory=dict)
    missing: str = ""
    ours: bool = False
    int8_border: bool = False
    """The graph takes and gives int8 where ours has float."""

    @property
    def bytes(self) -> dict[str, int]:
        """Of each file."""
        return {name: file.stat().st_size for name, file in self.files.items()}


class Int8Border(LiteRTBackend):
    """A graph whose inputs and outputs are int8: the caller has to convert, so here it is."""

    def __init__(self, path: str, record: GraphRecord) -> None:
        super().__init__(path, record, threads=1)
        self._inputs = self._run.get_input_details()
        self._outputs = self._run.get_output_details()

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Quantise what the graph wants quantised, run it, and give floats back."""
        native = {name: _to_int8(value, self._inputs[name]) for name, value in feeds.items()}
        return {name: _to_float(v, self._outputs[name]) for name, v in self._run(**native).items()}


def _to_int8(value: NDArray[Any], detail: Mapping[str, Any]) -> NDArray[Any]:
    scale, zero = detail["quantization"]
    if detail["dtype"] != np.int8 or not scale:
        return value
    return np.asarray(np.clip(np.rint(value / scale) + zero, -128, 127), dtype=np.int8)


def _to_float(value: NDArray[Any], detail: Mapping[str, Any]) -> NDArray[Any]:
    scale, zero = detail["quantization"]
    if not scale:
        return value
    return np.asarray((value.astype(np.float32) - zero) * np.float32(scale), dtype=np.float32)


def load(contender: Contender, bundles: Mapping[str, Bundle]) -> dict[str, Graph]:
    """Both graphs of a contender.

    Raises:
        BundleError: there are no files, or the runtime can't load one.
    """
    if contender.missing:
        raise BundleError(contender.missing)
    bundle = bundles[contender.flavour]
    found = {}
    for name, file in contender.files.items():
        record = bundle.graph(name)
        if contender.int8_border:
            found[name] = Graph(record, Int8Border(str(file), record))
        else:
            found[name] = load_graph(bundle.runtime, file, record)
    return found


def contenders(
    bench: Bench, bundles: Mapping[str, Bundle], samples: Samples, folder: Path
) -> list[Contender]:
    """Every tool's files, made in ``folder``; the float files of each runtime come first."""
    found = []
    if "onnx-float" in bundles:
        found += _onnx(bench, bundles, samples, folder)
    if "litert-float" in bundles:
        found += _tflite(bench, bundles, samples, folder)
    return found


def _onnx(
    bench: Bench, bundles: Mapping[str, Bundle], samples: Samples, folder: Path
) -> list[Contender]:
    source = _files(bundles["onnx-float"])

    def asking(peer: Peer, script: str) -> Make:
        return lambda graph, out: _ask(bench, peer, script, source[graph], out, samples[graph])

    tools: dict[str, Make] = {
        "onnxruntime quantize_dynamic": lambda graph, out: _ort_dynamic(source[graph], out),
        "onnxruntime quantize_static": lambda graph, out: _ort_static(
            source[graph], out, samples[graph]
        ),
        "quantize_static, matrix products": lambda graph, out: _ort_static_products(
            source[graph], out, samples[graph]
        ),
        "Olive, dynamic": asking(OLIVE, "olive.py"),
        "ModelOpt, int8 (entropy)": asking(MODELOPT, "modelopt.py"),
    }
    return [
        Contender(FLOAT["onnxruntime"], "onnx-float", source),
        _own(bundles, "onnx-int8", "onnx-float"),
        *(_made(bench, name, "onnx-float", folder, make) for name, make in tools.items()),
    ]


def _tflite(
    bench: Bench, bundles: Mapping[str, Bundle], samples: Samples, folder: Path
) -> list[Contender]:
    bundle = bundles["litert-float"]

    def with_recipe(recipe: str) -> Make:
        return lambda graph, out: _edge(bundle, graph, out, recipe, samples[graph])

    static = with_recipe("static_wi8_ai8")
    name = "AI Edge Quantizer"
    return [
        Contender(FLOAT["litert"], bundle.flavour, _files(bundle)),
        _own(bundles, "litert-int8", bundle.flavour),
        _made(bench, f"{name}, dynamic", bundle.flavour, folder, with_recipe("dynamic_wi8_afp32")),
        _made(
            bench,
            f"{name}, weights only",
            bundle.flavour,
            folder,
            with_recipe("weight_only_wi8_afp32"),
        ),
        _made(bench, f"{name}, static", bundle.flavour, folder, static, int8_border=True),
    ]


def _files(bundle: Bundle) -> dict[str, Path]:
    return {name: bundle.file(bundle.graph(name).file) for name in GRAPHS}


def _own(bundles: Mapping[str, Bundle], flavour: str, like: str) -> Contender:
    name = f"Couchside {flavour}"
    if flavour not in bundles:
        return Contender(name, like, missing="no such flavour here", ours=True)
    return Contender(name, like, _files(bundles[flavour]), ours=True)


def _made(
    bench: Bench, name: str, flavour: str, folder: Path, make: Make, *, int8_border: bool = False
) -> Contender:
    stem = "".join(letter if letter.isalnum() else "-" for letter in name.lower())
    suffix = ".onnx" if flavour.startswith("onnx") else ".tflite"
    files = {}
    for graph in GRAPHS:
        bench.tell(f"compression: {name}: {graph}")
        files[graph] = folder / f"{stem}.{graph}{suffix}"
        files[graph].unlink(missing_ok=True)
        try:
            with warnings.catch_warnings(), redirect_stdout(sys.stderr):  # the tools', not ours
                warnings.simplefilter("ignore")
                make(graph, files[graph])
        except (PeerMissingError, RuntimeError, ValueError) as error:
            return Contender(name, flavour, missing=f"{graph}: {error}"[:200])
    return Contender(name, flavour, files, int8_border=int8_border)


def _ort_dynamic(source: Path, out: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic  # noqa: PLC0415 - slow to import

    quantize_dynamic(source, out)


def _ort_static(source: Path, out: Path, samples: Sequence[Feeds]) -> None:
    from onnxruntime.quantization import quantize_static  # noqa: PLC0415 - slow to import

    quantize_static(source, out, _Reader(samples))


def _ort_static_products(source: Path, out: Path, samples: Sequence[Feeds]) -> None:
    """Not a default, but what its manual leads to: prepared, symmetric, nothing but products."""
    from onnxruntime.quantization import quantize_static  # noqa: PLC0415 - slow to import
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        out,
        _Reader(samples),
        op_types_to_quantize=["MatMul", "Gemm"],
        per_channel=True,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
    )


class _Reader:
    """Hands out one sample after the other, as onnxruntime's CalibrationDataReader."""

    def __init__(self, samples: Sequence[Feeds]) -> None:
        self._left = iter(samples)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next, or None."""
        sample = next(self._left, None)
        return None if sample is None else dict(sample)


def _edge(
    bundle: Bundle, graph: str, out: Path, recipe_name: str, samples: Sequence[Feeds]
) -> None:
    from ai_edge_quantizer import quantizer, recipe  # noqa: PLC0415 - slow to import

    record = bundle.graph(graph)
    tool = quantizer.Quantizer(str(bundle.file(record.file)), getattr(recipe, recipe_name)())
    calibration = None
    if tool.need_calibration:
        named = [
            {port.tensor: sample[name] for name, port in record.inputs.items()}
            for sample in samples
        ]
        calibration = tool.calibrate({"serving_default": named})
    tool.quantize(calibration).export_model(str(out))


def _ask(
    bench: Bench, peer: Peer, script: str, source: Path, out: Path, samples: Sequence[Feeds]
) -> None:
    installed = peers.install(bench, peer)
    file = out.with_suffix(".npz")
    write_samples(samples, file)
    request = {"source": str(source), "out": str(out), "samples": str(file)}
    installed.ask(script, request)


def write_samples(samples: Sequence[Feeds], file: Path) -> None:
    """Write inputs as an array each, samples first: [n, …]."""
    stacked = {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
    np.savez(file, **stacked)  # type: ignore[arg-type]
