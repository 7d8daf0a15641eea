"""Graphs by runtime, and training steps that are held to torch before they count."""

import json
import subprocess
import sys
from importlib import resources

import numpy as np
import pytest

from couchside.benchmarks.tables import peers, runtimes
from couchside.benchmarks.tables.bench import Bench
from couchside.device.bundle import open_bundle


@pytest.fixture
def bench(bundles, tmp_path):
    return Bench("quick", bundles, tmp_path / "work", "test", peers=False)


@pytest.mark.timeout(120)
def test_runtimes_without_peers_measures_graphs_and_says_what_is_missing(bench):
    body = runtimes.TABLE.run(bench)
    user_model, encoder, step = body.sections
    for section in (user_model, encoder):
        names = [row.name for row in section.rows]
        assert names[0] == "onnxruntime, float32"
        assert "litert, int8" in names
        assert all(row.cells[0].value > 0 for row in section.rows)
        assert section.rows[0].cells[1].value == 1.0
    assert {row.cells[0].text for row in step.rows} == {"left out by --without-peers"}


def ask(request):
    """Run the script as a peer's environment would, in this one."""
    script = resources.files("couchside.benchmarks.tables") / "peer_scripts" / "training_step.py"
    done = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps(request), capture_output=True, text=True, check=True,
        env=peers._environment(),
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.timeout(120)
def test_step_of_each_runtime_is_that_of_torch(bundles):
    asked = {"seconds": 0.0}
    answers = [
        ask({"bundle": str(bundles / flavour), "kind": kind, **asked})
        for flavour, kind in (("onnx-float", "torch"), ("onnx-float", "graph"),
                              ("litert-float", "graph"))
    ]  # fmt: skip
    torch, *others = (np.array(answer["theta"]) for answer in answers)
    for theta in others:
        assert np.linalg.norm(theta - torch) <= 1e-5 * np.linalg.norm(torch)
    assert all(answer["cpu_ms"] > 0 and answer["peak_bytes"] > 30e6 for answer in answers)


def test_rows_compare_rounds_and_parameters():
    def answer(ms, theta):
        return {"cpu_ms": ms, "peak_bytes": 50_000_000, "theta": theta}

    found = {
        runtimes.TORCH_STEP: {"installed": 9e8, "rounds": [answer(8, [3, 4]), answer(10, [3, 4])]},
        "LiteRT": {"installed": 1e8, "rounds": [answer(4, [3, 4.5]), answer(4, [3, 4.5])]},
        "tflite-runtime": {"missing": "does not install here: no wheel"},
    }
    row = runtimes._stepper("LiteRT", found)
    assert row.ours
    assert (row.cells[1].low, row.cells[1].value, row.cells[1].high) == (2.0, 2.25, 2.5)
    assert row.cells[4].value == pytest.approx(0.1)
    missing = runtimes._stepper("tflite-runtime", found)
    assert missing.cells[0].text.startswith("does not install")


def test_unit_is_measured_once(bench, bundles):
    calls = []
    for _ in range(2):
        assert bench.unit("a/b", lambda: calls.append(1) or {"x": 1.5}) == {"x": 1.5}
    assert len(calls) == 1
    other = Bench("quick", bundles, bench.work, "changed code", peers=False)
    other.unit("a/b", lambda: calls.append(1))
    assert len(calls) == 2


def test_peer_that_fails_is_a_reason_and_not_a_crash(bench, tmp_path):
    installed = peers.Installed(peers.Peer("self", ()), sys.executable, tmp_path)
    with pytest.raises(peers.PeerMissingError, match="failed: "):
        installed.ask("training_step.py", {"bundle": "/nowhere"})


def test_bundles_of_the_fixture_are_opened_by_flavour(bench, bundles):
    assert bench.bundles().keys() == {path.name for path in bundles.iterdir()}
    assert (
        bench.bundles()["litert-int8"].bundle_id == open_bundle(bundles / "litert-int8").bundle_id
    )
