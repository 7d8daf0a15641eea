"""Rounds through real brokers, with the aggregator and the helper as processes of their own."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from simulators.fleet import until
from simulators.learners import Crowd, Learner, LearningCloud

from couchside.cloud_sync import topics
from couchside.cloud_sync.errors import RoundError
from couchside.cloud_sync.learning.asking import ask_helper
from couchside.cloud_sync.learning.journal import Journal
from couchside.cloud_sync.learning.letters import Unmask
from couchside.cloud_sync.learning.summing.aggregator import Aggregator
from couchside.cloud_sync.mqtt import Session
from couchside.device.bundle import open_bundle
from couchside.device.learning.receipt import Verdict
from couchside.device.learning.result import read_result
from couchside.device.learning.round import read_round

if TYPE_CHECKING:
    from pathlib import Path

    from couchside.cloud_sync.broker import LocalBroker
    from couchside.device.learning.round import Round


def check_result(cloud: LearningCloud, asked: Round, learners: list[Learner], bundle: Path) -> None:
    """The result is the sum of exactly these TVs, within the noise."""
    result, theta, counts = read_result(cloud.repository / "rounds" / str(asked.round_id))
    exact = sum(each.values for each in learners)
    opened = open_bundle(bundle)
    places = asked.places(opened.manifest.parameters)
    moved = theta - np.array(opened.tensor("theta"))
    assert (np.delete(moved, places) == 0).all()
    units = np.concatenate(
        [moved[places] * asked.scale * len(learners), counts * asked.title_weight]
    )
    off = units - exact
    assert np.abs(off).max() < 8 * asked.sigma
    assert off.std() == pytest.approx(asked.sigma, rel=0.15)
    assert result.folded == len(learners)


def retained_round(cloud: LearningCloud) -> bytes:
    """What a TV that comes now is shown; empty if nothing."""
    session = Session(cloud.broker, f"tv-{os.urandom(3).hex()}")
    session.subscribe(topics.round_of("stable"))
    found: list[bytes] = []
    end = time.monotonic() + 1.0
    while not found and time.monotonic() < end:
        found += [message.payload for message in session.poll(0.05)]
    session.close()
    return found[0] if found else b""


def test_round_with_dropouts(tmp_path: Path, broker: LocalBroker, tiny_bundle: Path) -> None:
    """30 % of those who were asked never answer; the sum is that of the others."""
    cloud = LearningCloud(tmp_path, broker.address)
    asked = cloud.open_round(tiny_bundle, "--goal", 60, "--least", 20)
    keys = (bytes.fromhex((cloud.repository / "rounds.pub").read_text().strip()),)
    with cloud.helper() as helper, cloud.aggregator() as aggregator:
        assert read_round(retained_round(cloud), keys) == asked
        crowd = Crowd(cloud.broker, [cloud.tv(asked, f"tv-{n}") for n in range(42)])
        crowd.deliver()
        assert {each.receipt.verdict for each in crowd.learners} == {Verdict.FOLDED}
        closed = cloud.close()
        assert (closed["state"], closed["folded"]) == ("closed", 42), cloud.stderr
        assert retained_round(cloud) == b""
        late = cloud.tv(asked, "late")
        crowd.send(late)
        assert crowd.receipt_of("late").verdict == Verdict.LATE
        crowd.close()
        assert helper.stop() == 0
        assert aggregator.stop(signal.SIGINT) == 0
    check_result(cloud, asked, crowd.learners, tiny_bundle)
    status = cloud.run("round", "status")["stable/1"]
    assert (status["state"], status["folded"], status["refused"]["late"]) == ("closed", 42, 1)
    assert status["epsilon"] == closed["epsilon"] >= status["epsilon_amplified"]


def test_round_seals_at_its_goal(cloud: LearningCloud, tiny_bundle: Path) -> None:
    asked = cloud.open_quietly(tiny_bundle, goal=6, least=2)
    with cloud.helper(), cloud.aggregator():
        crowd = Crowd(cloud.broker, [cloud.tv(asked, f"tv-{n}") for n in range(10)])
        crowd.deliver()
        verdicts = sorted(each.receipt.verdict for each in crowd.learners)
        assert verdicts == [Verdict.FOLDED] * 6 + [Verdict.LATE] * 4
        assert cloud.state_of(1) == ("sealed", 6)
        closed = cloud.close()
        crowd.close()
    assert closed["folded"] == 6, cloud.stderr
    counted = [each for each in crowd.learners if each.receipt.verdict == Verdict.FOLDED]
    check_result(cloud, asked, counted, tiny_bundle)


def test_round_seals_at_its_end_and_too_few_make_it_void(
    cloud: LearningCloud, tiny_bundle: Path
) -> None:
    asked = cloud.open_quietly(tiny_bundle, goal=9, least=4, open_s=3)
    with cloud.helper() as helper, cloud.aggregator() as aggregator:
        crowd = Crowd(cloud.broker, [cloud.tv(asked, f"tv-{n}") for n in range(3)])
        crowd.deliver()
        aggregator.told(state="sealed")
        cloud.close()
        assert cloud.status == 1
        assert "round 1 is void: 3 TVs took part" in cloud.stderr
        assert not any("unmasked" in change for change in helper.changes)
        crowd.close()
    assert cloud.state_of(1) == ("void", 3)
    assert not (cloud.repository / "rounds/1/result.json").exists()
    cloud.open_quietly(tiny_bundle, goal=9, least=4)  # the way is free


def test_helper_away_at_the_end_leaves_the_round_sealed(
    cloud: LearningCloud, tiny_bundle: Path
) -> None:
    asked = cloud.open_quietly(tiny_bundle, goal=4, least=2)
    with cloud.aggregator():
        with cloud.helper():
            crowd = Crowd(cloud.broker, [cloud.tv(asked, f"tv-{n}") for n in range(4)])
            crowd.deliver()
            crowd.close()
        cloud.close("--timeout", 1)
        assert cloud.status == 1
        assert "did not answer within 1 s" in cloud.stderr
        assert cloud.state_of(1) == ("sealed", 4)
        with cloud.helper():
            assert cloud.close()["state"] == "closed", cloud.stderr
    check_result(cloud, asked, crowd.learners, tiny_bundle)


def test_round_sealed_while_updates_wait_for_the_helper_makes_them_late(
    cloud: LearningCloud, tiny_bundle: Path
) -> None:
    asked = cloud.open_quietly(tiny_bundle, goal=300, least=2)
    crowd = Crowd(cloud.broker, [cloud.tv(asked, f"tv-{n}") for n in range(100)])
    with cloud.aggregator() as aggregator:
        aggregator.told(state="open")
        crowd.send()
        aggregator.told(helper="away")
        cloud.close("--abandon")
        crowd.deliver()
        assert {each.receipt.verdict for each in crowd.learners} == {Verdict.LATE}
        second = cloud.open_quietly(tiny_bundle, goal=300, least=2)
        aggregator.told(state="open", round=2)
        with cloud.helper():
            crowd.learners = [cloud.tv(second, f"tv-{n}") for n in range(3)]
            crowd.deliver()
    crowd.close()
    assert {each.receipt.verdict for each in crowd.learners} == {Verdict.FOLDED}
    assert cloud.state_of(1) == ("void", 0)


def test_helper_away_fills_no_memory_and_loses_nothing(
    cloud: LearningCloud, tiny_bundle: Path
) -> None:
    """More TVs than there is room for; none has a receipt until the helper is back."""
    asked = cloud.open_quietly(tiny_bundle, goal=300, least=2)
    crowd = Crowd(cloud.broker, [cloud.tv(asked, f"tv-{n}") for n in range(160)])
    with cloud.aggregator() as aggregator:
        aggregator.told(state="open")
        crowd.send()
        aggregator.told(helper="away")
        assert len(crowd.missing()) == 160
        with cloud.helper():
            crowd.deliver()
        assert cloud.state_of(1) == ("open", 160)
    crowd.close()
    status = cloud.run("round", "status")["stable/1"]
    assert status["refused"]["busy"] >= 160 - 2 * 64


def test_kill_of_the_aggregator_again_and_again(cloud: LearningCloud, tiny_bundle: Path) -> None:
    asked = cloud.open_quietly(tiny_bundle, goal=300, least=2)
    crowd = Crowd(cloud.broker, [cloud.tv(asked, f"tv-{n}") for n in range(120)])
    with cloud.helper():
        for least in (10, 45, 80):
            aggregator = cloud.aggregator()

            def enough(least: int = least) -> bool:
                waiting = crowd.missing()[:9]
                crowd.send(*waiting) if waiting else None
                crowd.listen(0.1)
                return cloud.state_of(1)[1] >= least

            until(enough)
            aggregator.kill()
        acknowledged = {each.device for each in crowd.learners if each.receipt}
        with cloud.aggregator():
            crowd.deliver()
            assert acknowledged
            assert cloud.state_of(1) == ("open", 120)
            assert cloud.close()["folded"] == 120, cloud.stderr
    crowd.close()
    assert {each.receipt.verdict for each in crowd.learners} <= {Verdict.FOLDED, Verdict.DUPLICATE}
    check_result(cloud, asked, crowd.learners, tiny_bundle)


class _DiesBeforeReceipts(Session):
    """The aggregator's connection; the process is gone at the first receipt."""

    def publish(self, topic, payload, *, retain):
        if topic.startswith("couchside/1/a/"):
            raise SystemExit(9)
        return super().publish(topic, payload, retain=retain)


def test_kill_between_fold_and_receipt_counts_once(cloud: LearningCloud, tiny_bundle: Path) -> None:
    asked = cloud.open_quietly(tiny_bundle, goal=9, least=2)
    crowd = Crowd(cloud.broker, [cloud.tv(asked, f"tv-{n}") for n in range(3)])
    journal = Journal(cloud.repository / "rounds.db")
    session = _DiesBeforeReceipts(cloud.broker, "couchside-aggregate-stable")
    dying = Aggregator(
        "stable",
        journal,
        session,
        cloud.keys(),
        report=lambda _: None,
        clock=time.time,
        monotonic=time.monotonic,
    )
    session.subscribe(topics.ANY_UPDATE)
    session.subscribe(topics.ANSWER)
    session.wait_connected(10)

    def turn() -> None:
        crowd.send()
        crowd.listen(0.1)
        for _ in range(10):
            dying.step(0.02)

    with cloud.helper():
        with pytest.raises(SystemExit):
            until(turn)
        session.close()
        journal.close()
        assert cloud.state_of(1)[1] > 0
        assert len(crowd.missing()) == 3
        with cloud.aggregator():
            crowd.deliver()
    crowd.close()
    assert cloud.state_of(1) == ("open", 3)
    assert Verdict.DUPLICATE in {each.receipt.verdict for each in crowd.learners}


def test_kill_of_the_helper_while_updates_come_and_after_its_answer(
    cloud: LearningCloud, tiny_bundle: Path
) -> None:
    asked = cloud.open_quietly(tiny_bundle, goal=90, least=2)
    crowd = Crowd(cloud.broker, [cloud.tv(asked, f"tv-{n}") for n in range(40)])
    helper = cloud.helper()
    with cloud.aggregator():
        crowd.send(*crowd.learners[:20])
        until(lambda: helper.changes[1:] or crowd.listen())
        helper.kill()
        helper = cloud.helper()
        crowd.deliver()
        assert cloud.state_of(1) == ("open", 40)
    crowd.close()
    session = Session(cloud.broker, "asks")
    journal = Journal(cloud.repository / "rounds.db")
    ask = Unmask(cloud.signed(1), journal.update_ids(1))
    journal.close()
    first = ask_helper(session, cloud.keys(), ask, timeout_s=20)
    helper.kill()
    with cloud.helper():
        assert ask_helper(session, cloud.keys(), ask, timeout_s=20) == first
        smaller = Unmask(ask.signed_round, ask.update_ids[1:])
        with pytest.raises(RoundError, match="had its one answer"):
            ask_helper(session, cloud.keys(), smaller, timeout_s=20)
        assert cloud.close()["folded"] == 40, cloud.stderr
    session.close()
    check_result(cloud, asked, crowd.learners, tiny_bundle)


def test_broker_restart_loses_no_update_and_no_round(
    tmp_path: Path, broker: LocalBroker, tiny_bundle: Path
) -> None:
    cloud = LearningCloud(tmp_path, broker.address)
    asked = cloud.open_quietly(tiny_bundle, goal=90, least=2)
    crowd = Crowd(cloud.broker, [cloud.tv(asked, f"tv-{n}") for n in range(60)])
    with cloud.helper(), cloud.aggregator() as aggregator:
        crowd.send(*crowd.learners[:40])
        until(lambda: crowd.listen() or len(crowd.missing()) < 60)
        broker.stop()
        until(lambda: not (crowd.listen(0.01) or crowd.session.connected))
        broker.start()
        crowd.deliver(timeout_s=60)
        assert cloud.state_of(1) == ("open", 60)
        aggregator.told(connected=False)
        until(lambda: retained_round(cloud) == cloud.signed(1))
        assert cloud.close()["folded"] == 60, cloud.stderr
    crowd.close()
    check_result(cloud, asked, crowd.learners, tiny_bundle)
