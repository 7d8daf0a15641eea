"""Started, finished, dismissed: Google's Watch Next rules, one by one."""

from __future__ import annotations

import pytest
from simulators.titles import catalogue, event, watched

from couchside.device.features import Signal
from couchside.device.records import Title, TitleKind
from couchside.device.shelf.watching import has_finished, has_started

TITLES = catalogue(
    [
        Title("film", TitleKind.MOVIE, "A film", duration_s=6000.0),
        Title("episode", TitleKind.EPISODE, "An episode", duration_s=3000.0),
        Title("clip", TitleKind.CLIP, "A clip", duration_s=300.0),
        Title("unmeasured", TitleKind.MOVIE, "Nobody knows how long"),
    ]
)


def viewing(*events):
    return watched(events, TITLES)[events[0].title_id]


@pytest.mark.parametrize(
    ("kind", "position_s", "duration_s", "started"),
    [
        (TitleKind.MOVIE, 119.0, 6000.0, False),
        (TitleKind.MOVIE, 121.0, 6000.0, True),
        (TitleKind.MOVIE, 60.0, 1800.0, True),  # more than 3 % of a short film
        (TitleKind.EPISODE, 60.0, 1800.0, False),  # an episode counts by minutes alone
        (TitleKind.EPISODE, 121.0, 1800.0, True),
        (TitleKind.MOVIE, 100.0, None, False),
    ],
)
def test_started(kind, position_s, duration_s, started):
    assert has_started(kind, position_s, duration_s) is started


@pytest.mark.parametrize(
    ("position_s", "duration_s", "credits_s", "finished"),
    [
        (5819.0, 6000.0, None, False),
        (5820.0, 6000.0, None, True),  # three minutes left
        (5000.0, 6000.0, 5000.0, True),  # the player saw the credits
        (5900.0, 6000.0, 5950.0, False),  # its word counts more than the length
        (150.0, 300.0, None, False),  # a clip is not finished at half for being short
        (256.0, 300.0, None, True),
        (9999.0, None, None, False),
    ],
)
def test_finished(position_s, duration_s, credits_s, finished):
    assert has_finished(position_s, duration_s, credits_s) is finished


def test_zapping_is_no_viewing_and_no_signal():
    zapped = viewing(event("film", "start", 0.0), event("film", "stop", 30.0))
    assert not zapped.started
    assert zapped.signal is None


def test_stopped_in_the_middle_is_unfinished_with_its_fraction():
    half = viewing(event("film", "start", 0.0), event("film", "stop", 3000.0))
    assert half.unfinished
    assert half.fraction == 0.5
    assert half.signal is Signal.NEUTRAL


def test_abandoned_early_is_a_bad_sign():
    assert viewing(event("film", "stop", 400.0)).signal is Signal.NEGATIVE


def test_complete_without_a_position_is_finished():
    done = viewing(event("unmeasured", "complete"))
    assert done.finished
    assert done.fraction == 1.0
    assert done.signal is Signal.POSITIVE


def test_a_peek_at_the_beginning_does_not_unwatch():
    peek = (event("film", "complete"), event("film", "start", 0.0), event("film", "stop", 20.0))
    assert viewing(*peek).finished


def test_watching_again_reopens():
    again = viewing(event("film", "complete"), event("film", "stop", 2000.0))
    assert again.unfinished


def test_dismissing_is_not_watching_and_playing_undoes_it():
    dismissed = (event("film", "stop", 3000.0), event("film", "dismiss"))
    assert viewing(*dismissed).dismissed
    assert viewing(*dismissed).fraction == 0.5
    assert not viewing(*dismissed, event("film", "progress", 3100.0)).dismissed


def test_skip_is_never_a_like():
    assert viewing(event("film", "skip")).signal is Signal.NEGATIVE


def test_clear_takes_back_like_and_watchlist():
    cleared = viewing(event("film", "like"), event("film", "watchlist"), event("film", "clear"))
    assert cleared.opinion is None
    assert not cleared.listed
    assert cleared.signal is None


@pytest.mark.parametrize("kind", ["search", "select"])
def test_a_look_at_the_details_is_no_taste(kind):
    assert viewing(event("film", kind)).signal is None


def test_heartbeats_do_not_reorder_taste():
    viewings = watched(
        [
            event("film", "stop", 3000.0),
            event("episode", "complete"),
            event("film", "progress", 3060.0),
        ],
        TITLES,
    )
    assert viewings["film"].taste_sequence < viewings["episode"].taste_sequence
    assert viewings["film"].sequence > viewings["episode"].sequence


def test_positions_beyond_the_end_stay_within_the_bar():
    assert viewing(event("film", "stop", 99_999.0, credits_s=200_000.0)).fraction == 1.0


def test_tuning_in_late_and_leaving_at_once_is_zapping():
    zapped = viewing(event("film", "tune", 4000.0), event("film", "stop", 4060.0))
    assert not zapped.started
    assert zapped.signal is None


def test_tuning_in_for_the_last_minute_is_not_having_seen_it():
    zapped = viewing(event("film", "tune", 5900.0), event("film", "stop", 5960.0))
    assert not zapped.finished


def test_tuning_in_late_and_staying_to_the_end_is_having_seen_it():
    watched_late = viewing(event("film", "tune", 3000.0), event("film", "stop", 5900.0))
    assert watched_late.finished


def test_a_lone_stop_counts_from_the_beginning():
    assert viewing(event("film", "stop", 3000.0)).started
