"""Flower's sums over Updates of the same size: what its server does with each, in CPU time.

Runs inside Flower's environment. ``plain``: Updates arrive as serialised Parameters, as over gRPC;
they are deserialised and averaged. ``secagg``: the server's share of SecAgg+ with nobody missing:
int64 vectors are deserialised and added, then every client's own mask is made again from its seed
(put together from shares) and taken off. No journal, no receipts, no check that a client counts
once; keys, shares and the rounds of messages between clients are not timed.
"""

import json
import sys
import time

import numpy as np

MODULUS = 1 << 22
SHARES, THRESHOLD = 10, 7
"""Of each client's seed: a small neighbourhood, in Flower's favour."""


def main():
    from flwr.common import ndarrays_to_parameters

    request = json.load(sys.stdin)
    rng = np.random.default_rng(0)
    count, values = request["updates"], request["values"]
    vectors = [rng.standard_normal(values).astype(np.float32) for _ in range(count)]
    plain = [ndarrays_to_parameters([vector]) for vector in vectors]
    masked, seeds, truth = clients(rng, count, values)
    fold, unmask, total = secagg(masked, seeds, values)
    if not np.array_equal(total, truth):
        sys.exit("SecAgg+ gave another sum than was sent")
    print(
        json.dumps(
            {
                "ms": average(plain),
                "fold_ms": fold,
                "unmask_ms": unmask,
                "bytes": len(plain[0].tensors[0]),
                "masked_bytes": len(masked[0].tensors[0]),
            }
        )
    )


def average(arrived):
    """CPU milliseconds an Update of FedAvg."""
    from flwr.common import parameters_to_ndarrays
    from flwr.server.strategy.aggregate import aggregate

    began = time.process_time()
    aggregate([(parameters_to_ndarrays(parameters), 1) for parameters in arrived])
    return 1000 * (time.process_time() - began) / len(arrived)


def clients(rng, count, values):
    """Masked vectors as they arrive, shares of the seeds, and the sum without masks."""
    from flwr.common import ndarrays_to_parameters
    from flwr.common.secure_aggregation.crypto.shamir import create_shares
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

    masked, shares, total = [], [], np.zeros(values, dtype=np.int64)
    for _ in range(count):
        truth, seed = rng.integers(0, 1 << 16, values, dtype=np.int64), rng.bytes(32)
        (mask,) = pseudo_rand_gen(seed, MODULUS, [(values,)])
        masked.append(ndarrays_to_parameters([(truth + mask) % MODULUS]))
        shares.append(create_shares(seed, THRESHOLD, SHARES)[:THRESHOLD])
        total += truth
    return masked, shares, total % MODULUS


def secagg(masked, shares, values):
    """CPU milliseconds a client of adding and of unmasking, and the sum."""
    from flwr.common import parameters_to_ndarrays
    from flwr.common.secure_aggregation.crypto.shamir import combine_shares
    from flwr.common.secure_aggregation.ndarrays_arithmetic import (
        parameters_addition,
        parameters_mod,
        parameters_subtraction,
    )
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

    began = time.process_time()
    total = parameters_to_ndarrays(masked[0])
    for each in masked[1:]:
        total = parameters_addition(total, parameters_to_ndarrays(each))
    total = parameters_mod(total, MODULUS)
    folded = time.process_time()
    for known in shares:
        mask = pseudo_rand_gen(combine_shares(known), MODULUS, [(values,)])
        total = parameters_mod(parameters_subtraction(total, mask), MODULUS)
    end = time.process_time()
    count = len(masked)
    return 1000 * (folded - began) / count, 1000 * (end - folded) / count, total[0]


main()
