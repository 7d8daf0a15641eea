"""The bounded room in front of the helper, without processes."""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from couchside.cloud_sync.learning.identity import AskingKeys
from couchside.cloud_sync.learning.letters import BATCH, Answer, Check, read_ask, write_answer
from couchside.cloud_sync.learning.summing.intake import Arrived
from couchside.cloud_sync.learning.summing.waiting import ANSWER_S, CHECK_S, WaitingRoom
from couchside.device.learning.update import Update

CLOUD, HELPER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
KEYS = AskingKeys(CLOUD, HELPER.public_key().public_bytes_raw())


def arrived(n: int) -> Arrived:
    update = Update(1, 1, n.to_bytes(16, "big"), 1.0, bytes(80), np.zeros(3, dtype=np.uint16))
    return Arrived(1, f"tv-{n}", update)


def answer(letter: bytes, *verdicts: str, key=HELPER, refused: str = "") -> bytes:
    _, name = read_ask(letter, (KEYS.rounds_public,))
    return write_answer(Answer(name, refused, verdicts), key)


def room_with(*numbers: int) -> WaitingRoom:
    room = WaitingRoom(KEYS)
    for n in numbers:
        room.add(arrived(n), 0.0)
    return room


def test_updates_wait_a_moment_for_others() -> None:
    room = room_with(1, 2)
    assert room.letter(b"round", CHECK_S / 2) is None
    letter = room.letter(b"round", CHECK_S)
    ask, _ = read_ask(letter, (KEYS.rounds_public,))
    assert isinstance(ask, Check)
    assert [update.device for update in ask.updates] == ["tv-1", "tv-2"]


def test_full_batch_does_not_wait() -> None:
    room = room_with(*range(BATCH))
    assert room.is_full
    assert room.letter(b"round", 0.0) is not None
    assert not room.is_full  # as many more may come while the helper looks


def test_question_without_an_answer_is_asked_again_as_it_was() -> None:
    room = room_with(1)
    letter = room.letter(b"round", 1.0)
    assert room.letter(b"round", 1.0 + ANSWER_S / 2) is None
    assert not room.away
    assert room.letter(b"round", 1.0 + ANSWER_S) == letter
    assert room.away
    room.ask_again_soon(4.0)
    assert room.letter(b"round", 5.0) == letter
    assert room.hear(answer(letter, ""), 6.0) is not None
    assert not room.away


def test_only_the_helpers_answer_to_this_question_counts() -> None:
    room = room_with(1)
    letter = room.letter(b"round", 1.0)
    older = room_with(1, 2).letter(b"round", 1.0)
    assert room.hear(answer(letter, "", key=CLOUD), 1.1) is None
    assert room.hear(answer(older, "", ""), 1.1) is None
    assert room.hear(b"garbage", 1.1) is None
    judged = room.hear(answer(letter, "its seed does not open"), 1.1)
    assert judged is not None
    assert judged.verdicts == ("its seed does not open",)
    assert room.hear(answer(letter, ""), 1.2) is None  # once


def test_answer_about_others_lets_nobody_in() -> None:
    room = room_with(1, 2)
    judged = room.hear(answer(room.letter(b"round", 1.0), ""), 1.1)
    assert judged is not None
    assert "others than it was asked about" in judged.refused


def test_same_tv_or_update_is_here_once() -> None:
    room = room_with(1)
    room.letter(b"round", 1.0)
    room.add(arrived(2), 1.0)
    same_tv = Arrived(1, "tv-1", arrived(9).update)
    same_update = Arrived(1, "tv-9", arrived(2).update)
    assert room.has(same_tv)
    assert room.has(same_update)
    assert not room.has(arrived(9))
    assert [each.device for each in room.leave()] == ["tv-1", "tv-2"]
    assert room.letter(b"round", 99.0) is None
