"""Search: words and meaning fused, whatever a viewer says, and never beyond the fence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.titles import NOW

from couchside.device.catalogue.arrays import build
from couchside.device.catalogue.cache import TitleCache
from couchside.device.catalogue.intake import Intake, Problems
from couchside.device.encoders import TextEncoder
from couchside.device.records import Title, TitleKind
from couchside.device.shelf.search import RRF_K, fuse, search


@pytest.fixture(scope="module")
def shop(bundle, tmp_path_factory):
    """A small catalogue, its cache and the Bundle's own encoder."""
    cache = TitleCache(tmp_path_factory.mktemp("search") / "cache.db")
    encode = TextEncoder(bundle).encode
    titles = [
        Title("alien", TitleKind.MOVIE, "Alien", genres=("Horror", "Sci-Fi"), year=1979),
        Title("aliens", TitleKind.MOVIE, "Aliens", genres=("Action", "Sci-Fi"), year=1986),
        Title("amelie", TitleKind.MOVIE, "Amélie", genres=("Romance",), year=2001),
        Title("cast", TitleKind.MOVIE, "Other", people=("Sigourney Weaver",)),
        *(
            Title(f"e{n}", TitleKind.EPISODE, "Sherlock", series_id="sherlock", season=1, episode=n)
            for n in (1, 2)
        ),
        *(Title(f"film-{n}", TitleKind.MOVIE, f"Number {n}", genres=("Drama",)) for n in range(30)),
    ]
    with cache.loading() as loading:
        loading.set_bundle(bundle.bundle_id, ())  # it knows none of these titles
    Intake(cache, bundle, encode).replace(
        "films", iter(titles), problems=Problems(), keep=(), now=NOW
    )
    yield cache, build(cache, bundle), encode
    cache.close()


@pytest.fixture(scope="module")
def find(shop):
    cache, catalogue, encode = shop

    def find(text, mask=None, k=25):
        allowed = np.ones(len(catalogue), bool) if mask is None else mask
        rows = search(text, catalogue=catalogue, cache=cache, encode=encode, mask=allowed, k=k)
        return [catalogue.title_ids[row] for row in rows]

    return find


def test_a_name_finds_its_title_first(find):
    assert find("alien")[0] == "alien"


def test_accents_and_case_do_not_matter(find):
    assert find("AMELIE")[0] == "amelie"


def test_a_person_finds_a_film(find):
    assert "cast" in find("weaver")


def test_half_a_word_is_enough_while_typing(find):
    assert {"alien", "aliens"} <= set(find("alie"))


def test_a_series_is_found_once(find):
    assert sum(title in ("e1", "e2") for title in find("sherlock")) == 1


def test_what_may_not_be_seen_is_not_found(find, shop):
    mask = np.ones(len(shop[1]), bool)
    mask[shop[1].index["alien"]] = False
    assert "alien" not in find("alien", mask)


def test_nothing_said_finds_nothing(find):
    assert find(" \t.,;") == []


@settings(max_examples=150, deadline=None)
@given(text=st.text(min_size=1, max_size=60))
def test_anything_said_is_an_answer(find, text):
    found = find(text)
    assert len(found) == len(set(found)) <= 25


def test_k_is_kept(find):
    assert len(find("number", k=3)) == 3


def test_fusion_prefers_what_both_lists_have():
    assert fuse([[1, 2, 3], [3, 4]])[0] == 3
    assert fuse([[1], [2]]) == [1, 2]


def test_fusion_is_the_papers_sum():
    worth = {1: 1 / (RRF_K + 1), 2: 1 / (RRF_K + 2) + 1 / (RRF_K + 1)}
    assert fuse([[1, 2], [2]]) == sorted(worth, key=worth.get, reverse=True)
