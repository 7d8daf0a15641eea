"""Three users, as the unit files have them: what each may open, seen from inside its process."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from couchside.device.rpc import Client
from couchside.device.slots import Slot, Slots

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulators.fleet import Cloud

    from couchside.cloud_sync.broker import LocalBroker

UNITS = Path(__file__).parents[2]


def passage() -> list[str]:
    """Start of a command that any user may run: a way to this Python, if root's home closes it.

    In a mount namespace of the command's own, the closed folder is replaced by an open one that has
    in it only what Python needs.
    """
    needed = [Path(sys.base_prefix), Path(sys.prefix), UNITS]
    closed = {
        folder: min((up for up in folder.parents if not up.stat().st_mode & 1), default=None)
        for folder in needed
    }
    if not any(closed.values()):
        return []
    steps = ["u=$(umask)", "umask 022", "s=$(mktemp -d)", "mount -t tmpfs tmpfs $s", "cd $s"]
    blocked = {folder: up for folder, up in closed.items() if up}
    for n, folder in enumerate(blocked):
        steps += [f"mkdir {n}", f"mount --bind {folder} {n}"]
    steps += [f"mount -t tmpfs -o mode=755 tmpfs {up}" for up in set(blocked.values())]
    for n, folder in enumerate(blocked):
        steps += [f"mkdir -p {folder}", f"mount --move {n} {folder}"]
    steps += ["cd /", "umount $s", "rmdir $s", "umask $u", 'exec "$@"']
    return ["unshare", "--mount", "sh", "-euc", "; ".join(steps), "sh"]


@dataclass(frozen=True)
class User:
    """A user of a unit file, as a number that this machine knows nothing about."""

    uid: int
    unit: str
    groups: tuple[int, ...] = ()

    def start(self, module: str, *arguments: object, **pipes: object) -> subprocess.Popen[str]:
        return self._popen(["-m", module, *map(str, arguments)], **pipes)

    def tries(self, statement: str, *arguments: object) -> str:
        """The last line of what Python says to ``statement``; empty if it worked."""
        program = f"import os, socket, sys; a = sys.argv; {statement}"
        with self._popen(["-c", program, *map(str, arguments)], stderr=subprocess.PIPE) as process:
            said = process.communicate(timeout=30)[1].strip().splitlines()
            return "" if process.returncode == 0 else said[-1].partition(":")[0]

    def _popen(self, arguments: list[str], **pipes: object) -> subprocess.Popen[str]:
        become = [f"--reuid={self.uid}", f"--regid={self.uid}", "--inh-caps=-all"]
        groups = ",".join(map(str, self.groups))
        become.append(f"--groups={groups}" if groups else "--clear-groups")
        return subprocess.Popen(
            [*passage(), "setpriv", *become, sys.executable, *arguments],
            umask=int(self.setting("UMask"), 8), cwd="/", text=True, **pipes,
        )  # fmt: skip

    def setting(self, name: str) -> str:
        """What this user's unit file says."""
        unit = configparser.ConfigParser(strict=False, interpolation=None)
        unit.optionxform = str
        unit.read(UNITS / self.unit)
        return unit["Service"][name]

    def owns(self, folder: Path, mode: str) -> Path:
        folder.mkdir()
        os.chown(folder, self.uid, self.uid)
        folder.chmod(int(self.setting(mode), 8))
        return folder


SYNC = User(61003, "cloud_sync/couchside-sync.service")
INSTALL = User(61002, "cloud_sync/couchside-install@.service", groups=(SYNC.uid,))
DEVICE = User(61001, "device/couchside-device.service", groups=(INSTALL.uid,))

CONNECT = "socket.socket(socket.AF_UNIX).connect(a[1])"
READ = "open(a[1], 'rb').read(1)"
WRITE = "open(a[1] + '/stray', 'wb')"
MOVE = "os.replace(a[1] + '/current', a[1] + '/previous')"


@dataclass(frozen=True)
class Tv:
    """The folders of the unit files, below one that anybody may pass through."""

    top: Path
    run: Path
    state: Path
    spool: Path
    install: Path
    slots: Path
    config: Path

    @property
    def door(self) -> Path:
        """Where sync asks the installer."""
        return self.top / "couchside-install.sock"

    @property
    def rpc(self) -> Path:
        return self.run / "rpc.sock"

    @property
    def history(self) -> Path:
        return self.state / "history.db"


@pytest.fixture
def tv(cloud: Cloud, broker: LocalBroker) -> Iterator[Tv]:
    if os.geteuid() != 0:
        pytest.skip("processes under three users need root")
    assert not DEVICE.tries("import couchside.device.daemon")
    top = Path(tempfile.mkdtemp(prefix="couchside-users-"))  # tmp_path is closed to other users
    top.chmod(0o755)
    config = top / "sync.toml"
    tv = Tv(
        top=top,
        run=DEVICE.owns(top / "run", "RuntimeDirectoryMode"),
        state=DEVICE.owns(top / "state", "StateDirectoryMode"),
        spool=SYNC.owns(top / "spool", "StateDirectoryMode"),
        install=INSTALL.owns(top / "install", "StateDirectoryMode"),
        slots=INSTALL.owns(top / "slots", "StateDirectoryMode"),
        config=config,
    )
    root = Path(shutil.copy(cloud.root, top / "1.root.json"))
    root.chmod(0o644)
    config.write_text(
        f'[broker]\nhost = "127.0.0.1"\nport = {broker.address.port}\n'
        f'protocol = "{broker.address.protocol}"\n'
        f'[paths]\nroot = "{root}"\nspool = "{tv.spool}"\nstate = "{tv.install}"\n'
        f'slots = "{tv.slots}"\nsocket = "{tv.door}"\n[limits]\nspare_bytes = 0\n'
    )
    config.chmod(0o644)  # whatever umask a test before this one has left
    yield tv
    shutil.rmtree(top)


@contextmanager
def installer_behind_its_socket(tv: Tv) -> Iterator[list[int]]:
    """What couchside-install.socket does (Accept=yes); exit statuses of the installers so far."""
    unit = configparser.ConfigParser()
    unit.read(UNITS / "cloud_sync/couchside-install.socket")
    statuses: list[int] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tv.door))
        assert unit["Socket"]["SocketUser"] == "couchside-sync"
        os.chown(tv.door, SYNC.uid, 0)
        tv.door.chmod(int(unit["Socket"]["SocketMode"], 8))
        listener.listen()

        def serve() -> None:
            with suppress(OSError):
                while True:
                    question, _ = listener.accept()
                    with question:
                        process = INSTALL.start(
                            "couchside.cloud_sync.tv.install", "--config", tv.config, "serve",
                            stdin=question, stdout=question,
                        )  # fmt: skip
                        statuses.append(process.wait(60))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield statuses
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(60)


@contextmanager
def daemon(tv: Tv) -> Iterator[Client]:
    paths = ("--state", tv.state, "--socket", tv.rpc, "--slots", tv.slots)
    settings = tv.top / "device.toml"
    settings.touch()
    settings.chmod(0o644)
    with (
        (tv.top / "device.log").open("w") as log,
        DEVICE.start(
            "couchside.device.daemon", "--config", settings, *paths, stderr=log
        ) as process,
    ):
        client = Client(tv.rpc, timeout_s=30.0, patience_s=20.0)
        try:
            client.call("health")
            yield client
        finally:
            client.close()
            process.terminate()
            process.wait(10)


@pytest.mark.parametrize("broker", ["mosquitto"], indirect=True)
def test_bundle_arrives_through_three_users_and_none_reads_what_is_anothers(
    tv: Tv, cloud: Cloud, broker: LocalBroker, tiny_bundle: Path
) -> None:
    cloud.release(tiny_bundle)
    cloud.publish(broker.address)
    with installer_behind_its_socket(tv) as statuses:
        arguments = ("--config", tv.config, "--once", "--timeout", "25", "--json")
        with SYNC.start(
            "couchside.cloud_sync.tv.sync", *arguments, stdout=subprocess.PIPE
        ) as process:
            told = process.communicate(timeout=90)[0].splitlines()
        assert process.returncode == 0, told
        assert json.loads(told[-1])["state"] == "installed"
        assert set(statuses) == {0}
        assert DEVICE.tries(CONNECT, tv.door) == "PermissionError"
    current = Slots(tv.slots).path(Slot.CURRENT)
    assert current is not None
    assert {file.stat().st_uid for file in (current, *current.iterdir())} == {INSTALL.uid}

    with daemon(tv) as client:
        assert client.call("health")["bundle_version"] == 1
        assert DEVICE.tries(CONNECT, tv.rpc) == DEVICE.tries(READ, tv.history) == ""
        for stranger in (SYNC, INSTALL):
            assert stranger.tries(CONNECT, tv.rpc) == "PermissionError"
            assert stranger.tries(READ, tv.history) == "PermissionError"
            assert stranger.tries(WRITE, tv.state) == "PermissionError"
        for reader in (SYNC, DEVICE):
            assert reader.tries(WRITE, tv.slots) == "PermissionError"
            assert reader.tries(MOVE, tv.slots) == "PermissionError"
        for stranger in (SYNC, DEVICE):
            assert stranger.tries(READ, tv.install / "sync.db") == "PermissionError"
        assert INSTALL.tries(WRITE, tv.spool) == "PermissionError"
        assert DEVICE.tries(READ, tv.spool / "head/pack") == "PermissionError"
        assert client.call("health")["bundle_version"] == 1
