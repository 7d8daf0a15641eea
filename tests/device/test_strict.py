from __future__ import annotations

import json
from collections.abc import Mapping  # noqa: TC003 - strict.from_json reads annotations
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from couchside.device.strict import StrictError, from_json, loads, to_json


class Room(StrEnum):
    KITCHEN = "kitchen"
    CELLAR = "cellar"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@dataclass(frozen=True, slots=True)
class Shelf:
    width: float
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class House:
    name: str
    doors: int
    heated: bool
    room: Room
    level: Level
    style: Literal["old", "new"]
    corner: tuple[int, str]
    shelves: Mapping[str, Shelf]
    note: str | None = None
    number: int | str = 0


HOUSE = {
    "name": "mill",
    "doors": 2,
    "heated": True,
    "room": "cellar",
    "level": 2,
    "style": "old",
    "corner": [3, "north"],
    "shelves": {"left": {"width": 1.5, "labels": ["a"]}},
    "note": None,
    "number": "7b",
}

numbers = st.floats(allow_nan=False, allow_infinity=False)
shelves = st.builds(Shelf, numbers, st.lists(st.text()).map(tuple))
houses = st.builds(
    House,
    name=st.text(),
    doors=st.integers(),
    heated=st.booleans(),
    room=st.sampled_from(Room),
    level=st.sampled_from(Level),
    style=st.sampled_from(["old", "new"]),
    corner=st.tuples(st.integers(), st.text()),
    shelves=st.dictionaries(st.text(), shelves, max_size=3),
    note=st.none() | st.text(),
    number=st.integers() | st.text(),
)


@given(houses)
def test_record_survives_json_and_back(house):
    assert from_json(House, loads(json.dumps(to_json(house)))) == house


def test_defaults_fill_what_may_be_left_out():
    shortest = {key: HOUSE[key] for key in HOUSE if key not in ("note", "number")}
    house = from_json(House, shortest)
    assert (house.note, house.number) == (None, 0)


@pytest.mark.parametrize(
    ("change", "path", "what"),
    [
        ({"colour": "red"}, "colour", "is not a field; fields are name, doors"),
        ({"name": 3}, "name", "must be a string, not a whole number"),
        ({"name": None}, "name", "must be a string, not null"),
        ({"doors": 2.0}, "doors", "must be a whole number, not a number"),
        ({"doors": True}, "doors", "must be a whole number, not true or false"),
        ({"heated": 1}, "heated", "must be true or false, not a whole number"),
        ({"heated": "true"}, "heated", "must be true or false, not a string"),
        ({"room": "attic"}, "room", "must be one of kitchen, cellar"),
        ({"room": ["cellar"]}, "room", "must be one of kitchen, cellar"),
        ({"level": 3}, "level", "must be one of 1, 2"),
        ({"level": True}, "level", "must be one of 1, 2"),
        ({"level": 1.0}, "level", "must be one of 1, 2"),
        ({"style": "odd"}, "style", "must be one of old, new"),
        ({"style": True}, "style", "must be one of old, new"),
        ({"corner": [3]}, "corner", "must have 2 entries, not 1"),
        ({"corner": ["3", "north"]}, "corner[0]", "must be a whole number, not a string"),
        ({"corner": "3north"}, "corner", "must be a list, not a string"),
        ({"shelves": []}, "shelves", "must be an object, not a list"),
        ({"shelves": {"left": 1}}, "shelves.left", "must be an object, not a whole number"),
        ({"shelves": {"left": {}}}, "shelves.left.width", "is missing"),
        ({"shelves": {"left": {"width": True}}}, "shelves.left.width", "must be a number"),
        ({"shelves": {"left": {"width": 10**400}}}, "shelves.left.width", "is too large"),
        ({"shelves": {"a": {"width": 1, "labels": ["x", 2]}}}, "shelves.a.labels[1]", "a string"),
        ({"number": 1.5}, "number", "must be one of"),
        ({"note": 5}, "note", "must be a string"),
    ],
)
def test_wrong_value_is_refused_with_the_path_to_it(change, path, what):
    with pytest.raises(StrictError) as caught:
        from_json(House, HOUSE | change)
    assert caught.value.path == path
    assert what in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("missing", [key for key in HOUSE if key not in ("note", "number")])
def test_missing_field_is_refused_by_name(missing):
    with pytest.raises(StrictError, match=f"^{missing}: is missing$"):
        from_json(House, {key: value for key, value in HOUSE.items() if key != missing})


def test_whole_number_stands_for_a_float_and_comes_out_as_one():
    shelf = from_json(Shelf, {"width": 3})
    assert isinstance(shelf.width, float)
    assert shelf.width == 3.0


def test_exact_whole_number_beyond_64_bits_stays_exact():
    assert from_json(House, HOUSE | {"doors": 2**80}).doors == 2**80


@pytest.mark.parametrize("spelled", ["1e999", "-1e999"])
def test_number_that_overflows_to_infinity_is_refused(spelled):
    with pytest.raises(StrictError, match=r"^width: must be a finite number$"):
        from_json(Shelf, loads(f'{{"width": {spelled}}}'))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "half \ud83d of a face"},
        {"note": "\udcff"},
        {"shelves": {"\ud800": {"width": 1}}},
    ],
)
def test_lone_surrogate_is_refused_even_as_a_key(change):
    text = json.dumps(HOUSE | change)  # pure ASCII: the surrogate is an escape
    with pytest.raises(StrictError, match="half a character"):
        from_json(House, loads(text))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"a": 1, "a": 1}', "a: appears twice"),
        ('[{"deep": {"b": 1, "c": 2, "b": 3}}]', "b: appears twice"),
        ("NaN", "NaN is not a JSON number"),
        ('{"a": Infinity}', "Infinity is not a JSON number"),
        ('{"a": -Infinity}', "-Infinity is not a JSON number"),
        ("", "not JSON"),
        ('{"a": 1} {"a": 1}', "not JSON"),
        ("{'a': 1}", "not JSON"),
        ("[1,]", "not JSON"),
        (b'"\xff\xfe\xff"', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("9" * 5000, "not JSON"),
    ],
)
def test_json_that_readers_could_disagree_about_is_refused(text, what):
    with pytest.raises(StrictError, match=what):
        loads(text)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
))  # fmt: skip
def test_any_document_raises_nothing_but_a_strict_error(document):
    with pytest.raises(StrictError):
        from_json(House, document)
    with suppress(StrictError):
        from_json(House, HOUSE | {"shelves": document})


@given(
    st.sampled_from(sorted(HOUSE)),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()),
)
def test_any_value_in_any_field_is_kept_or_refused_by_its_path(field, value):
    kept, refusal = value, field
    try:
        kept = to_json(from_json(House, HOUSE | {field: value}))[field]
    except StrictError as error:
        refusal = error.path
    assert kept is value or kept == value  # NaN is refused, and not equal to itself
    assert refusal.startswith(field)
