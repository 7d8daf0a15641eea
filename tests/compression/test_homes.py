"""Simulated homes: real users' films in their order, truth beside events, all by the seed."""

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from couchside.compression.data import load_interactions
from couchside.compression.errors import DataError
from couchside.compression.homes.cli import main
from couchside.compression.homes.diary import CREDITS, HATED, LIKED, Why, World, live
from couchside.compression.homes.events import SHARED, events
from couchside.compression.homes.people import FEWEST_FILMS, RHYTHMS, inside, make_homes
from couchside.compression.invented_guide import make_guide
from couchside.compression.recipe import load_recipe
from couchside.device import strict
from couchside.device.guide.xmltv import read_xmltv
from couchside.device.records import EventKind, Title, TitleKind, ViewingEvent

START = 1_767_571_200.0  # a Monday, midnight UTC
DAYS = 14


@pytest.fixture(scope="module")
def interactions():
    return load_interactions(load_recipe("tv-small").data)


@pytest.fixture(scope="module")
def world(interactions, tmp_path_factory):
    file = tmp_path_factory.mktemp("guide") / "guide.xml"
    file.write_text(make_guide(interactions.titles, day_start=START, days=DAYS + 1, seed=1))
    shown = sorted(read_xmltv(file, report=pytest.fail), key=lambda title: title.starts_at)
    return World(interactions, tuple(shown))


@pytest.fixture(scope="module")
def homes(interactions):
    return make_homes(interactions, 30, seed=1)


@pytest.fixture(scope="module")
def diaries(homes, world):
    return {home: list(live(home, world, start=START, days=DAYS, seed=1)) for home in homes}


def test_nobody_lives_in_two_homes_and_a_grown_up_in_each(homes):
    users = [member.user for home in homes for member in home.members]
    assert len(users) == len(set(users))
    assert {len(home.members) for home in homes} == {2, 3, 4}
    assert all(home.members[0].rhythm.max_maturity is None for home in homes)


def test_home_does_not_change_when_there_are_more_of_them(interactions, homes):
    few = make_homes(interactions, 3, seed=1)
    for home, same in zip(few, homes, strict=False):
        assert [m.user for m in home.members] == [m.user for m in same.members]
        assert home.utc_offset_h == same.utc_offset_h


def test_more_homes_than_users_are_refused(interactions):
    with pytest.raises(DataError, match="ask for fewer"):
        make_homes(interactions, 10_000, seed=1)


def test_users_without_films_are_no_members(interactions):
    few = replace(interactions, users=np.arange(len(interactions.users)))
    with pytest.raises(DataError, match=f"{FEWEST_FILMS} ratings or more"):
        make_homes(few, 1, seed=1)


def test_films_are_watched_in_the_order_of_the_ratings(diaries, world):
    """Per real user: its films, in its order, with its ratings; none twice, none left out."""
    for home, diary in diaries.items():
        for member in home.members:
            watched = [
                (v.title.title_id, v.rating)
                for v in diary
                if v.why is Why.RATED and v.members[0] == member.member_id
            ]
            real = [
                (world.interactions.titles[world.interactions.items[row]].title_id,
                 world.interactions.ratings[row])
                for row in member.films
            ]  # fmt: skip
            first = list(dict(reversed(real)).items())[::-1]
            assert watched == first[: len(watched)]


def test_viewings_of_a_home_never_overlap(diaries):
    for diary in diaries.values():
        for before, after in pairwise(diary):
            assert before.until <= after.at + 1e-6
        assert all(viewing.at < viewing.until for viewing in diary)


def test_child_sees_nothing_beyond_its_fence_and_neither_who_sits_with_it(diaries):
    seen = 0
    for home, diary in diaries.items():
        children = {m.member_id for m in home.members if m.rhythm.max_maturity is not None}
        for viewing in diary:
            if children.intersection(viewing.members):
                seen += 1
                assert inside(viewing.title, 7), viewing
    assert seen > 50


def test_bad_films_are_left_early_and_good_ones_seen_to_the_credits_or_taken_up_again(diaries):
    rated = [v for diary in diaries.values() for v in diary if v.why is Why.RATED]
    bad = [v.completion for v in rated if v.rating <= HATED]
    good = [v.completion for v in rated if v.rating >= LIKED]
    assert max(bad) <= 0.41
    assert np.mean(good) > 2 * np.mean(bad)
    assert max(good) == pytest.approx(CREDITS)
    continued = [v for diary in diaries.values() for v in diary if v.why is Why.CONTINUED]
    assert continued
    assert all(v.began_s > 0 for v in continued)


def test_opinions_follow_the_ratings(diaries):
    pressed = [v for diary in diaries.values() for v in diary if v.pressed]
    assert {v.pressed for v in pressed} == {"like", "dislike"}
    assert all(v.rating >= LIKED for v in pressed if v.pressed == "like")
    assert all(v.rating <= HATED for v in pressed if v.pressed == "dislike")


def test_members_sit_down_in_their_hours(diaries):
    """Night owls at night, children never: in the hours of the home's own clock."""
    hours = {rhythm.name: Counter() for rhythm in RHYTHMS}
    for home, diary in diaries.items():
        rhythm = {member.member_id: member.rhythm.name for member in home.members}
        for viewing in diary:
            if len(viewing.members) == 1:
                hour = (viewing.at / 3600 + home.utc_offset_h) % 24
                hours[rhythm[viewing.members[0]]]["late" if hour >= 22 or hour < 3 else "day"] += 1
    owl, child = hours["night owl"], hours["child"]
    assert owl["late"] / owl.total() > 0.5
    assert child["late"] / child.total() < 0.1


def test_episodes_come_in_their_order_after_they_were_on_air(diaries):
    followed = [(h, v) for h, diary in diaries.items() for v in diary if v.why is Why.FOLLOWED]
    assert followed
    last = {}
    for home, viewing in followed:
        title = viewing.title
        assert title.starts_at <= viewing.at
        for member in viewing.members:
            key = (home.name, member, title.series_id)
            # Who sits with somebody else may see one again, or one ahead.
            alone = len(viewing.members) == 1
            assert not alone or _number(title) > last.get(key, (-1, -1))
            last[key] = max(last.get(key, (-1, -1)), _number(title))


def _number(title):
    return title.season or 0, title.episode


def test_same_seed_gives_the_same_diary(homes, world, diaries):
    again = list(live(homes[4], world, start=START, days=DAYS, seed=1))
    assert again == diaries[homes[4]]
    other = list(live(homes[4], world, start=START, days=DAYS, seed=2))
    assert other != again


def test_events_are_in_order_valid_and_tell_nobody_who_watched(diaries):
    diary = max(diaries.values(), key=len)
    told = list(events(diary))
    assert [event.at for event in told] == sorted(event.at for event in told)
    assert len({event.event_id for event in told}) == len(told)
    assert {event.profile_id for event in told} == {SHARED}
    kinds = {event.kind for event in told}
    assert {EventKind.TUNE, EventKind.START, EventKind.PROGRESS, EventKind.COMPLETE} <= kinds
    for event in told:
        assert strict.from_json(ViewingEvent, strict.to_json(event)) == event
    owned = {event.profile_id for event in events(diary, own_profiles=True)}
    assert owned == {viewing.members[0] for viewing in diary}


@pytest.mark.parametrize(
    ("genres", "maturity", "fits"),
    [((), None, False), (("Horror",), None, False), (("Animation",), None, True), ((), 6, True),
     (("Animation",), 12, False)],
)  # fmt: skip
def test_film_without_an_age_fits_a_child_only_if_it_is_for_families(genres, maturity, fits):
    title = Title("f", TitleKind.MOVIE, "F", genres=genres, maturity=maturity)
    assert inside(title, 7) is fits
    assert inside(title, None)


def test_command_writes_what_a_tv_loads_and_the_truth(tmp_path, capsys):
    out = tmp_path / "homes"
    assert main(["--out", str(out), "--homes", "2", "--days", "3", "--seed", "5"]) == 0
    assert "viewings, live" in capsys.readouterr().out
    homes = [json.loads(line) for line in (out / "homes.jsonl").read_text().splitlines()]
    assert [home["home"] for home in homes] == ["home-0001", "home-0002"]
    assert (out / "guide.xml").stat().st_size
    assert (out / "films.jsonl").stat().st_size
    truth = [json.loads(line) for line in (out / "home-0001/truth.jsonl").read_text().splitlines()]
    told = [json.loads(line) for line in (out / "home-0001/events.jsonl").read_text().splitlines()]
    assert {viewing["title"] for viewing in truth} == {event["title_id"] for event in told}


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--homes", "0"], "--homes must be"),
        (["--days", "1000"], "--days must be"),
        (["--seed", "-1"], "--seed must be"),
        (["--start", "tomorrow"], "--start tomorrow"),
        (["--ratings", "/nowhere"], "no ratings.csv"),
        (["--homes", "100000"], "ask for fewer"),
    ],
)
def test_bad_flag_is_told(tmp_path, capsys, flags, why):
    assert main(["--out", str(tmp_path / "new"), *flags]) == 1
    assert why in capsys.readouterr().err


def test_folder_with_something_in_it_is_kept(tmp_path, capsys):
    (tmp_path / "mine").touch()
    assert main(["--out", str(tmp_path), "--homes", "1", "--days", "1"]) == 1
    assert "is not empty" in capsys.readouterr().err
