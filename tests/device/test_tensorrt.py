"""Engines are kept for exactly what they were built for; a damaged one is built, never opened."""

import logging
import os
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from simulators.tensorrt import ORIN, FakeCuda, FakeOnnxruntime

from couchside.device.bundle import open_bundle
from couchside.device.errors import BundleError, RuntimeUnavailableError
from couchside.device.runtime import gpu
from couchside.device.runtime.engines import EngineCache, EngineKey, cache_folder
from couchside.device.runtime.gpu import (
    compute_capability,
    driver_version,
    read_gpu,
    tensorrt_version,
)
from couchside.device.runtime.tensorrt import TensorRTBackend

KEY = EngineKey("ab" * 32, "10.3.0", "8.7", "R36.4.3", "1.32.0")
NO_OUTPUTS = SimpleNamespace(outputs={})


@pytest.fixture
def runtime(monkeypatch):
    fake = FakeOnnxruntime()
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    return fake


@pytest.fixture
def model(tmp_path):
    file = tmp_path / "user_model.onnx"
    file.write_bytes(b"a graph")
    return file


@pytest.fixture
def start(tmp_path, model, runtime):
    """Opens the model as a start of the TV does, on some GPU."""

    def once(gpu=ORIN):
        return TensorRTBackend(
            str(model), NO_OUTPUTS, gpu=lambda: gpu, cache=tmp_path / "engines"
        ).opened

    return once


def engine(tmp_path):
    return next((tmp_path / "engines").glob("*/*.engine"))


def test_engine_is_built_once_and_found_at_the_next_start(start, runtime):
    assert start().built
    again = start()
    assert not again.built
    assert again.engine_bytes > 0
    assert (runtime.built, runtime.loaded) == (1, 1)


@pytest.mark.parametrize(
    "change", [{"driver": "R36.4.4"}, {"compute_capability": "11.0"}, {"tensorrt": "10.16.2"}]
)
def test_engine_of_another_driver_gpu_or_tensorrt_is_not_opened(start, runtime, change):
    start()
    assert start(replace(ORIN, **change)).built
    assert (runtime.built, runtime.loaded) == (2, 0)


def test_engine_of_another_model_or_onnxruntime_is_not_opened(start, runtime, model):
    start()
    model.write_bytes(b"another graph")
    assert start().built
    runtime.__version__ = "1.33.0"
    assert start().built
    assert runtime.loaded == 0


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda file: file.write_bytes(file.read_bytes()[:5]), id="broken off"),
        pytest.param(lambda file: file.write_bytes(b"x" + file.read_bytes()[1:]), id="one byte"),
        pytest.param(lambda file: file.unlink(), id="gone"),
        pytest.param(lambda file: (file.parent / "seal.json").unlink(), id="power cut in a build"),
        pytest.param(lambda file: (file.parent / "seal.json").write_text("[]"), id="wrong seal"),
        pytest.param(lambda file: (file.parent / "more.engine").touch(), id="foreign file"),
    ],
)
def test_damaged_engine_is_never_given_to_tensorrt(start, runtime, tmp_path, damage):
    start()
    damage(engine(tmp_path))
    assert start().built
    assert (runtime.built, runtime.loaded) == (2, 0)
    assert not start().built


def test_whole_engine_that_tensorrt_refuses_is_built_once_more(start, runtime, caplog):
    start()
    runtime.refuse_next = True
    assert start().built
    assert (runtime.built, runtime.loaded) == (2, 1)
    assert "refused, built anew" in caplog.text
    assert not start().built


def test_engine_that_ended_the_process_is_built_anew(start, runtime):
    start()
    runtime.crash_on_load = True
    with pytest.raises(SystemExit):
        start()
    assert start().built
    assert runtime.loaded == 1


def test_model_that_tensorrt_can_not_build_is_refused_and_leaves_nothing(start, runtime, tmp_path):
    runtime.refuses = True
    with pytest.raises(BundleError, match=r"user_model\.onnx: TensorRT can't build it: .*node 9"):
        start()
    assert list((tmp_path / "engines").glob("*/*")) == []


def test_gpu_that_did_not_start_is_told(start, runtime):
    runtime.started = ["CPUExecutionProvider"]
    with pytest.raises(RuntimeUnavailableError, match="TensorRT did not start"):
        start()


def test_gpu_that_tells_nothing_gets_no_cache(start, runtime, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        assert start(None).engine_bytes is None
    assert ", not kept, " in caplog.text
    assert start(None).built
    assert runtime.built == 2
    assert not (tmp_path / "engines").exists()


def test_cache_that_can_not_be_used_stops_nothing(start, tmp_path, caplog):
    (tmp_path / "engines").write_text("a file")
    assert start().built
    assert "engines are not kept" in caplog.text


def test_build_is_told_with_its_time_memory_and_share(start, caplog):
    with caplog.at_level(logging.INFO):
        start()
    assert "engine of user_model.onnx built: " in caplog.text
    assert "nodes in TensorRT: 75%" in caplog.text


def test_onnxruntime_that_does_not_tell_who_runs_what_is_fine(
    runtime, model, tmp_path, monkeypatch
):
    monkeypatch.delattr("simulators.tensorrt.FakeSession.get_provider_graph_assignment_info")
    backend = TensorRTBackend(str(model), NO_OUTPUTS, gpu=lambda: ORIN, cache=tmp_path / "engines")
    assert backend.share is None


def test_graph_answers_as_the_manifest_names_it(bundles, monkeypatch, tmp_path):
    real = pytest.importorskip("onnxruntime")
    monkeypatch.setitem(sys.modules, "onnxruntime", FakeOnnxruntime(real))
    bundle = open_bundle(bundles / "onnx-float")
    record = bundle.graph("user_model")
    path = str(bundle.file(record.file))
    backend = TensorRTBackend(path, record, gpu=lambda: ORIN, cache=tmp_path / "engines")
    golden = next(golden for golden in bundle.manifest.golden if golden.graph == "user_model")
    feeds = {record.inputs[name].tensor: bundle.tensor(t) for name, t in golden.inputs.items()}
    answers = backend.run(feeds)
    assert {port.tensor for port in record.outputs.values()} == answers.keys()


def test_cache_keeps_the_last_used_keys(tmp_path):
    cache = EngineCache(tmp_path / "engines", kept=2)
    keys = [replace(KEY, driver=str(number)) for number in range(3)]
    for age, key in zip((300, 200, 100), keys, strict=True):
        place, _ = cache.find(key)
        (place / "one.engine").write_bytes(b"engine")
        cache.seal(key)
        if place.exists():
            os.utime(place, (1_700_000_000 - age, 1_700_000_000 - age))
    assert [cache.find(key)[1] for key in keys] == [False, True, True]


def test_engine_built_before_the_clock_is_set_stays(tmp_path):
    cache = EngineCache(tmp_path / "engines", kept=1)
    place, _ = cache.find(KEY)
    other = tmp_path / "engines/later"
    other.mkdir()
    (place / "one.engine").write_bytes(b"engine")
    os.utime(place, (0, 0))
    cache.seal(KEY)
    assert cache.find(KEY)[1]
    assert not other.exists()


def test_build_without_an_engine_is_not_sealed(tmp_path):
    """Graphs with open dimensions are built at their first run."""
    cache = EngineCache(tmp_path / "engines")
    cache.find(KEY)
    assert cache.seal(KEY) == 0
    assert not cache.find(KEY)[1]


def test_cache_is_nobody_elses(tmp_path, monkeypatch):
    folder = tmp_path / "engines"
    folder.mkdir(mode=0o777)
    EngineCache(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(PermissionError, match="could run code as you"):
        EngineCache(folder)


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"CACHE_DIRECTORY": "/var/cache/couchside", "HOME": "/x"}, "/var/cache/couchside/engines"),
        ({"CACHE_DIRECTORY": "/a:/b"}, "/a/engines"),
        ({"XDG_CACHE_HOME": "/c", "HOME": "/x"}, "/c/couchside/engines"),
        ({"HOME": "/home/tv"}, "/home/tv/.cache/couchside/engines"),
    ],
)
def test_cache_is_where_systemd_or_the_user_says(environment, folder):
    assert str(cache_folder(environment)) == folder


def test_libraries_are_asked(tmp_path):
    assert compute_capability(FakeCuda()) == "8.7"
    assert compute_capability(FakeCuda(fails="cuInit")) is None
    assert compute_capability(FakeCuda(fails="cuDeviceGetAttribute")) is None
    assert tensorrt_version(SimpleNamespace(getInferLibVersion=lambda: 100300)) == "10.3.0"
    assert tensorrt_version(SimpleNamespace(getInferLibVersion=lambda: 8502)) == "8.5.2"
    assert driver_version(FakeCuda(), tmp_path) is None


@pytest.mark.parametrize(
    ("name", "text", "driver"),
    [
        (
            "proc/driver/nvidia/version",
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 23\n",
            "570.86.15 CUDA 12060",
        ),
        (
            "etc/nv_tegra_release",
            "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
            "R36 (release), REVISION: 4.3 CUDA 12060",
        ),
    ],
)
def test_driver_is_that_of_the_kernel_or_of_jetson_linux(tmp_path, name, text, driver):
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert driver_version(FakeCuda(), tmp_path) == driver
    assert driver_version(FakeCuda(fails="cuDriverGetVersion"), tmp_path) is None


def test_machine_without_cuda_has_no_gpu(monkeypatch):
    monkeypatch.setattr(gpu, "_load", lambda _name: None)
    assert read_gpu() is None
