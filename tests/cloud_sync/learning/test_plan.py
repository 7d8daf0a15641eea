"""Planned Rounds: always consistent, as fine as 16 bits allow, or an error that says what to do."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from couchside.cloud_sync.errors import RoundError
from couchside.cloud_sync.learning.plan import CAP_GOOD, SPREAD, Wish, plan_round
from couchside.device.bundle import FileRecord, Manifest, ParameterRecord, TensorRecord
from couchside.device.config import LearningSettings
from couchside.device.errors import RoundRefusedError
from couchside.device.learning import privacy
from couchside.device.learning.round import Limits, Round, check_allowed, contradiction
from couchside.device.learning.spool import FRAME_BYTES, frame_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

LAYOUT = (
    ParameterRecord("projection", 0, (64, 64)),
    ParameterRecord("tower.enter.weight", 4096, (200, 200)),
)
SEED = bytes(range(32))


def manifest(titles: int = 2211) -> Manifest:
    """What planning reads of a manifest, for recipe tv-small's sizes."""
    record = FileRecord(1, "a" * 64)
    fields = dict.fromkeys(Manifest.__dataclass_fields__)
    known = {
        "version": 3,
        "titles": "titles.jsonl",
        "files": {"theta.bin": record, "titles.jsonl": record},
        "tensors": {"content": TensorRecord("items.bin", 0, "int8", (titles, 64))},
        "parameters": LAYOUT,
    }
    return Manifest(**(fields | known))


def plan(wish: Wish = Wish(), titles: int = 2211) -> Round:  # noqa: B008 - frozen
    return plan_round(wish, manifest(titles), 7, 1_800_000_000, SEED)


def test_default_round_is_the_projection_and_every_title() -> None:
    asked = plan()
    assert (asked.coordinates, asked.titles, asked.values) == (4096, 2211, 6307)
    assert asked.parameters == ("projection",)
    assert (asked.round_id, asked.bundle_version) == (7, 3)
    assert contradiction(asked) == ""
    assert asked.closes_at - asked.opens_at == 86_400


def test_tv_as_it_ships_takes_part_in_two_default_rounds_a_year() -> None:
    asked, ships = plan(), LearningSettings()
    limits = Limits(ships.least_cohort, ships.least_noise, ships.most_epsilon, ships.most_updates)
    check_allowed(asked, manifest(), limits, (0, 0.0))
    check_allowed(asked, manifest(), limits, (1, asked.rho))
    with pytest.raises(RoundRefusedError, match="ε of this year"):
        check_allowed(asked, manifest(), limits, (2, 2 * asked.rho))
    loud = plan(Wish(noise=4.0))
    check_allowed(loud, manifest(), limits, (25, 25 * loud.rho))


def test_figures_of_the_readme() -> None:
    costs = [privacy.epsilon(n * privacy.rho(z)) for n, z in ((1, 1.0), (2, 1.0), (26, 4.0))]
    assert [f"{each:.2f}" for each in costs] == ["5.22", "7.77", "6.89"]


def test_noise_and_cap_leave_resolution() -> None:
    asked = plan()
    rms = asked.clipping_bound * asked.scale / math.sqrt(asked.coordinates)
    assert asked.value_cap == pytest.approx(4 * rms)
    assert rms >= CAP_GOOD / SPREAD  # so that rounding to whole units adds little
    exact = math.hypot(
        asked.clipping_bound * asked.scale, asked.title_weight * math.sqrt(asked.title_cap)
    )
    assert asked.sensitivity < 1.15 * exact
    assert asked.sigma < privacy.LANE / 32
    largest = max(asked.value_cap, asked.title_weight)
    used = asked.cohort_most * largest + privacy.TAIL * asked.sigma
    assert 0.8 * privacy.LANE < used <= privacy.LANE


def test_titles_weigh_as_much_as_parameters_where_there_is_room() -> None:
    for goal in (8, 100, 400):
        asked = plan(replace(Wish(), goal=goal, least=2))
        parameters = asked.clipping_bound * asked.scale
        titles = asked.title_weight * math.sqrt(asked.title_cap)
        assert titles == pytest.approx(parameters, rel=0.1)


def test_large_cohort_takes_weight_from_titles_first() -> None:
    asked = plan(replace(Wish(), goal=3300))
    assert asked.value_cap >= 4
    assert asked.title_weight >= asked.value_cap


def test_everything_that_fits_a_frame_is_taken() -> None:
    asked = plan(replace(Wish(), learn=("all",)))
    assert frame_bytes(asked.values) in (FRAME_BYTES, FRAME_BYTES - 1)
    assert asked.parameters == ("projection", "tower.enter.weight")
    alone = plan(replace(Wish(), learn=("all",), titles=False))
    assert (alone.titles, alone.title_weight, alone.title_cap) == (0, 0, 0)
    assert alone.coordinates == asked.coordinates + 2211


@given(
    goal=st.integers(2, 3_300),
    noise=st.floats(0.3, 4.0),
    clip=st.floats(0.01, 4.0),
    coordinates=st.integers(1, 4096),
    titles=st.booleans(),
)
def test_whatever_is_planned_contradicts_nothing(
    goal: int, noise: float, clip: float, coordinates: int, titles: bool
) -> None:
    wish = Wish(goal=goal, least=2, noise=noise, clip=clip, coordinates=coordinates, titles=titles)
    try:
        asked = plan(wish)
    except RoundError:
        return  # what it says is tested below
    assert contradiction(asked) == ""
    assert asked.value_cap >= 2


REFUSED: dict[str, tuple[Callable[[], Round], str]] = {
    "unknown parameter": (lambda: plan(Wish(learn=("tower.nowhere",))), "no such parameter"),
    "nothing to learn": (lambda: plan(Wish(learn=())), "no such parameter"),
    "more coordinates than values": (lambda: plan(Wish(coordinates=5000)), "have 4096 values"),
    "no coordinates": (lambda: plan(Wish(coordinates=0)), "have 4096 values"),
    "more coordinates than a frame": (
        lambda: plan(Wish(learn=("all",), coordinates=40_000)),
        "a frame has room for 21717",
    ),
    "titles fill the frame": (lambda: plan(titles=30_000), "--no-titles"),
    "cohort beyond a letter": (lambda: plan(Wish(goal=4000)), "--goal 4000"),
    "noise beyond 16 bits": (lambda: plan(Wish(noise=900.0)), "lower --noise"),
    "cohort and noise beyond 16 bits": (
        lambda: plan(Wish(goal=3300, noise=60.0, learn=("all",))),
        "--noise",
    ),
    "least above goal": (lambda: plan(Wish(goal=100)), "cohort_least is above cohort_most"),
    "cohort of one": (lambda: plan(Wish(goal=1, least=1)), "cohort_least"),
    "no noise": (lambda: plan(Wish(noise=0.1)), "noise_multiplier is 0.1"),
    "wide clip": (lambda: plan(Wish(clip=50.0)), "clipping_bound is 50"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_round_that_can_not_be_is_refused_with_what_to_change(case: str) -> None:
    make, words = REFUSED[case]
    with pytest.raises(RoundError, match=words):
        make()
