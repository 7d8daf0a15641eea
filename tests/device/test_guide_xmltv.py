from __future__ import annotations

import gzip
import os
import tracemalloc
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from couchside.device.errors import CatalogueError
from couchside.device.guide import xmltv_stream
from couchside.device.guide.ratings import age
from couchside.device.guide.xmltv import read_xmltv
from couchside.device.guide.xmltv_values import instant, season_and_episode
from couchside.device.records import TitleKind

if TYPE_CHECKING:
    from pathlib import Path

    from couchside.device.guide.problems import Problem
    from couchside.device.records import Title

CHANNEL = '<channel id="one.example"><display-name>One</display-name></channel>'
EVENING = datetime(2026, 8, 10, 19, 30, tzinfo=UTC).timestamp()

FILM = """
<programme start="20260810203000 +0100" stop="20260810223000 +0100" channel="one.example">
  <title lang="en-GB">The  Long
    Harbour</title>
  <sub-title>A fable</sub-title>
  <desc lang="en">A pilot comes home.</desc>
  <credits>
    <director>Ada Quill</director>
    <actor role="Pilot">Ben Marrow<image type="person">https://example.com/b.jpg</image></actor>
    <actor>ADA QUILL</actor>
  </credits>
  <date>19720324</date>
  <category lang="en">Drama</category><category>drama</category><category>Film</category>
  <icon src="javascript:alert(1)"/><icon src="https://example.com/harbour.jpg"/>
  <url>https://www.imdb.com/title/tt0123456/</url>
  <rating system="MPAA"><value>PG-13</value></rating>
  <rating system="BBFC"><value>15</value></rating>
</programme>
"""


def programme(
    start: str = "20260810193000 +0000",
    stop: str | None = "20260810200000 +0000",
    *,
    channel: str = "one.example",
    body: str = "<title>Quiet Water</title>",
    more: str = "",
) -> str:
    end = "" if stop is None else f' stop="{stop}"'
    return f'<programme start="{start}"{end} channel="{channel}"{more}>{body}</programme>\n'


def guide(*parts: str, head: str = '<?xml version="1.0" encoding="UTF-8"?>\n') -> bytes:
    return f"{head}<tv>{CHANNEL}\n{''.join(parts)}</tv>".encode()


def read(folder: Path, content: bytes) -> tuple[list[Title], list[Problem]]:
    path = folder / "guide.xml"
    path.write_bytes(content)
    problems: list[Problem] = []
    return list(read_xmltv(path, report=problems.append)), problems


def test_film_keeps_everything_it_says(tmp_path):
    (title,), problems = read(tmp_path, guide(FILM))
    assert not problems
    assert title.title_id == f"xmltv:one.example:{EVENING:.0f}"
    assert (title.kind, title.name) == (TitleKind.PROGRAMME, "The Long Harbour")
    assert title.synopsis == "A fable. A pilot comes home."
    assert title.genres == ("Drama", "Film")
    assert title.people == ("Ada Quill", "Ben Marrow")
    assert (title.year, title.language, title.maturity) == (1972, "en-GB", 15)
    assert (title.starts_at, title.ends_at) == (EVENING, EVENING + 7200)
    # A broadcast can't be chosen: that would take catch-up, of which a guide says nothing.
    assert (title.available_from, title.available_until) == (None, None)
    assert title.duration_s == 7200
    assert title.artwork == "https://example.com/harbour.jpg"
    assert title.external_ids == (("imdb", "tt0123456"),)
    assert title.series_id is None


def test_gzip_with_doctype_and_byte_order_mark_reads_the_same(tmp_path):
    head = '<?xml version="1.0"?><!DOCTYPE tv SYSTEM "xmltv.dtd">'
    plain = read(tmp_path, guide(FILM))
    packed = read(tmp_path, gzip.compress(b"\xef\xbb\xbf" + guide(FILM, head=head)))
    assert plain == packed


def test_encoding_of_windows_reads_accents(tmp_path):
    body = "<title>Žlutý kůň</title>"
    text = guide(programme(body=body), head='<?xml version="1.0" encoding="windows-1250"?>')
    (title,), problems = read(tmp_path, text.decode().encode("cp1250"))
    assert (title.name, problems) == ("Žlutý kůň", [])


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ('system="xmltv_ns">0.4.0/2<', (1, 5)),
        ('system="xmltv_ns"> 1 / 3 . 11/22 . <', (2, 12)),
        ('system="xmltv_ns">.7.<', (None, 8)),
        ('system="onscreen">S01E02<', (1, 2)),
        ('system="onscreen">S3 E4/10<', (3, 4)),
        ('system="onscreen">Season 2, Episode 9<', (2, 9)),
        ('system="onscreen">E14<', (None, 14)),
        ('system="dd_progid">EP01006886.0028<', (None, None)),
    ],
)
def test_episode_number_makes_an_episode_of_its_series(tmp_path, number, expected):
    body = f"<title>Orchard  Lane</title><episode-num {number}/episode-num>"
    (title,), problems = read(tmp_path, guide(programme(body=body)))
    assert not problems
    assert title.kind is TitleKind.EPISODE
    assert (title.season, title.episode) == expected
    assert title.series_id == "xmltv:series:orchard lane"


def test_two_notations_complete_each_other(tmp_path):
    body = (
        "<title>Orchard Lane</title><episode-num system='xmltv_ns'>.4.</episode-num>"
        "<episode-num system='onscreen'>S07E99</episode-num>"
    )
    (title,), _ = read(tmp_path, guide(programme(body=body)))
    assert (title.season, title.episode) == (7, 5)


def test_free_text_on_screen_is_no_episode_and_no_problem(tmp_path):
    body = "<title>Orchard Lane</title><episode-num system='onscreen'>Omnibus</episode-num>"
    (title,), problems = read(tmp_path, guide(programme(body=body)))
    assert (title.kind, title.episode, problems) == (TitleKind.PROGRAMME, None, [])


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (programme(start="2026-08-10 19:30"), "is not a time such as"),
        (programme(start="20260230193000 +0000"), "is not a time: day is out of range"),
        (programme(start="20260810193000 IST"), "time zone IST is not known"),
        (programme(start="20260810193000 +9900"), "no zone is +9900 from UTC"),
        (programme(start="20260810"), "is not a time such as"),
        (programme(start="19700101000000", stop="19700101003000"), "the sender's clock was off"),
        (programme(stop="20260810193000 +0000"), "stops before it starts"),
        (programme(stop="20260810190000 +0000"), "stops before it starts"),
        (programme(stop="20620810190000 +0000"), "lasts more than 7 days"),
        (programme(channel="two.example"), "channel two.example is not declared"),
        (programme(body="<desc>?</desc>"), "has no title"),
        (programme(body="<title> \n </title>"), "has no title"),
        (programme(more=' clumpidx="x"'), "clumpidx x is not of the form"),
        (programme(body=f"<title>{'x' * 70_000}</title>"), "is longer than 65536 characters"),
        (programme(body="<title>a</title>" + "<b/>" * 5000), "is longer than 65536 characters"),
        ('<programme channel="one.example"><title>x</title></programme>', "has no start"),
    ],
)
def test_broken_programme_is_reported_with_its_place_and_the_others_count(tmp_path, bad, what):
    good = programme("20260811100000", "20260811110000")
    titles, problems = read(tmp_path, guide(FILM, "\n", bad, good))
    assert [title.name for title in titles] == ["The Long Harbour", "Quiet Water"]
    assert len(problems) == 1
    assert what in problems[0].what
    assert problems[0].where.startswith(f"line {FILM.count(chr(10)) + 4}, programme on ")
    assert problems[0].remedy
    assert not problems[0].truncated


@pytest.mark.parametrize(
    ("detail", "field"),
    [
        ('<rating system="FSK"><value>ab heute</value></rating>', "maturity"),
        ("<date>last year</date>", "year"),
        ('<episode-num system="xmltv_ns">one.two</episode-num>', "episode"),
    ],
)
def test_wrong_detail_is_dropped_reported_once_and_the_programmes_count(tmp_path, detail, field):
    body = f"<title>Quiet Water</title>{detail}"
    later = programme("20260811100000", "20260811110000", body=body)
    titles, problems = read(tmp_path, guide(programme(body=body), later))
    assert len(titles) == 2
    assert [getattr(title, field) for title in titles] == [None, None]
    assert len(problems) == 1
    assert "without this detail" in problems[0].remedy


def test_rating_strictest_known_age_wins_over_an_unknown_one(tmp_path):
    body = (
        "<title>Quiet Water</title><rating system='X'><value>????</value></rating>"
        "<rating><value>12</value></rating><rating system='VCHIP'><value>TV-PG</value></rating>"
    )
    (title,), problems = read(tmp_path, guide(programme(body=body)))
    assert title.maturity == 12
    assert "'????'" in problems[0].what


@pytest.mark.parametrize(
    ("system", "value", "expected"),
    [
        ("MPAA", "R", 17), ("mpaa", "nc-17", 18), ("", "TV-Y7", 7), ("VCHIP", "TV-MA", 17),
        ("FSK", "FSK 12", 12), ("FSK", "ab 16", 16), ("BBFC", "12A", 12), ("BBFC", "PG", 8),
        ("BBFC", "U", 0), ("DVB", "15", 15), ("CSA", "-10", 10), ("CZ", "+12", 12),
        ("SR", "16+", 16), ("", "VM14", 14), ("ACB", "MA 15+", 15), ("advisory", "violence", None),
        ("", "Not Rated", None),
    ],
)  # fmt: skip
def test_rating_of_a_country_is_an_age(system, value, expected):
    assert age(system, value) == expected


@pytest.mark.parametrize("value", ["99", "sixteen", "-", "1972", "Day 5"])
def test_rating_that_names_no_age_is_refused_rather_than_guessed(value):
    with pytest.raises(ValueError, match="names no known age"):
        age("FSK", value)


@pytest.mark.parametrize(
    "text",
    [
        "20260810193000", "202608101930", "20260810193000 UTC", "20260810193000Z",
        "20260810203000 +0100", "20260810203000+01:00", "20260810203000 bst",
        "20260810153000 EDT", "20260810143000 -0500",
    ],
)  # fmt: skip
def test_time_means_the_same_instant_in_every_notation(text):
    assert instant(text) == EVENING


def test_time_to_the_hour_begins_the_hour():
    assert instant("2026081019") == EVENING - 1800


@given(
    moment=st.datetimes(min_value=datetime(1990, 1, 2), max_value=datetime(2200, 1, 1)),  # noqa: DTZ001
    minutes=st.integers(-14 * 60, 14 * 60),
)
def test_time_any_offset_round_trips(moment, minutes):
    sign = "-" if minutes < 0 else "+"
    hours, rest = divmod(abs(minutes), 60)
    seconds = instant(f"{moment:%Y%m%d%H%M%S} {sign}{hours:02}{rest:02}")
    assert seconds == int(moment.replace(tzinfo=UTC).timestamp()) - 60 * minutes


@given(season=st.integers(1, 999), episode=st.integers(1, 9999))
def test_episode_number_is_the_same_from_both_notations(season, episode):
    assert season_and_episode("xmltv_ns", f"{season - 1}.{episode - 1}.") == (season, episode)
    assert season_and_episode("onscreen", f"S{season:02}E{episode:02}") == (season, episode)


def test_programme_without_stop_ends_when_the_next_on_its_channel_starts(tmp_path):
    other = '<channel id="two.example"/>'
    titles, problems = read(
        tmp_path,
        guide(
            other,
            programme("202608101900", None),
            programme("202608101905", "202608101910", channel="two.example"),
            programme("202608101930", None, body="<title>Late News</title>"),
        ),
    )
    assert [title.channel_id for title in titles] == ["two.example", "one.example"]
    assert titles[1].duration_s == 1800
    assert "no later programme follows" in problems[0].what
    assert "202608101930" in problems[0].where


def test_programmes_that_share_a_slot_keep_their_own_identifiers(tmp_path):
    titles, _ = read(
        tmp_path, guide(programme(more=' clumpidx="0/2"'), programme(more=' clumpidx="1/2"'))
    )
    assert len({title.title_id for title in titles}) == 2


def test_identifiers_are_the_same_from_an_older_guide(tmp_path):
    (newer,), _ = read(tmp_path, guide(programme(body="<title>Changed plans</title>")))
    (older,), _ = read(tmp_path, guide(programme(start="20260810213000 +0200")))
    assert newer.title_id == older.title_id


def test_file_cut_off_keeps_the_programmes_before_and_says_where(tmp_path):
    whole = guide(FILM, programme())
    titles, problems = read(tmp_path, whole[: whole.index(b"Quiet")])
    assert [title.name for title in titles] == ["The Long Harbour"]
    assert [problem.truncated for problem in problems] == [True]
    assert problems[0].where == f"file, line {FILM.count(chr(10)) + 3}, column {_column(whole)}"


def _column(whole: bytes) -> int:
    line = whole[: whole.index(b"Quiet")].rpartition(b"\n")[2]
    return len(line) + 1


def test_gzip_cut_off_keeps_the_programmes_before(tmp_path):
    many = "".join(programme(f"202608{day:02}1930", f"202608{day:02}20") for day in range(1, 29))
    packed = gzip.compress(guide(many * 100))
    titles, problems = read(tmp_path, packed[: len(packed) // 2])
    assert titles
    assert problems[-1].truncated
    assert "damaged" in problems[-1].what


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "no element found"),
        (b"<html><body>503 Service Unavailable</body></html>", "<html>, not <tv>"),
        (b"\x89PNG\r\n\x1a\n\0\0", "not well-formed"),
        (b'<?xml version="1.0" encoding="no-such"?><tv/>', "encoding"),
    ],
)
def test_file_that_is_no_guide_is_refused(tmp_path, content, what):
    with pytest.raises(CatalogueError, match=what):
        read(tmp_path, content)


def test_missing_file_folder_and_pipe_are_refused_without_blocking(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, what in (
        (tmp_path / "none.xml", "does not exist"),
        (tmp_path, "is not a regular file"),
        (pipe, "is not a regular file"),
    ):
        with pytest.raises(CatalogueError, match=what):
            next(read_xmltv(path, report=pytest.fail))


LAUGHS = "".join(f'<!ENTITY lol{n} "{f"&lol{n - 1};" * 10 if n else "lol"}">' for n in range(10))


@pytest.mark.parametrize(
    "subset",
    [
        LAUGHS,
        '<!ENTITY secret SYSTEM "file:///etc/passwd">',
        '<!ENTITY % remote SYSTEM "http://127.0.0.1:9/x.dtd"> %remote;',
        f'<!ATTLIST programme padding CDATA "{"x" * 10_000}">',
    ],
    ids=["billion laughs", "external entity", "parameter entity", "default attributes"],
)
def test_document_type_with_declarations_is_refused_before_it_can_act(tmp_path, subset):
    body = "<title>&lol9;&secret;</title>"
    with pytest.raises(CatalogueError, match="declares entities"):
        read(tmp_path, guide(programme(body=body), head=f"<!DOCTYPE tv [{subset}]>"))


def test_entity_that_nobody_defined_is_not_silently_dropped(tmp_path):
    head = '<!DOCTYPE tv SYSTEM "xmltv.dtd">'
    bad = programme(body="<title>Caf&eacute;</title>")
    titles, problems = read(tmp_path, guide(bad, FILM, head=head))
    assert [title.name for title in titles] == ["The Long Harbour"]
    assert "&eacute;" in problems[0].what


@pytest.mark.parametrize(
    ("attack", "what"),
    [
        ("<a>" * 1_000_000, "nested more than 16 deep"),
        ("".join(f"<a{n}/>" for n in range(2000)), "1000 different names"),
        ("<!--" + "x" * 3_000_000 + "-->", "a tag or comment is longer"),
        ("<a b='" + "x" * 3_000_000 + "'/>", "a tag or comment is longer"),
    ],
    ids=["depth", "names", "comment", "attribute"],
)
def test_hostile_size_ends_reading_with_one_problem(tmp_path, attack, what):
    titles, problems = read(tmp_path, guide(FILM + " " * 70_000, attack))
    assert [title.name for title in titles] == ["The Long Harbour"]
    assert len(problems) == 1
    assert what in problems[0].what
    assert problems[0].truncated


def test_gzip_bomb_ends_at_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(xmltv_stream, "FILE_BYTES", 4_000_000)
    packed = gzip.compress(guide(FILM, "<!-- -->" * 1_000_000))
    titles, problems = read(tmp_path, packed)
    assert len(titles) == 1
    assert "holds more than 4000000 bytes" in problems[0].what


def test_long_guide_needs_no_more_memory_than_a_short_one(tmp_path):
    def peak(days: int) -> int:
        path = tmp_path / "guide.xml"
        path.write_bytes(guide(FILM * 100 * days))
        tracemalloc.start()
        for _ in read_xmltv(path, report=pytest.fail):
            pass
        _, high = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return high

    peak(1)  # imports and caches
    assert peak(20) < peak(2) + 200_000


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.binary(max_size=6), at=st.integers(0, 2000), cut=st.integers(0, 40))
@example(damage=b"\xff\xfe", at=0, cut=0)
def test_any_damage_ends_in_titles_and_problems_or_one_clear_error(tmp_path, damage, at, cut):
    whole = guide(FILM, programme("202608110600", "202608110700"))
    try:
        titles, problems = read(tmp_path, whole[:at] + damage + whole[at + cut :])
    except CatalogueError as error:
        assert "guide.xml" in str(error)  # noqa: PT017
    else:
        assert len(titles) <= 3
        assert all(title.name and title.ends_at > title.starts_at for title in titles)
        assert all(problem.where and problem.remedy for problem in problems)
