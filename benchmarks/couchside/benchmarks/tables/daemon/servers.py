"""The servers that are compared, all as a ``TvProcess``: started, asked, weighed and stopped alike.

Each has a client as light as ours: one request, one reply, ``json.loads``, on a kept connection.
"""

from __future__ import annotations

import json
import sys
from importlib import resources
from struct import Struct
from typing import TYPE_CHECKING, Any

import numpy as np

from couchside.benchmarks.tv.process import TvProcess
from couchside.device.catalogue.arrays import build
from couchside.device.catalogue.cache import TitleCache
from couchside.device.errors import RpcError, UnreachableError
from couchside.device.rpc.client import Client

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from couchside.benchmarks.tables.peers import Installed
    from couchside.device.bundle import Bundle

LENGTH = Struct(">I")
OK = 200


class StreamClient(Client):
    """Calls a server that speaks another protocol; no repetition of what failed.

    Subclasses say how one request and its reply look.
    """

    _stream: BinaryIO | None = None

    def call(self, method: str, **params: Any) -> Any:
        """As ``Client.call``.

        Raises:
            RpcError: the server answered with an error.
            UnreachableError: no server answers.
        """
        try:
            return json.loads(self.exchange(method, params))
        except OSError as error:
            self.close()
            raise UnreachableError(f"{self._path}: {error}") from error

    def exchange(self, method: str, params: dict[str, Any]) -> bytes:
        """One reply's body."""
        raise NotImplementedError

    def send(self, message: bytes) -> BinaryIO:
        """Send a request; where its reply can be read."""
        if self._stream is None or self._connection is None:
            self._connection = self._connect()
            self._stream = self._connection.makefile("rb")
        self._connection.sendall(message)
        return self._stream

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._stream is not None:
            self._stream.close()
        self._stream = None
        super().close()


class HttpClient(StreamClient):
    """HTTP/1.1, as much of it as a kept connection to a server of ours needs."""

    def exchange(self, method: str, params: dict[str, Any]) -> bytes:
        """POST to ``/METHOD``; the body of the reply."""
        body = json.dumps(params, allow_nan=False).encode()
        head = (
            f"POST /{method} HTTP/1.1\r\nHost: tv\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        stream = self.send(head.encode() + body)
        status = stream.readline().split()
        if not status:
            raise ConnectionResetError("closed without a reply")
        length = 0
        while line := stream.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        reply = stream.read(length)
        if int(status[1]) != OK:
            raise RpcError(int(status[1]), reply.decode(errors="replace")[:200])
        return reply


class EchoClient(StreamClient):
    """Sends the same bytes whatever is asked, and gets them back."""

    payload = b'{"rows": []}'
    """A reply as long as the others give."""

    def exchange(self, method: str, params: dict[str, Any]) -> bytes:  # noqa: ARG002
        """The payload, there and back."""
        stream = self.send(LENGTH.pack(len(self.payload)) + self.payload)
        head = stream.read(LENGTH.size)
        if len(head) < LENGTH.size:
            raise ConnectionResetError("closed without a reply")
        return stream.read(*LENGTH.unpack(head))


class Stack(TvProcess):
    """The reference stack of ``peer_scripts/reference_stack.py``.

    Args:
        folder: as for ``TvProcess``; ``lay_out`` has put its titles and its model there.
        installed: its environment.
    """

    def __init__(self, folder: Path, installed: Installed) -> None:
        super().__init__(folder)
        self._installed = installed

    def _connect(self) -> Client:
        return HttpClient(self.folder / "rpc.sock")

    def _command(self, *_: str) -> list[str]:
        places = (self.folder / "stock", self.folder / "rpc.sock", self.folder)
        return self._installed.command("reference_stack.py", *map(str, places))


class Echo(TvProcess):
    """The floor of ``peer_scripts/echo_server.py``, by the interpreter of this process."""

    def _connect(self) -> Client:
        return EchoClient(self.folder / "rpc.sock")

    def _command(self, *_: str) -> list[str]:
        (self.folder / "rpc.sock").unlink(missing_ok=True)
        folder = resources.files("couchside.benchmarks.tables") / "peer_scripts"
        return [sys.executable, str(folder / "echo_server.py"), str(self.folder / "rpc.sock")]


def lay_out(state: Path, bundle: Bundle, model: Bundle, folder: Path, *, now: float) -> None:
    """Give the stack what our TV has: titles, their vectors, popularity and the user model.

    Args:
        state: of our TV, which is off and runs ``bundle``.
        bundle: whose item vectors it has.
        model: flavour ``onnx-float`` of the same Bundle: its user model is the stack's.
        folder: of the stack.
        now: POSIX seconds; what is on demand then stays so for the stack.
    """
    stock = folder / "stock"
    stock.mkdir(parents=True)
    cache = TitleCache(state / "cache.db")
    catalogue = build(cache, bundle)
    faces = cache.faces(catalogue.title_ids)
    cache.close()
    titles = [
        {
            "title_id": title_id,
            "name": faces[title_id].name,
            "deep_link": faces[title_id].deep_link,
            "artwork": faces[title_id].artwork,
            "on_demand": bool(on_demand),
        }
        for title_id, on_demand in zip(catalogue.title_ids, catalogue.on_demand(now), strict=True)
    ]
    (stock / "titles.json").write_text(json.dumps(titles), encoding="utf-8")
    np.save(stock / "vectors.npy", catalogue.vectors)
    np.save(stock / "popularity.npy", catalogue.popularity)
    np.save(stock / "personal.npy", model.shipped_personal)
    graph = model.path / model.graph("user_model").file
    (stock / "user_model.onnx").write_bytes(graph.read_bytes())
    settings = {"popularity_weight": model.popularity_weight}
    (stock / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
