"""Olive's dynamic quantisation with its defaults. Runs inside Olive's environment."""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

# The package is called olive, and so is this script.
sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).parent]
os.environ["OLIVE_DISABLE_TELEMETRY"] = "1"


def main():
    from olive.model import ONNXModelHandler
    from olive.passes.olive_pass import create_pass_from_dict
    from olive.passes.onnx.quantization import OnnxDynamicQuantization

    request = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        quantise = create_pass_from_dict(OnnxDynamicQuantization, {}, disable_search=True)
        made = quantise.run(ONNXModelHandler(request["source"]), str(Path(folder) / "out"))
        shutil.copyfile(made.model_path, request["out"])
    print(json.dumps({}))


main()
