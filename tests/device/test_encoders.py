from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from couchside.device.bundle import dequantize, open_bundle, project
from couchside.device.encoders import PADDING, TextEncoder, fields, tokens, words
from couchside.device.records import Title, TitleKind

FILM = Title("t", TitleKind.MOVIE, "The Café of Dreams", genres=("Sci-Fi", "Drama"), year=1999)
LEAST_COSINE = {"float32": 0.9999, "int8": 0.995}
FLAVOURS = ("litert-float", "litert-int8", "onnx-float", "onnx-int8")


def test_words_are_lower_case_without_accents_in_order():
    assert words("Amélie & the ÉCOLE, 2nd!") == ["amelie", "the", "ecole", "2nd"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Ελλάδα", ["ελλαδα"]),
        ("ИРОНИЯ судьбы", ["ирония", "судьбы"]),
        ("千と千尋の神隠し", ["千と千尋の神隠し"]),
        ("Straße", ["strasse"]),
        ("ＡＶＡＴＡＲ", ["avatar"]),  # full-width letters, as guides send them
        ("𝐀vatar", ["avatar"]),  # a mathematical bold A
        ("№ 9", ["no", "9"]),
        ("🎬", []),
        ("", []),
    ],
)
def test_words_of_any_script_are_found(name, expected):
    assert words(name) == expected


@given(st.text())
def test_words_of_words_are_the_same_words(text):
    found = words(text)
    assert words(" ".join(found)) == found
    assert all(word == word.casefold() for word in found)


def test_fields_go_from_the_most_telling_and_leave_out_empty_words():
    expected = ["genre:sci-fi", "genre:drama", "year:1999", "decade:199", "word:cafe"]
    assert list(fields(FILM)) == [*expected, "word:dreams"]


titles = st.builds(
    Title,
    title_id=st.just("t"),
    kind=st.sampled_from(TitleKind),
    name=st.text(max_size=60),
    genres=st.lists(st.text(max_size=12), max_size=5).map(tuple),
    year=st.none() | st.integers(1850, 2200),
)


@given(titles, st.integers(1, 24), st.integers(2, 5000))
def test_tokens_of_any_title_lie_in_range_and_pad_only_at_the_end(title, length, buckets):
    ids = tokens(title, length=length, buckets=buckets)
    assert ids.dtype == np.int32
    assert ids.shape == (length,)
    count = min(length, len(list(fields(title))))
    assert ((ids[:count] >= 1) & (ids[:count] < buckets)).all()
    assert (ids[count:] == PADDING).all()
    np.testing.assert_array_equal(ids, tokens(title, length=length, buckets=buckets))


def test_tokens_never_change_between_releases():
    # The buckets are part of every shipped model: another hash would scramble them all.
    assert tokens(FILM, length=8, buckets=4096).tolist() == [
        1046, 361, 519, 3492, 1152, 293, 0, 0,
    ]  # fmt: skip


def test_same_word_in_another_field_is_another_token():
    genre = replace(FILM, name="", genres=("drama",), year=None)
    name = replace(FILM, name="Drama", genres=(), year=None)
    assert tokens(genre, length=1, buckets=4096) != tokens(name, length=1, buckets=4096)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_encoder_gives_known_titles_the_content_of_the_bundle(bundles, flavour):
    bundle = open_bundle(bundles / flavour)
    weights = bundle.graph("text_encoder").weights
    known = list(bundle.titles())[:100]
    content = dequantize(bundle.tensor("content")[:100], bundle.tensor("content_scale")[:100])
    encoded = TextEncoder(bundle).content(known)
    np.testing.assert_allclose(np.linalg.norm(encoded, axis=1), 1.0, atol=1e-5)
    cosine = (encoded * content).sum(axis=1) / np.linalg.norm(content, axis=1)
    assert cosine.min() >= LEAST_COSINE[weights]
    if weights == "float32":  # then only the rounding of the item table is left
        half_step = bundle.tensor("content_scale")[:100, None] * 0.51 + 1e-5
        assert (np.abs(encoded - content) <= half_step).all()


@pytest.mark.parametrize("flavour", ["litert-float", "onnx-float"])
def test_encoder_gives_a_title_the_same_vector_in_any_company(bundles, flavour):
    bundle = open_bundle(bundles / flavour)
    encoder = TextEncoder(bundle)
    many = [replace(FILM, name=f"Film {n} of the north", year=1950 + n) for n in range(37)]
    together = encoder.content(many)
    assert together.shape == (37, bundle.model.content_d)
    for row in (0, 15, 16, 36):  # the edges of the graph's batches of 16
        np.testing.assert_allclose(encoder.content([many[row]])[0], together[row], atol=1e-5)


def test_encoder_gives_a_new_title_a_unit_item_vector(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    encoder = TextEncoder(bundle)
    vector = encoder.encode([FILM])
    np.testing.assert_allclose(np.linalg.norm(vector), 1.0, atol=1e-5)
    expected = project(encoder.content([FILM]), bundle.projection)
    np.testing.assert_allclose(vector, expected, atol=1e-6)


def test_encoder_of_no_titles_gives_no_vectors(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    assert TextEncoder(bundle).encode([]).shape == (0, bundle.model.d)


def test_title_that_says_nothing_still_gets_a_finite_vector(tiny_bundle):
    nothing = Title("t", TitleKind.CLIP, "🎬")
    vector = TextEncoder(open_bundle(tiny_bundle)).encode([nothing])
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) <= 1.0 + 1e-5
