"""JSON-RPC 2.0, one object a line, over a Unix socket."""

from couchside.device.rpc.client import Client

__all__ = ["Client"]
