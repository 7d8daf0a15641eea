from __future__ import annotations

import doctest
from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from couchside.compression import households
from couchside.compression.households import (
    CHANNELS,
    FAMILY,
    Household,
    Member,
    evening,
    make_guide,
)
from couchside.compression.invented_guide import NEWS, Channel
from couchside.device.guide.xmltv import read_xmltv
from couchside.device.records import EventKind, Title, TitleKind

if TYPE_CHECKING:
    from pathlib import Path

MORNING = 1_786_345_200.0  # 2026-08-10 07:00 UTC
SIX = MORNING + 11 * 3600.0
SEEDS = range(12)

GENRES = ("Drama", "Action", "Sci-Fi", "Romance", "Animation", "Horror")
FILMS = [
    Title(
        f"f{n}",
        TitleKind.MOVIE,
        f"Film {n} & more",
        genres=(GENRES[n % 6],),
        year=1990 + n,
        maturity=0 if n % 6 == 4 else None,
        external_ids=(("imdb", f"tt{n:07}"),),
    )
    for n in range(36)
]


@pytest.fixture(scope="module")
def programmes(tmp_path_factory) -> list[Title]:
    folder: Path = tmp_path_factory.mktemp("guide")
    path = folder / "guide.xml"
    path.write_text(make_guide(FILMS, day_start=MORNING, days=2, seed=3), encoding="utf-8")
    return list(read_xmltv(path, report=pytest.fail))


def test_docstring_runs():
    tried = doctest.testmod(households)
    assert tried.attempted >= 5
    assert tried.failed == 0


def test_guide_fills_every_channel_without_gaps(programmes):
    by_channel = defaultdict(list)
    for programme in programmes:
        by_channel[programme.channel_id].append(programme)
    assert set(by_channel) == {channel.channel_id for channel in CHANNELS}
    for shown in by_channel.values():
        assert shown[0].starts_at == MORNING
        assert shown[-1].ends_at == MORNING + 2 * 86_400
        assert all(one.ends_at == two.starts_at for one, two in pairwise(shown))


def test_guide_shows_films_with_year_genre_and_identifier(programmes):
    films = {film.name: film for film in FILMS}
    shown = [programme for programme in programmes if programme.name in films]
    assert len(shown) > 20
    for programme in shown:
        film = films[programme.name]
        assert (programme.year, programme.genres) == (film.year, film.genres)
        assert programme.external_ids == film.external_ids
        assert programme.maturity == film.maturity


def test_guide_numbers_the_episodes_of_a_series_in_order(programmes):
    episodes = defaultdict(list)
    for programme in programmes:
        if programme.kind is TitleKind.EPISODE:
            episodes[programme.series_id].append(programme)
    assert len(episodes) > 5
    thimble = episodes["xmltv:series:captain thimble"]
    assert len(thimble) > 5
    assert all(two.episode == one.episode + 1 for one, two in pairwise(thimble))


def test_guide_rates_what_children_may_see(programmes):
    pebble = [programme for programme in programmes if programme.channel_id == "pebble.example"]
    assert pebble
    assert {programme.maturity for programme in pebble} == {0, 6}


def test_guide_is_the_same_for_the_same_seed_only():
    one, two, other = (make_guide(FILMS, day_start=MORNING, seed=seed) for seed in (1, 1, 2))
    assert one == two != other


def test_guide_of_hostile_film_name_is_still_well_formed(tmp_path):
    films = [Title("f", TitleKind.MOVIE, 'A\x00 "<b>&amp;', year=2000)]
    (tmp_path / "g.xml").write_text(make_guide(films, day_start=MORNING, seed=1), encoding="utf-8")
    names = {title.name for title in read_xmltv(tmp_path / "g.xml", report=pytest.fail)}
    assert 'A "<b>&amp;' in names


def test_guide_that_can_not_be_made_says_what_is_missing():
    with pytest.raises(ValueError, match="give at least one"):
        make_guide([], day_start=MORNING, seed=1)
    with pytest.raises(ValueError, match="needs channels and days"):
        make_guide(FILMS, day_start=MORNING, channels=(), seed=1)
    news = Channel("n", "News", ((NEWS, 1.0),))
    assert "Harbour Report" in make_guide([], day_start=MORNING, channels=[news], seed=1)


@pytest.mark.parametrize("seed", SEEDS)
def test_evening_has_every_scene_and_flows_in_time(programmes, seed):
    events = evening(FAMILY, [*FILMS, *programmes], start=SIX, seed=seed)
    kinds = Counter(event.kind for event in events)
    for kind in ("tune", "start", "progress", "pause", "stop", "complete", "like", "dislike"):
        assert kinds[EventKind(kind)], kind
    assert kinds[EventKind.TUNE] >= 3
    assert events[0].at >= SIX
    assert 3 * 3600 < events[-1].at - SIX < 7 * 3600
    assert all(one.at <= two.at for one, two in pairwise(events))
    assert len({event.event_id for event in events}) == len(events)


@pytest.mark.parametrize("seed", SEEDS)
def test_evening_positions_stay_inside_the_title_and_beat_every_minute(programmes, seed):
    events = evening(FAMILY, [*FILMS, *programmes], start=SIX, seed=seed)
    for one, two in pairwise(events):
        if one.position_s is not None:
            assert 0 <= one.position_s <= one.duration_s
        if one.kind == two.kind == EventKind.PROGRESS:
            assert two.title_id == one.title_id
            assert two.at - one.at == pytest.approx(60)
            assert two.position_s - one.position_s == pytest.approx(60)


@pytest.mark.parametrize("seed", SEEDS)
def test_evening_completes_an_episode_and_a_film_that_is_then_liked(programmes, seed):
    titles = {title.title_id: title for title in [*FILMS, *programmes]}
    events = evening(FAMILY, titles.values(), start=SIX, seed=seed)
    done = [titles[event.title_id] for event in events if event.kind is EventKind.COMPLETE]
    assert [title.kind for title in done] == [TitleKind.EPISODE, TitleKind.MOVIE]
    number = (done[0].series_id, done[0].season, done[0].episode + 1)
    following = [t for t in titles.values() if (t.series_id, t.season, t.episode) == number]
    assert any(title.starts_at >= done[0].ends_at for title in following)
    (liked,) = (event.title_id for event in events if event.kind is EventKind.LIKE)
    assert liked == done[1].title_id


@pytest.mark.parametrize("seed", SEEDS)
def test_evening_resumes_where_it_was_paused_and_stops_half_way(programmes, seed):
    events = evening(FAMILY, [*FILMS, *programmes], start=SIX, seed=seed)
    at = next(i for i, event in enumerate(events) if event.kind is EventKind.PAUSE)
    assert events[at + 1].kind is EventKind.START
    assert events[at + 1].position_s == pytest.approx(events[at].position_s)
    assert events[at + 1].at - events[at].at >= 180
    stop = next(event for event in events[at:] if event.kind is EventKind.STOP)
    assert stop.title_id == events[at].title_id
    assert 0.35 < stop.position_s / stop.duration_s < 0.65


def test_child_watches_inside_the_fence_and_not_at_night(programmes):
    titles = {title.title_id: title for title in [*FILMS, *programmes]}
    child_alone = Household((FAMILY.members[2],))
    seen = 0
    for seed in SEEDS:
        for event in evening(child_alone, titles.values(), start=SIX - 7200, seed=seed):
            title = titles[event.title_id]
            assert title.maturity is not None
            assert title.maturity <= 7
            seen += 1
    assert seen > 100
    assert evening(child_alone, titles.values(), start=SIX + 4 * 3600, seed=1) == []


def test_evening_prefers_an_episode_that_has_a_next():
    ends = [
        Title(f"e{n}", TitleKind.EPISODE, "Finale", series_id=f"s{n}", season=1, episode=9)
        for n in range(20)
    ]
    for seed in SEEDS:
        before = Title("e-8", TitleKind.EPISODE, "Before", series_id="s4", season=1, episode=8)
        events = evening(FAMILY, [*ends, before], start=SIX + 4 * 3600, seed=seed)
        done = [event.title_id for event in events if event.kind is EventKind.COMPLETE]
        assert done == ["e-8"]


def test_members_choose_by_their_own_taste(programmes):
    liked = Counter()
    for seed in range(40):
        for event in evening(FAMILY, FILMS, start=SIX + 4 * 3600, seed=seed):
            if event.kind is EventKind.LIKE:
                liked[event.profile_id, FILMS[int(event.title_id[1:])].genres[0]] += 1
    assert liked["ines", "Drama"] > 3 * (liked["ines", "Action"] + liked["ines", "Horror"])
    assert liked["tom", "Action"] + liked["tom", "Sci-Fi"] > 3 * liked["tom", "Drama"]


def test_evening_is_the_same_for_the_same_seed_only(programmes):
    titles = [*FILMS, *programmes]
    one, two = (evening(FAMILY, titles, start=SIX, seed=7) for _ in range(2))
    other = evening(FAMILY, titles, start=SIX, seed=8)
    assert one == two != other
    assert not {event.event_id for event in one} & {event.event_id for event in other}


def test_evening_without_titles_is_empty_and_without_people_an_error():
    assert evening(FAMILY, [], start=SIX, seed=1) == []
    with pytest.raises(ValueError, match="at least one member"):
        Household(())


def test_hours_over_midnight_and_another_time_zone():
    night = Member("owl", (), hours=(22.0, 3.0))
    assert night.watches_at(23.5)
    assert night.watches_at(1.0)
    assert not night.watches_at(12.0)
    assert Household((night,), utc_offset_h=5.5).hour(0.0) == 5.5
