"""The Bundle's graphs on each runtime: what a run costs, and what a TV has to install for it.

Inference is compared turn by turn in one process. A training step is run in a process of its own
for each runtime, in an environment that holds nothing else, as its peak memory and its size on disk
are half of the question; the processes take turns, and ratios are taken within a round. All steps
start from the same golden vector, and their results stand beside those of eager torch.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import numpy as np

from couchside.benchmarks.tables import peers
from couchside.benchmarks.tables.contest import contest
from couchside.benchmarks.tables.peers import TORCH, Peer, PeerMissingError
from couchside.benchmarks.tables.table import Body, Cell, Column, Row, Section, Table
from couchside.device.runtime.graph import check_golden, open_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from couchside.benchmarks.tables.bench import Bench
    from couchside.device.bundle import Bundle
    from couchside.device.runtime.graph import Graph

TORCH_STEP = "torch, eager"
TFLITE = Peer("tflite", ("tflite-runtime==2.14.0", "numpy==1.26.4"))
STEPPERS: tuple[tuple[str, str, Peer], ...] = (
    (TORCH_STEP, "onnx-float", Peer("torch", (TORCH, "numpy==2.4.6"))),
    ("onnxruntime", "onnx-float", Peer("onnxruntime", ("onnxruntime==1.32.0", "numpy==2.4.6"))),
    ("LiteRT", "litert-float", Peer("litert", ("ai-edge-litert==2.3.0", "numpy==2.4.6"))),
    ("tflite-runtime", "litert-float", TFLITE),
)
"""Name, the flavour whose graph it reads, and its environment; torch is what others are held to."""
COLUMNS = (
    Column("CPU", "ms", "less"),
    Column("ratio to onnxruntime float", "times", "more"),
    Column("model file", "kB", "less"),
)
STEP_COLUMNS = (
    Column("CPU", "ms", "less"),
    Column("ratio to torch", "times", "more"),
    Column("peak memory", "MB", "less"),
    Column("installed", "MB", "less"),
    Column("difference to torch"),
)
MB = 1e6


def _run(bench: Bench) -> Body:
    bundles = bench.bundles()
    for bundle in bundles.values():
        check_golden(bundle)
    graphs = [_graph(bench, bundles, name) for name in ("user_model", "text_encoder")]
    step = _step(bench, bundles)
    versions = {peer.name: requirement.partition("==")[2]
                for _, _, peer in STEPPERS for requirement in peer.requirements[:1]}  # fmt: skip
    return Body((*graphs, step), versions=versions)


TABLE = Table(
    "runtimes",
    "Runtimes",
    "What does a run of the Bundle's graphs cost on each runtime, and what must be installed?",
    _run,
)


def _graph(bench: Bench, bundles: Mapping[str, Bundle], name: str) -> Section:
    """One graph by runtime and weights, the commonest runtime first."""
    found = bench.unit(f"runtimes/{name}", lambda: _contest(bench, bundles, name))
    rows = [
        Row(name, (Cell(cpu), Cell(ratio, low, high), Cell(size / 1000)), ours="int8" in name)
        for name, cpu, ratio, low, high, size in found
    ]
    return Section(
        title=f"One run of {name}",
        text=f"The inputs of a golden vector ({_shapes(next(iter(bundles.values())), name)}), one "
        "thread, turn by turn in one process; brackets are the lowest and highest round.",
        columns=COLUMNS,
        rows=tuple(rows),
        caveats=(
            "Every answer was within the golden vectors' tolerance first.",
            "x86-64 with AVX-512 VNNI: ratios on ARM differ; measure with `benchmark_latency`.",
        ),
        chart="CPU",
    )


def _contest(bench: Bench, bundles: Mapping[str, Bundle], name: str) -> list[list[Any]]:
    runs: dict[str, Callable[[], object]] = {}
    sizes: dict[str, int] = {}
    for bundle in sorted(bundles.values(), key=lambda bundle: bundle.flavour != "onnx-float"):
        label = f"{bundle.runtime}, {bundle.graph(name).weights}"
        runs[label] = _once(open_graph(bundle, name), _feeds(bundle, name))
        sizes[label] = bundle.file(bundle.graph(name).file).stat().st_size
    return [
        [s.contender, s.cpu_ms, s.ratio, s.ratio_low, s.ratio_high, sizes[s.contender]]
        for s in contest(runs, rounds=bench.quick_or_full(9, 21))
    ]


def _once(graph: Graph, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], object]:
    return lambda: graph.run(feeds)


def _feeds(bundle: Bundle, name: str) -> dict[str, NDArray[Any]]:
    golden = next(entry for entry in bundle.manifest.golden if entry.graph == name)
    return {port: np.array(bundle.tensor(tensor)) for port, tensor in golden.inputs.items()}


def _shapes(bundle: Bundle, name: str) -> str:
    feeds = _feeds(bundle, name)
    return ", ".join(f"{port} {'×'.join(map(str, feed.shape))}" for port, feed in feeds.items())


def _step(bench: Bench, bundles: Mapping[str, Bundle]) -> Section:
    rows = []
    rounds = bench.unit("runtimes/training_step", lambda: _rounds(bench, bundles))
    for name, _, _ in STEPPERS:
        rows.append(_stepper(name, rounds))
    return Section(
        title="One training step",
        text="The Bundle's own training step (forward, backward, SGD on every parameter) and the "
        "same written in eager torch; one thread, each in an environment and a process of its own, "
        "rounds in turn; brackets are the lowest and highest round.",
        columns=STEP_COLUMNS,
        rows=tuple(rows),
        caveats=(
            "Peak memory is of the whole process, Python and numpy included.",
            (
                "Installed is what pip put there, without pip; of PyTorch the CPU build where "
                "this machine's index has it, and the CUDA build otherwise."
            ),
            "Difference: of the parameters after the step, relative to torch's.",
        ),
        chart="peak memory",
    )


def _rounds(bench: Bench, bundles: Mapping[str, Bundle]) -> dict[str, Any]:
    """By contender: its size and an answer a round, or the reason why there is none."""
    ready: dict[str, tuple[peers.Installed, dict[str, Any]]] = {}
    found: dict[str, Any] = {}
    for name, flavour, peer in STEPPERS:
        # Flavours of one runtime share the step's file: either will do.
        bundle = bundles.get(flavour) or bundles[flavour.replace("float", "int8")]
        request = {
            "bundle": str(bundle.path.resolve()),
            "kind": "torch" if name == TORCH_STEP else "graph",
            "seconds": bench.quick_or_full(1.0, 3.0),
        }
        try:
            installed = peers.install(bench, peer)
            ready[name] = installed, request
            found[name] = {"installed": peers.installed_bytes(installed), "rounds": []}
        except PeerMissingError as error:
            found[name] = {"missing": str(error)}
    for _ in range(bench.quick_or_full(3, 7)):
        for name in list(ready):
            installed, request = ready[name]
            try:
                found[name]["rounds"].append(installed.ask("training_step.py", request))
            except PeerMissingError as error:
                found[name] = {"missing": str(error)}
                del ready[name]
    return found


def _stepper(name: str, found: Mapping[str, Any]) -> Row:
    mine, torch = found[name], found[TORCH_STEP]
    ours = name != TORCH_STEP
    if not mine.get("rounds"):
        return Row(name, (Cell(text=mine.get("missing", "–")), *[Cell()] * 4), ours)
    took = [answer["cpu_ms"] for answer in mine["rounds"]]
    ratio, difference = Cell(), Cell()
    if torch.get("rounds"):
        ratios = sorted(
            peer["cpu_ms"] / answer["cpu_ms"]
            for peer, answer in zip(torch["rounds"], mine["rounds"], strict=False)
        )
        ratio = Cell(statistics.median(ratios), ratios[0], ratios[-1])
        reference = np.array(torch["rounds"][0]["theta"])
        error = np.linalg.norm(np.array(mine["rounds"][0]["theta"]) - reference)
        difference = Cell(float(error / np.linalg.norm(reference)))
    peak = max(answer["peak_bytes"] for answer in mine["rounds"])
    return Row(
        name,
        (
            Cell(statistics.median(took), min(took), max(took)),
            ratio,
            Cell(peak / MB),
            Cell(mine["installed"] / MB),
            difference,
        ),
        ours,
    )
