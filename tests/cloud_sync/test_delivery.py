"""A Bundle travels from the cloud to TVs through a real broker, whatever breaks on the way."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import struct
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from simulators.daemon import running_daemon
from simulators.fleet import Cloud, SlowLink, Tv, kill, next_version, until

from couchside.cloud_sync import topics
from couchside.cloud_sync.address import BrokerAddress
from couchside.cloud_sync.mqtt import Session
from couchside.device.daemon import RENEW
from couchside.device.process import memory
from couchside.device.slots import Slot, Slots

if TYPE_CHECKING:
    from collections.abc import Iterator

    from couchside.cloud_sync.broker import LocalBroker

MB = 1 << 20
KILLED_AFTER = (3, 9, 15)
"""Blocks on the disk at which couchside-sync is killed."""
ONCE_PER_CONNECTION = 5_000
"""Bytes of the head, the root and the handshake; they are asked for anew."""


@pytest.fixture
def released(cloud: Cloud, broker: LocalBroker, bundles: Path) -> Cloud:
    """Version 1 of two flavours at the broker."""
    cloud.release(bundles / "litert-int8", bundles / "onnx-int8")
    cloud.publish(broker.address)
    return cloud


@pytest.fixture
def large(tiny_bundle: Path, tmp_path: Path) -> Path:
    """Version 2 with 1.2 MB that no compression helps: 20 blocks that take a while."""
    import numpy as np  # noqa: PLC0415

    noise = np.random.default_rng(1).bytes(1_200_000)
    return next_version(tiny_bundle, tmp_path / "large", 2, noise_bin=noise)


def last(events: list[dict]) -> dict:
    return events[-1] if events else {"state": "nothing"}


def test_release_reaches_three_tvs_each_its_flavour(
    released: Cloud, broker: LocalBroker, tmp_path: Path
) -> None:
    flavours = ("litert-int8", "onnx-int8", "litert-int8")
    tvs = [
        Tv(tmp_path / f"tv{n}", released.root, broker.address, flavour, f"tv-{n}")
        for n, flavour in enumerate(flavours)
    ]
    running = [tv.start("--once", "--timeout", "60") for tv in tvs]
    for process in running:
        out, err = process.communicate(timeout=90)
        assert '"installed"' in out, err
    for tv, flavour in zip(tvs, flavours, strict=True):
        path = tv.slots.path(Slot.CURRENT)
        assert tv.version() == 1
        assert (path / "user_model.onnx").exists() == flavour.startswith("onnx")
        assert tv.held() == set()


def test_wire_carries_little_more_than_the_bundle(
    cloud: Cloud, broker: LocalBroker, tmp_path: Path, tiny_bundle: Path, second: Path
) -> None:
    link = SlowLink(broker.address)
    tv = Tv(tmp_path / "tv", cloud.root, link.address)
    (first,) = cloud.release(tiny_bundle)
    cloud.publish(broker.address)
    assert last(tv.sync("--once", "--timeout", "60"))["state"] == "installed"
    assert link.to_tv < 1.02 * first.wire_bytes + 6_000
    assert first.wire_bytes < 0.5 * first.bundle_bytes
    assert link.from_tv < 4_000
    before = link.to_tv
    cloud.release(second)
    cloud.publish(broker.address)
    assert last(tv.sync("--once", "--timeout", "60"))["state"] == "installed"
    link.close()
    # Only the manifest changed: the other files come from the installed Bundle.
    assert link.to_tv - before < 12_000
    assert (tv.version(), tv.version(Slot.PREVIOUS)) == (2, 1)


def test_tampered_release_is_refused_and_the_next_good_one_taken(
    released: Cloud, broker: LocalBroker, tmp_path: Path, second: Path
) -> None:
    tv = Tv(tmp_path / "tv", released.root, broker.address)
    assert last(tv.sync("--once", "--timeout", "60"))["state"] == "installed"
    evil = Cloud(tmp_path / "evil")
    evil.release(second)
    session = Session(broker.address, "evil")
    session.wait_connected(10)
    head = (topics.head("stable"), evil.repository.head())
    session.publish_all([head, (topics.root(2), evil.repository.roots()[0])], timeout_s=10)
    session.close()
    assert last(tv.sync("--once", "--timeout", "60"))["state"] == "refused"
    assert (tv.status, tv.version()) == (1, 1)
    released.release(second)
    released.publish(broker.address)
    session = Session(broker.address, "cleaner")
    session.wait_connected(10)
    session.publish_all([(topics.root(2), b"")], timeout_s=10)
    session.close()
    assert last(tv.sync("--once", "--timeout", "60"))["state"] == "installed"
    assert tv.version() == 2


def test_forged_root_does_no_harm_once_the_broker_is_clean_again(
    released: Cloud, broker: LocalBroker, tmp_path: Path
) -> None:
    """It would be refused beside any head; the TV must not keep it for ever."""
    session = Session(broker.address, "evil")
    session.wait_connected(10)
    session.publish_all([(topics.root(2), released.repository.roots()[0])], timeout_s=10)
    tv = Tv(tmp_path / "tv", released.root, broker.address)
    running = tv.start()
    until(lambda: any('"refused"' in line for line in iter(running.stdout.readline, "")))
    session.publish_all([(topics.root(2), b"")], timeout_s=10)
    session.close()
    until(lambda: tv.slots.path(Slot.CURRENT) is not None, 40)
    kill(running)
    assert tv.version() == 1


def test_flipped_block_at_the_broker_is_refused_then_repaired(
    released: Cloud, broker: LocalBroker, tmp_path: Path
) -> None:
    names = released.repository.block_names()
    good = dict(released.repository.blocks())
    flipped = [(topics.block(n), good[n][:-1] + bytes([good[n][-1] ^ 1])) for n in names]
    session = Session(broker.address, "evil")
    session.wait_connected(10)
    session.publish_all(flipped, timeout_s=20)
    session.close()
    tv = Tv(tmp_path / "tv", released.root, broker.address)
    running = tv.start()
    until(lambda: any("damaged copies" in line for line in iter(running.stdout.readline, "")))
    assert tv.held() == set()
    released.publish(broker.address)
    until(lambda: tv.slots.path(Slot.CURRENT) is not None, 40)
    kill(running)
    assert tv.version() == 1


def test_broker_away_at_first(
    cloud: Cloud, broker: LocalBroker, tmp_path: Path, tiny_bundle: Path
) -> None:
    broker.stop()
    tv = Tv(tmp_path / "tv", cloud.root, broker.address)
    running = tv.start("--once", "--timeout", "60")
    time.sleep(1.5)
    assert running.poll() is None
    broker.start()
    cloud.release(tiny_bundle)
    cloud.publish(broker.address)
    out, err = running.communicate(timeout=90)
    assert '"installed"' in out, err


def test_broker_away_ends_with_a_reason(cloud: Cloud, tmp_path: Path) -> None:
    tv = Tv(tmp_path / "tv", cloud.root, BrokerAddress("127.0.0.1", 9))
    assert tv.sync("--once", "--timeout", "1") == []
    assert tv.status == 3
    assert "Connection refused" in tv.stderr


def test_broker_restart_mid_transfer(
    cloud: Cloud, broker: LocalBroker, tmp_path: Path, large: Path
) -> None:
    cloud.release(large)
    cloud.publish(broker.address)
    link = SlowLink(broker.address, bytes_per_s=800_000)
    tv = Tv(tmp_path / "tv", cloud.root, link.address)
    running = tv.start("--once", "--timeout", "90")
    until(lambda: len(tv.held()) >= 5)
    broker.stop()
    link.cut()
    time.sleep(0.5)
    held = tv.held()
    assert len(held) < 25
    assert tv.slots.path(Slot.CURRENT) is None
    broker.start()
    cloud.publish(
        broker.address
    )  # amqtt forgets what it retained; for mosquitto it changes nothing
    out, err = running.communicate(timeout=120)
    link.close()
    assert '"installed"' in out, err
    assert tv.version() == 2


def carry_all_that_was_asked_for(link: SlowLink) -> None:
    """Wait until nothing more comes to a TV that is stopped."""
    carried = -1
    while carried != link.to_tv:
        carried = link.to_tv
        time.sleep(0.2)


def test_kill_of_sync_mid_transfer_costs_at_most_one_block_on_the_wire(
    cloud: Cloud, broker: LocalBroker, tmp_path: Path, large: Path
) -> None:
    """At the default settings: no block on the disk is fetched again, and one under way is."""
    (release,) = cloud.release(large)
    cloud.publish(broker.address)
    link = SlowLink(broker.address, bytes_per_s=1_600_000)
    tv = Tv(tmp_path / "tv", cloud.root, link.address)
    for blocks in KILLED_AFTER:
        running = tv.start()
        until(lambda least=blocks: len(tv.held()) >= least)
        os.killpg(running.pid, signal.SIGSTOP)
        carry_all_that_was_asked_for(
            link
        )  # the worst moment: it has arrived and is not on the disk
        kill(running)
        assert len(tv.held()) >= blocks
    held = tv.held()
    events = tv.sync("--once", "--timeout", "60")
    link.close()
    assert last(events)["state"] == "installed"
    wanted = [event["blocks"] for event in events if event["state"] == "wanted"]
    assert wanted[0] == len(set(cloud.repository.block_names()) - held)
    assert wanted == sorted(wanted, reverse=True)  # a root that comes late only asks again
    assert link.to_tv > release.wire_bytes
    connections = len(KILLED_AFTER) + 1
    once = 1.01 * release.wire_bytes + connections * ONCE_PER_CONNECTION
    assert link.to_tv < once + len(KILLED_AFTER) * topics.BLOCK_BYTES


def test_sync_is_killed_while_it_installs(
    cloud: Cloud, broker: LocalBroker, tmp_path: Path, tiny_bundle: Path
) -> None:
    cloud.release(tiny_bundle)
    cloud.publish(broker.address)
    tv = Tv(tmp_path / "tv", cloud.root, broker.address)
    running = tv.start()
    until(lambda: tv.slots.root.exists() and list(tv.slots.root.glob("*.part")))
    kill(running)
    assert last(tv.sync("--once", "--timeout", "60"))["state"] in {"installed", "current"}
    assert tv.version() == 1
    assert not list(tv.slots.root.glob("*.part"))


def test_daemon_takes_the_delivered_bundle_and_keeps_the_old_one_behind_it(
    released: Cloud, broker: LocalBroker, tmp_path: Path, tiny_bundle: Path, second: Path
) -> None:
    tv = Tv(tmp_path / "tv", released.root, broker.address)
    slots = Slots(tv.config.slots)
    slots.activate(slots.place(tiny_bundle))
    with running_daemon(tmp_path, tv.config.slots) as daemon:
        assert daemon.client.call("health")["bundle_version"] == 1
        released.release(second)
        released.publish(broker.address)
        assert last(tv.sync("--once", "--timeout", "60"))["state"] == "installed"
        assert daemon.process.wait(10) == RENEW
        daemon.start()
        health = daemon.client.call("health")
        assert (health["bundle_version"], health["slot"]) == (2, "current")


def test_auto_protocol_falls_back_to_3_1_1(broker: LocalBroker) -> None:
    session = Session(replace(broker.address, protocol="auto"), "auto")
    session.wait_connected(15)
    session.publish_all([("couchside/1/x", b"1")], timeout_s=5)
    session.close()


def test_sync_and_installer_stay_within_their_memory(
    cloud: Cloud, broker: LocalBroker, tmp_path: Path, large: Path
) -> None:
    cloud.release(large)
    cloud.publish(broker.address)
    tv = Tv(tmp_path / "tv", cloud.root, broker.address)
    running = tv.start()
    peaks: dict[str, int] = {}

    def watch() -> bool:
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                if _session(status.parent) == running.pid:
                    command = (status.parent / "cmdline").read_bytes().split(b"\0")
                    peaks[command[2].decode()] = max(
                        peaks.get(command[2].decode(), 0), memory(status)["peak_rss_bytes"]
                    )
            except (OSError, IndexError, KeyError, ValueError):
                continue
        return tv.slots.path(Slot.CURRENT) is not None and not tv.held()

    until(watch, 60)
    resident = memory(Path(f"/proc/{running.pid}/status"))["rss_bytes"]
    kill(running)
    assert resident <= 28 * MB, f"sync: {resident / MB:.1f} MB"
    assert peaks["couchside.cloud_sync.tv.install"] <= 48 * MB, peaks


def _session(folder: Path) -> int:
    return int((folder / "stat").read_text().rpartition(")")[2].split()[3])


class HostileBroker:
    """Accepts everybody and answers a subscription with a packet that never ends."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = BrokerAddress("127.0.0.1", self._listener.getsockname()[1], protocol="5")
        self.sent = 0
        self.connections = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with client:
                try:
                    client.recv(4096)
                    client.sendall(bytes([0x20, 3, 0, 0, 0]))
                    client.recv(4096)
                    topic = topics.head("stable").encode()
                    start = struct.pack("!H", len(topic)) + topic + b"\0"
                    client.sendall(bytes([0x30, 0xFF, 0xFF, 0xFF, 0x7F]) + start)
                    while True:
                        self.sent += client.send(b"x" * 65536)
                except OSError:
                    continue

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def hostile() -> Iterator[HostileBroker]:
    broker = HostileBroker()
    yield broker
    broker.close()


def test_endless_data_fills_neither_memory_nor_disk(
    cloud: Cloud, tmp_path: Path, hostile: HostileBroker
) -> None:
    tv = Tv(tmp_path / "tv", cloud.root, hostile.address)
    running = tv.start()
    until(lambda: hostile.connections >= 3)
    peak = memory(Path(f"/proc/{running.pid}/status"))["peak_rss_bytes"]
    kill(running)
    assert peak <= 28 * MB
    assert hostile.sent < 3 * 8 * MB  # what the sockets' buffers took
    assert not (tmp_path / "tv/spool").exists()


def test_blocks_that_nobody_asked_for_are_dropped(
    released: Cloud, broker: LocalBroker, tmp_path: Path
) -> None:
    tv = Tv(tmp_path / "tv", released.root, broker.address)
    stray = hashlib.sha256(b"stray").hexdigest()
    session = Session(broker.address, "evil")
    session.wait_connected(10)
    session.publish_all([(topics.block(stray), b"stray")], timeout_s=10)
    session.close()
    running = tv.start()
    until(lambda: tv.slots.path(Slot.CURRENT) is not None, 40)
    kill(running)
    assert stray not in tv.held()
    shutil.rmtree(tv.folder)
