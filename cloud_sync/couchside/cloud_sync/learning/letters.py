"""Letters between aggregator and helper: signed, at most 60 KiB, through a broker nobody trusts.

    signature 64 · length of the header 4, little-endian · header, JSON · body

An answer names the SHA-256 of what it answers, so an old one never passes for a new one; to be
asked the same twice harms nothing. The Round travels in each ask: the helper judges by the signed
Round, never by the aggregator's word.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from couchside.cloud_sync.errors import LetterError
from couchside.cloud_sync.topics import LETTER_BYTES, is_name
from couchside.device import strict
from couchside.device.errors import LearningError
from couchside.device.learning.signed import sign, verified
from couchside.device.learning.spool import ID_BYTES, ROUND_BYTES, SEALED_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from numpy.typing import NDArray

T = TypeVar("T")

ASK, ANSWER = "ask", "answer"
"""Purposes of the signatures."""
BATCH = 64
"""Most Updates of one check."""
SET = 3_300
"""Most Updates of one unmasking: their names must fit into one letter, beside any Round."""
_LENGTH = struct.Struct("<I")
_HEADER_BYTES = 16 * 1024
_ENTRY = ID_BYTES + SEALED_BYTES
_WHY = 200
"""Most characters of a reason."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """An Update's part that the helper sees."""

    update_id: bytes
    device: str
    seed: bytes
    """Sealed, 80 bytes."""


@dataclass(frozen=True, slots=True)
class Check:
    """Asks which of these seeds open and may be counted; the good ones are kept."""

    signed_round: bytes
    updates: tuple[Sealed, ...]


@dataclass(frozen=True, slots=True)
class Unmask:
    """Asks for the sum of the masks of exactly these Updates, less noise; granted once a Round."""

    signed_round: bytes
    update_ids: tuple[bytes, ...]
    """Sorted, each once."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the helper says."""

    of: str
    """SHA-256 of the ask, as ``sealed_ask`` gives it."""
    refused: str
    """Why the whole ask was refused; empty if it was not."""
    verdicts: tuple[str, ...] = ()
    """To a check, one for each Update: empty if its seed is good and kept, else why not."""
    masks: bytes = b""
    """To an unmasking: uint16 [n], little-endian."""

    def values(self) -> NDArray[np.uint16]:
        """``masks`` as numbers."""
        return np.frombuffer(self.masks, dtype="<u2").astype(np.uint16)


@dataclass(frozen=True, slots=True)
class _AskHeader:
    kind: Literal["check", "unmask"]
    round_bytes: int
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _AnswerHeader:
    of: str
    refused: str
    verdicts: tuple[str, ...]


def write_ask(ask: Check | Unmask, key: Ed25519PrivateKey) -> tuple[bytes, str]:
    """The letter, and the name by which its answer will call it.

    Raises:
        LetterError: it would be too large.
    """
    if isinstance(ask, Check):
        devices = tuple(update.device for update in ask.updates)
        body = b"".join(update.update_id + update.seed for update in ask.updates)
        header = _AskHeader("check", len(ask.signed_round), devices)
    else:
        header = _AskHeader("unmask", len(ask.signed_round), ())
        body = b"".join(ask.update_ids)
    content = _packed(header, ask.signed_round + body)
    return _signed(key, ASK, content), name_of(content)


def read_ask(letter: bytes, keys: Iterable[bytes]) -> tuple[Check | Unmask, str]:
    """What an aggregator asks, and the ask's name.

    Raises:
        LetterError: it is oversize, malformed, or none of ``keys`` signed it.
    """
    content = _content(letter, ASK, keys)
    header, body = _unpacked(_AskHeader, content)
    if not 0 < header.round_bytes <= min(ROUND_BYTES, len(body)):
        raise LetterError("ask: it holds no Round")
    signed_round, rest = body[: header.round_bytes], body[header.round_bytes :]
    if header.kind == "check":
        return Check(signed_round, _updates(header.devices, rest)), name_of(content)
    ids = tuple(rest[at : at + ID_BYTES] for at in range(0, len(rest), ID_BYTES))
    ordered = all(a < b for a, b in pairwise(ids))
    if len(rest) % ID_BYTES or not 0 < len(ids) <= SET or header.devices or not ordered:
        raise LetterError(f"ask: not a sorted set of at most {SET} Updates")
    return Unmask(signed_round, ids), name_of(content)


def write_answer(answer: Answer, key: Ed25519PrivateKey) -> bytes:
    """The letter.

    Raises:
        LetterError: it would be too large.
    """
    verdicts = tuple(why[:_WHY] for why in answer.verdicts)
    header = _AnswerHeader(answer.of, answer.refused[:_WHY], verdicts)
    return _signed(key, ANSWER, _packed(header, answer.masks))


def read_answer(letter: bytes, keys: Iterable[bytes]) -> Answer:
    """What the helper answered.

    Raises:
        LetterError: it is oversize, malformed, or none of ``keys`` signed it.
    """
    header, body = _unpacked(_AnswerHeader, _content(letter, ANSWER, keys))
    if len(body) % 2 or len(header.verdicts) > BATCH:
        raise LetterError("answer: its size is wrong")
    return Answer(header.of, header.refused, header.verdicts, body)


def name_of(content: bytes) -> str:
    """SHA-256 of an ask's content."""
    return hashlib.sha256(content).hexdigest()


def _updates(devices: tuple[str, ...], raw: bytes) -> tuple[Sealed, ...]:
    if not 0 < len(devices) <= BATCH or len(raw) != _ENTRY * len(devices):
        raise LetterError(f"ask: not from 1 to {BATCH} Updates of {_ENTRY} bytes")
    if not all(map(is_name, devices)):
        raise LetterError("ask: a device has no name")
    entries = (raw[at : at + _ENTRY] for at in range(0, len(raw), _ENTRY))
    return tuple(
        Sealed(entry[:ID_BYTES], device, entry[ID_BYTES:])
        for device, entry in zip(devices, entries, strict=True)
    )


def _packed(header: _AskHeader | _AnswerHeader, body: bytes) -> bytes:
    text = json.dumps(strict.to_json(header), sort_keys=True).encode()
    return _LENGTH.pack(len(text)) + text + body


def _unpacked(kind: type[T], content: bytes) -> tuple[T, bytes]:
    if len(content) < _LENGTH.size:
        raise LetterError("letter: it is cut off")
    (length,) = _LENGTH.unpack_from(content)
    end = _LENGTH.size + length
    if length > _HEADER_BYTES or end > len(content):
        raise LetterError(f"letter: a header of {length} bytes does not fit")
    try:
        return strict.from_json(kind, strict.loads(content[_LENGTH.size : end])), content[end:]
    except strict.StrictError as error:
        raise LetterError(f"letter: {error}") from error


def _signed(key: Ed25519PrivateKey, purpose: str, content: bytes) -> bytes:
    letter = sign(key, purpose, content)
    if len(letter) > LETTER_BYTES:
        raise LetterError(f"a letter of {len(letter)} bytes; the limit is {LETTER_BYTES}")
    return letter


def _content(letter: bytes, purpose: str, keys: Iterable[bytes]) -> bytes:
    if len(letter) > LETTER_BYTES:
        raise LetterError(f"{purpose}: {len(letter)} bytes, the limit is {LETTER_BYTES}")
    try:
        return verified(keys, purpose, letter)
    except LearningError as error:
        raise LetterError(str(error)) from error
