"""The wire: JSON-RPC 2.0 (jsonrpc.org), one object a line, UTF-8, at most 64 KiB a request.

Strict on purpose: duplicate keys, NaN, batches and positional parameters are refused, so that two
programs can't read one line in two ways. A longer line costs constant memory: its rest is thrown
away as it comes, it gets an error, and the connection goes on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from couchside.device import strict
from couchside.device.errors import RpcError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from socket import socket

LINE_LIMIT = 64 * 1024
"""Bytes of a request's line without its end."""
CHUNK = 16 * 1024

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
NOT_ALLOWED = -32001
"""The caller's user may not call this method."""
BUSY = -32002
"""Too many connections, all of them working."""
CATALOGUE_ERROR = -32010
"""A file of titles can't be used; the message says which part and why."""

RequestId = str | int | None


class LineTooLongError(ValueError):
    """A line had more than the limit; it was read to its end and thrown away."""


class Lines:
    """Lines from a socket, in bounded memory.

    Args:
        connection: a blocking stream socket.
        limit: bytes that a line may have.
    """

    def __init__(self, connection: socket, limit: int = LINE_LIMIT) -> None:
        self._connection = connection
        self._limit = limit
        self._buffer = bytearray()

    def next(self) -> bytes | None:
        """The next line without its end; None when the other side has closed.

        Raises:
            LineTooLongError: the line was too long; the next call reads the line after it.
            OSError: the connection broke.
        """
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            if len(self._buffer) > self._limit:
                self._drain()
                raise LineTooLongError
            searched = len(self._buffer)
            chunk = self._connection.recv(CHUNK)
            if not chunk:
                return None
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        if len(line) > self._limit:
            raise LineTooLongError
        return line

    def _drain(self) -> None:
        """Throw away up to the next end of line."""
        self._buffer = bytearray()
        while chunk := self._connection.recv(CHUNK):
            end = chunk.find(b"\n")
            if end >= 0:
                self._buffer += chunk[end + 1 :]
                return


@dataclass(frozen=True, slots=True)
class Request:
    """One call."""

    method: str
    params: Mapping[str, Any]
    request_id: RequestId
    wants_reply: bool
    """False for a notification, which is never answered, not even with an error."""


def parse_request(line: bytes) -> Request:
    """Read one line.

    Raises:
        RpcError: it is not JSON, or not a JSON-RPC 2.0 request.
    """
    try:
        value = strict.loads(line)
    except strict.StrictError as error:
        raise RpcError(PARSE_ERROR, f"parse error: {error}") from error
    if not isinstance(value, dict):
        raise RpcError(INVALID_REQUEST, "invalid request: one object a line, no batches")
    return _request(value)


def _request(value: dict[str, Any]) -> Request:
    unknown = sorted(value.keys() - {"jsonrpc", "method", "params", "id"})
    request_id = value.get("id")
    if unknown:
        raise _invalid(unknown[0], "is not a member of a request")
    if value.get("jsonrpc") != "2.0":
        raise _invalid("jsonrpc", 'must be "2.0"')
    if not isinstance(value.get("method"), str):
        raise _invalid("method", "must be a string")
    if isinstance(request_id, bool) or not isinstance(request_id, str | int | None):
        raise _invalid("id", "must be a string, a whole number or null")
    params = value.get("params", {})
    if not isinstance(params, dict):
        raise _invalid("params", "must be an object with named fields")
    return Request(value["method"], params, request_id, "id" in value)


def _invalid(field: str, what: str) -> RpcError:
    return RpcError(INVALID_REQUEST, f"invalid request: {field} {what}", {"field": field})


def success(request_id: RequestId, result: Any) -> bytes:
    """The line of a result."""
    return _line({"jsonrpc": "2.0", "id": request_id, "result": result})


def failure(request_id: RequestId, error: RpcError) -> bytes:
    """The line of an error."""
    body: dict[str, Any] = {"code": error.code, "message": str(error)}
    if error.data:
        body["data"] = error.data
    return _line({"jsonrpc": "2.0", "id": request_id, "error": body})


def _line(value: dict[str, Any]) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A name may hold half a surrogate pair, which JSON can write and UTF-8 can't.
    return text.encode("utf-8", "replace") + b"\n"
