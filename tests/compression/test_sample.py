from __future__ import annotations

import csv
import gzip
import subprocess
import sys
from collections import Counter
from importlib import resources
from pathlib import Path

import pytest

from couchside.compression.data import sample_files

SCRIPT = Path(str(resources.files("couchside.compression") / "sample" / "make_sample.py"))

FILMS = [
    ("0111161", "The Shawshank Redemption (1994)", "Crime|Drama"),
    ("0068646", "The Godfather (1972)", "Crime|Drama"),
    ("5074352", "Dangal (2016)", ""),
    ("0000001", "A film without its year", "Short"),
]
# user, film, rating, time: user 70 is rare; users 9 and 8 tie at 100 in this order
RATINGS = [
    ("9", "0111161", "9", "100"),
    ("8", "0068646", "7", "100"),
    ("9", "0068646", "10", "90"),
    ("8", "5074352", "6", "120"),
    ("70", "5074352", "6", "50"),
    ("9", "0000001", "3", "130"),
]


def write_dat(folder: Path) -> tuple[Path, Path]:
    ratings, films = folder / "ratings.dat", folder / "movies.dat"
    ratings.write_text("".join("::".join(row) + "\n" for row in RATINGS))
    films.write_text("".join("::".join(row) + "\n" for row in FILMS))
    return ratings, films


def write_csv(folder: Path, *, packed: bool) -> tuple[Path, Path]:
    tables = {
        "ratings": (["user", "imdbId", "rating", "timestamp"], RATINGS),
        "movies": (["imdbId", "title", "genres"], FILMS),
    }
    paths = []
    for name, (header, rows) in tables.items():
        path = folder / (f"{name}.csv.gz" if packed else f"{name}.csv")
        with (gzip.open if packed else open)(path, "wt", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([header, *rows])
        paths.append(path)
    return paths[0], paths[1]


def make_sample(ratings: Path, films: Path, out: Path, least: int) -> tuple[bytes, bytes, str]:
    out.mkdir()
    command = [sys.executable, str(SCRIPT), str(ratings), str(films), "--out", str(out)]
    command += ["--min-ratings", str(least)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    files = (out / "ratings.csv.gz").read_bytes(), (out / "titles.csv.gz").read_bytes()
    return *files, done.stdout


def lines(packed: bytes) -> list[str]:
    return gzip.decompress(packed).decode().splitlines()


def test_sample_is_sorted_renumbered_and_without_rare_users(tmp_path):
    ratings, titles, said = make_sample(*write_dat(tmp_path), tmp_path / "out", 2)
    assert lines(ratings) == [
        "user,imdb,rating,time",
        "0,0068646,10,90",
        "0,0111161,9,100",
        "1,0068646,7,100",
        "1,5074352,6,120",
    ]
    assert lines(titles) == [
        "imdb,name,year,genres",
        "0068646,The Godfather,1972,Crime|Drama",
        "0111161,The Shawshank Redemption,1994,Crime|Drama",
        "5074352,Dangal,2016,",
    ]
    assert said == "4 ratings, 2 users, 3 films\n"


def test_sample_is_the_same_bytes_from_dat_csv_and_again(tmp_path):
    first = make_sample(*write_dat(tmp_path), tmp_path / "1", 2)
    assert [part[4:8] for part in first[:2]] == [bytes(4)] * 2  # gzip's time of making
    assert make_sample(*write_dat(tmp_path), tmp_path / "2", 2) == first
    assert make_sample(*write_csv(tmp_path, packed=False), tmp_path / "3", 2) == first
    assert make_sample(*write_csv(tmp_path, packed=True), tmp_path / "4", 2) == first


@pytest.fixture(scope="module")
def shipped() -> tuple[list[list[str]], list[list[str]]]:
    tables = []
    for path in sample_files():
        with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
            tables.append(list(csv.reader(stream)))
    return tables[0], tables[1]


def test_shipped_sample_is_small_and_carries_its_licence():
    folder = sample_files()[0].parent
    assert sum(path.stat().st_size for path in sample_files()) <= 1_000_000
    licence = (folder / "LICENSE-MovieTweetings").read_text()
    assert "MIT" in licence
    assert "Dooms" in licence


def test_shipped_sample_holds_numbered_users_and_known_films_only(shipped):
    ratings, titles = shipped
    users = [int(user) for user, *_ in ratings[1:]]
    first_seen = list(dict.fromkeys(users))
    assert first_seen == list(range(len(first_seen)))  # no number of another service
    known = {imdb for imdb, *_ in titles[1:]}
    assert {imdb for _, imdb, *_ in ratings[1:]} == known
    times = [int(time) for *_, time in ratings[1:]]
    assert times == sorted(times)
    assert min(Counter(users).values()) >= 4


def test_shipped_sample_is_what_its_script_makes(shipped, tmp_path):
    ratings, titles = shipped
    films = [(imdb, f"{name} ({year})", genres) for imdb, name, year, genres in titles[1:]]
    tables = {
        "ratings.csv": [["user", "imdbId", "rating", "timestamp"], *ratings[1:]],
        "movies.csv": [["imdbId", "title", "genres"], *films],
    }
    for name, rows in tables.items():
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(rows)
    again = make_sample(tmp_path / "ratings.csv", tmp_path / "movies.csv", tmp_path / "out", 1)
    # Unpacked: another zlib may pack the same rows into other bytes.
    assert [gzip.decompress(part) for part in again[:2]] == [
        gzip.decompress(path.read_bytes()) for path in sample_files()
    ]
