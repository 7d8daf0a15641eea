"""A cloud and TVs around a real broker: real keys, real processes, real files.

cloud = Cloud(tmp_path / "cloud")
cloud.release(bundle)
tv = Tv(tmp_path / "tv", cloud.root, broker)
cloud.publish(broker)
assert tv.sync("--once")[-1]["state"] == "installed"
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from couchside.cloud_sync import head
from couchside.cloud_sync.address import BrokerAddress
from couchside.cloud_sync.blocks import BlockStore
from couchside.cloud_sync.cloud.cli import publish
from couchside.cloud_sync.cloud.repository import Repository
from couchside.cloud_sync.tv.config import read_config
from couchside.cloud_sync.tv.floors import Floors
from couchside.cloud_sync.tv.install import run
from couchside.device.bundle import FileRecord, open_bundle, write_manifest
from couchside.device.slots import Slot, Slots

if TYPE_CHECKING:
    from pathlib import Path

    from couchside.cloud_sync.tv.plan import Plan

NOW = int(time.time())
"""The installer's processes live by the real clock, so the cloud does too."""
DAY = 86400
NOWHERE = BrokerAddress("127.0.0.1", 9)


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def next_version(bundle: Path, folder: Path, version: int, **files: bytes) -> Path:
    """A copy of ``bundle`` under another version, with some files (``name_ext=``) replaced."""
    shutil.copytree(bundle, folder)
    manifest = replace(open_bundle(bundle).manifest, version=version)
    records = dict(manifest.files)
    for key, content in files.items():
        name = ".".join(key.rsplit("_", 1))
        (folder / name).write_bytes(content)
        records[name] = FileRecord(len(content), hashlib.sha256(content).hexdigest())
    write_manifest(folder, replace(manifest, files=records))
    return folder


class Cloud:
    """A release repository with its keys."""

    def __init__(self, folder: Path, now: int = NOW) -> None:
        self.folder = folder
        self.repository = Repository(folder, folder / "keys")
        self.root = self.repository.create(at(now))

    def release(self, *bundles: Path, now: int = NOW, channel: str = "stable", version=None):
        return self.repository.release(channel, bundles, at(now), version=version)

    def publish(self, broker: BrokerAddress) -> dict:
        return publish(self.repository, broker)


class Tv:
    """One TV's side of delivery; in process (``plan``, ``apply``) or as processes (``sync``)."""

    def __init__(
        self,
        folder: Path,
        root: Path,
        broker: BrokerAddress = NOWHERE,
        flavour: str = "litert-int8",
        device_id: str = "tv",
        **limits: float,
    ) -> None:
        self.folder, self.root, self.broker = folder, root, broker
        folder.mkdir(parents=True, exist_ok=True)
        self.config_file = folder / "sync.toml"
        self.config_file.write_text(
            f'flavour = "{flavour}"\ndevice_id = "{device_id}"\n'
            f'[broker]\nhost = "{broker.host}"\nport = {broker.port}\n'
            f'protocol = "{broker.protocol}"\n'
            f'[paths]\nroot = "{root}"\nspool = "{folder}/spool"\nstate = "{folder}/install"\n'
            f'slots = "{folder}/slots"\nverdicts = "{folder}/verdicts.json"\n'
            "[limits]\nspare_bytes = 0\nretry_s = 1.0\nblock_s = 5.0\n"
            + "".join(f"{name} = {value}\n" for name, value in limits.items())
        )
        self.config = read_config(self.config_file)
        self.slots = Slots(folder / "slots")
        self.store = BlockStore(self.config.blocks)

    def receives(self, cloud: Cloud, *, blocks: bool = True) -> None:
        """Puts what the cloud would publish straight into the spool."""
        self.config.head.parent.mkdir(parents=True, exist_ok=True)
        self.config.head.write_bytes(cloud.repository.head())
        for n, raw in enumerate(cloud.repository.roots(), start=1):
            self.config.head.with_name(head.root_file(n)).write_bytes(raw)
        for name, block in cloud.repository.blocks() if blocks else ():
            self.store.put(name, block)

    def plan(self, now: int = NOW) -> Plan:
        return run(self.config, "plan", self.config.head, now=now)

    def apply(self, now: int = NOW) -> Plan:
        return run(self.config, "apply", self.config.head, now=now)

    def version(self, slot: Slot = Slot.CURRENT) -> int:
        """Version behind a slot, whose every byte is checked; 0 if the slot is empty."""
        path = self.slots.path(slot)
        return open_bundle(path).version if path else 0

    def floor(self, role: str) -> int:
        with closing(Floors(self.config.state / "sync.db")) as floors:
            return floors.of(role)[0]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "couchside.cloud_sync.tv.sync", "--json"]
        command += ["--config", str(self.config_file), *arguments]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def sync(self, *arguments: str, timeout_s: float = 60.0) -> list[dict]:
        """Runs couchside-sync to its end; the changes it told."""
        with self.start(*arguments) as process:
            out, self.stderr = process.communicate(timeout=timeout_s)
            self.status = process.returncode
        return [json.loads(line) for line in out.splitlines()]

    def install_command(self, command: str) -> list[str]:
        module = "couchside.cloud_sync.tv.install"
        return [sys.executable, "-m", module, "--config", str(self.config_file), command]

    def held(self) -> set[str]:
        """Names of the blocks that are safely on the disk."""
        folder = self.config.blocks
        return {f.name for f in folder.iterdir() if len(f.name) == 64} if folder.exists() else set()


def kill(process: subprocess.Popen[str]) -> None:
    """kill -9 of the process and of what it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)


def until(condition, timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


class SlowLink:
    """A TCP link to the broker that counts bytes, lets few through a second, and can be cut."""

    def __init__(self, target: BrokerAddress, bytes_per_s: float = float("inf")) -> None:
        self._target, self._rate = target, bytes_per_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = replace(target, port=self._listener.getsockname()[1])
        self.to_tv = self.from_tv = 0
        self._open: list[socket.socket] = []
        self._carriers: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                tv, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(tv)
            try:
                broker = socket.create_connection((self._target.host, self._target.port), 5)
            except OSError:
                _shut(tv)
                continue
            broker.settimeout(None)
            self._open.append(broker)
            self._start(tv, broker, "from_tv")
            self._start(broker, tv, "to_tv")

    def _start(self, source: socket.socket, sink: socket.socket, counter: str) -> None:
        carrier = threading.Thread(target=self._carry, args=(source, sink, counter), daemon=True)
        self._carriers.append(carrier)
        carrier.start()

    def _carry(self, source: socket.socket, sink: socket.socket, counter: str) -> None:
        try:
            while data := source.recv(4096):
                if counter == "to_tv" and self._rate != float("inf"):
                    time.sleep(len(data) / self._rate)
                sink.sendall(data)
                setattr(self, counter, getattr(self, counter) + len(data))
        except OSError:
            pass
        finally:
            for end in (source, sink):
                _shut(end)

    def cut(self) -> None:
        """Every connection breaks; new ones may come."""
        for end in self._open:
            _shut(end)

    def close(self) -> None:
        _shut(self._listener)
        self._listener.close()
        self._thread.join(5)
        self.cut()
        for carrier in self._carriers:
            carrier.join(5)
        for end in self._open:
            end.close()


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
