from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from couchside.compression.errors import CompressionError, DataError
from couchside.compression.study import losses
from couchside.compression.study.batches import batches, stretches
from couchside.compression.study.measures import judge, per_case
from couchside.compression.study.model import SasRec, padded, scorer
from couchside.compression.study.train import Lesson, train


@pytest.fixture
def lesson(ring, small):
    return Lesson(small, 0, ring.titles, ring.development, ring.validation)


def weights(trained):
    return torch.cat([value.ravel() for value in trained.model.state_dict().values()])


@pytest.mark.parametrize("loss", ["softmax", "sampled-softmax", "gbce"])
def test_every_loss_learns_the_ring(lesson, ring, tmp_path, loss):
    recipe = replace(lesson.recipe, loss=loss, negatives=10, epochs=40, patience=40)
    trained = train(replace(lesson, recipe=recipe), tmp_path, resume=False)
    first = per_case(judge(scorer(trained.model), ring.test))["mrr"].mean()
    assert first > 0.8
    assert trained.curve[-1].loss < trained.curve[0].loss


def test_bfloat16_learns_it_too(lesson, ring, tmp_path):
    trained = train(
        replace(lesson, recipe=replace(lesson.recipe, bf16=True)), tmp_path, resume=False
    )
    assert per_case(judge(scorer(trained.model), ring.test))["mrr"].mean() > 0.8


def test_a_run_that_was_cut_short_goes_on_as_if_nothing_had_happened(lesson, tmp_path):
    whole = train(lesson, tmp_path / "whole", resume=False)
    short = replace(lesson, recipe=replace(lesson.recipe, epochs=5))
    train(short, tmp_path / "parts", resume=False)
    parts = train(lesson, tmp_path / "parts", resume=True)
    assert torch.equal(weights(whole), weights(parts))
    assert [p.loss for p in whole.curve] == [p.loss for p in parts.curve]
    assert parts.epoch == whole.epoch


def test_the_curve_lies_beside_the_checkpoint_for_people(lesson, tmp_path):
    trained = train(lesson, tmp_path, resume=False)
    points = json.loads((tmp_path / "curve.json").read_text())
    assert [point["epoch"] for point in points] == list(range(1, len(trained.curve) + 1))
    looks = {p["epoch"]: p["val_ndcg"] for p in points if p.get("val_ndcg") is not None}
    assert max(looks, key=lambda epoch: looks[epoch]) == trained.epoch


def test_patience_ends_a_run_with_its_best_weights(lesson, tmp_path):
    recipe = replace(lesson.recipe, epochs=200, validate_every=1, patience=3)
    trained = train(replace(lesson, recipe=recipe), tmp_path, resume=False)
    assert trained.ended == "no better for long"
    assert len(trained.curve) == trained.epoch + 3
    assert not trained.still_rising


def test_no_time_left_ends_with_the_epoch_and_says_that_it_was_rising(lesson, tmp_path):
    recipe = replace(lesson.recipe, validate_every=1)
    trained = train(replace(lesson, recipe=recipe), tmp_path, resume=False, minutes=0)
    assert len(trained.curve) == 1
    assert trained.ended == "out of time"
    assert trained.still_rising


def test_a_run_is_not_overwritten_without_resume(lesson, tmp_path):
    train(lesson, tmp_path, resume=False, minutes=0)
    with pytest.raises(DataError, match="--resume"):
        train(lesson, tmp_path, resume=False)


def test_the_checkpoint_of_another_seed_or_recipe_is_refused(lesson, tmp_path):
    train(lesson, tmp_path, resume=False, minutes=0)
    wider = replace(lesson.recipe, dropout=0.2)
    for other in (replace(lesson, seed=1), replace(lesson, recipe=wider)):
        with pytest.raises(CompressionError, match="another recipe, seed or split"):
            train(other, tmp_path, resume=True)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a file", b"nothing of ours"])
def test_a_damaged_checkpoint_is_named(lesson, tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(CompressionError, match=r"checkpoint\.pt: damaged"):
        train(lesson, tmp_path, resume=True)


def test_a_checkpoint_that_wants_to_run_code_is_refused(lesson, tmp_path):
    class Runs:
        def __reduce__(self):
            return (print, ("it ran",))

    torch.save({"key": lesson.key, "curve": [], "state": Runs()}, tmp_path / "checkpoint.pt")
    with pytest.raises(CompressionError, match="damaged"):
        train(lesson, tmp_path, resume=True)


def test_a_loss_that_is_no_number_ends_the_run_and_says_what_to_change(lesson, tmp_path):
    recipe = replace(lesson.recipe, learning_rate=1e30, warm_up_steps=0)
    with pytest.raises(CompressionError, match=r"epoch 1, step \d+: .* lower learning_rate"):
        train(replace(lesson, recipe=recipe), tmp_path, resume=False)


def test_nothing_to_learn_from_is_told(lesson, tmp_path):
    with pytest.raises(DataError, match="no user has two events"):
        train(replace(lesson, sequences=(np.array([1]),)), tmp_path, resume=False)


def test_a_state_depends_on_the_past_alone_and_not_on_its_neighbours(small):
    model = SasRec(small, 20).eval()
    short, long = np.array([3, 4, 5]), np.arange(8)
    alone = model(*padded([short], 8))
    batch = model(*padded([short, long], 8))
    changed = model(*padded([np.array([3, 4, 9]), long], 8))
    assert torch.allclose(alone[0], batch[0, :3], atol=1e-5)
    assert torch.allclose(changed[0, :2], batch[0, :2], atol=1e-5)
    assert not torch.allclose(changed[0, 2], batch[0, 2], atol=1e-2)


def test_only_the_latest_events_count(small):
    score = scorer(SasRec(small, 20))
    history = np.arange(12)
    assert score([history]) == pytest.approx(score([history[-8:]]), abs=1e-6)


def test_sampling_every_title_is_the_full_softmax(small):
    states, table = torch.randn(7, 4), torch.randn(9, 4)
    targets, rng = torch.tensor([0, 3, 3, 8, 1, 2, 5]), np.random.default_rng(0)
    full = losses.loss_of(small, states, targets, table, rng)
    sampled = losses.sampled_softmax(states, targets, table, 100, rng)
    assert sampled.item() == pytest.approx(full.item(), abs=1e-5)


def test_a_sampled_softmax_is_the_full_one_in_expectation_of_its_denominator():
    states, table, targets = torch.zeros(1, 4), torch.randn(50, 4), torch.tensor([7])
    rng = np.random.default_rng(0)
    loss = losses.sampled_softmax(states, targets, table, 10, rng)
    assert loss.item() == pytest.approx(np.log(50), abs=1e-5)


def test_gbce_never_punishes_the_target_itself(small):
    states, table = torch.full((1, 4), 5.0), torch.full((2, 4), 5.0)
    table[1] = -5.0
    loss = losses.gbce(states, torch.tensor([0]), table, 5, np.random.default_rng(0))
    assert loss.item() == pytest.approx(0.0, abs=1e-5)


def test_every_event_of_a_long_history_is_a_target_in_nearly_every_epoch(small):
    rng = np.random.default_rng(0)
    for _ in range(20):
        pieces = stretches([np.arange(100)], small, rng)
        assert all(2 <= len(piece) <= small.length + 1 for piece in pieces)
        asked = set(np.concatenate([piece[1:] for piece in pieces]).tolist())
        assert asked >= set(range(1, 100 - small.length))
        assert all((np.diff(piece) == 1).all() for piece in pieces)
    last = stretches([np.arange(100)], replace(small, windows="last"), rng)
    assert [piece.tolist() for piece in last] == [list(range(91, 100))]


def test_batches_hold_every_piece_once_and_no_more_places_than_asked():
    rng = np.random.default_rng(0)
    pieces = [np.arange(2 + int(n)) for n in rng.integers(0, 30, 200)]
    made = batches(pieces, 100, rng)
    assert sorted(len(p) for batch in made for p in batch) == sorted(map(len, pieces))
    assert all(max(map(len, b)) - 1 <= 100 // len(b) for b in made)
