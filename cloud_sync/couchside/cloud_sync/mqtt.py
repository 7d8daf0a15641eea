"""One MQTT session without threads: version 5, or 3.1.1 where the broker knows no other.

``poll`` connects, reads, and gives what arrived. After a loss it waits a random part of a growing
time (full jitter: a fleet must not come back in step after the broker's restart), connects again
and subscribes again to everything that was asked for. paho does the protocol.
"""

from __future__ import annotations

import logging
import random
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from couchside.cloud_sync.errors import BrokerError
from couchside.cloud_sync.topics import PACKET_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from couchside.cloud_sync.address import BrokerAddress

_log = logging.getLogger(__name__)

KEEPALIVE_S = 60
CONNACK_S = {MQTTProtocolVersion.MQTTv5: 3.0, MQTTProtocolVersion.MQTTv311: 10.0}
"""Seconds to accept the session: some brokers that know no version 5 just fall silent."""
FIRST_WAIT_S = 1.0
UNACKNOWLEDGED = 16
"""Published messages under way at once: brokers announce 20 and more."""
_V5, _V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311


@dataclass(frozen=True, slots=True)
class Message:
    """What arrived."""

    topic: str
    payload: bytes


class Session:
    """A connection that comes back by itself.

    Args:
        broker: whom to talk to.
        client_id: who we are; brokers end an older session of the same name.
        most_wait_s: longest wait between two attempts, seconds.
        clock: monotonic seconds.
        rng: for the jitter.
    """

    def __init__(
        self,
        broker: BrokerAddress,
        client_id: str,
        *,
        most_wait_s: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._broker, self._client_id, self._most_wait_s = broker, client_id, most_wait_s
        self._clock, self._rng = clock, rng or random.Random()  # noqa: S311 - jitter, no secret
        self._client: _BoundedClient | None = None
        self._version = _V311 if broker.protocol == "3.1.1" else _V5
        self._since = 0.0
        self._failures, self._next_attempt = 0, 0.0
        self._topics: set[str] = set()
        self._inbox: list[Message] = []
        self._refusal = ""
        self.connected = False
        """Whether the broker has accepted the session."""
        self.why = "not connected yet"
        """Why there is no connection, for people."""
        self._bytes_in = self._bytes_out = 0

    @property
    def bytes_in(self) -> int:
        """Bytes received above TCP and TLS, all connections together."""
        return self._bytes_in + (self._client.bytes_in if self._client else 0)

    @property
    def bytes_out(self) -> int:
        """Bytes sent above TCP and TLS, all connections together."""
        return self._bytes_out + (self._client.bytes_out if self._client else 0)

    def subscribe(self, topic: str) -> None:
        """Ask for a topic, now and after each reconnection; its retained message comes first."""
        self._topics.add(topic)
        if self.connected and self._client:
            self._client.subscribe(topic, qos=1)

    def unsubscribe(self, topic: str) -> None:
        """No longer ask for a topic."""
        self._topics.discard(topic)
        if self.connected and self._client:
            self._client.unsubscribe(topic)

    def poll(self, timeout_s: float) -> list[Message]:
        """Keep the session going for at most ``timeout_s`` and give what arrived."""
        if self._client is None:
            self._attempt(timeout_s)
        if self._client is not None:
            result = self._client.loop(timeout_s)
            if result != MQTTErrorCode.MQTT_ERR_SUCCESS or self._stale():
                self._lost(self._client.refusal or self._refusal or paho.error_string(result))
        arrived, self._inbox = self._inbox, []
        return arrived

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> paho.MQTTMessageInfo:
        """Hand one message to the connection; ``is_published`` of the result turns true later.

        Raises:
            BrokerError: there is no connection.
        """
        if not self.connected or self._client is None:
            raise BrokerError(f"{self._where}: {self.why}; check the broker and try again")
        return self._client.publish(topic, payload, qos=1, retain=retain)

    def wait_connected(self, timeout_s: float) -> None:
        """Poll until the session stands; what arrives meanwhile is dropped.

        Raises:
            BrokerError: it does not within ``timeout_s``.
        """
        end = self._clock() + timeout_s
        while not self.connected:
            if self._clock() > end:
                raise BrokerError(f"{self._where}: {self.why}; is the broker running?")
            self.poll(0.1)

    def publish_all(self, messages: list[tuple[str, bytes]], *, timeout_s: float) -> None:
        """Publish retained messages in order and wait until the broker has taken them all.

        Raises:
            BrokerError: it has not within ``timeout_s``, or the connection was lost.
        """
        end, waiting = self._clock() + timeout_s, list[paho.MQTTMessageInfo]()
        rest = list(reversed(messages))
        while rest or waiting:
            while rest and len(waiting) < UNACKNOWLEDGED:
                waiting.append(self.publish(*rest.pop(), retain=True))
            self.poll(0.05)
            if not self.connected or self._clock() > end:
                raise BrokerError(f"{self._where}: {self.why}; publish again, nothing is lost")
            waiting = [info for info in waiting if not info.is_published()]

    def close(self) -> None:
        """Say goodbye."""
        if self._client is not None:
            self._client.disconnect()
            self._lost("closed")

    @property
    def _where(self) -> str:
        return f"broker {self._broker.host}:{self._broker.port}"

    def _attempt(self, timeout_s: float) -> None:
        """Connect if it is time to; else let time pass."""
        wait = self._next_attempt - self._clock()
        if wait > 0:
            time.sleep(min(wait, timeout_s))
            return
        client = self._new_client()
        self._since, self._refusal = self._clock(), ""
        properties = None
        if self._version == _V5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = PACKET_BYTES
        try:
            client.connect(self._broker.host, self._broker.port, KEEPALIVE_S, properties=properties)
        except OSError as error:
            self.why = str(error.strerror or error)
            self._back_off()
            return
        self._client = client

    def _new_client(self) -> _BoundedClient:
        client = _BoundedClient(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=self._version,
            reconnect_on_failure=False,
        )
        if self._broker.ca:
            client.tls_set(
                ca_certs=self._broker.ca,
                certfile=self._broker.certificate or None,
                keyfile=self._broker.key or None,
                tls_version=ssl.PROTOCOL_TLS_CLIENT,
            )
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        return client

    def _on_connect(
        self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._refusal = str(reason)
            return
        self.connected, self.why, self._failures = True, "", 0
        for topic in sorted(self._topics):
            client.subscribe(topic, qos=1)

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        self._inbox.append(Message(message.topic, bytes(message.payload)))

    def _stale(self) -> bool:
        return not self.connected and self._clock() - self._since > CONNACK_S[self._version]

    def _lost(self, why: str) -> None:
        if self._client is not None:
            self._bytes_in += self._client.bytes_in
            self._bytes_out += self._client.bytes_out
            self._client.shut()
        accepted, self._client, self.connected, self.why = self.connected, None, False, why
        _log.debug("%s: %s", self._where, why)
        if accepted or self._broker.protocol != "auto":
            self._back_off()
        elif self._version == _V5:
            self._version = _V311  # perhaps it knows no other; ask at once
        else:
            self._version = _V5
            self._back_off()

    def _back_off(self) -> None:
        most = min(FIRST_WAIT_S * 2**self._failures, self._most_wait_s)
        self._failures = min(self._failures + 1, 16)
        self._next_attempt = self._clock() + self._rng.uniform(0, most)


class _BoundedClient(paho.Client):
    """paho, but it reads no packet larger than we asked for, and counts bytes.

    Version 3.1.1 can't tell a broker the limit, and a hostile broker would not keep it; paho
    alone reads up to 256 MB into memory. It asks for the whole rest of a packet at once, which is
    where we stop it (a test sends such a packet).
    """

    bytes_in = 0
    bytes_out = 0
    refusal = ""

    def _create_socket_connection(self) -> socket.socket:
        """Without Nagle's delay: SUBSCRIBE follows UNSUBSCRIBE and must not wait 40 ms for it."""
        connection: socket.socket = super()._create_socket_connection()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _sock_recv(self, bufsize: int) -> bytes:
        if bufsize > PACKET_BYTES:
            self.refusal = f"it sent a packet of {bufsize} bytes, the limit is {PACKET_BYTES}"
            raise ConnectionError(self.refusal)
        data = super()._sock_recv(bufsize)
        self.bytes_in += len(data)
        return data

    def _sock_send(self, buf: bytes | bytearray) -> int:
        sent = super()._sock_send(buf)
        self.bytes_out += sent
        return sent

    def shut(self) -> None:
        """Close the sockets now instead of whenever the garbage is collected."""
        self._sock_close()
        self._reset_sockets()
