"""A user model's file on this environment's tflite-runtime, and what its golden vectors say."""

import json
import sys
from pathlib import Path

import numpy as np

from couchside.device.bundle import open_bundle
from couchside.device.errors import BundleError
from couchside.device.runtime.graph import check_golden


def main():
    request = json.load(sys.stdin)
    from tflite_runtime.interpreter import Interpreter

    samples = dict(np.load(request["samples"]))
    runner = Interpreter(model_path=request["file"]).get_signature_runner()
    users = []
    for row in range(len(next(iter(samples.values())))):
        feed = {tensor: samples[name][row] for name, tensor in request["tensors"].items()}
        users.append(np.asarray(next(iter(runner(**feed).values()))).ravel().tolist())
    print(json.dumps({"users": users, "refused": refusal(Path(request["bundle"]))}))


def refusal(folder):
    """Why the TV refuses the Bundle on this runtime; empty if it does not."""
    try:
        check_golden(open_bundle(folder))
    except BundleError as error:
        return str(error).partition(": ")[2]
    return ""


main()
