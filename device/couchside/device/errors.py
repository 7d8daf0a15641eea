"""The errors of the TV. Each says what is wrong, where, and what to do next."""

from __future__ import annotations


class CouchsideError(Exception):
    """Anything the device package raises on purpose."""


class BundleError(CouchsideError):
    """A Bundle is missing, malformed, damaged or computes something else than it promises."""


class RuntimeUnavailableError(CouchsideError):
    """The inference runtime that a Bundle needs is not installed on this TV."""


class CatalogueError(CouchsideError):
    """A catalogue or guide file can't be read."""


class ConfigError(CouchsideError):
    """A configuration file or flag is wrong."""


class StoreError(CouchsideError):
    """A database on the TV can't be opened or is of another version."""


class RequestError(CouchsideError):
    """A request can't be answered as asked; ``field`` names the part that is wrong."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class RpcError(CouchsideError):
    """An error as JSON-RPC tells it; ``data`` may name the field that is wrong."""

    def __init__(self, code: int, message: str, data: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data or {}


class UnreachableError(CouchsideError):
    """No daemon answers on the socket."""


class LearningError(CouchsideError):
    """Something about federated learning is not as it must be."""


class RoundRefusedError(LearningError):
    """A Round is forged, malformed, not for this TV, or asks for more than this TV allows."""


class UpdateError(LearningError):
    """An Update can't be made or read: cut off, damaged, oversize, not finite."""
