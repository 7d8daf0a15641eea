"""A broker of one's own for the demo and the tests: mosquitto if it is installed, else amqtt.

Both are child processes (docs/decisions/006) that listen on the loopback only and ask for no
password: nothing on a TV trusts a broker. mosquitto keeps what it retains in its folder; amqtt
speaks MQTT 3.1.1 and forgets it when it stops. A configuration for production:
``cloud_sync/mosquitto.conf``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Literal

from couchside.cloud_sync.address import BrokerAddress
from couchside.cloud_sync.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

START_S = 20.0
MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_interval 60
max_packet_size 66000
set_tcp_nodelay true
log_dest file {folder}/mosquitto.log
user root
"""
# It saves when it ends and once a minute: saved after every change, a subscription costs as much as
# writing down all that is retained (12 MB: 56 ms a block). The last line counts for root only,
# whose mosquitto could otherwise not write to the folder.


class LocalBroker:
    """A broker in a child process; ``start`` it, ``stop`` it, ``start`` it again.

    Args:
        name: for error messages.
        command: starts it.
        port: on 127.0.0.1.
        protocol: the newest version it speaks.
        log: file in which it says what is wrong.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        port: int,
        protocol: Literal["5", "3.1.1"],
        log: Path,
    ) -> None:
        self.name = name
        self.address = BrokerAddress("127.0.0.1", port, protocol=protocol)
        """Where clients find it."""
        self._command, self._log = command, log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process.

        Raises:
            BrokerError: it does not run.
        """
        if self._process is None:
            raise BrokerError(f"{self.name} does not run; start it first")
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it listens.

        Raises:
            BrokerError: it does not; its log says why.
        """
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        end = time.monotonic() + START_S
        while not _listens(self.address.port):
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise BrokerError(f"{self.name} did not start; see {self._log}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Let it save and end."""
        if self._process is not None:
            self._process.terminate()
            self._process.communicate(timeout=START_S)
            self._process = None


def local_broker(folder: Path, port: int | None = None) -> LocalBroker:
    """mosquitto, or amqtt where that is missing; not started yet.

    Args:
        folder: for its files; made if it is missing.
        port: on 127.0.0.1; None takes a free one.
    """
    return mosquitto(folder, port) if mosquitto_program() else amqtt(folder, port)


def mosquitto(folder: Path, port: int | None = None) -> LocalBroker:
    """Mosquitto with its files in ``folder``.

    Raises:
        BrokerError: it is not installed.
    """
    program = mosquitto_program()
    if program is None:
        raise BrokerError("mosquitto is not installed; apt-get install mosquitto, or use amqtt")
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "mosquitto.conf"
    config.write_text(MOSQUITTO.format(port=port, folder=folder.resolve()), encoding="utf-8")
    command = [program, "-c", str(config)]
    return LocalBroker("mosquitto", command, port=port, protocol="5", log=folder / "start.log")


def amqtt(folder: Path, port: int | None = None) -> LocalBroker:
    """Amqtt with its log in ``folder``."""
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "couchside.cloud_sync.broker", str(port)]
    return LocalBroker("amqtt", command, port=port, protocol="3.1.1", log=folder / "amqtt.log")


def mosquitto_program() -> str | None:
    """Where mosquitto is; Debian puts it into a folder that a user's PATH may lack."""
    path = os.environ.get("PATH", os.defpath)
    return shutil.which("mosquitto", path=f"{path}:/usr/local/sbin:/usr/sbin")


def free_port() -> int:
    """A loopback port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5):
            return True
    except OSError:
        return False


async def _serve_amqtt(port: int) -> None:
    from amqtt.broker import Broker  # noqa: PLC0415 - only where mosquitto is missing

    class Discreet(Broker):  # type: ignore[misc]
        """A broker that sends retained messages to nobody who did not ask for them.

        amqtt 0.12 shows a client that connects everything it retains under every topic that
        anybody has subscribed to, unsubscribed or not: each block of the releases before.
        """

        async def _publish_retained_messages_for_subscription(
            self, subscription: tuple[str, int], session: Any
        ) -> None:
            asked = self._subscriptions.get(subscription[0], ())
            if any(subscriber is session for subscriber, _ in asked):
                await super()._publish_retained_messages_for_subscription(subscription, session)

    anonymous = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    listener = {"type": "tcp", "bind": f"127.0.0.1:{port}"}
    await Discreet({"listeners": {"default": listener}, "plugins": anonymous}).start()
    await asyncio.Event().wait()


def _end_with_parent() -> None:
    """A standard input that is a pipe closes when whoever started us is gone."""
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    if stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        threading.Thread(target=_end_with_parent, daemon=True).start()
    asyncio.run(_serve_amqtt(int(sys.argv[1])))
