"""Letters between aggregator and helper, and what they do with forged and malformed ones."""

from __future__ import annotations

import json
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from couchside.cloud_sync.errors import LetterError
from couchside.cloud_sync.learning.letters import (
    ANSWER,
    ASK,
    SET,
    Answer,
    Check,
    Sealed,
    Unmask,
    read_answer,
    read_ask,
    write_answer,
    write_ask,
)
from couchside.cloud_sync.topics import LETTER_BYTES
from couchside.device.learning.signed import sign
from couchside.device.learning.spool import ROUND_BYTES

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()
ROUND = b"r" * ROUND_BYTES
UPDATES = tuple(Sealed(bytes([n] * 16), f"tv-{n}", bytes([n] * 80)) for n in range(64))
IDS = tuple(n.to_bytes(16, "big") for n in range(SET))


def packed(header: object, body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<I", len(text)) + text + body


def test_letters_arrive_as_they_were_written() -> None:
    for ask in (Check(ROUND, UPDATES), Unmask(ROUND, IDS)):
        letter, name = write_ask(ask, KEY)
        assert len(letter) <= LETTER_BYTES
        assert read_ask(letter, (PUBLIC,)) == (ask, name)
    answer = Answer("a" * 64, "", ("", "its seed does not open"), b"\1\0" * 23_928)
    letter = write_answer(answer, KEY)
    assert len(letter) <= LETTER_BYTES
    assert read_answer(letter, (PUBLIC,)) == answer


def test_letter_of_another_key_is_refused() -> None:
    with pytest.raises(LetterError, match="not signed by a key"):
        read_ask(write_ask(Unmask(ROUND, IDS[:3]), OTHER)[0], (PUBLIC,))
    with pytest.raises(LetterError, match="not signed by a key"):
        read_answer(write_answer(Answer("a", ""), OTHER), (PUBLIC,))


def test_ask_never_passes_for_an_answer() -> None:
    letter, _ = write_ask(Unmask(ROUND, IDS[:3]), KEY)
    with pytest.raises(LetterError, match="not signed by a key"):
        read_answer(letter, (PUBLIC,))
    as_round = sign(KEY, "round", packed({"kind": "unmask", "round_bytes": 9, "devices": []}))
    with pytest.raises(LetterError, match="not signed by a key"):
        read_ask(as_round, (PUBLIC,))


def test_changed_byte_anywhere_is_refused() -> None:
    letter, _ = write_ask(Check(ROUND, UPDATES[:2]), KEY)
    for at in range(0, len(letter), 97):
        changed = letter[:at] + bytes([letter[at] ^ 1]) + letter[at + 1 :]
        with pytest.raises(LetterError):
            read_ask(changed, (PUBLIC,))


UNMASK = {"kind": "unmask", "round_bytes": ROUND_BYTES, "devices": []}
CHECK = {"kind": "check", "round_bytes": ROUND_BYTES, "devices": ["tv-1"]}
MALFORMED = {
    "empty": b"",
    "header beyond the end": struct.pack("<I", 500) + b"{}",
    "huge header": struct.pack("<I", 2**31) + b"{}",
    "no JSON": struct.pack("<I", 2) + b"[[",
    "unknown field": packed(UNMASK | {"noise": 0}, ROUND + IDS[0]),
    "unknown kind": packed(UNMASK | {"kind": "reveal"}, ROUND + IDS[0]),
    "no Round": packed(UNMASK | {"round_bytes": 0}, IDS[0]),
    "Round beyond the end": packed(UNMASK, ROUND[1:]),
    "empty set": packed(UNMASK, ROUND),
    "half a name": packed(UNMASK, ROUND + IDS[0][:9]),
    "the same twice": packed(UNMASK, ROUND + IDS[1] + IDS[1]),
    "unsorted": packed(UNMASK, ROUND + IDS[2] + IDS[1]),
    "too many": packed(UNMASK, ROUND + b"".join(n.to_bytes(16, "big") for n in range(SET + 1))),
    "no seed": packed(CHECK, ROUND),
    "half a seed": packed(CHECK, ROUND + b"s" * 90),
    "more devices than seeds": packed(CHECK | {"devices": ["a", "b"]}, ROUND + b"s" * 96),
    "device that is a path": packed(CHECK | {"devices": ["a/../b"]}, ROUND + b"s" * 96),
    "65 Updates": packed(CHECK | {"devices": [f"t{n}" for n in range(65)]}, ROUND + b"s" * 6240),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_ask_is_refused_though_it_is_signed(case: str) -> None:
    with pytest.raises(LetterError):
        read_ask(sign(KEY, ASK, MALFORMED[case]), (PUBLIC,))


def test_oversize_letter_is_not_even_verified() -> None:
    with pytest.raises(LetterError, match="the limit is"):
        read_ask(bytes(LETTER_BYTES + 1), (PUBLIC,))
    with pytest.raises(LetterError, match="the limit is"):
        write_answer(Answer("a", "", (), bytes(LETTER_BYTES)), KEY)


@given(st.binary(max_size=400))
def test_garbage_is_a_letter_error_and_nothing_else(raw: bytes) -> None:
    for read, purpose in ((read_ask, ASK), (read_answer, ANSWER)):
        for letter in (raw, sign(KEY, purpose, raw)):
            try:
                read(letter, (PUBLIC,))
            except LetterError:
                continue
