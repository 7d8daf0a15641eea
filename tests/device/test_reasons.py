"""Reasons are true: without the named titles the card falls, and furthest of all deletions."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.titles import catalogue, event, watched

from couchside.device.features import Signal
from couchside.device.liveness import RunGuard
from couchside.device.models import Models
from couchside.device.ranker import score
from couchside.device.records import ReasonCode, Title, TitleKind
from couchside.device.shelf.reasons import DELETIONS, Inquiry, Question, ReasonBook, explain, ranks
from couchside.device.shelf.taste import Steps, steps_of


def steps(vectors, names=None):
    count = len(vectors)
    return Steps(
        tuple(names or (f"seen-{n}" for n in range(count))),
        np.asarray(vectors, np.float32),
        np.full(count, Signal.POSITIVE, np.int32),
        np.full(count, 1.79e9),
        np.arange(1, count + 1),
    )


class MeanModel:
    """A user model simple enough to reason about: the mean of what was watched."""

    def __init__(self, items):
        self.items = items
        self.runs = 0

    def __call__(self, history):
        self.runs += 1
        if not len(history):
            return np.zeros(len(self.items), np.float32)
        return self.items @ history.vectors.mean(axis=0)


def question(history, items, cards, *, groups=None, visible=None):
    model = MeanModel(items)
    asked = Question(
        history,
        np.arange(len(history), dtype=np.int32) if groups is None else np.asarray(groups),
        np.ones(len(history), bool) if visible is None else np.asarray(visible),
        model(history),
        np.ones(len(items), bool),
        np.asarray(cards),
        items[cards],
    )
    model.runs = 0
    return asked, model


ITEMS = np.vstack([np.eye(3), np.eye(3) * 0.9, np.eye(3) * 0.5]).astype(np.float32)


def test_the_reason_is_what_the_card_resembles():
    asked, model = question(steps(np.eye(3)[[0, 1]]), ITEMS, [0, 1])
    reasons = explain(asked, model)
    assert [reason.evidence for reason in reasons] == [("seen-0",), ("seen-1",)]
    assert all(reason.code is ReasonCode.WATCHED for reason in reasons)


def test_there_is_no_reason_where_nothing_moves_the_card():
    worst = np.array([[1, 0, 0], [0.5, 0, 0], [-9, 0, 0]], np.float32)
    asked, model = question(steps(np.eye(3)[[0, 0]]), worst, [2])
    assert explain(asked, model) == [None]


def test_there_is_no_reason_without_a_history():
    asked, model = question(steps(np.empty((0, 3))), ITEMS, [0])
    assert explain(asked, model) == [None]
    assert model.runs == 0


def test_episodes_of_a_series_count_as_one_choice():
    history = steps(np.eye(3)[[0, 0, 1]])
    asked, model = question(history, ITEMS, [0], groups=[7, 7, 8])
    assert explain(asked, model)[0].evidence == ("seen-1",)  # the last episode names the series
    assert model.runs == 2


def test_what_a_fence_hides_is_never_named():
    asked, model = question(steps(np.eye(3)[[0, 1]]), ITEMS, [0], visible=[False, True])
    reason = explain(asked, model)[0]
    assert reason is None or "seen-0" not in reason.evidence


def test_a_long_history_costs_at_most_eight_runs():
    rng = np.random.default_rng(0)
    asked, model = question(
        steps(rng.standard_normal((50, 3))), rng.standard_normal((500, 3)), np.arange(25)
    )
    explain(asked, model)
    assert model.runs == DELETIONS == 8


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), length=st.integers(1, 20))
def test_deletion_test_without_the_named_titles_the_card_falls(seed, length):
    rng = np.random.default_rng(seed)
    items = rng.standard_normal((80, 4)).astype(np.float32)
    groups = rng.integers(0, 10, length)
    asked, model = question(
        steps(rng.standard_normal((length, 4))), items, np.arange(10), groups=groups
    )
    before = ranks(asked.scores, asked.candidates, asked.cards)
    for card, reason in enumerate(explain(asked, model)):
        if reason is None:
            continue
        for title in reason.evidence:
            group = groups[asked.steps.title_ids.index(title)]
            after = model(asked.steps.where(groups != group))
            assert ranks(after, asked.candidates, asked.cards)[card] > before[card]


def test_deletion_test_with_the_bundles_own_user_model(bundle, tmp_path):
    """With the real model: the named title moves its card more than a random one does."""
    guard = RunGuard(tmp_path, boot_id="b", limit_s=60.0)
    models = Models(bundle, guard)
    known = list(bundle.titles())
    titles = catalogue(
        [Title(one.title_id, TitleKind.MOVIE, one.name) for one in known],
        bundle.item_vectors(),
        popularity=bundle.tensor("popularity"),
    )
    rng = np.random.default_rng(3)
    seen = [known[n].title_id for n in rng.choice(len(known), 8, replace=False)]
    viewings = watched([event(title, "complete") for title in seen], titles)
    history = steps_of(viewings.values(), titles, models.length)

    def rescore(shorter):
        user = models.user(shorter)
        return score(
            np.zeros(models.bundle.model.d, np.float32) if user is None else user,
            titles.vectors,
            titles.popularity,
            bundle.popularity_weight,
        )

    rows = np.array([titles.index[name] for name in history.title_ids])
    scores = rescore(history)
    candidates = np.ones(len(titles), bool)
    candidates[rows] = False
    cards = np.argsort(-np.where(candidates, scores, -np.inf))[5:30]
    asked = Question(
        history,
        titles.group[rows],
        np.ones(len(history), bool),
        scores,
        candidates,
        cards,
        titles.vectors[cards],
    )
    before = ranks(scores, candidates, cards)
    named, others = [], []
    for card, reason in enumerate(explain(asked, rescore)):
        for place in range(len(history)):
            after = rescore(history.where(np.arange(len(history)) != place))
            fall = ranks(after, candidates, cards)[card] - before[card]
            is_named = reason is not None and history.title_ids[place] == reason.evidence[0]
            (named if is_named else others).append(fall)
    guard.close()
    assert named, "not one card of 25 has a reason"
    assert min(named) > 0
    assert np.mean(named) > np.mean(others)


@pytest.fixture
def book():
    book = ReasonBook()
    yield book
    book.stop()


def inquiry(version, rescore=None):
    asked, model = question(steps(np.eye(3)[[0, 1]]), ITEMS, [0, 1])
    return Inquiry(version, ("a", "b"), asked, rescore or model)


def wait_for(condition):
    deadline = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def test_reasons_come_afterwards_and_only_for_their_own_version(book):
    assert book.known("me", 1) == {}
    book.ask("me", inquiry(1))
    wait_for(lambda: book.known("me", 1))
    assert book.known("me", 1)["a"].evidence == ("seen-0",)
    assert book.known("me", 2) == {}
    assert book.known("you", 1) == {}


def test_forgetting_drops_even_the_reason_that_is_being_found(book):
    entered, proceed = threading.Event(), threading.Event()

    def slow(history):
        entered.set()
        assert proceed.wait(5.0)
        return np.zeros(len(ITEMS), np.float32)

    book.ask("me", inquiry(1, slow))
    assert entered.wait(5.0)
    book.forget()
    proceed.set()
    book.ask("you", inquiry(1))
    wait_for(lambda: book.known("you", 1))
    assert book.known("me", 1) == {}


def test_a_question_that_fails_does_not_end_the_thread(book):
    def fails(history):
        raise ValueError("a model that fails")

    book.ask("me", inquiry(1, fails))
    wait_for(lambda: book.failures == 1)
    book.ask("me", inquiry(2))
    wait_for(lambda: book.known("me", 2))
