"""The real daemon behind the benchmarks: started, asked, stopped, and honest when it fails."""

import tempfile
from pathlib import Path

import pytest

from couchside.benchmarks.errors import BenchmarkError, InvalidRunError
from couchside.benchmarks.tv.process import TvProcess
from couchside.device.errors import UnreachableError
from couchside.device.rpc.client import Client


@pytest.fixture
def tv():
    """A TV that is off; its folder's path is short, as a socket's must be."""
    with tempfile.TemporaryDirectory(prefix="couchside-") as folder, TvProcess(Path(folder)) as one:
        yield one


def test_tv_answers_between_start_and_stop(tv, tiny_bundle):
    tv.install(tiny_bundle)
    assert 0 < tv.start() < 30
    assert tv.client.call("rows")["rows"] == []
    assert tv.memory()["rss_bytes"] > 10**6
    before = tv.cpu_ns()
    tv.client.call("health")
    assert tv.cpu_ns() > before > 0
    assert tv.waited_ns() is None or tv.waited_ns() > 0
    tv.stop()
    with pytest.raises(UnreachableError):
        Client(tv.folder / "rpc.sock").call("rows")


def test_tv_starts_again_on_its_state(tv, tiny_bundle):
    tv.install(tiny_bundle)
    tv.start()
    tv.client.call("profiles.add", profile_id="ines", name="Ines")
    tv.stop()
    tv.start()
    assert "ines" in str(tv.client.call("profiles.list"))


def test_tv_without_a_bundle_says_why_it_does_not_start(tv):
    with pytest.raises(InvalidRunError, match="no Bundle installed"):
        tv.start()


def test_folder_that_is_no_bundle_is_not_installed(tv, tmp_path):
    with pytest.raises(BenchmarkError, match=r"manifest\.json"):
        tv.install(tmp_path)


def test_tv_that_is_off_has_no_client(tv):
    with pytest.raises(InvalidRunError, match="start it first"):
        tv.client.call("rows")
