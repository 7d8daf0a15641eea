"""The TV's half of the secure sum: a mask that only the helper can make again.

Two servers, one message: the masked vector goes to the aggregator, and with it the 32-byte seed of
the mask, sealed to the helper (HPKE, RFC 9180, base mode). The sum of the masked vectors less the
sum of the masks is the sum of the vectors, exactly, whoever dropped out. Either server alone sees
uniform noise; both together see everything, so they must not belong to one another.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from couchside.device.errors import LearningError
from couchside.device.learning.spool import SEALED_BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED_BYTES = 32


def mask(seed: bytes, n: int) -> NDArray[np.uint16]:
    """The mask of ``seed``: n uniform values of uint16, from SHAKE128 (FIPS 202)."""
    stream = hashlib.shake_128(b"couchside/1 mask\0" + seed).digest(2 * n)
    return np.frombuffer(stream, dtype="<u2").astype(np.uint16)


def masked(values: NDArray[np.int64], seed: bytes) -> NDArray[np.uint16]:
    """``values`` [n] plus the mask of ``seed``, modulo 2^16."""
    return (values % (1 << 16)).astype(np.uint16) + mask(seed, len(values))


def seal(seed: bytes, helper_key: bytes, context: bytes) -> bytes:
    """``seed`` for the helper's eyes only, and only in this ``context``: 80 bytes.

    Raises:
        LearningError: ``cryptography`` is missing or too old, or ``helper_key`` is no X25519 key.
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import (  # noqa: PLC0415 - the child's
        X25519PublicKey,
    )

    try:
        key = X25519PublicKey.from_public_bytes(helper_key)
    except ValueError as error:
        raise LearningError(f"the helper's key is no X25519 key: {error}") from error
    return _suite().encrypt(seed, key, info=context)  # type: ignore[no-any-return]


def unseal(sealed: bytes, private_key: Any, context: bytes) -> bytes | None:
    """The seed; None if it was not sealed for this key and this ``context``.

    Args:
        sealed: 80 bytes.
        private_key: the helper's ``X25519PrivateKey``.
        context: of the Update.
    """
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415

    if len(sealed) != SEALED_BYTES:
        return None
    try:
        seed: bytes = _suite().decrypt(sealed, private_key, info=context)
    except (InvalidTag, ValueError):
        return None
    return seed if len(seed) == SEED_BYTES else None


def _suite() -> Any:
    try:
        from cryptography.hazmat.primitives import hpke  # noqa: PLC0415
    except ImportError as error:
        raise LearningError(
            "learning needs cryptography 47 or newer: pip install 'couchside[learn]'"
        ) from error
    return hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
