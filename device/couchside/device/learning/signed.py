"""Signed bytes: an Ed25519 signature (RFC 8032) in front of exactly the bytes that it covers.

The signature also covers a purpose, so that a signed Round can never pass for a signed answer.
Nothing is parsed before it was verified. ``cryptography`` is imported here late: on a TV only the
learning child may carry it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from couchside.device.errors import LearningError, RoundRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNATURE_BYTES = 64


def sign(key: Ed25519PrivateKey, purpose: str, content: bytes) -> bytes:
    """``content`` behind its signature for ``purpose``."""
    return key.sign(_covered(purpose, content)) + content


def verified(keys: Iterable[bytes], purpose: str, raw: bytes) -> bytes:
    """The content of ``raw``, if one of the public ``keys`` (32 bytes each) signed it.

    Raises:
        RoundRefusedError: none did.
        LearningError: ``cryptography`` is not installed.
    """
    try:
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - see the module
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
            Ed25519PublicKey,
        )
    except ImportError as error:
        raise LearningError(
            "learning needs the package cryptography: pip install 'couchside[learn]'"
        ) from error
    signature, content = raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]
    for key in keys:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, _covered(purpose, content))
        except (InvalidSignature, ValueError):
            continue
        return content
    raise RoundRefusedError(f"{purpose}: not signed by a key that is trusted here")


def _covered(purpose: str, content: bytes) -> bytes:
    return b"couchside/1 " + purpose.encode() + b"\0" + content
