from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from couchside.device.errors import CatalogueError
from couchside.device.guide.jsonl import LINE_BYTES, read_jsonl, write_jsonl
from couchside.device.records import Title, TitleKind

if TYPE_CHECKING:
    from pathlib import Path

    from couchside.device.guide.problems import Problem

GOOD = b'{"title_id":"m1","kind":"movie","name":"The Long Harbour"}'


def read(folder: Path, content: bytes) -> tuple[list[Title], list[Problem]]:
    path = folder / "films.jsonl"
    path.write_bytes(content)
    problems: list[Problem] = []
    return list(read_jsonl(path, report=problems.append)), problems


def line(**fields: object) -> bytes:
    return json.dumps({**json.loads(GOOD), "title_id": "m2", **fields}).encode()


def test_title_with_every_field_is_read_as_written(tmp_path):
    title = Title(
        title_id="m1",
        kind=TitleKind.EPISODE,
        name="Kůň",
        series_id="s",
        season=0,
        episode=3,
        synopsis="A\nhorse.",
        genres=("Drama",),
        people=("Ada Quill",),
        language="cs",
        year=1999,
        duration_s=61.5,
        maturity=0,
        channel_id="one",
        starts_at=1.0,
        ends_at=2.0,
        available_from=1.0,
        available_until=3.5,
        artwork="https://example.com/a.jpg",
        deep_link="app://m1",
        external_ids=(("imdb", "tt0123456"), ("eidr", "10.5240/X")),
    )
    (text,) = write_jsonl([title])
    assert json.loads(text)["external_ids"] == {"imdb": "tt0123456", "eidr": "10.5240/X"}
    assert read(tmp_path, text.encode()) == ([title], [])


def test_fields_at_their_default_are_not_written():
    (text,) = write_jsonl([Title("m1", TitleKind.MOVIE, "The Long Harbour")])
    assert text.encode() == GOOD + b"\n"


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (b"{", "not JSON"),
        (b"[]", "must be an object, not a list"),
        (b"[" * 60_000, "not JSON"),
        (b'{"kind":"movie","name":"x"}', "title_id: is missing"),
        (line(colour="red"), "colour: is not a field"),
        (line(kind="film"), "kind: must be one of movie, series"),
        (line(name=7), "name: must be a string, not a whole number"),
        (line(name="  "), "name: must not be empty"),
        (line(title_id=""), "title_id: must be 1 to 256 printable characters"),
        (line(title_id="a\u0000b"), "title_id: must be 1 to 256 printable characters"),
        (line(genres="Drama"), "genres: must be a list"),
        (line(genres=["Drama", None]), "genres[1]: must be a string, not null"),
        (line(year="1999"), "year: must be a whole number, not a string"),
        (line(year=True), "year: must be a whole number"),
        (line(year=10**30), "year: must be between 1850 and 2200"),
        (line(maturity=-1), "maturity: must be between 0 and 21"),
        (line(duration_s=float("nan")), "NaN is not a JSON number"),
        (line(duration_s=0).replace(b": 0}", b": 1e999}"), "duration_s: must be a finite number"),
        (line(duration_s=10**400), "duration_s: is too large for a number"),
        (line(starts_at=20, ends_at=20), "ends_at: must be later than its start"),
        (line(available_from=2, available_until=1), "available_until: must be later"),
        (line(external_ids=[["imdb", "tt1"]]), "external_ids: must be an object"),
        (line(external_ids={"imdb": 1}), "external_ids.imdb: must be a string"),
        (line(title_id="m1"), "title_id: 'm1' stands on an earlier line"),
        (b'{"title_id":"a","title_id":"b","kind":"movie","name":"x"}', "title_id: appears twice"),
        (line(name="x" * LINE_BYTES), f"is longer than {LINE_BYTES} bytes"),
        (line(name="caf\u00e9").replace(rb"\u00e9", b"\xe9"), "is not UTF-8"),
        (line(name="\ud83d"), "holds half a character"),
    ],
)
def test_bad_line_is_reported_with_number_and_field_and_the_others_count(tmp_path, bad, what):
    titles, problems = read(tmp_path, GOOD + b"\n\n" + bad + b"\n" + line(title_id="m3"))
    assert [title.title_id for title in titles] == ["m1", "m3"]
    assert len(problems) == 1
    assert problems[0].where == "line 3"
    assert what in problems[0].what
    assert "the other lines count" in problems[0].remedy


def test_overlong_line_costs_no_memory_and_keeps_the_count_of_lines(tmp_path):
    content = b"x" * (5 * LINE_BYTES) + b"\n" + b"y" * LINE_BYTES + b"\n" + GOOD + b"\n{"
    titles, problems = read(tmp_path, content)
    assert [title.title_id for title in titles] == ["m1"]
    assert [problem.where for problem in problems] == ["line 1", "line 2", "line 4"]


def test_line_of_exactly_the_longest_length_counts(tmp_path):
    padding = LINE_BYTES - len(GOOD) - len(b',"synopsis":""')
    longest = GOOD[:-1] + b',"synopsis":"' + b"x" * padding + b'"}'
    assert len(longest) == LINE_BYTES
    titles, problems = read(tmp_path, longest + b"\n")
    assert (len(titles), problems) == (1, [])


def test_gzip_with_byte_order_mark_and_windows_line_ends_reads_the_same(tmp_path):
    content = b"\xef\xbb\xbf" + GOOD + b"\r\n" + line() + b"\r\n"
    titles, problems = read(tmp_path, gzip.compress(content))
    assert ([title.title_id for title in titles], problems) == (["m1", "m2"], [])


def test_damaged_gzip_keeps_the_lines_before_and_says_so(tmp_path):
    lines = b"\n".join(line(title_id=f"m{n}", year=1900 + n % 100) for n in range(20_000))
    packed = gzip.compress(lines)
    titles, problems = read(tmp_path, packed[: len(packed) // 2])
    assert 0 < len(titles) < 20_000
    assert problems[-1].truncated
    assert problems[-1].where.startswith("file, after line ")


def test_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(CatalogueError, match=r"films\.jsonl does not exist"):
        list(read_jsonl(tmp_path / "films.jsonl", report=pytest.fail))


@pytest.mark.parametrize(
    "title",
    [
        Title("m1", TitleKind.MOVIE, "x", duration_s=float("nan")),
        Title("m1", TitleKind.MOVIE, ""),
        Title("m1", TitleKind.MOVIE, "x", external_ids=(("imdb", "tt1"), ("imdb", "tt2"))),
        Title("m1", TitleKind.MOVIE, "\ud83d"),
        Title("m1", TitleKind.MOVIE, "x", synopsis="x" * LINE_BYTES),
    ],
    ids=["nan", "no name", "scheme twice", "half a character", "too long"],
)
def test_title_that_could_not_be_read_back_is_not_written(title):
    with pytest.raises(ValueError):
        list(write_jsonl([title]))


TEXT = st.text(max_size=40)
PRINTABLE = st.text(min_size=1, max_size=40).filter(str.isprintable)


@st.composite
def titles(draw: st.DrawFn) -> Title:
    start = draw(st.none() | st.floats(0, 2**31))
    return Title(
        title_id=draw(PRINTABLE),
        kind=draw(st.sampled_from(TitleKind)),
        name=draw(TEXT.filter(str.strip)),
        series_id=draw(st.none() | TEXT),
        season=draw(st.none() | st.integers(0, 100_000)),
        synopsis=draw(TEXT),
        genres=tuple(draw(st.lists(TEXT, max_size=4))),
        people=tuple(draw(st.lists(TEXT, max_size=4))),
        year=draw(st.none() | st.integers(1850, 2200)),
        duration_s=draw(st.none() | st.floats(0, 1e6)),
        maturity=draw(st.none() | st.integers(0, 21)),
        starts_at=start,
        ends_at=None if start is None else start + draw(st.floats(1, 1e5)),
        deep_link=draw(st.none() | TEXT),
        external_ids=tuple(draw(st.dictionaries(TEXT, TEXT, max_size=3)).items()),
    )


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(written=st.lists(titles(), max_size=5, unique_by=lambda title: title.title_id))
def test_any_catalogue_round_trips(tmp_path, written):
    content = "".join(write_jsonl(written)).encode()
    assert read(tmp_path, content) == (written, [])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(max_size=200))
def test_any_bytes_give_titles_or_problems_and_spare_the_last_line(tmp_path, noise):
    found, problems = read(tmp_path, noise.removeprefix(b"\x1f\x8b") + b"\n" + GOOD)
    assert found[-1].title_id == "m1"
    assert len(found) == 1 or not problems
