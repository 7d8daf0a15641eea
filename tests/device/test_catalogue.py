"""Sources of titles: replaced whole or not at all, tied to the Bundle, gone when forgotten."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from simulators.titles import DAY, NOW, catalogue

from couchside.device.bundle import open_bundle
from couchside.device.catalogue.arrays import build
from couchside.device.catalogue.cache import TitleCache
from couchside.device.catalogue.intake import CHUNK, Intake, Problems, text_digest
from couchside.device.catalogue.library import read_titles
from couchside.device.errors import CatalogueError, StoreError
from couchside.device.records import Title, TitleKind


class Encoder:
    """Makes a vector from the length of a name, and remembers what it was asked."""

    def __init__(self, width):
        self.width = width
        self.asked = []

    def __call__(self, titles):
        self.asked += [title.name for title in titles]
        return np.array(
            [[len(title.name)] * self.width for title in titles], dtype=np.float32
        ).reshape(len(titles), self.width)


@pytest.fixture(scope="module")
def adopted(bundle, tmp_path_factory):
    """A cache.db that knows the Bundle's titles: reading them takes a while."""
    cache = TitleCache(tmp_path_factory.mktemp("adopted") / "cache.db")
    Intake(cache, bundle, Encoder(bundle.model.d)).adopt()
    cache.close()
    return cache.path


@pytest.fixture
def cache(tmp_path, adopted):
    cache = TitleCache(Path(shutil.copy(adopted, tmp_path)))
    yield cache
    cache.close()


@pytest.fixture
def encoder(bundle):
    return Encoder(bundle.model.d)


@pytest.fixture
def load(cache, bundle, encoder):
    """Loads titles as a source and returns the report."""
    intake = Intake(cache, bundle, encoder)

    def load(titles, source="films", *, keep=(), now=NOW, problems=None):
        return intake.replace(
            source, iter(titles), problems=problems or Problems(), keep=keep, now=now
        )

    return load


def film(name, title_id=None, **fields):
    return Title(title_id or f"id-{name}", TitleKind.MOVIE, name, **fields)


def test_a_title_takes_its_row_of_the_bundle_by_an_external_id(load, cache, bundle, encoder):
    known = next(iter(bundle.titles()))
    scheme, value = known.external_ids[0]
    load([film("Known elsewhere", external_ids=((scheme, value),))])
    titles = build(cache, bundle)
    assert np.array_equal(titles.vectors[0], bundle.item_vectors()[0])
    assert titles.popularity[0] == bundle.tensor("popularity")[0]
    assert encoder.asked == []


def test_a_title_takes_its_row_of_the_bundle_by_its_own_id(load, cache, bundle):
    known = next(iter(bundle.titles()))
    assert load([known]).known == 1


def test_a_title_the_bundle_never_saw_is_encoded(load, cache, bundle):
    report = load([film("Never seen")])
    titles = build(cache, bundle)
    assert report.known == 0
    assert titles.vectors[0, 0] == len("Never seen")
    assert titles.popularity[0] == 0.0


def test_a_text_is_encoded_once_however_often_it_is_broadcast(load, encoder):
    def showings(first):
        return [
            Title(f"news-{n}", TitleKind.PROGRAMME, "News", starts_at=NOW + n, ends_at=NOW + n + 1)
            for n in range(first, first + 5)
        ]

    load(showings(0), "guide")
    load(showings(3), "guide")
    assert encoder.asked == ["News"]


def test_a_load_replaces_its_source_and_no_other(load, cache):
    load([film("a"), film("b")], "films")
    load([film("c")], "guide")
    load([film("b"), film("d")], "films")
    assert cache.sources() == {"films": 2, "guide": 1}
    assert cache.title("id-a") is None


def test_a_title_of_the_history_outlives_its_source_but_can_not_be_shown(load, cache, bundle):
    load([film("watched"), film("b")])
    load([film("b")], keep={"id-watched"})
    titles = build(cache, bundle)
    row = titles.index["id-watched"]
    assert titles.has_vector[row]
    assert not titles.on_demand(NOW)[row]
    assert cache.match(["watched"], 5) == []


def test_a_title_that_comes_back_can_be_shown_again(load, cache, bundle):
    load([film("a"), film("b")])
    load([film("b")], keep={"id-a"})
    load([film("a"), film("b")])
    assert build(cache, bundle).on_demand(NOW).all()


def test_a_failing_source_leaves_everything_as_it_was(load, cache):
    load([film("a")])

    def breaks():
        yield from (film(f"new-{n}") for n in range(2 * CHUNK))
        raise OSError("the stick was pulled out")

    with pytest.raises(OSError, match="stick"):
        load(breaks())
    assert cache.sources() == {"films": 1}
    assert cache.title("id-a") is not None


def test_an_empty_source_is_refused_and_the_old_one_kept(load, cache):
    load([film("a")])
    with pytest.raises(CatalogueError, match="no usable title"):
        load([])
    assert cache.sources() == {"films": 1}


def test_a_source_that_breaks_off_does_not_replace_a_whole_one(load, cache, tmp_path):
    load([film("a"), film("b")], "guide")
    guide = tmp_path / "guide.xml"
    programme = (
        '<programme start="20260810003000 +0000" stop="20260810014000 +0000" channel="one">'
        "<title>Half</title></programme>"
    )
    guide.write_text(f'<tv><channel id="one"/>{programme}<programme start="2026', "utf-8")
    problems = Problems()
    with pytest.raises(CatalogueError, match="breaks off"):
        load(read_titles(guide, problems), "guide", problems=problems)
    assert cache.sources() == {"guide": 2}


def test_a_title_belongs_to_the_source_that_had_it_first(load, cache):
    load([film("a")], "films")
    problems = Problems()
    report = load([film("a"), film("b"), film("b")], "guide", problems=problems)
    assert report.titles == 1
    assert report.problems == 2
    assert "belongs to source 'films'" in report.first_problems[0]
    assert "occurs twice" in report.first_problems[1]
    assert cache.sources() == {"films": 1, "guide": 1}


def test_many_problems_are_counted_and_the_first_told(load):
    problems = Problems()
    for number in range(100):
        problems(f"line {number}")
    report = load([film("a")], problems=problems)
    assert report.problems == 100
    assert len(report.first_problems) == 20


def test_the_first_stock_is_not_new_but_later_arrivals_are(load, cache, bundle):
    load([film("a")], now=NOW)
    load([film("a"), film("b")], now=NOW + DAY)
    load([film("a"), film("b")], now=NOW + 2 * DAY)
    titles = build(cache, bundle)
    assert titles.added_at[titles.index["id-a"]] == -np.inf
    assert titles.added_at[titles.index["id-b"]] == NOW + DAY


def test_every_field_of_a_title_survives(load, cache):
    whole = Title(
        "id",
        TitleKind.EPISODE,
        "Näme „x“",
        "series",
        2,
        3,
        "Synopsis",
        ("Drama", "War"),
        ("A. Person",),
        "de-AT",
        1999,
        3000.0,
        12,
        "channel",
        NOW,
        NOW + 1,
        NOW + 2,
        NOW + 3,
        "art",
        "app://x",
        (("imdb", "tt1"), ("eidr", "x")),
    )
    load([whole])
    assert cache.title("id") == whole


def test_another_bundle_makes_vectors_again(load, cache, bundle, encoder, bundles):
    load([film("Never seen"), *list(bundle.titles())[:3]])
    other = open_bundle(bundles / "onnx-int8")
    assert not build(cache, other).has_vector.any(), "vectors of another Bundle mean nothing"
    Intake(cache, other, encoder).adopt()
    assert build(cache, other).has_vector.all()
    assert encoder.asked == ["Never seen", "Never seen"]


def test_a_stop_between_chunks_leaves_everything_as_it_was(cache, bundle, encoder):
    intake = Intake(cache, bundle, encoder, stopped=lambda: True)
    with pytest.raises(CatalogueError, match="stopping"):
        intake.replace("films", iter([film("a")]), problems=Problems(), keep=(), now=NOW)
    assert cache.count() == 0


def test_what_is_forgotten_leaves_no_byte(load, cache, tmp_path):
    load([film("zeppelinesque", "id-zeppelinesque"), film("b")])
    load([film("b")], keep={"id-zeppelinesque"})
    with cache.loading() as loading:
        loading.drop_unowned(set())
    raw = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"zeppelinesque" not in raw


@pytest.mark.parametrize("damage", [b"garbage" * 1000, b""])
def test_a_damaged_cache_is_made_anew(cache, load, damage):
    load([film("a")])
    cache.close()
    cache.path.write_bytes(damage)
    again = TitleCache(cache.path)
    assert again.count() == 0
    again.close()


def test_a_cache_that_can_not_be_made_is_a_clear_error(tmp_path):
    with pytest.raises(StoreError, match="delete it"):
        TitleCache(tmp_path / "missing" / "cache.db")


@pytest.mark.parametrize(
    "said", ['"', "AND", "name:x", "x*", "NEAR(a b)", "a OR b", "(", "-x", "^x", "{a b}:c", "\0"]
)
def test_no_query_is_syntax(load, cache, said):
    load([film("x and y near b")])
    cache.match([said], 5)
    cache.match(said.split() or [said], 5)


def test_the_last_word_may_be_unfinished(load, cache):
    load([film("The Zeppelin"), film("Other")])
    assert cache.match(["zep"], 5) == ["id-The Zeppelin"]


def test_equal_digests_mean_equal_text_for_the_encoder():
    assert text_digest(film("a")) == text_digest(film("a", "other id", deep_link="app://"))
    assert text_digest(film("a")) != text_digest(film("b"))


def test_windows_open_and_close():
    titles = catalogue(
        [
            film("always"),
            film("from tomorrow", available_from=NOW + DAY),
            film("until yesterday", available_until=NOW - DAY),
        ]
    )
    assert titles.on_demand(NOW).tolist() == [True, False, False]
    assert titles.on_demand(NOW + DAY).tolist() == [True, True, False]


def test_the_next_episode_crosses_seasons_and_skips_what_is_missing():
    def episode(season, number):
        return Title(f"s{season}e{number}", TitleKind.EPISODE, "x", "show", season, number)

    titles = catalogue([episode(1, 1), episode(2, 1), episode(1, 3), episode(10, 1)])
    everything = np.ones(4, dtype=bool)
    assert titles.next_episode(0, everything) == 2
    assert titles.next_episode(2, everything) == 1
    assert titles.next_episode(1, everything) == 3
    assert titles.next_episode(3, everything) is None


def test_likeness_ignores_what_all_titles_share():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((200, 8)).astype(np.float32) + 20.0
    titles = catalogue([film(str(n)) for n in range(200)], vectors)
    likeness = titles.likeness(0)
    assert likeness[0] == pytest.approx(1.0, abs=1e-3)
    assert abs(float(likeness[1:].mean())) < 0.1
    assert np.abs(likeness).max() <= 1.001
