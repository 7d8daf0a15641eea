"""Asking the helper for one unmasking, through a broker that may restart meanwhile."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from couchside.cloud_sync import topics
from couchside.cloud_sync.errors import BrokerError, LetterError, RoundError
from couchside.cloud_sync.learning.letters import Answer, Unmask, read_answer, write_ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from couchside.cloud_sync.learning.identity import AskingKeys
    from couchside.cloud_sync.mqtt import Session

ASK_S = 2.0
"""Until the helper is asked again."""


def ask_helper(
    session: Session,
    keys: AskingKeys,
    ask: Unmask,
    *,
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> Answer:
    """The helper's answer, asked for again and again until it comes.

    Raises:
        RoundError: it refuses, or does not answer within ``timeout_s``; the Round stays sealed.
    """
    letter, name = write_ask(ask, keys.key)
    session.subscribe(topics.ANSWER)
    end, next_ask = clock() + timeout_s, clock()
    while clock() < end:
        if session.connected and clock() >= next_ask:
            next_ask = clock() + ASK_S
            _publish(session, letter)
        for message in session.poll(0.1):
            answer = _heard(message.payload, keys) if message.topic == topics.ANSWER else None
            if answer is not None and answer.of == name:
                if answer.refused:
                    raise RoundError(f"the helper refuses: {answer.refused}")
                return answer
    raise RoundError(
        f"the helper did not answer within {timeout_s:g} s; the Round stays sealed, nothing is "
        "lost: see that couchside-cloud helper runs at the same broker, then close again"
    )


def _publish(session: Session, letter: bytes) -> None:
    try:
        session.publish(topics.ASK, letter, retain=False)
    except BrokerError:
        return  # lost just now; it is asked again


def _heard(letter: bytes, keys: AskingKeys) -> Answer | None:
    try:
        return read_answer(letter, (keys.helper_sign,))
    except LetterError:
        return None  # anybody can write there
