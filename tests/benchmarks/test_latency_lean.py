"""A board has NumPy, one runtime and the device: ``benchmark_latency`` needs nothing else there."""

import json
import os
import subprocess
import sys

import pytest

from couchside.benchmarks.errors import ExitCode

BLOCKED = """\
import sys

class Blocker:
    # What only the lab, the cloud and the developer have installed.
    names = {names!r}

    def find_spec(self, name, path=None, target=None):
        if any(name == one or name.startswith(one + ".") for one in self.names):
            raise ModuleNotFoundError(f"a board has no {{name}}", name=name)

sys.meta_path.insert(0, Blocker())
"""
LAB = (
    *("torch", "scipy", "onnx", "onnxruntime", "litert_torch", "ai_edge_quantizer", "jinja2"),
    *("paho", "tuf", "securesystemslib", "cryptography", "psutil", "pytest", "hypothesis"),
    *("couchside.compression", "couchside.cloud_sync"),
)


@pytest.fixture
def on_a_board(tmp_path):
    """Runs Python in a process in which every Python, the daemon's too, lacks the lab."""
    (tmp_path / "sitecustomize.py").write_text(BLOCKED.format(names=LAB))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)

    def python(*arguments):
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return python


COMMAND = ("-m", "couchside.benchmarks.latency")


@pytest.mark.parametrize(
    "scenario", ["graph", "rank", "encode-text", "search", "learn", "end-to-end"]
)
def test_board_without_the_lab_measures_everything(tiny_bundle, on_a_board, scenario):
    short = ("--warmup-ms", "0", "--iterations", "20", "--duration", "0", "--percentiles", "50")
    done = on_a_board(*COMMAND, tiny_bundle, "--scenario", scenario, *short, "--json", "-")
    assert done.returncode == ExitCode.OK, done.stderr
    assert json.loads(done.stdout)["cases"][0]["latency_ms"]["total"]["n"] == 20


def test_error_on_a_board_without_the_lab_is_words(tmp_path, on_a_board):
    done = on_a_board(*COMMAND, tmp_path)
    assert done.returncode == ExitCode.USAGE
    assert "a Bundle is a folder with a manifest.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_board_of_these_tests_really_has_no_lab(on_a_board):
    done = on_a_board("-c", "import couchside.compression")
    assert "a board has no couchside.compression" in done.stderr


def test_cores_and_threads_are_set_before_numpy_is_there(on_a_board):
    core = min(os.sched_getaffinity(0))
    done = on_a_board(
        "-c",
        "import sys; from couchside.benchmarks.latency import _parser; "
        "from couchside.benchmarks.timing import flags; "
        f"flags.read_conditions(_parser().parse_args(['bundle', '--cpu-affinity', '{core}'])); "
        "print('numpy' in sys.modules)",
    )
    assert done.stdout == "False\n", done.stderr
