from __future__ import annotations

import gzip
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from couchside.compression.data import load_interactions, split, targets
from couchside.compression.errors import DataError
from couchside.device.features import DAY, UNKNOWN_GAP

START = 1_362_062_838
TITLES = ["imdb,name,year,genres", "0111161,Escape,1994,Crime|Drama", "0068646,Family,1972,"]
RATINGS = ["user,imdb,rating,time"] + [
    f"{n % 7},{('0111161', '0068646')[n % 2]},{n % 11},{START + 1000 * (n // 3)}"
    for n in range(120)
]


@pytest.fixture
def folder(tmp_path, tiny):
    """Writes ratings and titles; gives the recipe's part that reads them."""

    def write(ratings=RATINGS, titles=TITLES):
        for name, lines in (("ratings", ratings), ("titles", titles)):
            data = lines if isinstance(lines, bytes) else "\n".join([*lines, ""]).encode()
            (tmp_path / f"{name}.csv").write_bytes(data)
        return replace(tiny.data, source=str(tmp_path), max_users=0)

    return write


def test_folder_of_ones_own_is_read_in_order_of_time(folder):
    found = load_interactions(folder())
    assert [title.title_id for title in found.titles] == ["imdb:tt0111161", "imdb:tt0068646"]
    assert found.titles[0].genres == ("Crime", "Drama")
    assert found.titles[0].external_ids == (("imdb", "tt0111161"),)
    assert found.users.tolist() == [n % 7 for n in range(120)]
    assert found.ratings.tolist() == [n % 11 for n in range(120)]
    assert (np.diff(found.times) >= 0).all()


def test_packed_files_read_alike(folder, tmp_path):
    recipe = folder()
    plain = load_interactions(recipe)
    for name in ("ratings", "titles"):
        path = tmp_path / f"{name}.csv"
        (tmp_path / f"{name}.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    packed = load_interactions(recipe)
    assert split(packed, recipe).sha256 == split(plain, recipe).sha256


def test_ties_keep_the_order_of_the_file(folder):
    tied = [RATINGS[0]] + [f"{n % 5},0111161,{n % 11},{START}" for n in range(110)]
    found = load_interactions(folder(ratings=tied))
    assert found.ratings.tolist() == [n % 11 for n in range(110)]
    late = [RATINGS[0], f"3,0111161,9,{START + 5}", *tied[1:]]
    found = load_interactions(folder(ratings=late))
    assert found.ratings.tolist() == [*(n % 11 for n in range(110)), 9]


def test_users_are_numbered_whatever_their_numbers_were(folder, tiny):
    strange = [RATINGS[0]] + [
        ",".join((str(9_000_000_000 + 17 * int(user)), *rest))
        for user, *rest in (line.split(",") for line in RATINGS[1:])
    ]
    found = load_interactions(folder(ratings=strange))
    assert found.users.tolist() == [n % 7 for n in range(120)]
    first_six = load_interactions(replace(folder(ratings=strange), max_users=6))
    assert set(first_six.users) == set(range(6))


def test_titles_that_nobody_rated_are_left_out(folder):
    alone = [line.replace("0068646", "0111161") for line in RATINGS]
    assert len(load_interactions(folder(ratings=alone)).titles) == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1,0111161,8", "3 fields"),
        ("1,0111161,8,1362062838,extra", "5 fields"),
        ("", "0 fields"),
        ("one,0111161,8,1362062838", "'one'.*needs whole numbers"),
        ("1,0111161,7.5,1362062838", r"'7\.5'.*needs whole numbers"),
        ("1,0111161,8,yesterday", "'yesterday'.*needs whole numbers"),
        ("1,9999999,8,1362062838", "imdb:tt9999999.*a known title"),
        ("1,0111161,11,1362062838", "a rating 0 … 10"),
        ("1,0111161,-1,1362062838", "a rating 0 … 10"),
        ("-1,0111161,8,1362062838", "needs a user"),
        ("1,0111161,8,-5", "POSIX seconds"),
        (f"{10**30},0111161,8,1362062838", "needs a user"),
        (f"1,0111161,8,{10**30}", "POSIX seconds"),
    ],
)
def test_wrong_rating_is_refused_by_file_and_line(folder, tmp_path, line, words):
    where = re.escape(f"{tmp_path}/ratings.csv, line 41: ")
    with pytest.raises(DataError, match=where + f".*{words}"):
        load_interactions(folder(ratings=[*RATINGS[:40], line, *RATINGS[40:]]))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0111161,Escape again,1995,", "a new imdb id"),
        (",No id,1995,", "a new imdb id"),
        ("0000001,,1995,", "a name"),
        ("0000001,   ,1995,", "name: must not be empty"),
        ("0000001,Old,MCMXCV,", "a year"),
        ("0000001,Old,19²,", "a year"),
        ("0000001,Old,1066,", "year: must be between 1850"),
        ("0000001,Old,1995", "3 fields"),
        ("0000001,Old, with a comma,1995,", "5 fields"),
        (f"{'1' * 300},Old,1995,", "title_id: must be 1 to 256"),
    ],
)
def test_wrong_title_is_refused_by_file_and_line(folder, tmp_path, line, words):
    where = re.escape(f"{tmp_path}/titles.csv, line 4: ")
    with pytest.raises(DataError, match=where + f".*{words}"):
        load_interactions(folder(titles=[*TITLES, line]))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"user,item,rating,time\n1,2,3,4\n",
        b"\xef\xbb\xbf" + "\n".join(RATINGS).encode(),
    ],
    ids=["empty", "other columns", "byte order mark"],
)
def test_other_columns_are_refused_with_the_right_ones(folder, content):
    words = r"ratings\.csv: columns are .*, must be \['user', 'imdb', 'rating', 'time'\]"
    with pytest.raises(DataError, match=words):
        load_interactions(folder(ratings=content))


PACKED = gzip.compress("\n".join(RATINGS).encode())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ratings.csv", "\n".join(RATINGS).encode("utf-16")),
        ("ratings.csv", b'user,imdb,rating,time\n"' + b"1" * 200_000 + b"\n"),
        ("ratings.csv.gz", b"plain text"),
        ("ratings.csv.gz", PACKED[:-40]),
        ("ratings.csv.gz", PACKED[:60] + bytes(60) + PACKED[120:]),
    ],
    ids=["UTF-16", "endless field", "not packed", "broken off", "damaged"],
)
def test_file_that_cannot_be_read_is_refused_by_name(folder, tmp_path, name, content):
    recipe = folder()
    (tmp_path / "ratings.csv").unlink()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{re.escape(name)}: can't read it"):
        load_interactions(recipe)


def test_missing_file_and_too_little_data_are_refused_by_name(folder, tmp_path):
    recipe = folder(ratings=RATINGS[:50])
    with pytest.raises(DataError, match=r"ratings\.csv: 49 ratings are too few"):
        load_interactions(recipe)
    (tmp_path / "titles.csv").unlink()
    with pytest.raises(DataError, match=r"no titles\.csv or titles\.csv\.gz there"):
        load_interactions(recipe)


def test_sample_and_its_split_are_the_same_each_time(interactions, tiny):
    again = load_interactions(tiny.data)
    first, second = split(interactions, tiny.data), split(again, tiny.data)
    assert first == second
    assert len(interactions.by_user) == tiny.data.max_users
    assert interactions.times.min() <= first.validation_from < first.test_from
    share = (interactions.times < first.test_from).mean()
    assert share == pytest.approx(tiny.data.test_quantile, abs=0.01)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [*lines[:60], lines[60][:-1] + "9", *lines[61:]],
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
        lambda lines: lines[:-1],
        lambda lines: [*lines[:10], lines[10].replace("0068646", "0111161"), *lines[11:]],
    ],
    ids=["a time", "order of a tie", "one event fewer", "a title"],
)
def test_split_hash_changes_with_any_one_event(folder, change):
    recipe = folder()
    before = split(load_interactions(recipe), recipe).sha256
    changed = change(RATINGS)
    assert changed != RATINGS
    after = split(load_interactions(folder(ratings=changed)), recipe).sha256
    assert after != before


@pytest.mark.parametrize("place", [0, 60, 119])
def test_split_hash_changes_with_one_rating(folder, place):
    recipe = folder()
    found = load_interactions(recipe)
    ratings = found.ratings.copy()
    ratings[place] = (ratings[place] + 1) % 11
    changed = replace(found, ratings=ratings)
    assert split(changed, recipe).sha256 != split(found, recipe).sha256


def test_split_hash_changes_with_the_cuts(folder):
    recipe = folder()
    found = load_interactions(recipe)
    moved = replace(recipe, test_quantile=0.85)
    assert split(found, moved).sha256 != split(found, recipe).sha256


events = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 4),
        st.integers(1, 10),
        st.integers(0, 20).map(lambda n: float(START + n * DAY / 2)),
    ),
    min_size=1,
    max_size=40,
)


def targets_by_hand(interactions, start, end):
    found = []
    for row in range(len(interactions.users)):
        user, item, at = (
            interactions.users[row],
            interactions.items[row],
            interactions.times[row],
        )
        history = [r for r in range(row) if interactions.users[r] == user]
        warm = any(
            interactions.items[r] == item and interactions.times[r] < start
            for r in range(len(interactions.users))
        )
        if start <= at < end and warm and history:
            found.append((int(user), int(item), history))
    return sorted(found)


@given(events, st.integers(0, 20), st.integers(0, 20))
def test_targets_are_every_warm_event_after_the_cut_with_a_history(made, rows, cut, length):
    interactions = made(rows, titles=5)
    start = START + cut * DAY / 2
    end = start + length * DAY / 2
    expected = targets_by_hand(interactions, start, end)
    if not expected:
        with pytest.raises(DataError, match="nothing to predict; move its quantiles"):
            targets(interactions, start, end)
        return
    found = targets(interactions, start, end)
    assert sorted((t.user, t.item, t.history.tolist()) for t in found) == expected


def test_targets_of_the_sample_are_what_the_table_counts(interactions, tiny):
    cut = split(interactions, tiny.data).test_from
    found = targets(interactions, cut, math.inf)
    warm = set(interactions.items[interactions.times < cut])
    for target in found:
        row = interactions.by_user[target.user][len(target.history)]
        assert interactions.times[row] >= cut
        assert interactions.items[row] == target.item
        assert target.item in warm
        assert (target.history < row).all()
        assert len(target.history)
    assert len(found) > 100


@given(events, st.integers(0, 20), st.data())
def test_popularity_never_looks_at_the_future(made, rows, cut, data):
    at = float(START + cut * DAY / 2)
    moved = [
        (user, data.draw(st.integers(0, 4)) if time >= at else item, rating, time)
        for user, item, rating, time in rows
    ]
    before, after = made(rows, titles=5), made(moved, titles=5)
    np.testing.assert_array_equal(before.popularity(at, 2.0), after.popularity(at, 2.0))
    np.testing.assert_array_equal(before.counts(at - 7 * DAY, at), after.counts(at - 7 * DAY, at))


@given(events, st.integers(1, 30))
def test_popularity_is_the_log_of_faded_counts(made, rows, half_life):
    interactions = made(rows, titles=5)
    at = START + 6 * DAY
    faded = np.zeros(5)
    for _, item, _, time in rows:
        if time < at:
            faded[item] += 0.5 ** ((at - time) / DAY / half_life)
    found = interactions.popularity(at, half_life)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.log1p(faded), rtol=1e-5)


@given(events, st.floats(0.5, 30))
def test_popularity_of_each_morning_counts_earlier_days_only(made, rows, half_life):
    interactions = made(rows, titles=5)
    day, popularity = interactions.daily_popularity(half_life)
    first = interactions.times.min()
    assert day.tolist() == [int((time - first) // DAY) for time in interactions.times]
    for d in range(len(popularity)):
        expected = np.zeros(5)
        for item, other in zip(interactions.items, day, strict=True):
            if other < d:
                expected[item] += 0.5 ** ((d - other) / half_life)
        np.testing.assert_allclose(popularity[d], np.log1p(expected), rtol=1e-4, atol=1e-6)


@given(events)
def test_gap_is_counted_within_each_users_own_history(made, rows):
    interactions = made(rows, titles=5)
    seen: dict[int, float] = {}
    for user, time, gap in zip(
        interactions.users, interactions.times, interactions.gaps, strict=True
    ):
        assert (gap == UNKNOWN_GAP) == (user not in seen)
        if user in seen and time == seen[user]:
            assert gap == 1
        seen[user] = time


def test_rating_of_the_last_century_has_a_gap_too(made):
    interactions = made([(0, 0, 5, 1000.0), (0, 1, 5, 1060.0)], titles=2)
    assert interactions.gaps.tolist() == [UNKNOWN_GAP, 1]
