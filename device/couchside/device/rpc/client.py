"""The other end of the socket, for the command line, launchers in Python, benchmarks and tests."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any, Self

from couchside.device.errors import RpcError, UnreachableError
from couchside.device.rpc.wire import Lines

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

REPLY_LIMIT = 16 * 1024 * 1024
"""Bytes of a reply's line; pages of an export are the longest, at a few hundred kB."""
RETRY_S = 0.05


class Client:
    """Calls the daemon, reconnecting where it was restarted.

    A call whose connection broke is repeated once: events carry an id, and every other method
    does the same when it is called twice.

    Args:
        path: the daemon's socket.
        timeout_s: for a reply.
        patience_s: how long to wait for a daemon that is not there (yet).
    """

    def __init__(self, path: Path, *, timeout_s: float = 30.0, patience_s: float = 0.0) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._connection: socket.socket | None = None
        self._lines: Lines | None = None
        self._calls = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._lines = None

    def call(self, method: str, **params: Any) -> Any:
        """Call ``method`` and return its result.

        Raises:
            RpcError: the daemon answered with an error.
            UnreachableError: no daemon answers.
        """
        self._calls += 1
        request = {"jsonrpc": "2.0", "id": self._calls, "method": method, "params": params}
        line = json.dumps(request, allow_nan=False).encode() + b"\n"
        reused = self._connection is not None
        try:
            return self._exchange(line)
        except TimeoutError as error:
            self.close()
            raise UnreachableError(
                f"{self._path}: no reply to {method} within {self._timeout_s:g} s"
            ) from error
        except OSError as error:
            self.close()
            if not reused and not self._patience_s:
                raise UnreachableError(f"{self._path}: {error}") from error
        return self._repeat(line)

    def _repeat(self, line: bytes) -> Any:
        try:
            return self._exchange(line)
        except OSError as error:
            self.close()
            raise UnreachableError(f"{self._path}: the daemon went away: {error}") from error

    def _exchange(self, line: bytes) -> Any:
        connection, lines = self._connected()
        connection.sendall(line)
        reply = lines.next()
        if reply is None:
            raise ConnectionResetError("closed without a reply")
        answer = json.loads(reply)
        if "error" in answer:
            error = answer["error"]
            raise RpcError(error["code"], error["message"], error.get("data"))
        return answer["result"]

    def _connected(self) -> tuple[socket.socket, Lines]:
        if self._connection is None or self._lines is None:
            self._connection = self._connect()
            self._lines = Lines(self._connection, REPLY_LIMIT)
        return self._connection, self._lines

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + self._patience_s
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(self._timeout_s)
            try:
                connection.connect(str(self._path))
            except OSError as error:
                connection.close()
                if time.monotonic() >= deadline:
                    raise UnreachableError(
                        f"{self._path}: {error.strerror or error}; is couchside-device running?"
                    ) from error
                time.sleep(RETRY_S)
            else:
                return connection
