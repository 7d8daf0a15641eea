"""Moments: an acknowledged event counts in the next answer, whatever goes on beside it."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from simulators.titles import catalogue, event

from couchside.device.errors import RequestError
from couchside.device.household.moments import Household
from couchside.device.household.store import HOUSEHOLD, HistoryStore
from couchside.device.liveness import RunGuard
from couchside.device.models import Models
from couchside.device.records import Profile, Title, TitleKind


@pytest.fixture
def models(bundle, tmp_path):
    guard = RunGuard(tmp_path, boot_id="b", limit_s=60.0)
    yield Models(bundle, guard)
    guard.close()


@pytest.fixture
def store(tmp_path):
    store = HistoryStore(tmp_path / "history.db", boot_id="b")
    yield store
    store.close()


def films(bundle, count=20):
    titles = [Title(f"f{n}", TitleKind.MOVIE, f"F{n}", duration_s=6000.0) for n in range(count)]
    return catalogue(titles, bundle.item_vectors()[:count].copy())


@pytest.fixture
def failures():
    return []


@pytest.fixture
def household(store, models, bundle, failures):
    return Household(store, models, films(bundle), failures.append)


def taste(household):
    return household.moment.member(HOUSEHOLD).user


def test_nobody_has_a_taste_before_the_first_viewing(household):
    assert taste(household) is None
    household.add_event(event("f1", "stop", 30.0))
    assert taste(household) is None, "zapping is no taste"


def test_an_event_changes_the_taste_before_it_is_acknowledged(household):
    household.add_event(event("f1", "complete"))
    first = taste(household)
    household.add_event(event("f2", "complete"))
    assert first is not None
    assert not np.array_equal(first, taste(household))


def test_a_duplicate_changes_nothing(household):
    once = event("f1", "complete")
    household.add_event(once)
    before = household.moment
    household.add_event(once)
    assert household.moment is before


def test_a_heartbeat_keeps_the_user_vector_that_is_there(household):
    household.add_event(event("f1", "stop", 3000.0))
    before = household.moment.member(HOUSEHOLD)
    household.add_event(event("f1", "progress", 3060.0))
    after = household.moment.member(HOUSEHOLD)
    assert after.user is before.user
    assert after.taste == before.taste
    assert after.viewings["f1"].position_s == 3060.0


def test_a_restart_reads_the_same_household(household, store, models, bundle, failures):
    household.put_profile(Profile("kid", "Kid", 6))
    for number in range(15):
        household.add_event(event(f"f{number}", "complete"))
        household.add_event(event(f"f{number}", "stop", 600.0, profile_id="kid"))
    again = Household(store, models, household.moment.catalogue, failures.append)
    for name, member in household.moment.members.items():
        other = again.moment.members[name]
        assert other.viewings == member.viewings
        assert np.array_equal(other.user, member.user)


def test_forgetting_a_title_gives_the_taste_of_never_having_seen_it(household):
    household.add_event(event("f1", "complete"))
    alone = taste(household)
    household.add_event(event("f2", "complete"))
    household.forget(title_id="f2", profile_id=None)
    assert np.array_equal(taste(household), alone)
    household.forget(title_id=None, profile_id=None)
    assert taste(household) is None


def test_a_forgotten_profile_leaves_the_others(household):
    household.put_profile(Profile("kid", "Kid", 6))
    household.add_event(event("f1", "complete"))
    household.add_event(event("f2", "complete", profile_id="kid"))
    assert household.forget(title_id=None, profile_id="kid") == 1
    assert household.watched_titles() == {"f1"}


def test_other_titles_give_the_same_history_another_taste(household, bundle):
    household.add_event(event("f1", "complete"))
    before = household.moment.member(HOUSEHOLD)
    other = films(bundle)
    other.vectors[1] = bundle.item_vectors()[100]
    household.take(other)
    after = household.moment.member(HOUSEHOLD)
    assert not np.array_equal(before.user, after.user)
    assert after.taste > before.taste, "reasons of before are worth nothing now"


def test_an_unknown_profile_is_named_and_nothing_is_stored(household, store):
    with pytest.raises(RequestError, match="no profile 'nobody'") as caught:
        household.add_event(event("f1", "complete", profile_id="nobody"))
    assert caught.value.field == "profile_id"
    assert store.events() == []


def test_a_model_that_computes_nonsense_is_reported_and_the_taste_stays(
    household, bundle, failures
):
    household.add_event(event("f1", "complete"))
    before = taste(household)
    broken = films(bundle)
    broken.vectors[2] = np.nan
    household.take(broken)
    household.add_event(event("f2", "complete"))
    assert "not finite" in failures[0]
    assert np.array_equal(taste(household), before)
    assert household.moment.member(HOUSEHOLD).viewings["f2"].finished, "the event counts"


def test_many_writers_lose_nothing_and_readers_see_whole_moments(household, store):
    """Four players at once while a launcher reads: no lost event, no half moment."""
    stop, torn = threading.Event(), []

    def read():
        last = 0
        while not stop.is_set():
            moment = household.moment
            if moment.generation < last:
                torn.append((last, moment.generation))
            last = moment.generation

    def write(player):
        for number in range(25):
            household.add_event(event(f"f{number % 20}", "stop", 60.0 * player))

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(player,)) for player in range(4)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    assert torn == []
    assert len(store.events()) == 100
