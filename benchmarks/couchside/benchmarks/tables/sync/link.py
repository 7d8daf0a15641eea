"""A TCP relay in front of the broker: counts what crosses, and can be as far away as a continent.

Bytes are counted as the broker hands them over, so what a killed TV never read is counted too.
Every piece is held for the delay, in both directions; bandwidth and loss are the loopback's.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from couchside.cloud_sync.address import BrokerAddress

PIECE = 1 << 16
JOIN_S = 5.0


class Link:
    """The way of one TV to a broker.

    Args:
        broker: where it ends.
        delay_s: how long every piece is under way, in each direction.
    """

    def __init__(self, broker: BrokerAddress, delay_s: float = 0.0) -> None:
        self._broker, self._delay_s = broker, delay_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = replace(broker, port=self._listener.getsockname()[1])
        """Where the TV finds its end."""
        self.received = self.sent = 0
        """Bytes above TCP, from the broker and to it, of all connections."""
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Break every connection and wait until the relay is quiet."""
        _shut(self._listener)
        self._accepting.join(JOIN_S)
        for end in self._ends:
            _shut(end)
        for thread in self._threads:
            thread.join(JOIN_S)
        for end in (self._listener, *self._ends):
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                tv, _ = self._listener.accept()
                broker = socket.create_connection((self._broker.host, self._broker.port), JOIN_S)
            except OSError:
                return
            broker.settimeout(None)
            for end in (tv, broker):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends += [tv, broker]
            self._carry(tv, broker, "sent")
            self._carry(broker, tv, "received")

    def _carry(self, source: socket.socket, sink: socket.socket, counter: str) -> None:
        pieces: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        for work in (
            lambda: self._take(source, pieces, counter),
            lambda: self._give(source, sink, pieces),
        ):
            thread = threading.Thread(target=work, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _take(
        self,
        source: socket.socket,
        pieces: queue.SimpleQueue[tuple[float, bytes]],
        counter: str,
    ) -> None:
        piece = b"-"
        while piece:
            try:
                piece = source.recv(PIECE)
            except OSError:
                piece = b""
            setattr(self, counter, getattr(self, counter) + len(piece))
            pieces.put((time.monotonic() + self._delay_s, piece))

    def _give(
        self,
        source: socket.socket,
        sink: socket.socket,
        pieces: queue.SimpleQueue[tuple[float, bytes]],
    ) -> None:
        """Hand over what is due; nothing is the end of the stream."""
        while True:
            due, piece = pieces.get()
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                if not piece:
                    break
                sink.sendall(piece)
            except OSError:
                break
        _shut(source)
        _shut(sink)


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
