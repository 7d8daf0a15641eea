from __future__ import annotations

import gzip

import numpy as np
import pytest

from couchside.compression.errors import DataError
from couchside.compression.study.ratings import (
    find_ratings,
    find_titles,
    read_genres,
    read_ratings,
)


def told(ratings):
    """Each user's titles, by the file's own names."""
    names = ratings.user_names
    sequences = ratings.sequences()
    return {n: ratings.item_ids[s].tolist() for n, s in zip(names, sequences, strict=True)}


def test_ratings_dat_is_ordered_by_time_and_then_by_the_file(write):
    path = write("ratings.dat", "7::30::5::20", "7::10::3::10", "9::10::3::5", "7::20::1::10")
    ratings = read_ratings(path)
    assert told(ratings) == {"7": [10, 20, 30], "9": [10]}
    assert ratings.times.tolist() == [5, 10, 10, 20]


@pytest.mark.parametrize(
    "header",
    ["userId,movieId,rating,timestamp", "user,imdb,rating,time"],
    ids=["movielens", "ours"],
)
def test_ratings_csv_is_read_packed_or_not(write, header):
    lines = (header, "a,2,4.0,100", "a,1,4.5,50")
    assert told(read_ratings(write("ratings.csv", *lines))) == {"a": [1, 2]}
    assert told(read_ratings(write("ratings.csv.gz", *lines))) == {"a": [1, 2]}


def test_sequences_have_an_order_and_no_clock(write):
    path = write("sequences.csv", "userId,pos,movieId", "2,1,5", "1,0,9", "2,0,9")
    ratings = read_ratings(path)
    assert told(ratings) == {"2": [9, 5], "1": [9]}
    assert ratings.times is None


def test_sequences_with_a_lost_row_are_refused_with_user_and_place(write):
    path = write("sequences.csv", "userId,pos,movieId", "a,0,5", "a,2,9")
    with pytest.raises(DataError, match="user a has no event at place 1"):
        read_ratings(path)


def test_a_pair_that_comes_twice_is_refused_with_both_lines(write):
    path = write("ratings.dat", "1::10::5::1", "1::20::5::2", "1::10::4::9")
    with pytest.raises(DataError, match="line 3: user 1 has title 10 in line 1 already"):
        read_ratings(path)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1::x::5::1", "line 2: invalid literal"),
        ("1::10::5", "line 2: 3 fields, must be 4"),
        ("1::10::5::nan", "POSIX seconds"),
        ("1::-10::5::1", "title's number"),
        ("::10::5::1", "needs a user"),
    ],
)
def test_a_malformed_row_is_named_by_line(write, line, says):
    with pytest.raises(DataError, match=says):
        read_ratings(write("ratings.dat", "1::11::5::1", line))


def test_another_header_is_refused_with_the_known_ones(write):
    with pytest.raises(DataError, match="userId,movieId,rating,timestamp"):
        read_ratings(write("ratings.csv", "who,what", "1,2"))


def test_a_truncated_gzip_says_to_download_it_again(tmp_path):
    text = "userId,pos,movieId\n" + "".join(f"u,{n},{n}\n" for n in range(5000))
    path = tmp_path / "sequences.csv.gz"
    path.write_bytes(gzip.compress(text.encode())[:-500])
    with pytest.raises(DataError, match=r"sequences\.csv\.gz.*download it again"):
        read_ratings(path)


def test_an_empty_file_and_a_catalogue_of_one_have_nothing_to_rank(write):
    with pytest.raises(DataError, match="no ratings in it"):
        read_ratings(write("ratings.dat"))
    with pytest.raises(DataError, match="only one title"):
        read_ratings(write("ratings.dat", "1::10::5::1", "2::10::5::1"))


def test_a_folder_means_the_rating_file_in_it(write, tmp_path):
    with pytest.raises(DataError, match=r"needs one of ratings\.dat"):
        find_ratings(str(tmp_path))
    path = write("ratings.csv.gz", "user,imdb,rating,time")
    assert find_ratings(str(tmp_path)) == path == find_ratings(str(path))
    assert find_titles(str(path)) is None


def test_the_sample_of_the_package_can_be_read():
    ratings = read_ratings(find_ratings("sample"))
    genres = read_genres(find_titles("sample"), ratings.item_ids)
    assert len(ratings.items) == 59175
    assert genres.shape[0] == len(ratings.item_ids)
    assert genres.any(axis=1).mean() > 0.9


def test_genres_of_movies_dat_and_csv_agree_and_unlisted_titles_have_none(write):
    dat = write("movies.dat", "1::One (1999)::Comedy|Drama", "2::Two::(no genres listed)")
    comma = write("movies.csv", "movieId,title,genres", '1,"One, or 1",Drama|Comedy', "2,Two,")
    ids = np.array([1, 2, 3])
    assert read_genres(dat, ids).tolist() == [[True, True], [False, False], [False, False]]
    assert read_genres(comma, ids).tolist() == read_genres(dat, ids).tolist()


def test_genres_of_another_data_set_are_refused(write):
    path = write("movies.dat", "1::One::Drama")
    with pytest.raises(DataError, match="of another data set"):
        read_genres(path, np.array([7, 8]))
    with pytest.raises(DataError, match="'x' is not a number"):
        read_genres(write("movies.dat", "x::One::Drama"), np.array([7]))
    with pytest.raises(DataError, match="needs columns"):
        read_genres(write("movies.csv", "id,genres"), np.array([7]))
