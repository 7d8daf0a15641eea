"""ModelOpt's int8 for ONNX with its defaults. Runs inside ModelOpt's environment, on the CPU."""

import json
import sys
from pathlib import Path

import numpy as np

# The package is called modelopt, and so is this script.
sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).parent]


def main():
    from modelopt.onnx.quantization import quantize

    request = json.load(sys.stdin)
    samples = dict(np.load(request["samples"]))
    # One array an input, histories one after the other along the first axis.
    joined = {name: np.concatenate(list(value)) for name, value in samples.items()}
    quantize(
        request["source"],
        quantize_mode="int8",
        calibration_data=joined,
        calibration_eps=["cpu"],
        output_path=request["out"],
    )
    print(json.dumps({}))


main()
