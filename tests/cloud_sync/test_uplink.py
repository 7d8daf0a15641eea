"""The way up through a real broker and a real couchside-sync, with a cloud that may stay silent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from couchside.cloud_sync import topics
from couchside.cloud_sync.mqtt import Session
from couchside.device.learning.receipt import Receipt, Verdict, write_receipt
from couchside.device.learning.spool import FRAME_BYTES, ROUND_BYTES, Spool
from couchside.device.process import memory

PATIENCE_S = 30.0
NAME, OTHER = "ab" * 16, "cd" * 16
FRAME = b"CSUP" + bytes(4) + (7).to_bytes(4, "little") + os.urandom(300)
"""For couchside-sync a frame is bytes with a Round's number in a known place."""


def until(condition, what="it"):
    end = time.monotonic() + PATIENCE_S
    while not (seen := condition()):
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.02)
    return seen


class CloudEnd:
    """Whoever listens for Updates: keeps what came, and answers when told."""

    def __init__(self, broker):
        self.came: list[tuple[str, bytes]] = []
        self._session = Session(broker, "cloud-end")
        self._session.subscribe(topics.ANY_UPDATE)
        self._session.wait_connected(15.0)
        self._outbox: list[tuple[str, bytes, bool]] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._outbox.append((topic, payload, retain))

    def receipt(self, name: str, verdict=Verdict.FOLDED) -> None:
        self.say(topics.receipt("tv"), write_receipt(Receipt(7, name, verdict)))

    def close(self) -> None:
        self._stopping = True
        self._thread.join()
        self._session.close()

    def _run(self) -> None:
        while not self._stopping:
            self.came += [(one.topic, one.payload) for one in self._session.poll(0.05)]
            while self._outbox and self._session.connected:
                topic, payload, retain = self._outbox.pop(0)
                self._session.publish(topic, payload, retain=retain)


class SyncProcess:
    """couchside-sync of a TV that learns; nothing is released to it."""

    def __init__(self, folder, broker):
        self.spool = Spool(folder / "updates", folder / "spool" / "rounds")
        self.config = folder / "sync.toml"
        self.config.write_text(
            f'[broker]\nhost = "{broker.host}"\nport = {broker.port}\n'
            f'protocol = "{broker.protocol}"\n'
            f'[paths]\nroot = "{folder}/none"\nspool = "{folder}/spool"\n'
            f'state = "{folder}/install"\nslots = "{folder}/slots"\nupdates = "{folder}/updates"\n'
            "[limits]\nretry_s = 1.0\n",
            encoding="utf-8",
        )
        self._told = folder / "told"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self):
        command = [sys.executable, "-m", "couchside.cloud_sync.tv.sync", "--json", "--config"]
        with self._told.open("ab") as out:
            self.process = subprocess.Popen([*command, str(self.config)], stdout=out)

    def kill(self):
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(10)

    def told(self, key):
        lines = self._told.read_text("utf-8").splitlines() if self._told.exists() else []
        return [said[key] for line in lines if key in (said := json.loads(line))]


@pytest.fixture
def cloud_end(broker):
    end = CloudEnd(broker.address)
    yield end
    end.close()


@pytest.fixture
def sync(tmp_path, broker):
    process = SyncProcess(tmp_path, broker.address)
    process.start()
    yield process
    process.stop()


def test_update_is_sent_again_until_its_receipt_is_here(sync, cloud_end):
    sync.spool.put_update(NAME, FRAME)
    until(lambda: len(cloud_end.came) >= 3, "sending again")
    assert set(cloud_end.came) == {("couchside/1/u/0/7/tv", FRAME)}
    cloud_end.receipt(OTHER)  # of another Update: nothing to us
    cloud_end.say(topics.receipt("tv"), b'{"verdict": "folded"}')
    cloud_end.receipt(NAME)
    (receipt,) = until(lambda: list(sync.spool.receipts()), "a receipt in the spool")
    assert (receipt.update_id, receipt.verdict) == (NAME, Verdict.FOLDED)
    settled = len(cloud_end.came)
    until(lambda: sync.told("update")[-1] == "folded")
    time.sleep(2.5)  # twice as long as the longest wait between two sendings
    assert len(cloud_end.came) <= settled + 1  # one may have been under way
    sync.spool.take_back(NAME)  # as the daemon does
    until(lambda: not list(sync.spool.rounds.glob("*.receipt")), "the receipt's end")


def test_sync_killed_before_the_receipt_sends_again_after_its_restart(sync, cloud_end):
    sync.spool.put_update(NAME, FRAME)
    until(lambda: cloud_end.came)
    sync.kill()
    cloud_end.receipt(NAME)  # nobody hears it
    before = len(cloud_end.came)
    sync.start()
    until(lambda: len(cloud_end.came) > before, "sending after the restart")
    cloud_end.receipt(NAME, Verdict.DUPLICATE)
    assert until(lambda: list(sync.spool.receipts()))[0].verdict is Verdict.DUPLICATE


def test_update_that_the_daemon_took_back_is_not_sent_any_more(sync, cloud_end):
    sync.spool.put_update(NAME, FRAME)
    until(lambda: cloud_end.came)
    sync.spool.take_back(NAME)
    sync.spool.put_update(OTHER, FRAME[::-1][:-12] + FRAME[:12])
    until(lambda: len({frame for _, frame in cloud_end.came}) == 2)
    time.sleep(1.2)  # whatever was under way has arrived
    gone = [frame for _, frame in cloud_end.came].count(FRAME)
    until(lambda: len(cloud_end.came) >= gone + 4, "more of the other")
    assert [frame for _, frame in cloud_end.came].count(FRAME) == gone


def test_round_comes_into_the_spool_and_goes_when_it_is_closed(sync, cloud_end):
    cloud_end.say(topics.round_of("stable"), bytes(ROUND_BYTES + 1), retain=True)
    cloud_end.say(topics.round_of("stable"), b"signed", retain=True)
    until(lambda: sync.spool.round() == b"signed", "the Round")
    cloud_end.say(topics.round_of("stable"), b"", retain=True)
    until(lambda: sync.spool.round() == b"", "the Round's end")
    assert sync.told("round") == ["open", "none"]


@pytest.mark.parametrize("spread", ["1" + "0" * 400, '"nan"', "-5", "1e9", "[]", "true"])
def test_round_of_nonsense_neither_ends_sync_nor_delays_an_update(sync, cloud_end, spread):
    cloud_end.say(
        topics.round_of("stable"), bytes(64) + b'{"spread_s": %s}' % spread.encode(), retain=True
    )
    until(sync.spool.round, "the Round")
    sync.spool.put_update(NAME, FRAME)
    until(lambda: cloud_end.came, "the Update")


def test_frame_that_is_none_of_ours_is_never_sent(sync, cloud_end):
    sync.spool.updates.mkdir()
    (sync.spool.updates / f"{OTHER}.update").write_bytes(bytes(FRAME_BYTES + 1))
    (sync.spool.updates / "history.db").write_bytes(b"what was watched")
    (sync.spool.updates / "x.update").write_bytes(b"what was watched")
    (sync.spool.updates / f"{'e' * 32}.update").symlink_to(sync.config)
    sync.spool.put_update(NAME, FRAME)
    until(lambda: len(cloud_end.came) >= 2)
    assert {frame for _, frame in cloud_end.came} == {FRAME}


def test_update_waits_for_a_broker_that_is_away(tmp_path, broker):
    broker.stop()
    sync = SyncProcess(tmp_path, broker.address)
    sync.start()
    try:
        sync.spool.put_update(NAME, FRAME)
        time.sleep(1.5)
        broker.start()
        end = CloudEnd(broker.address)
        until(lambda: end.came, "the Update after the broker came back")
        end.close()
    finally:
        sync.stop()


def test_sync_carries_updates_in_little_memory(sync, cloud_end):
    sync.spool.put_update(NAME, FRAME[:12] + os.urandom(FRAME_BYTES - 12))
    until(lambda: cloud_end.came)
    status = Path(f"/proc/{sync.process.pid}/status")
    assert memory(status)["peak_rss_bytes"] <= 28 << 20
