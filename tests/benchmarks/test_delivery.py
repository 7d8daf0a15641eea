"""The demo's fleet: its supervisor restarts what asks for it, and hides no failure."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from couchside.benchmarks.delivery import journey
from couchside.benchmarks.delivery.fleet import Change
from couchside.benchmarks.delivery.journey import Journey
from couchside.benchmarks.errors import BenchmarkError, InvalidRunError
from couchside.device.bundle import open_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def begun(tiny_bundle: Path) -> Iterator[Journey]:
    """One TV that follows a broker with nothing on it; its folder's path is short."""
    with (
        tempfile.TemporaryDirectory(prefix="couchside-") as folder,
        Journey(Path(folder) / "fleet", open_bundle(tiny_bundle), tvs=1) as one,
    ):
        one.begin()
        yield one


def test_release_goes_from_nothing_to_one_to_two_and_the_daemon_is_another_process(
    begun: Journey,
) -> None:
    (tv,) = begun._tvs
    assert tv.version == 0
    (first,) = begun.release().arrivals
    before = tv.process.pid
    (second,) = begun.release().arrivals
    assert [(one.before, one.after) for one in (first, second)] == [(0, 1), (1, 2)]
    assert second.bytes_in < first.bytes_in / 10
    assert tv.process.pid != before, "it ended for the new Bundle and was started again"
    assert begun.told().releases[1].arrivals == (second,)


def test_sync_that_dies_is_told_with_its_log(begun: Journey) -> None:
    (tv,) = begun._tvs
    assert tv._sync is not None
    os.kill(tv._sync.pid, signal.SIGKILL)
    tv._sync.wait(10)
    with pytest.raises(InvalidRunError, match="TV 1: couchside-sync ended"):
        tv.look_after()


def test_release_that_reaches_nobody_is_told_with_what_the_tv_said(
    begun: Journey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journey, "LIMIT_S", 1.0)
    (tv,) = begun._tvs
    assert tv._sync is not None
    os.kill(tv._sync.pid, signal.SIGSTOP)
    try:
        with pytest.raises(InvalidRunError, match="version 1 did not reach every TV within 1 s"):
            begun.release()
    finally:
        os.kill(tv._sync.pid, signal.SIGCONT)


def test_keys_are_made_once(begun: Journey) -> None:
    with pytest.raises(BenchmarkError, match="there is a repository already"):
        begun._cloud.keys()


def test_blocks_of_attempts_that_failed_are_not_counted() -> None:
    states = [("wanted", 1), ("failed", 0), ("wanted", 1), ("wanted", 9), ("installed", 0)]
    changes = [Change(state, "", 2, blocks, 0, 0) for state, blocks in states]
    assert journey._fetched(changes) == 10
