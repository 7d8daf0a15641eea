from __future__ import annotations

import re
import shutil
import struct
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.demo_report import NOW, film, sample_report

from couchside.benchmarks.page import posters, terminal, words
from couchside.benchmarks.page.charts import axis
from couchside.benchmarks.page.posters import contrast, poster
from couchside.benchmarks.page.render import render
from couchside.benchmarks.page.report import ShownRow, ShownShelf
from couchside.device.quality import Interval
from couchside.device.records import ReasonCode, RowCode

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
VOID = {"meta", "link", "br", "img", "input", "hr"}
ATTACK = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'
FOLDER = Path(posters.__file__).parent


class Page(HTMLParser):
    """The page as a browser would take it apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.rows: list[int] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif found.get("class") == "cards":
            self.rows.append(0)
        elif found.get("class", "").startswith("card"):
            self.rows[-1] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data.strip()

    def attributes(self, name: str) -> list[str]:
        return [found[name] for _, found in self.tags if name in found]


@pytest.fixture(scope="module")
def text() -> str:
    return render(sample_report())


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_page_names_no_address_outside_itself(text: str, page: Page) -> None:
    assert not re.search(r"https?:|url\(|@import|//\w", text)
    assert not page.attributes("src")
    assert all(href.startswith(("#", "data:,")) for href in page.attributes("href"))
    assert not [tag for tag, _ in page.tags if tag in ("script", "iframe", "img", "object")]


def test_page_closes_every_tag_and_every_reference_leads_somewhere(page: Page) -> None:
    ids = page.attributes("id")
    assert page.open == []
    assert len(ids) == len(set(ids))
    targets = [href[1:] for href in page.attributes("href") if href.startswith("#")]
    targets += page.attributes("for") + page.attributes("aria-labelledby")
    assert set(targets) <= set(ids)


def test_headings_of_the_page_skip_no_level(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_titles_viewers_and_channels_are_escaped_whatever_they_are() -> None:
    report = sample_report()
    attacked = replace(film(0, ReasonCode.WATCHED, (ATTACK,)), name=ATTACK, genres=(ATTACK,))
    live = replace(report.before.rows[0].cards[0], name=ATTACK, channel=ATTACK, episode=ATTACK)
    shelf = ShownShelf(
        ATTACK,
        NOW,
        (
            ShownRow(RowCode.FOR_YOU, (attacked,)),
            ShownRow(RowCode.LIVE_NOW, (live,)),
            ShownRow(RowCode.BECAUSE_YOU_WATCHED, (attacked,), seed=ATTACK),
        ),
        note=ATTACK,
    )
    report = replace(
        report,
        after=(shelf,),
        scenes=tuple(
            replace(scene, viewer=ATTACK, name=ATTACK, channel=ATTACK) for scene in report.scenes
        ),
        delivery=replace(
            report.delivery,
            broker=ATTACK,
            refusals=tuple(
                replace(one, attack=ATTACK, words=ATTACK) for one in report.delivery.refusals
            ),
        ),
        whys=tuple(replace(why, viewer=ATTACK, card=attacked) for why in report.whys),
        facts=((ATTACK, ATTACK),),
    )
    hostile = Page(render(report))
    assert not [tag for tag, _ in hostile.tags if tag in ("script", "img")]
    assert not hostile.attributes("onerror")
    assert hostile.open == []
    assert hostile.text.count(ATTACK) > 20


def test_row_without_cards_is_not_drawn(page: Page) -> None:
    report = sample_report()
    empty = ShownShelf("Nobody", NOW, (ShownRow(RowCode.NEW, ()),), note="")
    assert min(page.rows) > 0
    assert Page(render(replace(report, before=empty, after=()))).rows == []


def test_shelf_shows_every_card_in_its_row_with_its_reason(page: Page) -> None:
    report = sample_report()
    shelves = (report.before, *report.after)
    assert page.rows == [len(row.cards) for shelf in shelves for row in shelf.rows]
    assert "Because you watched Gravity" in page.text
    assert "Because of Gravity and About Time" in page.text
    assert "Touchline, until 17:30" in page.text
    assert "48 % watched" in page.attributes("aria-label")


def test_tables_carry_the_numbers_of_the_report(page: Page) -> None:
    sizes, qualities, promises, latencies, _, learners, parts = page.tables
    report = sample_report()
    assert [row[0] for row in sizes[1:]] == [size.name for size in report.sizes]
    assert sizes[4][2:] == [
        "260 kB", "191 kB", "801 kB", "1,252,332 B", "10.9×", "5.4 MB",
    ]  # fmt: skip
    assert sizes[1][-1] == "–"
    assert qualities[6][2:] == [
        "0.0984", "0.2343", "+21.3 % [+7.9, +33.8]", "+0.13 % [−0.20, +0.46]",
    ]  # fmt: skip
    assert [row[1] for row in promises[1:]] == ["61.2 MB", "33.2 MB", "4.56 ms"]
    assert [row[3] for row in promises[1:]] == ["pass", "miss", "pass"]
    assert latencies[1][1:] == ["1,000", "2.31", "4.56", "9.87"]
    assert latencies[2][1:] == ["61", "1.23", "–", "8.76"]
    assert learners[1] == [
        "TV 1", "51", "71.3 MB, then none", "5.22", "Gravity", "Argo, Ted",
    ]  # fmt: skip
    assert parts[1] == ["compress", "2 min 13 s"]


def test_page_tells_of_every_release_on_every_tv_and_of_every_refusal(page: Page) -> None:
    arrivals = page.tables[4]
    assert arrivals[1] == ["TV 1", "nothing → 1", "4.7 s", "2,140,001 B", "1,848 B", "42", "0"]
    assert arrivals[6] == ["TV 3", "version 1 → 2", "4.9 s", "7,799 B", "1,848 B", "2", "40"]
    assert len(arrivals) == 7
    told = page.text.split("How the Bundle arrived")[-1]
    for one in ("mosquitto, MQTT 5", "42 blocks", "5.4 MB on a TV are 2.1 MB", "Signed (TUF)"):
        assert one in told
    assert "RollbackError: New timestamp <2>" in told
    assert "3 TVs refused within 1.2 s; every shelf still came from version 2, in 1.8 ms" in told


def test_page_without_a_delivery_claims_none() -> None:
    report = sample_report()
    nothing = replace(report.delivery, releases=(), refusals=())
    told = Page(render(replace(report, delivery=nothing))).text
    assert "Signed (TUF)" not in told
    assert "owned the broker" not in told


def test_terminal_tells_the_same_of_the_delivery() -> None:
    delivery = sample_report().delivery
    told = terminal.release(delivery.releases[1])
    assert "version 2: 5.4 MB on a TV, 2.1 MB in 42 blocks on the wire, head 891 B" in told
    assert re.search(r"TV 3  version 1 → 2 .*7,799 B in +1,848 B out +2 blocks fetched, +40", told)
    refused = terminal.refusal(delivery.refusals[1])
    assert f"block {'0b' * 32}" in " ".join(refused.split())
    assert "each still answers rows from version 2, in 1.8 ms at most" in refused


@pytest.mark.parametrize(
    ("gain", "heading"),
    [
        (Interval(0.01, 0.1, 0.2), "Better than what everybody watches"),
        (Interval(-0.1, 0.1, 0.2), "Beside what everybody watches"),
        (Interval(-0.3, -0.2, -0.1), "Worse than what everybody watches"),
    ],
)
def test_heading_of_quality_says_what_the_interval_allows(gain: Interval, heading: str) -> None:
    report = sample_report()
    qualities = tuple(replace(line, over_popularity=gain) for line in report.qualities)
    assert heading in Page(render(replace(report, qualities=qualities))).text


def test_page_says_nothing_left_only_if_no_other_socket_was_seen(page: Page) -> None:
    report = sample_report()
    leaky = replace(report, sockets=replace(report.sockets, internet=3))
    assert "Nothing" in page.text
    assert "Nothing" not in Page(render(leaky)).text.split("What left the TV")[-1]


def test_terminal_shows_the_same_figures() -> None:
    report = sample_report()
    told = terminal.figures(report)
    for number in ("1,252,332", "10.9×", "0.0984", "+21.3 % [+7.9, +33.8]", "61.2 MB", "4.56"):
        assert number in told
    shelf = terminal.shelf(report.after[0], report.utc_offset_h, cards=2)
    assert "Her (2013)" in shelf
    assert "Touchline, until 17:30" in shelf


@given(st.text(max_size=90), st.lists(st.sampled_from([*posters.LOOKS, "Kids", "Odd"])))
def test_poster_of_any_title_has_a_motif_a_face_and_letters_that_fit(
    name: str, genres: list[str]
) -> None:
    motifs = re.findall(r'id="m-(\w+)"', (FOLDER / "motifs.svg").read_text())
    faces = re.findall(r"\.face-(\w+)", (FOLDER / "style.css").read_text())
    found = poster(name, genres)
    assert found.motif in motifs
    assert found.face in faces
    assert posters.SMALLEST <= found.size <= 17.0
    assert poster(name, genres) == found


def test_poster_follows_the_most_telling_genre() -> None:
    assert poster("A", ("Drama", "Horror")).genre == "Horror"
    assert poster("A", ("Polka",)).genre == "Polka"
    assert poster("A", ()).genre == ""


@pytest.mark.parametrize("genre", [*posters.LOOKS, "unknown"])
def test_text_on_posters_can_be_read(genre: str) -> None:
    for top, bottom, ink in posters.LOOKS.get(genre, posters.PLAIN).palettes:
        assert min(contrast(posters.TEXT, top), contrast(posters.TEXT, bottom)) >= 4.5
        assert contrast(ink, bottom) >= 7.0
        assert contrast(ink, top) >= 3.0


@given(st.lists(st.floats(-1e7, 1e7), min_size=1))
def test_axis_shows_every_value_and_zero_between_round_ticks(values: list[float]) -> None:
    plot = axis(values)
    assert plot.low <= min(0.0, *values)
    assert plot.high >= max(0.0, *values)
    assert 2 <= len(plot.ticks) <= 8
    assert 0.0 in plot.ticks
    assert all(0.0 <= plot.at(value) <= 100.0 for value in values)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.04, "0.0 s"),
        (9.9, "9.9 s"),
        (48, "48 s"),
        (59.7, "1 min"),
        (133.3, "2 min 13 s"),
        (120, "2 min"),
        (3600, "1 h"),
        (6000, "1 h 40 min"),
    ],
)
def test_span_in_words(seconds: float, told: str) -> None:
    assert words.span(seconds) == told


def test_names_in_a_sentence() -> None:
    assert words.joined([]) == ""
    assert words.joined(["A"]) == "A"
    assert words.joined(["A", "B", "C"]) == "A, B and C"


def test_sentence_of_every_reason_names_the_card() -> None:
    for code in ReasonCode:
        assert "Gravity" in words.because(film(1, code, ("Her",), progress=0.5))
    assert "no reason" in words.because(film(1))


needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on PATH: the page was not looked at in a browser"
)


@needs_chromium
@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080), (390, 844)])
def test_browser_draws_the_page_without_complaint(
    text: str, tmp_path: Path, size: tuple[int, int]
) -> None:
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    said = _browse(
        tmp_path,
        f"--screenshot={tmp_path / 'seen.png'}",
        f"--window-size={size[0]},{size[1]}",
        "--enable-logging=stderr",
        "page.html",
    )
    png = (tmp_path / "seen.png").read_bytes()
    assert struct.unpack(">II", png[16:24]) == size
    assert len(png) > 60_000, "an empty dark page is far smaller"
    assert "CONSOLE" not in said.stderr


@needs_chromium
@pytest.mark.parametrize("width", [360, 1280, 1920])
def test_nothing_sticks_out_of_the_page_in_a_browser(text: str, tmp_path: Path, width: int) -> None:
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    quoted = text.replace("&", "&amp;").replace('"', "&quot;")
    (tmp_path / "ruler.html").write_text(RULER % (width, quoted), encoding="utf-8")
    seen = _browse(tmp_path, "--dump-dom", "--virtual-time-budget=4000", "ruler.html").stdout
    measured = dict(re.findall(r'data-(\w+)="(\d+)"', seen))
    assert int(measured["width"]) <= width
    assert measured["shelves"] == "1", "exactly one shelf is on the screen at a time"
    assert measured["clipped"] == "0", "every title fits on its poster"


RULER = """<!doctype html><iframe style="border:0;width:%dpx;height:900px" srcdoc="%s"></iframe>
<script>
document.querySelector("iframe").onload = event => {
  const page = event.target.contentDocument, seen = one => one.getClientRects().length > 0;
  const names = [...page.querySelectorAll(".poster .name")].filter(seen);
  names.forEach(one => one.style.overflowWrap = "normal");  // so that a long word shows itself
  document.body.dataset.width = page.documentElement.scrollWidth;
  document.body.dataset.shelves = [...page.querySelectorAll(".shelf")].filter(seen).length;
  document.body.dataset.clipped = names.filter(one => one.scrollWidth > one.clientWidth + 1).length;
};
</script>"""


def _browse(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Chromium on a file of ``folder``, the last flag."""
    address = (folder / flags[-1]).as_uri()
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [str(CHROMIUM), *FLAGS, profile, *flags[:-1], address]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
