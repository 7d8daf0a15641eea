"""A file by request and response over MQTT, as AWS IoT's file delivery does it: a small simulator.

The device asks for blocks by a bitmap, a server in the cloud answers one message a block, and
the device asks again when all have come (AWS IoT "MQTT-based file delivery"; JSON with base64, or
CBOR). Kept from it: block sizes and 128 KB a request at most, field names, resuming by the bitmap
of what is missing. Left out, in its favour: describing the stream, jobs, signatures, TLS, writing
to disk.
It carries the same compressed files as ours, so what differs is the protocol.
"""

from __future__ import annotations

import base64
import json
import struct
import threading
import time
from typing import TYPE_CHECKING, Any, Literal, Self

from couchside.benchmarks.errors import InvalidRunError
from couchside.cloud_sync.mqtt import Session

if TYPE_CHECKING:
    from types import TracebackType

    from couchside.cloud_sync.address import BrokerAddress

Form = Literal["json", "cbor"]
BLOCK_BYTES: dict[Form, int] = {"json": 45 * 1024, "cbor": 60 * 1024}
"""So that a message stays below 64 KiB, as ours: base64 makes four bytes of three."""
A_REQUEST = 2
"""Blocks a request: AWS answers with 128 KB at most."""
THING = "aws/things/tv-0001/streams/bundle"
LIMIT_S = 90.0
POLL_S = 0.01


class Server:
    """The cloud's side: a thread that answers until it is closed.

    Args:
        broker: by which it is asked.
        content: the file.
        form: how messages are written.
    """

    def __init__(self, broker: BrokerAddress, content: bytes, form: Form) -> None:
        self._content, self._form = content, form
        self._session = Session(broker, f"streams-{form}")
        self._session.subscribe(f"{THING}/get/{form}")
        self._session.wait_connected(LIMIT_S)
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping = True
        self._thread.join(LIMIT_S)
        self._session.close()

    def _serve(self) -> None:
        while not self._stopping:
            for message in self._session.poll(POLL_S):
                self._answer(json.loads(message.payload))

    def _answer(self, asked: dict[str, Any]) -> None:
        size = asked["l"]
        wanted = int(asked["b"], 16)
        for place in range(wanted.bit_length()):
            if wanted >> place & 1:
                block = asked["o"] + place
                raw = self._content[block * size : (block + 1) * size]
                answer = written({"f": asked["f"], "l": len(raw), "i": block, "p": raw}, self._form)
                self._session.publish(f"{THING}/data/{self._form}", answer, retain=False)


class Device:
    """The TV's side.

    Args:
        broker: by which it asks.
        size: bytes of the file.
        form: how messages are written.
        held: blocks that it has from before, by number; grows.
    """

    def __init__(
        self, broker: BrokerAddress, size: int, form: Form, held: dict[int, bytes]
    ) -> None:
        self._form, self._held = form, held
        self._block = BLOCK_BYTES[form]
        self._count = -(-size // self._block)
        self.requests = 0
        self._asked: set[int] = set()
        self._session = Session(broker, "tv-0001")
        self._session.subscribe(f"{THING}/data/{form}")
        self._session.wait_connected(LIMIT_S)

    def fetch(self, *, until: float = 1.0) -> bytes:
        """The file; or, killed at a share of its blocks, what is there by then.

        Raises:
            InvalidRunError: it does not come.
        """
        end = time.monotonic() + LIMIT_S
        enough = round(self._count * until)
        while len(self._held) < enough:
            if not self._asked - self._held.keys():
                self._asked = self._ask()
            for message in self._session.poll(POLL_S):
                block, payload = read(message.payload, self._form)
                self._held[block] = payload
            if time.monotonic() > end:
                raise InvalidRunError(f"a stream of {self._count} blocks did not come")
        return b"".join(self._held[number] for number in sorted(self._held))

    def die(self, after_s: float) -> None:
        """Ask for more, and be gone before it is here: nothing that comes is kept."""
        if not self._asked - self._held.keys():
            self._asked = self._ask()
        self._session.poll(0)
        time.sleep(after_s)
        self._session.close()

    def close(self) -> None:
        """Leave."""
        self._session.close()

    def _ask(self) -> set[int]:
        missing = [number for number in range(self._count) if number not in self._held]
        wanted = missing[:A_REQUEST]
        first = wanted[0] if wanted else 0
        request = {
            "c": f"{self.requests:08x}",
            "s": 1,
            "f": 0,
            "l": self._block,
            "o": first,
            "n": len(wanted),
            "b": f"{sum(1 << (number - first) for number in wanted):x}",
        }
        self.requests += 1
        self._session.publish(
            f"{THING}/get/{self._form}", json.dumps(request).encode(), retain=False
        )
        return set(wanted)


def written(answer: dict[str, Any], form: Form) -> bytes:
    """A block's message; its payload is under ``p``."""
    if form == "json":
        text = base64.b64encode(answer["p"]).decode()
        return json.dumps({**answer, "p": text}).encode()
    numbers = b"".join(_cbor(3, 1) + name.encode() + _cbor(0, answer[name]) for name in "fli")
    payload: bytes = answer["p"]
    return _cbor(5, 4) + numbers + _cbor(3, 1) + b"p" + _cbor(2, len(payload)) + payload


def read(message: bytes, form: Form) -> tuple[int, bytes]:
    """Number and payload of a block's message, as ``written`` wrote it."""
    if form == "json":
        answer = json.loads(message)
        return int(answer["i"]), base64.b64decode(answer["p"])
    at, found = 1, dict[str, int]()
    while at < len(message):
        name = chr(message[at + 1])
        found[name], at = _cbor_number(message, at + 2)
        if name == "p":
            break
    return found["i"], message[at:]


def _cbor(major: int, number: int) -> bytes:
    """The head of a CBOR item (RFC 8949, section 3) with at most 32 bits."""
    if number < 24:
        return bytes([major << 5 | number])
    if number < 1 << 16:
        return struct.pack(">BH", major << 5 | 25, number)
    return struct.pack(">BI", major << 5 | 26, number)


def _cbor_number(message: bytes, at: int) -> tuple[int, int]:
    """The number in a head, and where what follows begins."""
    kind = message[at] & 31
    width = {25: 2, 26: 4}.get(kind, 0)
    number = int.from_bytes(message[at + 1 : at + 1 + width], "big") if width else kind
    return number, at + 1 + width
