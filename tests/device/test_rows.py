"""The shelf's promises: invariants over any catalogue and history, then each rule by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.titles import DAY, NOW, catalogue, event, watched

from couchside.device.config import RowSettings
from couchside.device.records import EventKind, ReasonCode, RowCode, Title, TitleKind
from couchside.device.shelf.rows import Shelf, Viewer, diversify

SETTINGS = RowSettings()
KINDS = [
    TitleKind.MOVIE,
    TitleKind.EPISODE,
    TitleKind.PROGRAMME,
    TitleKind.RECORDING,
    TitleKind.CLIP,
]


def shelf(titles, events=(), *, user=None, fence=None, now=NOW, weight=0.1, **changes):
    viewer = Viewer(watched(events, titles), user, fence)
    built = Shelf(titles, viewer, now=now, weight=weight, settings=replace(SETTINGS, **changes))
    return built.lines()


def row(lines, code):
    """Title rows of the first line with this code; empty if there is none."""
    return next(([place.row for place in line.places] for line in lines if line.code is code), [])


def place(lines, code):
    return next(line for line in lines if line.code is code).places[0]


def films(count, **fields):
    return [
        Title(f"film-{n}", TitleKind.MOVIE, f"Film {n}", duration_s=6000.0, **fields)
        for n in range(count)
    ]


def episodes(count, series="show", **fields):
    return [
        Title(
            f"{series}-e{n}",
            TitleKind.EPISODE,
            f"Episode {n}",
            series_id=series,
            season=1,
            episode=n,
            duration_s=3000.0,
            **fields,
        )
        for n in range(1, count + 1)
    ]


@st.composite
def any_title(draw, number):
    kind = draw(st.sampled_from(KINDS))
    starts = draw(st.sampled_from([None, NOW - 600, NOW - 7200, NOW + 600]))
    live = kind is TitleKind.PROGRAMME and starts is not None
    return Title(
        f"t{number}",
        kind,
        f"Title {draw(st.integers(0, 8))}",
        series_id=draw(st.sampled_from([None, None, "s1", "s2", "s3"])),
        season=draw(st.sampled_from([None, 1, 2])),
        episode=draw(st.sampled_from([None, 1, 2, 3])),
        maturity=draw(st.sampled_from([None, 0, 6, 12, 16, 18])),
        duration_s=draw(st.sampled_from([None, 1500.0, 6000.0])),
        starts_at=starts if live else None,
        ends_at=starts + 3600 if live else None,
        available_from=draw(st.sampled_from([None, None, NOW - DAY, NOW + DAY])),
        available_until=draw(st.sampled_from([None, None, NOW - 60, NOW + DAY])),
    )


@st.composite
def situations(draw):
    titles = [draw(any_title(number)) for number in range(draw(st.integers(1, 40)))]
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    vectors = rng.standard_normal((len(titles), 4)).astype(np.float32)
    vectors[rng.random(len(titles)) < 0.1] = 0.0
    popularity = rng.exponential(size=len(titles))
    arrays = catalogue(titles, vectors, popularity=popularity, added_at=NOW - 3600)
    events = [
        event(
            f"t{draw(st.integers(0, len(titles) + 2))}",
            draw(st.sampled_from([kind.value for kind in EventKind])),
            draw(st.sampled_from([None, 0.0, 300.0, 3000.0, 5990.0])),
        )
        for _ in range(draw(st.integers(0, 25)))
    ]
    return titles, arrays, events, rng.standard_normal(4).astype(np.float32)


@settings(max_examples=150, deadline=None)
@given(
    situation=situations(),
    fence=st.sampled_from([None, 6, 12]),
    clock=st.sampled_from([NOW, None]),
    caps=st.sampled_from([{}, {"rows": 2, "cards": 3}, {"continue_watching": 1}]),
    taste=st.booleans(),
)
def test_any_shelf_keeps_every_promise(situation, fence, clock, caps, taste):
    titles, arrays, events, user = situation
    lines = shelf(
        arrays,
        events,
        user=user if taste else None,
        fence=fence,
        now=clock,
        because_similarity=-1.0,
        because_cards=1,
        **caps,
    )
    bounds = replace(SETTINGS, **caps)
    places = [place for line in lines for place in line.places]
    shown = [titles[place.row] for place in places]
    viewings = watched(events, arrays)

    assert len(lines) <= bounds.rows
    assert all(0 < len(line.places) <= bounds.cards for line in lines)
    assert len(row(lines, RowCode.CONTINUE_WATCHING)) <= bounds.continue_watching
    assert len({place.row for place in places}) == len(places), "a title stands twice"
    series = [title.series_id for title in shown if title.series_id]
    assert len(series) == len(set(series)), "a series has two cards"
    if fence is not None:
        assert all(title.maturity is not None and title.maturity <= fence for title in shown)
        seeds = [titles[line.seed] for line in lines if line.seed is not None]
        assert all(title.maturity is not None and title.maturity <= fence for title in seeds)
    for place_, title in zip(places, shown, strict=True):
        seen = viewings.get(title.title_id)
        assert seen is None or seen.opinion is not EventKind.DISLIKE
        assert place_.progress is None or 0.0 <= place_.progress <= 1.0
        if clock is not None:
            assert place_.expires_at is None or place_.expires_at > clock
            assert title.available_until is None or title.available_until > clock
            on_air = title.starts_at is not None and title.starts_at <= clock < title.ends_at
            assert on_air or title.available_from is None or title.available_from <= clock
    discovery = (RowCode.FOR_YOU, RowCode.BECAUSE_YOU_WATCHED, RowCode.NEW, RowCode.POPULAR)
    for line in lines:
        if line.code in discovery:
            names = [arrays.title_ids[place.row] for place in line.places]
            assert not any(name in viewings and viewings[name].finished for name in names)
        if line.code is RowCode.LIVE_NOW:
            assert clock is not None
            assert all(
                titles[place.row].starts_at <= clock < titles[place.row].ends_at
                for place in line.places
            )


def test_the_same_question_gets_the_same_shelf():
    titles = catalogue(films(60), popularity=np.arange(60))
    user = np.ones(8, np.float32)
    assert shelf(titles, user=user) == shelf(titles, user=user)


def test_continue_watching_shows_the_newest_first_with_progress():
    titles = catalogue(films(3))
    lines = shelf(titles, [event("film-0", "stop", 3000.0), event("film-2", "pause", 1500.0)])
    assert row(lines, RowCode.CONTINUE_WATCHING) == [2, 0]
    assert [card.progress for card in lines[0].places] == [0.25, 0.5]
    assert lines[0].places[0].reason.code is ReasonCode.UNFINISHED


def test_a_finished_episode_brings_the_next_one():
    titles = catalogue(episodes(3))
    lines = shelf(titles, [event("show-e1", "complete")])
    assert row(lines, RowCode.CONTINUE_WATCHING) == [1]
    assert place(lines, RowCode.CONTINUE_WATCHING).reason.code is ReasonCode.NEXT_EPISODE
    assert place(lines, RowCode.CONTINUE_WATCHING).reason.evidence == ("show-e1",)


def test_a_series_that_is_caught_up_shows_nothing_until_a_new_episode_comes():
    seen = [event("show-e1", "complete"), event("show-e2", "complete")]
    assert row(shelf(catalogue(episodes(2)), seen), RowCode.CONTINUE_WATCHING) == []
    assert row(shelf(catalogue(episodes(3)), seen), RowCode.CONTINUE_WATCHING) == [2]


def test_a_finished_episode_does_not_bring_one_that_was_disliked():
    seen = [event("show-e2", "dislike"), event("show-e1", "complete")]
    assert row(shelf(catalogue(episodes(3)), seen), RowCode.CONTINUE_WATCHING) == []


def test_a_dismissed_card_stays_away_until_the_series_is_played_again():
    titles = catalogue(episodes(3))
    dismissed = [event("show-e1", "complete"), event("show-e2", "dismiss")]
    assert shelf(titles, dismissed) == []
    again = [*dismissed, event("show-e3", "stop", 600.0)]
    assert row(shelf(titles, again), RowCode.CONTINUE_WATCHING) == [2]


def test_a_clip_is_never_continued():
    titles = catalogue([Title("clip", TitleKind.CLIP, "Cat", duration_s=600.0)])
    assert row(shelf(titles, [event("clip", "stop", 300.0)]), RowCode.CONTINUE_WATCHING) == []


@pytest.mark.parametrize(("kind", "kept"), [("pause", [0]), ("stop", [])])
def test_a_broadcast_is_continued_only_while_it_is_paused_and_on_air(kind, kept):
    live = Title("live", TitleKind.PROGRAMME, "News", starts_at=NOW - 600, ends_at=NOW + 600)
    lines = shelf(catalogue([live]), [event("live", kind, 300.0)])
    assert row(lines, RowCode.CONTINUE_WATCHING) == kept
    over = shelf(catalogue([live]), [event("live", kind, 300.0)], now=NOW + 700)
    assert row(over, RowCode.CONTINUE_WATCHING) == []


def test_a_broadcast_with_catch_up_is_continued_after_its_end():
    title = Title(
        "live",
        TitleKind.PROGRAMME,
        "Film night",
        starts_at=NOW - 9000,
        ends_at=NOW - 600,
        available_until=NOW + DAY,
    )
    lines = shelf(catalogue([title]), [event("live", "stop", 3000.0)])
    assert row(lines, RowCode.CONTINUE_WATCHING) == [0]
    assert place(lines, RowCode.CONTINUE_WATCHING).expires_at == NOW + DAY


def test_an_episode_in_the_guide_is_live_now_and_can_not_be_chosen():
    episode = Title(
        "xmltv:one:1",
        TitleKind.EPISODE,
        "Inspector",
        series_id="inspector",
        season=1,
        episode=2,
        starts_at=NOW - 600,
        ends_at=NOW + 600,
    )
    titles = catalogue([episode], popularity=[1.0])
    assert [line.code for line in shelf(titles)] == [RowCode.LIVE_NOW]


def test_live_now_shows_programmes_that_are_on_and_drops_them_when_they_end():
    titles = catalogue(
        [
            Title("on", TitleKind.PROGRAMME, "On", starts_at=NOW - 60, ends_at=NOW + 60),
            Title("over", TitleKind.PROGRAMME, "Over", starts_at=NOW - 60, ends_at=NOW),
            Title("later", TitleKind.PROGRAMME, "Later", starts_at=NOW + 60, ends_at=NOW + 90),
        ]
    )
    lines = shelf(titles)
    assert row(lines, RowCode.LIVE_NOW) == [0]
    assert place(lines, RowCode.LIVE_NOW).expires_at == NOW + 60
    assert row(shelf(titles, now=NOW + 60), RowCode.LIVE_NOW) == [2]


def test_without_a_clock_nothing_is_claimed_to_be_on_now_or_new():
    titles = catalogue(
        [
            Title("on", TitleKind.PROGRAMME, "On", starts_at=NOW - 60, ends_at=NOW + 60),
            *films(3, available_until=NOW - DAY),
        ],
        popularity=[1, 1, 1, 1],
        added_at=NOW,
    )
    codes = [line.code for line in shelf(titles, now=None)]
    assert codes == [RowCode.POPULAR]  # films stay: their windows can't be judged


def test_nothing_is_for_you_before_anything_is_known_of_you():
    titles = catalogue(films(5), popularity=[5, 4, 3, 2, 1])
    lines = shelf(titles)
    assert [line.code for line in lines] == [RowCode.POPULAR]
    assert row(lines, RowCode.POPULAR) == [0, 1, 2, 3, 4]


def test_for_you_carries_no_reason_before_one_is_found():
    lines = shelf(catalogue(films(5)), user=np.ones(8, np.float32))
    assert all(card.reason is None for card in lines[0].places)


def test_because_rows_differ_by_seed_and_hold_only_what_is_alike():
    vectors = np.eye(4, dtype=np.float32).repeat(6, axis=0)  # four genres of six films
    vectors += np.random.default_rng(0).standard_normal(vectors.shape).astype(np.float32) * 0.01
    titles = catalogue(films(24), vectors)
    lines = [
        line
        for line in shelf(titles, [event("film-0", "complete"), event("film-6", "complete")])
        if line.code is RowCode.BECAUSE_YOU_WATCHED
    ]
    assert [line.seed for line in lines] == [6, 0]
    assert {card.row for card in lines[0].places} == set(range(7, 12))
    assert {card.row for card in lines[1].places} == set(range(1, 6))
    assert lines[0].places[0].reason.evidence == ("film-6",)


def test_because_is_not_shown_when_nothing_is_alike():
    titles = catalogue(films(5), np.eye(5, dtype=np.float32))
    codes = [line.code for line in shelf(titles, [event("film-0", "complete")])]
    assert RowCode.BECAUSE_YOU_WATCHED not in codes


@pytest.mark.parametrize("kind", ["dislike", "skip"])
def test_what_was_disliked_or_skipped_seeds_nothing(kind):
    vectors = np.ones((6, 4), np.float32)
    vectors[5] = -1.0
    events = [event("film-0", "complete"), event("film-0", kind)]
    codes = [line.code for line in shelf(catalogue(films(6), vectors), events)]
    assert RowCode.BECAUSE_YOU_WATCHED not in codes


def test_new_shows_arrivals_of_the_last_days_but_no_repeats_on_air():
    titles = catalogue(
        [
            Title("fresh", TitleKind.MOVIE, "Fresh", available_from=NOW - DAY),
            Title("fresher", TitleKind.MOVIE, "Fresher", available_from=NOW - 60),
            Title("old", TitleKind.MOVIE, "Old", available_from=NOW - 100 * DAY),
            Title("air", TitleKind.PROGRAMME, "Repeat", starts_at=NOW - 60, ends_at=NOW + 60),
        ]
    )
    lines = shelf(titles)
    assert row(lines, RowCode.NEW) == [1, 0]
    assert place(lines, RowCode.NEW).reason.code is ReasonCode.NEW_HERE


def test_popular_needs_many_viewers_not_just_one():
    titles = catalogue(films(3), popularity=[1.0, 0.5, 1e-9])
    assert row(shelf(titles), RowCode.POPULAR) == [0, 1]


def test_a_series_shows_its_own_face_or_its_first_episode():
    shows = [*episodes(3, "a"), Title("b", TitleKind.SERIES, "B"), *episodes(2, "b")]
    titles = catalogue(shows, popularity=[1, 2, 3, 1, 2, 3])
    assert sorted(row(shelf(titles), RowCode.POPULAR)) == [0, 3]


def test_a_disliked_episode_hides_the_show_from_discovery():
    titles = catalogue(episodes(3), popularity=[1, 1, 1])
    assert shelf(titles, [event("show-e2", "dislike")]) == []


def test_a_fence_hides_what_nobody_rated():
    titles = catalogue(
        [*films(1), Title("kids", TitleKind.MOVIE, "Kids", maturity=6)], popularity=[1, 1]
    )
    assert row(shelf(titles, fence=6), RowCode.POPULAR) == [1]


def test_titles_without_a_source_are_shown_nowhere():
    titles = catalogue(films(3), popularity=[1, 1, 1], source=None)
    assert shelf(titles, [event("film-0", "stop", 3000.0)], user=np.ones(8, np.float32)) == []


def test_diversity_prefers_the_unlike_among_the_nearly_equal():
    vectors = np.array([[1, 0], [0.999, 0.045], [0, 1]], np.float32)
    scores = np.array([1.0, 0.99, 0.9], np.float32)
    assert diversify(scores, vectors, k=2, weight=0.5) == [0, 2]
    assert diversify(scores, vectors, k=3, weight=0.0) == [0, 1, 2]


@given(
    scores=st.lists(st.floats(-5, 5, width=32), max_size=30),
    k=st.integers(1, 40),
    weight=st.floats(0, 1),
)
def test_diversity_picks_each_title_once_and_the_best_first(scores, k, weight):
    values = np.array(scores, np.float32)
    vectors = np.random.default_rng(1).standard_normal((len(values), 3)).astype(np.float32)
    chosen = diversify(values, vectors, k=k, weight=weight)
    assert len(chosen) == len(set(chosen)) == min(k, len(values))
    if chosen and weight < 1.0:
        # float32 can't tell scores apart that differ by less than this part of their spread.
        assert values[chosen[0]] >= values.max() - 1e-6 * (values.max() - values.min())
