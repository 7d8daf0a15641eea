"""Flower's FedAvg over Updates of the same size: what its server does with each, in CPU time.

Runs inside Flower's environment. Updates arrive as serialised Parameters, as over gRPC; they are
deserialised and averaged. No journal, no receipts, no masks, no check that a client counts once.
"""

import json
import sys
import time

import numpy as np


def main():
    from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
    from flwr.server.strategy.aggregate import aggregate

    request = json.load(sys.stdin)
    rng = np.random.default_rng(0)
    count, values = request["updates"], request["values"]
    vectors = [rng.standard_normal(values).astype(np.float32) for _ in range(count)]
    arrived = [ndarrays_to_parameters([vector]) for vector in vectors]
    took = []
    for _ in range(request["rounds"]):
        began = time.process_time()
        aggregate([(parameters_to_ndarrays(parameters), 1) for parameters in arrived])
        took.append(1000 * (time.process_time() - began) / count)
    print(json.dumps({"ms": took, "bytes": len(arrived[0].tensors[0])}))


main()
