"""The same work done by ours and by a named peer, turn by turn in one process.

An absolute time ages with the machine; a ratio to something that everybody has stays readable. The
contenders take turns of a few milliseconds, so that a neighbour on the machine slows all of them
alike; what counts is CPU time, and a ratio is taken within a round. Answers are compared first: a
fast wrong answer is no contender.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from couchside.benchmarks.errors import InvalidRunError
from couchside.benchmarks.timing.stopwatch import no_collections
from couchside.compression.recipe import builtin_recipes
from couchside.device.ranker import top_k
from couchside.device.runtime.graph import check_golden, open_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from couchside.device.bundle import Bundle
    from couchside.device.runtime.graph import Graph

ROUNDS = 9
TURN_NS = 25_000_000
"""CPU time of a turn: long beside the clock, short beside the moods of a shared machine."""
SIZES = (5_000, 100_000)
"""Titles among which the best are picked: a TV's, and the most that a TV scans exactly."""
K = 100
COMMONEST = "onnxruntime"
CLOSE = 1e-3
"""Relative difference of two float32 training steps that count as the same."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one contender did."""

    work: str
    contender: str
    peer: str
    cpu_ms: float
    """Median over the rounds of the CPU time of one call."""
    ratio: float
    """Median over the rounds of peer / contender: above 1 it needs less than the peer."""
    ratio_low: float
    ratio_high: float
    """Lowest and highest round."""


def run_contests(bundles: Mapping[str, Bundle]) -> Iterator[Result]:
    """Everything there is to compare.

    Args:
        bundles: opened Bundles of one release by flavour.

    Raises:
        InvalidRunError: two contenders give different answers.
        BundleError: a Bundle computes something else than the lab.
    """
    for bundle in bundles.values():
        check_golden(bundle)
    for size in SIZES:
        yield from contest(f"best {K} of {size:,} scores", _selections(size))
    for graph in ("user_model", "text_encoder"):
        yield from contest(graph, _graph_runs(bundles.values(), graph))
    steps = _graph_runs(bundles.values(), "training_step")
    some = next(iter(bundles.values()))
    if find_spec("torch") and some.manifest.recipe in builtin_recipes():
        steps = {"torch, eager": _torch_step(some), **steps}
    yield from contest("training_step", steps)


def contest(
    work: str,
    contenders: Mapping[str, Callable[[], object]],
    *,
    rounds: int = ROUNDS,
    clock: Callable[[], int] = time.process_time_ns,
) -> Iterator[Result]:
    """Let the contenders take turns; the first is the peer that the others are compared with."""
    for run in contenders.values():
        run()
    with no_collections():
        table = [{n: _turn(run, clock) for n, run in contenders.items()} for _ in range(rounds)]
    peer = next(iter(contenders))
    for name in contenders:
        ratios = [row[peer] / row[name] for row in table]
        yield Result(
            work=work,
            contender=name,
            peer=peer,
            cpu_ms=statistics.median(row[name] for row in table) / 1e6,
            ratio=statistics.median(ratios),
            ratio_low=min(ratios),
            ratio_high=max(ratios),
        )


def _turn(run: Callable[[], object], clock: Callable[[], int]) -> float:
    """Nanoseconds a call."""
    calls, began = 0, clock()
    while (took := clock() - began) < TURN_NS:
        run()
        calls += 1
    return took / calls


def _selections(size: int) -> dict[str, Callable[[], object]]:
    scores = np.random.default_rng(0).standard_normal(size).astype(np.float32)

    def partition() -> NDArray[np.int64]:
        best = np.argpartition(scores, size - K)[size - K :]
        return best[np.argsort(-scores[best], kind="stable")]

    if not np.array_equal(partition(), top_k(scores, K)):
        raise InvalidRunError(f"top_k and argpartition disagree about the best of {size} scores")
    return {"numpy argpartition": partition, "couchside top_k": lambda: top_k(scores, K)}


def _graph_runs(bundles: Iterable[Bundle], name: str) -> dict[str, Callable[[], object]]:
    """A run of the graph by runtime and weights, the commonest runtime first.

    Flavours that share a graph's file, as those of one runtime share the training step, count once.
    """
    runs = {}
    for bundle in sorted(bundles, key=lambda bundle: bundle.runtime != COMMONEST):
        golden = next(entry for entry in bundle.manifest.golden if entry.graph == name)
        feeds = {port: np.array(bundle.tensor(tensor)) for port, tensor in golden.inputs.items()}
        runs[f"{bundle.runtime}, {bundle.graph(name).weights}"] = _run(
            open_graph(bundle, name), feeds
        )
    return runs


def _run(graph: Graph, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], object]:
    return lambda: graph.run(feeds)


def _torch_step(bundle: Bundle) -> Callable[[], object]:
    """The training step as one writes it in torch: forward, backward, step."""
    from couchside.benchmarks.promises.torch_step import TorchStep  # noqa: PLC0415 - seconds and 300 MB

    golden = next(e for e in bundle.manifest.golden if e.graph == "training_step")
    feeds = {port: np.array(bundle.tensor(tensor)) for port, tensor in golden.inputs.items()}
    expected = {port: np.array(bundle.tensor(t)) for port, t in golden.outputs.items()}
    step = TorchStep(bundle, feeds)
    loss, theta = step.run(), step.theta()
    for got, name in ((loss, "loss"), (theta, "theta_after")):
        if not _close(got, expected[name]):
            raise InvalidRunError(f"torch computes another {name} than the Bundle's training step")
    return step.run


def _close(got: Any, expected: NDArray[Any]) -> bool:
    difference = float(np.linalg.norm(np.asarray(got) - expected))
    return difference <= CLOSE * float(np.linalg.norm(expected))
