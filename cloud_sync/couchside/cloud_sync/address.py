"""Where the broker is; apart from the session, so that the installer needs no MQTT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker is, and how it and this client know each other."""

    host: str = "localhost"
    port: int = 8883
    ca: str = ""
    """File with the certificates that may have signed the broker's; empty means no TLS."""
    certificate: str = ""
    """File with this client's certificate; its common name is the identity in the broker's ACL."""
    key: str = ""
    """File with the certificate's private key."""
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    """Version of MQTT; auto asks for 5 first, which some 3.1.1 brokers answer with silence."""
