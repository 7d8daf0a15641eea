"""The Update frame: 64 bytes of header, the sealed seed, and the masked vector.

    magic 4 · version 1 · codec 1 · part 1 · parts 1 · round 4 · bundle 4 · n 4 · scale 4 · cell 2 ·
    0 2 · update id 16 · 0 4 · SHA-256 of everything else, first 16 bytes

Little-endian. Every TV's frame of a Round has the same size, whatever was watched. There is one
codec, masked uint16: a TV has no code that could send a plain change.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from couchside.device.errors import UpdateError
from couchside.device.learning.spool import FRAME_BYTES, ID_BYTES, SEALED_BYTES, frame_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from couchside.device.learning.round import Round

MAGIC = b"CSUP"
VERSION = 1
MASKED_U16 = 1
HEADER = struct.Struct("<4sBBBBIIIfHH16s4x16s")
_DIGEST = slice(48, 64)


@dataclass(frozen=True, slots=True)
class Update:
    """One TV's share of a Round."""

    round_id: int
    bundle_version: int
    update_id: bytes
    """16 random bytes: names the Update, not the TV."""
    scale: float
    """Units that a change of 1 became; the Round's."""
    sealed: bytes
    """The seed of the mask, for the helper's eyes only."""
    values: NDArray[np.uint16]
    """[n], masked."""


def seal_context(round_id: int, update_id: bytes) -> bytes:
    """What a sealed seed is bound to: it opens for no other Round and no other Update."""
    return b"couchside/1 seed\0" + struct.pack("<I", round_id) + update_id


def write_update(update: Update) -> bytes:
    """The frame.

    Raises:
        UpdateError: it would be larger than a frame may be, or its seed is not sealed.
    """
    n = len(update.values)
    if frame_bytes(n) > FRAME_BYTES:
        raise UpdateError(f"an Update of {n} values has {frame_bytes(n)} bytes, not {FRAME_BYTES}")
    if len(update.sealed) != SEALED_BYTES or len(update.update_id) != ID_BYTES:
        raise UpdateError("an Update needs a sealed seed and a name")
    head = _header(update, n, bytes(16))
    rest = update.sealed + update.values.astype("<u2").tobytes()
    return _header(update, n, _digest(head, rest)) + rest


def read_update(frame: bytes) -> Update:
    """What a frame says, if it is whole; whether it belongs to a Round is another question.

    Raises:
        UpdateError: it is cut off, oversize, damaged or of another version.
    """
    if not HEADER.size <= len(frame) <= FRAME_BYTES:
        raise UpdateError(f"{len(frame)} bytes are no frame")
    (
        magic,
        version,
        codec,
        part,
        parts,
        round_id,
        bundle,
        n,
        scale,
        cell,
        spare,
        update_id,
        digest,
    ) = HEADER.unpack_from(frame)
    if (magic, version) != (MAGIC, VERSION):
        raise UpdateError("no Update frame of version 1")
    if codec != MASKED_U16 or (part, parts, cell, spare) != (0, 1, 0, 0):
        raise UpdateError(f"codec {codec}, part {part} of {parts}, cell {cell}: not known here")
    if len(frame) != frame_bytes(n):
        raise UpdateError(f"{len(frame)} bytes do not hold {n} values")
    head = frame[: _DIGEST.start] + bytes(16)
    rest = frame[HEADER.size :]
    if digest != _digest(head, rest):
        raise UpdateError("its hash is wrong")
    if not (math.isfinite(scale) and scale > 0):
        raise UpdateError(f"its scale is {scale}")
    values = np.frombuffer(rest, dtype="<u2", offset=SEALED_BYTES).astype(np.uint16)
    return Update(round_id, bundle, update_id, scale, rest[:SEALED_BYTES], values)


def check_belongs(update: Update, asked: Round) -> None:
    """Whether an Update answers exactly what a Round asked.

    Raises:
        UpdateError: it is of another Round, Bundle, size or scale.
    """
    if update.round_id != asked.round_id:
        raise UpdateError(f"it is of round {update.round_id}, open is {asked.round_id}")
    if update.bundle_version != asked.bundle_version:
        raise UpdateError(
            f"it is stale: of Bundle {update.bundle_version}, "
            f"the Round is of {asked.bundle_version}"
        )
    if len(update.values) != asked.values:
        raise UpdateError(f"it has {len(update.values)} values, the Round asked for {asked.values}")
    if update.scale != float(np.float32(asked.scale)):
        raise UpdateError(f"its scale is {update.scale}, the Round's {asked.scale}")


def _header(update: Update, n: int, digest: bytes) -> bytes:
    return HEADER.pack(
        MAGIC,
        VERSION,
        MASKED_U16,
        0,
        1,
        update.round_id,
        update.bundle_version,
        n,
        update.scale,
        0,
        0,
        update.update_id,
        digest,
    )


def _digest(head: bytes, rest: bytes) -> bytes:
    return hashlib.sha256(head + rest).digest()[:16]
