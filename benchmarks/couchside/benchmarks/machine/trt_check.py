"""Would TensorRT take these graphs? Parses and builds each, no GPU needed: ``trt_check BUNDLE``.

    python -m venv trt && trt/bin/pip install tensorrt-rtx 'couchside'
    trt/bin/python -m couchside.benchmarks.machine.trt_check build/demo/lab/bundles/onnx-float

An environment of its own, as TensorRT is nothing that the lab or a TV needs. On a Jetson JetPack's
own ``tensorrt`` is asked: that is the parser and the builder that count. Elsewhere it is
TensorRT-RTX, which shares the parser of its generation, builds without a GPU, and whose engines run
on no Jetson: what it refuses an older TensorRT will hardly take, what it takes may still be refused
there.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from couchside.benchmarks.command import Parser, run_command
from couchside.benchmarks.errors import BackendUnavailableError, ExitCode, UsageError
from couchside.device.bundle import MANIFEST, open_bundle

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = "trt_check"
PACKAGES = ("tensorrt", "tensorrt_rtx")
"""Asked in this order: JetPack brings the first."""
INSTALL = (
    "no TensorRT here: on a Jetson make the environment with --system-site-packages, elsewhere "
    "pip install tensorrt-rtx into an environment of its own"
)
INT8 = {"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "DequantizeLinear"}
"""What int8 flavours for a CPU have: scales found at run time, zero points that are not zero."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one graph."""

    graph: str
    verdict: str
    """``built``, ``refused`` by the parser, or ``not built``: parsed, and no engine came of it."""
    seconds: float
    engine_bytes: int | None = None
    reasons: tuple[str, ...] = ()
    """The parser's, each kind of node once: how many, the first one's name, its words."""
    advice: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status: 0 if every graph was built, 2 if one was not."""
    parser = Parser(prog=PROGRAM, description="Parse and build ONNX graphs with TensorRT.")
    parser.add_argument("artefact", type=Path, help="an ONNX flavour of a Bundle, or an .onnx file")
    parser.add_argument("--json", action="store_true", help="the verdicts as JSON")
    options = parser.parse_args(arguments)
    return run_command(PROGRAM, lambda: _run(options.artefact, as_json=options.json))


def _run(artefact: Path, *, as_json: bool) -> ExitCode:
    files, tensorrt = graphs(artefact), load_tensorrt()
    verdicts = [check(tensorrt, name, file) for name, file in files.items()]
    asked = f"{tensorrt.__name__} {tensorrt.__version__}"
    if as_json:
        document = {"asked": asked, "graphs": [asdict(verdict) for verdict in verdicts]}
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
    else:
        sys.stdout.write("\n".join([f"asked: {asked}", *map(_line, verdicts)]) + "\n")
    return ExitCode.OK if all(one.verdict == "built" for one in verdicts) else ExitCode.MISSED


def graphs(artefact: Path) -> dict[str, Path]:
    """ONNX files by the graph's name.

    Raises:
        UsageError: there is none.
        BundleError: the Bundle is damaged.
    """
    if (artefact / MANIFEST).exists():
        bundle = open_bundle(artefact)
        files = {name: bundle.file(g.file) for name, g in bundle.manifest.graphs.items()}
    else:
        files = {artefact.stem: artefact}
    onnx = {name: file for name, file in files.items() if file.suffix == ".onnx"}
    if not onnx or not all(file.is_file() for file in onnx.values()):
        raise UsageError(f"{artefact}: no ONNX file in it; TensorRT reads onnx flavours only")
    return onnx


def load_tensorrt() -> Any:
    """The package that is installed.

    Raises:
        BackendUnavailableError: none is.
    """
    for name in PACKAGES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise BackendUnavailableError(INSTALL)


def check(tensorrt: Any, name: str, file: Path) -> Verdict:
    """Parse and build one graph.

    Args:
        tensorrt: the package.
        name: of the graph.
        file: an ONNX file.
    """
    began, log = time.monotonic(), _quiet(tensorrt)
    builder = tensorrt.Builder(log)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, log)
    if not parser.parse_from_file(str(file)):
        errors = [parser.get_error(number) for number in range(parser.num_errors)]
        kinds = {error.node_operator() for error in errors}
        seconds = time.monotonic() - began
        return Verdict(name, "refused", seconds, reasons=_reasons(errors), advice=_advice(kinds))
    engine = builder.build_serialized_network(network, builder.create_builder_config())
    seconds = time.monotonic() - began
    if engine is None:
        return Verdict(name, "not built", seconds, reasons=tuple(log.errors[-1:]))
    return Verdict(name, "built", seconds, engine_bytes=engine.nbytes)


def _quiet(tensorrt: Any) -> Any:
    """A logger that keeps errors instead of printing them all."""

    class Quiet(tensorrt.ILogger):  # type: ignore[misc]  # known when it runs
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (tensorrt.ILogger.ERROR, tensorrt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    return Quiet()


def _reasons(errors: Sequence[Any]) -> tuple[str, ...]:
    nodes: dict[str, dict[str, str]] = {}
    for error in errors:
        nodes.setdefault(error.node_operator(), {}).setdefault(error.node_name(), error.desc())
    return tuple(
        f"{len(named)} x {kind}, first {next(iter(named))}: {next(iter(named.values()))}"
        for kind, named in nodes.items()
    )


def _advice(kinds: set[str]) -> str:
    if kinds & INT8:
        return "int8 for a CPU; on the GPU take the float flavour"
    return "runs on the CPU: onnxruntime gives TensorRT only the parts that it takes, if any"


def _line(one: Verdict) -> str:
    if one.verdict == "built":
        size = (one.engine_bytes or 0) / 1e6
        return f"{one.graph}: built in {one.seconds:.1f} s, {size:.1f} MB"
    why = "".join(f"\n    {reason}" for reason in (*one.reasons, one.advice) if reason)
    return f"{one.graph}: {one.verdict}{why}"


if __name__ == "__main__":
    sys.exit(main())
