from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise

import pytest

from couchside.benchmarks.errors import BenchmarkError
from couchside.benchmarks.page import words
from couchside.benchmarks.tv.evening import (
    ARRIVALS,
    BEDTIME_H,
    ENDED_WITHIN_S,
    GUIDE_BEFORE_S,
    Evening,
    World,
    at_bedtime,
    find_evening,
    scenes,
    stocked,
)
from couchside.compression.households import FAMILY, make_guide
from couchside.device.guide.xmltv import read_xmltv
from couchside.device.records import EventKind, Title, TitleKind, ViewingEvent

NOW = 1_795_465_800.0
GENRES = (("Drama",), ("Action", "Sci-Fi"), ("Documentary",), ("Comedy",))
FILMS = tuple(
    Title(f"film:{n}", TitleKind.MOVIE, f"Film {n}", year=1950 + n, genres=GENRES[n % 4])
    for n in range(64)
)
LIVE = Title(
    "programme:1",
    TitleKind.PROGRAMME,
    "Cup Night",
    channel_id="touchline.example",
    starts_at=NOW,
    ends_at=NOW + 3600,
)


def refuse(problem: object) -> None:
    raise AssertionError(problem)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    films = stocked(FILMS, now=NOW, seed=3)
    guide = tmp_path_factory.mktemp("guide") / "guide.xml"
    guide.write_text(make_guide(films, day_start=NOW - GUIDE_BEFORE_S, seed=3), encoding="utf-8")
    programmes = list(read_xmltv(guide, report=refuse))
    titles = [*films, *programmes]
    found = find_evening(at_bedtime(FAMILY, NOW), titles, now=NOW, seeds=range(3))
    return World(NOW, {title.title_id: title for title in titles}, len(programmes), found)


def test_evening_ends_shortly_before_now_and_its_events_are_in_order(world: World) -> None:
    times = [event.at for event in world.evening.events]
    assert times == sorted(times)
    assert NOW - ENDED_WITHIN_S <= times[-1] <= NOW
    assert all(event.title_id in world.titles for event in world.evening.events)


def test_evening_gives_its_first_viewer_something_to_go_on_with(world: World) -> None:
    mine = {e.kind for e in world.evening.events if e.profile_id == world.evening.viewers[0]}
    assert {EventKind.STOP, EventKind.COMPLETE} <= mine
    assert sorted(world.evening.viewers) == sorted(one.profile_id for one in FAMILY.members)


def test_evening_without_anything_to_watch_is_told() -> None:
    with pytest.raises(BenchmarkError, match="nobody found anything"):
        find_evening(FAMILY, [], now=NOW, seeds=[1])


@pytest.mark.parametrize("hours", [0.0, 5.3, 11.9, 12.1, 23.99])
def test_it_is_bedtime_in_the_household_whenever_the_demo_runs(hours: float) -> None:
    now = NOW - NOW % 86_400 + hours * 3600
    home = at_bedtime(FAMILY, now)
    assert home.hour(now) == pytest.approx(BEDTIME_H, abs=0.15)
    assert -12 <= home.utc_offset_h <= 12
    assert words.clock(now, home.utc_offset_h).startswith("23:")


def test_app_lists_every_film_with_a_link_and_a_few_as_new() -> None:
    listed = stocked(FILMS, now=NOW, seed=1)
    new = [film for film in listed if film.available_from is not None]
    assert [film.title_id for film in listed] == [film.title_id for film in FILMS]
    assert all(film.deep_link and film.title_id in film.deep_link for film in listed)
    assert len(new) == ARRIVALS
    assert all(
        NOW - 14 * 86_400 < film.available_from <= NOW for film in new if film.available_from
    )


def test_scenes_tell_an_evening_in_order(world: World) -> None:
    told = world.scenes
    assert all(before.began_at <= after.began_at for before, after in pairwise(told))
    assert all(scene.ended_at >= scene.began_at for scene in told)
    assert {scene.outcome for scene in told} >= {"stopped", "finished"}
    assert [scene for scene in told if scene.opinion == "like"]


def test_scene_of_a_zapped_channel_lasts_until_the_next_one() -> None:
    film = FILMS[1]
    zap = ViewingEvent("1", "tom", LIVE.title_id, EventKind.TUNE, NOW, 0.0, 3600.0)
    start = ViewingEvent("2", "tom", film.title_id, EventKind.START, NOW + 40, 0.0, 6000.0)
    stop = ViewingEvent("3", "tom", film.title_id, EventKind.STOP, NOW + 640, 600.0, 6000.0)
    dislike = ViewingEvent("4", "tom", film.title_id, EventKind.DISLIKE, NOW + 641)
    told = scenes([zap, start, stop, dislike], {LIVE.title_id: LIVE, film.title_id: film})
    assert [(scene.outcome, scene.ended_at - scene.began_at) for scene in told] == [
        ("zapped", 40.0),
        ("stopped", 600.0),
    ]
    assert told[0].channel == "Touchline"
    assert told[1].fraction == pytest.approx(0.1)
    assert words.scene(told[1]) == "stopped at 10 %, did not like it"


def test_broadcast_that_was_left_is_told_as_tuned_away() -> None:
    tune = ViewingEvent("1", "tom", LIVE.title_id, EventKind.TUNE, NOW, 0.0, 3600.0)
    stop = replace(tune, event_id="2", kind=EventKind.STOP, at=NOW + 900, position_s=900.0)
    (scene,) = scenes([tune, stop], {LIVE.title_id: LIVE})
    assert (scene.outcome, scene.fraction) == ("left", None)


def test_note_names_what_a_viewer_watched_and_the_fence(world: World) -> None:
    assert world.note(world.evening.viewers[0]).startswith("Tonight: ")
    fenced = Evening(world.evening.household, (), ("mila",))
    quiet = replace(world, evening=fenced)
    assert "age 7" in quiet.note("mila")
    assert quiet.note("tom") == "Nothing watched tonight"


def test_evening_is_found_quickly_enough_to_wait_for(world: World) -> None:
    began = time.process_time()
    titles = list(world.titles.values())
    find_evening(at_bedtime(FAMILY, NOW), titles, now=NOW, seeds=[1])
    assert time.process_time() - began < 5.0


def test_guide_of_the_demo_spans_now(world: World) -> None:
    on_air = [
        title
        for title in world.titles.values()
        if title.starts_at is not None and title.starts_at <= NOW < (title.ends_at or 0.0)
    ]
    assert len(on_air) == len({title.channel_id for title in on_air}) == 8
