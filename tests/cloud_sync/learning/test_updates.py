"""Updates that must not be summed, through a real broker: each gets a receipt that says why."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from simulators.fleet import until
from simulators.learners import Crowd, Learner, Season

from couchside.cloud_sync import topics
from couchside.cloud_sync.learning.letters import Answer, Check, Sealed, write_answer, write_ask
from couchside.cloud_sync.mqtt import Session
from couchside.device.learning import masking
from couchside.device.learning.receipt import Verdict
from couchside.device.learning.round import PURPOSE, write_round
from couchside.device.learning.signed import sign
from couchside.device.learning.update import FRAME_BYTES, seal_context

if TYPE_CHECKING:
    from collections.abc import Callable


def fresh() -> str:
    """The name of a TV that has sent nothing yet."""
    return f"tv-{os.urandom(6).hex()}"


def with_frame(learner: Learner, frame: bytes) -> Learner:
    return replace(learner, frame=frame)


def flipped(frame: bytes, at: int) -> bytes:
    return frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]


def sealed_for_another(season: Season, learner: Learner) -> Learner:
    key = X25519PrivateKey.generate().public_key().public_bytes_raw()
    context = seal_context(season.asked.round_id, learner.update.update_id)
    sealed = masking.seal(learner.seed, key, context)
    return season.cloud.tv(season.asked, learner.device, sealed=sealed)


def sealed_for_another_round(season: Season, learner: Learner) -> Learner:
    update_id = os.urandom(16)
    sealed = masking.seal(learner.seed, season.cloud.helper_key, seal_context(99, update_id))
    return season.cloud.tv(season.asked, learner.device, sealed=sealed, update_id=update_id)


BAD: dict[str, tuple[Callable[[Season, Learner], Learner], str]] = {
    "nan scale": (
        lambda s, tv: s.cloud.tv(s.asked, tv.device, scale=float("nan")),
        "its scale is nan",
    ),
    "infinite scale": (
        lambda s, tv: s.cloud.tv(s.asked, tv.device, scale=float("inf")),
        "its scale is inf",
    ),
    "another scale": (
        lambda s, tv: s.cloud.tv(s.asked, tv.device, scale=s.asked.scale * 2),
        "its scale is",
    ),
    "oversize": (lambda _, tv: with_frame(tv, bytes(FRAME_BYTES + 1)), "the limit is 48000"),
    "empty": (lambda _, tv: with_frame(tv, b""), "0 bytes are no frame"),
    "cut off": (lambda _, tv: with_frame(tv, tv.frame[:-2]), "do not hold"),
    "changed value": (lambda _, tv: with_frame(tv, flipped(tv.frame, 999)), "hash is wrong"),
    "changed seed": (lambda _, tv: with_frame(tv, flipped(tv.frame, 70)), "hash is wrong"),
    "garbage": (lambda _, tv: with_frame(tv, os.urandom(500)), "no Update frame"),
    "stale bundle": (
        lambda s, tv: s.cloud.tv(s.asked, tv.device, bundle_version=9),
        "it is stale: of Bundle 9",
    ),
    "another size": (
        lambda s, tv: s.cloud.tv(s.asked, tv.device, values=tv.update.values[:-1]),
        "the Round asked for",
    ),
    "seed sealed for another helper": (sealed_for_another, "its seed does not open"),
    "seed sealed for another Round": (sealed_for_another_round, "its seed does not open"),
    "seed of another Update": (
        lambda s, tv: s.cloud.tv(s.asked, tv.device, sealed=tv.update.sealed),
        "its seed does not open",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_update_is_refused_and_the_good_one_of_the_same_tv_counts(
    season: Season, case: str
) -> None:
    make, words = BAD[case]
    before = season.folded
    good = season.cloud.tv(season.asked, fresh())
    receipt = season.hears(make(season, good))
    assert receipt.verdict == Verdict.BAD
    assert words in receipt.why
    assert season.folded == before
    assert season.hears(good).verdict == Verdict.FOLDED
    assert season.folded == before + 1


@pytest.mark.parametrize("case", ["cut off", "changed value", "changed seed"])
def test_receipt_of_a_damaged_frame_names_its_update(season: Season, case: str) -> None:
    """Else its TV would not know which Update is meant, and send it for ever."""
    learner = season.cloud.tv(season.asked, fresh())
    receipt = season.hears(BAD[case][0](season, learner))
    assert (receipt.verdict, receipt.update_id) == (Verdict.BAD, learner.update.update_id.hex())


def test_receipt_of_an_oversize_frame_names_its_update_and_of_a_short_one_none(
    season: Season,
) -> None:
    learner = season.cloud.tv(season.asked, fresh())
    name = learner.update.update_id.hex()
    long = learner.frame + bytes(FRAME_BYTES + 1 - len(learner.frame))
    for frame, named in ((long, name), (learner.frame[:44], name), (learner.frame[:43], "")):
        receipt = season.hears(with_frame(learner, frame))
        assert (receipt.verdict, receipt.update_id) == (Verdict.BAD, named)


def test_update_of_another_round_is_refused(season: Season) -> None:
    asked = replace(season.asked, round_id=77)
    crowd = Crowd(season.cloud.broker, [])
    name = fresh()
    crowd.publish(77, name, season.cloud.tv(asked, name).frame)
    receipt = crowd.receipt_of(name)
    assert (receipt.verdict, receipt.why) == (Verdict.BAD, "there is no round 77")
    crowd.publish(season.asked.round_id, name, season.cloud.tv(asked, name).frame)
    assert "it is of round 77, sent as of round 1" in crowd.receipt_of(name).why
    crowd.close()


def test_replayed_update_counts_once(season: Season) -> None:
    learner = season.cloud.tv(season.asked, fresh())
    assert season.hears(learner).verdict == Verdict.FOLDED
    before = season.folded
    again = season.hears(learner)
    assert (again.verdict, again.why) == (Verdict.DUPLICATE, "it was counted")
    thief = replace(learner, device=fresh())
    assert season.hears(thief).verdict == Verdict.DUPLICATE
    assert season.folded == before


def test_second_update_of_a_tv_does_not_count(season: Season) -> None:
    name = fresh()
    assert season.hears(season.cloud.tv(season.asked, name)).verdict == Verdict.FOLDED
    before = season.folded
    second = season.hears(season.cloud.tv(season.asked, name))
    assert second.verdict == Verdict.DUPLICATE
    assert "another Update of this TV" in second.why
    assert season.folded == before


def test_same_update_ten_times_at_once_counts_once(season: Season) -> None:
    learner = season.cloud.tv(season.asked, fresh())
    before = season.folded
    crowd = Crowd(season.cloud.broker, [learner])
    for _ in range(10):
        crowd.send(learner)
    crowd.deliver()
    crowd.close()
    assert season.folded == before + 1


def test_topic_that_names_no_tv_is_ignored(season: Season) -> None:
    session = Session(season.cloud.broker, "stranger")
    session.wait_connected(10)
    frame = season.cloud.tv(season.asked, "tv").frame
    for topic in ("u/0/1/TV", "u/0/0/tv", "u/0/x/tv", "u/0/1/root", "u/0/99999999999/tv"):
        session.publish(f"couchside/1/{topic}", frame, retain=False)
    session.poll(0.2)
    session.close()
    assert season.hears(season.cloud.tv(season.asked, fresh())).verdict == Verdict.FOLDED


def refused(season: Season) -> int:
    return max((c.get("refused", 0) for c in list(season.helper.changes)), default=0)


def letters(season: Season) -> dict[str, bytes]:
    """Asks that the helper must refuse, whoever sends them."""
    keys, evil = season.cloud.keys(), Ed25519PrivateKey.generate()
    signed = season.cloud.signed(season.asked.round_id)
    sealed = (Sealed(os.urandom(16), "tv-x", os.urandom(80)),)
    forged = sign(evil, PURPOSE, write_round(season.asked))
    senseless = sign(keys.key, PURPOSE, write_round(replace(season.asked, noise_multiplier=0.0)))
    renumbered = sign(keys.key, PURPOSE, write_round(replace(season.asked, clipping_bound=0.4)))
    return {
        "garbage": os.urandom(3000),
        "oversize": bytes(topics.LETTER_BYTES + 1),
        "empty": b"x",
        "forged ask": write_ask(Check(signed, sealed), evil)[0],
        "forged Round": write_ask(Check(forged, sealed), keys.key)[0],
        "Round without noise": write_ask(Check(senseless, sealed), keys.key)[0],
        "another Round of this number": write_ask(Check(renumbered, sealed), keys.key)[0],
    }


def test_helper_refuses_letters_and_lives(season: Season) -> None:
    assert season.hears(season.cloud.tv(season.asked, fresh())).verdict == Verdict.FOLDED
    session = Session(season.cloud.broker, "evil")
    session.wait_connected(10)
    for number, letter in enumerate(letters(season).values(), start=1):
        session.publish(topics.ASK, letter, retain=False)
        session.poll(0.05)
        until(lambda number=number: session.poll(0.02) or refused(season) >= number)
    session.close()
    reasons = " ".join(change.get("why", "") for change in season.helper.changes)
    for words in ("not signed by a key", "noise_multiplier is 0", "was another Round before"):
        assert words in reasons
    assert season.hears(season.cloud.tv(season.asked, fresh())).verdict == Verdict.FOLDED


def test_forged_answer_lets_nothing_in(season: Season) -> None:
    """Whoever owns the broker answers in the helper's stead, at once and to everything."""
    before = season.folded
    evil, session = Ed25519PrivateKey.generate(), Session(season.cloud.broker, "evil")
    session.subscribe(topics.ASK)
    session.wait_connected(10)
    bad = season.cloud.tv(season.asked, fresh(), sealed=os.urandom(80))
    crowd = Crowd(season.cloud.broker, [])
    crowd.send(bad)
    heard: list[bytes] = []
    until(lambda: crowd.listen() or heard.extend(m.payload for m in session.poll(0.05)) or heard)
    session.publish(topics.ANSWER, write_answer(Answer("a" * 64, "", ("",)), evil), retain=False)
    session.publish(topics.ANSWER, b"garbage", retain=False)
    session.poll(0.1)
    assert crowd.receipt_of(bad.device).verdict == Verdict.BAD
    crowd.close()
    session.close()
    assert season.folded == before
    assert season.hears(season.cloud.tv(season.asked, fresh())).verdict == Verdict.FOLDED
