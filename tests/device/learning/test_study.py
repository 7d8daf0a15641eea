from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest

from couchside.device.bundle import open_bundle
from couchside.device.errors import LearningError, RoundRefusedError
from couchside.device.features import Signal
from couchside.device.learning import lesson as lessons
from couchside.device.learning import study
from couchside.device.learning.examples import UNKNOWN_ROW, ExampleMaker, History
from couchside.device.learning.round import Limits

LIMITS = Limits(2, 0.3, 1000.0, 26)


def history(bundle, steps=10, seed=0, signal=Signal.POSITIVE):
    rng = np.random.default_rng(seed)
    n = bundle.manifest.tensors["content"].shape[0]
    rows = rng.choice(n, size=steps, replace=False).astype(np.int32)
    return History(
        rows,
        bundle.item_vectors()[rows],
        np.full(steps, signal, np.int32),
        rng.integers(1, 8, steps).astype(np.int32),
    )


def order(trust, asked, steps=10, **changes):
    made = lessons.UpdateOrder(
        round=trust.signed(asked).hex(),
        device_key="01" * 32,
        limits=LIMITS,
        spent_updates=0,
        spent_rho=0.0,
        last_round=0,
        learn=True,
        count=True,
        new_steps=(steps,),
        now=0.0,
    )
    return replace(made, **changes)


def every_step(one):
    return np.ones(len(one), np.bool_)


def test_each_step_predicts_the_next_title_and_nothing_else(trust):
    bundle, one = trust.bundle, history(trust.bundle)
    maker = ExampleMaker(bundle, np.random.default_rng(0))
    (feeds,) = maker.batches([one], [every_step(one)])
    record = bundle.graph("training_step").inputs
    assert {name: feeds[name].shape for name in feeds} == {
        name: port.shape for name, port in record.items() if name not in ("theta", "rate")
    }
    content = np.asarray(bundle.tensor("content"))
    places = feeds["target"][0]
    assert (places[-9:] != UNKNOWN_ROW).all()
    assert (places[:-9] == UNKNOWN_ROW).all()
    for step, place in enumerate(places[-9:], start=1):
        wanted = content[one.rows[step]] * bundle.tensor("content_scale")[one.rows[step]]
        np.testing.assert_allclose(feeds["candidate_content"][place], wanted, rtol=1e-5)
    assert (feeds["target"][1:] == UNKNOWN_ROW).all()
    assert feeds["gaps"][0, -9] == 0  # what came before the first step is unknown


def test_prior_of_a_target_is_its_popularity_and_of_others_more(trust):
    bundle, one = trust.bundle, history(trust.bundle)
    popularity = np.asarray(bundle.tensor("popularity"))
    (feeds,) = ExampleMaker(bundle, np.random.default_rng(0)).batches([one], [every_step(one)])
    n, k = len(popularity), len(feeds["candidate_prior"])
    targets = len(set(one.rows[1:].tolist()))
    np.testing.assert_allclose(feeds["candidate_prior"][0], popularity[one.rows[-1]])
    correction = np.log((n - targets) / (k - targets))
    assert (feeds["candidate_prior"][targets:] >= correction - 1e-5).all()


def test_rejected_and_unknown_titles_are_never_predicted(trust):
    bundle = trust.bundle
    one = history(bundle)
    one.signals[4] = Signal.NEGATIVE
    one.rows[6] = UNKNOWN_ROW
    (feeds,) = ExampleMaker(bundle, np.random.default_rng(0)).batches([one], [every_step(one)])
    assert (np.flatnonzero(feeds["target"][0, -9:] == UNKNOWN_ROW) + 1).tolist() == [4, 6]
    at = feeds["content"].shape[1] - 9 + 6  # step 6 as the history of step 7
    assert not feeds["content"][0, at].any()
    np.testing.assert_allclose(feeds["delta"][0, at], one.vectors[6])


@pytest.mark.parametrize("flavour", ["litert-int8", "onnx-int8"])
def test_learning_lowers_the_loss_and_moves_only_what_it_may(bundles, flavour):
    bundle = open_bundle(bundles / flavour)
    one = history(bundle)
    batches = ExampleMaker(bundle, np.random.default_rng(0)).batches([one], [every_step(one)])
    student = study.Student(bundle)
    places = bundle.manifest.personal_places()
    learned = student.learn(batches, steps=6, rate=0.2, places=places)
    assert learned.loss_after < learned.loss_before
    moved = np.flatnonzero(learned.theta != student.theta)
    assert set(moved.tolist()) <= set(places.tolist())
    assert len(moved) > 0


def test_update_holds_the_clipped_change_and_the_watched_titles(trust):
    asked, bundle = trust.round(), trust.bundle
    one = history(bundle)
    what, places, trusted = study.open_order(order(trust, asked), bundle)
    helper = bytes.fromhex(trusted.helper_key)
    sealed = study.make_update(what, order(trust, asked), bundle, [one], places, helper)
    plain = trust.unmasked(sealed.frame)
    assert np.linalg.norm(plain) <= asked.sensitivity
    assert np.abs(plain[: asked.coordinates]).max() <= asked.value_cap
    assert np.abs(plain[: asked.coordinates]).sum() > 0
    counts = plain[asked.coordinates :]
    assert set(np.flatnonzero(counts).tolist()) == set(one.rows[-4:].tolist())  # title_cap newest
    assert set(counts[counts > 0].tolist()) == {asked.title_weight}


@pytest.mark.parametrize(("learn", "count"), [(True, False), (False, True)])
def test_without_its_consent_a_section_is_zeros_and_the_frame_as_long(trust, learn, count):
    asked, bundle = trust.round(), trust.bundle
    wanted = order(trust, asked, learn=learn, count=count)
    what, places, trusted = study.open_order(wanted, bundle)
    helper = bytes.fromhex(trusted.helper_key)
    sealed = study.make_update(what, wanted, bundle, [history(bundle)], places, helper)
    plain = trust.unmasked(sealed.frame)
    assert plain[: asked.coordinates].any() == learn
    assert plain[asked.coordinates :].any() == count
    assert len(sealed.frame) == 64 + 80 + 2 * asked.values


def test_different_histories_leave_frames_of_one_size_and_unlike_bytes(trust):
    asked, bundle = trust.round(), trust.bundle
    frames = []
    for steps, seed in ((3, 1), (12, 2)):
        wanted = order(trust, asked, steps=steps)
        what, places, trusted = study.open_order(wanted, bundle)
        one = history(bundle, steps, seed)
        helper = bytes.fromhex(trusted.helper_key)
        frames.append(study.make_update(what, wanted, bundle, [one], places, helper).frame)
    assert len(frames[0]) == len(frames[1])
    masked = [np.frombuffer(frame[144:], "<u2").astype(float) for frame in frames]
    for values in masked:  # uniform: nothing of the vector shows through the mask
        assert abs(values.mean() - 32767.5) < 5 * 18918 / np.sqrt(len(values))


def test_nothing_new_is_nothing_to_learn_from(trust):
    asked, bundle = trust.round(), trust.bundle
    wanted = order(trust, asked, steps=0)
    assert study.abstention(asked, wanted) == "0 new steps of 1"
    what, places, trusted = study.open_order(wanted, bundle)
    helper = bytes.fromhex(trusted.helper_key)
    sealed = study.make_update(what, wanted, bundle, [history(bundle)], places, helper)
    assert not trust.unmasked(sealed.frame).any()


def test_round_that_is_over_is_sat_out_and_costs_nothing(trust):
    asked = trust.round()
    assert study.abstention(asked, order(trust, asked, now=float(asked.closes_at))) == "it is over"
    assert study.abstention(asked, order(trust, asked, now=asked.closes_at - 1.0)) == ""
    assert study.abstention(asked, order(trust, asked, now=0.0)) == ""  # a clock at 1970


def test_only_new_steps_are_learned_from_and_rejected_ones_make_no_room_for_old(trust):
    one = history(trust.bundle)
    one.signals[-2:] = Signal.NEGATIVE
    chosen = study._last(one, 3) & one.wanted
    assert np.flatnonzero(chosen).tolist() == [7]


def test_profiles_take_turns_in_the_count(trust):
    asked, bundle = trust.round(title_cap=4), trust.bundle
    first, second = history(bundle, 8, seed=1), history(bundle, 8, seed=2)
    counted = set(np.flatnonzero(study.count_titles(asked, [first, second], (8, 8))).tolist())
    assert counted == {*first.rows[-2:].tolist(), *second.rows[-2:].tolist()}
    uneven = study.count_titles(asked, [first, second], (1, 8))
    assert set(np.flatnonzero(uneven).tolist()) == {
        int(first.rows[-1]),
        *second.rows[-3:].tolist(),
    }


def test_old_round_is_refused_and_the_same_one_sat_out(trust):
    asked = trust.round(round_id=5)
    with pytest.raises(RoundRefusedError, match="6 was before it"):
        study.open_order(order(trust, asked, last_round=6), trust.bundle)
    assert study.abstention(asked, order(trust, asked, last_round=5)) == "this TV has taken part"


def test_bundle_that_trusts_nobody_takes_part_in_nothing(trust, tiny_bundle):
    with pytest.raises(RoundRefusedError, match="names nobody"):
        study.open_order(order(trust, trust.round()), open_bundle(tiny_bundle))


def test_personal_values_are_kept_only_where_they_predict_better(trust):
    bundle = trust.bundle
    short = history(bundle, 5)
    long = history(bundle, 12, seed=4)
    long.rows[:] = np.tile(long.rows[:2], 6)  # one after the other: easy to tell what comes next
    kept = study.make_personal(bundle, [short, long], steps=40, rate=1.0)
    assert len(kept[0]) == 0
    assert len(kept[1]) == len(bundle.shipped_personal)
    assert np.abs(kept[1] - bundle.shipped_personal).max() > 0
    nothing = study.make_personal(bundle, [long], steps=1, rate=0.0)
    assert len(nothing[0]) == 0  # no better than what was shipped


def test_lesson_and_answer_cross_a_pipe(trust):
    stream, one = io.BytesIO(), history(trust.bundle)
    sent = lessons.Lesson("bundle", 1, order(trust, trust.round()))
    lessons.write_lesson(stream, sent, [one])
    stream.seek(0)
    lesson, (back,) = lessons.read_lesson(stream)
    assert lesson == sent
    np.testing.assert_array_equal(back.vectors, one.vectors)
    for cut in (0, 5, len(stream.getvalue()) - 1):
        with pytest.raises(LearningError, match="broke off"):
            lessons.read_lesson(io.BytesIO(stream.getvalue()[:cut]))
