"""One runtime's training steps in a process of its own: CPU time, peak memory, parameters.

Runs inside a peer's environment: numpy and one runtime, nothing else of ours' dependencies.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from couchside.device.bundle import open_bundle
from couchside.device.process import memory

GRAPH = "training_step"


def main():
    request = json.load(sys.stdin)
    bundle = open_bundle(Path(request["bundle"]))
    golden = next(entry for entry in bundle.manifest.golden if entry.graph == GRAPH)
    feeds = {port: np.array(bundle.tensor(tensor)) for port, tensor in golden.inputs.items()}
    run, theta = _torch(bundle, feeds) if request["kind"] == "torch" else _graph(bundle, feeds)
    run()
    after = theta()
    took = []
    end = time.process_time() + request["seconds"]
    while time.process_time() < end or len(took) < 3:
        before = time.process_time_ns()
        run()
        took.append((time.process_time_ns() - before) / 1e6)
    peak = memory(Path("/proc/self/status"))["peak_rss_bytes"]
    answer = {"cpu_ms": statistics.median(took), "peak_bytes": peak, "theta": after.tolist()}
    print(json.dumps(answer))


def _graph(bundle, feeds):
    from couchside.device.runtime.graph import open_graph

    graph, last = open_graph(bundle, GRAPH), {}

    def run():
        last.update(graph.run(feeds))

    return run, lambda: np.array(last["theta_after"])[:: _stride(last["theta_after"])]


def _torch(bundle, feeds):
    from couchside.benchmarks.tables.torch_step import TorchStep

    step = TorchStep(bundle, feeds)
    return step.run, lambda: step.theta()[:: _stride(step.theta())]


def _stride(theta):
    """Every so many parameters cross the pipe: a thousand tell as much as all."""
    return max(1, len(theta) // 1000)


main()
