"""Which Round to open: numbers that fit 16 bits, one frame and each other. Pure.

Everything is summed in whole units modulo 2^16, noise included, so resolution is what is left of
15 bits after the cohort and the noise took theirs. A value is cut at ``SPREAD`` times the root mean
square of a clipped change, and that cap is as large as the cohort and the noise allow. A TV's
titles weigh as much as its change of the parameters, unless a large cohort leaves no room for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from couchside.cloud_sync.errors import RoundError
from couchside.cloud_sync.learning.letters import SET
from couchside.device.learning import privacy
from couchside.device.learning.round import FORMAT, THETA_FILE, Round, contradiction
from couchside.device.learning.spool import FRAME_BYTES, frame_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from couchside.device.bundle import Manifest, ParameterRecord

SPREAD = 4.0
"""``value_cap`` over the root mean square of a clipped value: few honest values reach it."""
CAP_LEAST = 2
"""With less, rounding to whole units is louder than what was learned."""
CAP_GOOD = 4
"""From here on rounding adds an eighth to the noise at most, and titles get their full weight."""
TITLE_CAP = 8
"""Titles that one TV counts at most. The noise on a count grows with its square root; with 8 the
counts of 920 households were worth as much as with 4, and more than with 20."""
PROJECTION = "projection"
ALL = "all"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the cloud team asks for; ``couchside-cloud round open`` has a flag for each."""

    learn: tuple[str, ...] = (PROJECTION,)
    """Names of parameters; ``all`` for every one."""
    coordinates: int | None = None
    """Values of them in an Update; None for as many as fit."""
    titles: bool = True
    """Count titles as well."""
    goal: int = 1000
    """TVs at which the Round seals."""
    least: int = 500
    """TVs below which nothing is unmasked."""
    noise: float = 1.0
    """Noise multiplier; a TV as it ships takes part in no Round with less."""
    clip: float = 0.5
    steps: int = 8
    rate: float = 0.1
    sample: float = 1.0
    new_events: int = 20
    open_s: int = 86_400
    spread_s: float = 600.0


def plan_round(wish: Wish, manifest: Manifest, round_id: int, now: int, seed: bytes) -> Round:
    """The Round that grants a wish.

    Args:
        wish: what is asked for.
        manifest: of the Bundle that the TVs have.
        round_id: of this Round; grows.
        now: POSIX seconds.
        seed: 32 random bytes.

    Raises:
        RoundError: it can't be granted; the message says what to change.
    """
    names = _names(wish, manifest.parameters)
    titles = manifest.tensors["content"].shape[0] if wish.titles else 0
    draft = Round(
        format=FORMAT,
        round_id=round_id,
        bundle_version=manifest.version,
        theta_sha256=manifest.files[THETA_FILE].sha256,
        titles_sha256=manifest.files[manifest.titles].sha256,
        parameters=names,
        coordinates=_coordinates(wish, manifest.parameters, names, titles),
        titles=titles,
        seed=seed.hex(),
        clipping_bound=wish.clip,
        scale=1.0,
        value_cap=1,
        title_weight=0,
        title_cap=TITLE_CAP if titles else 0,
        noise_multiplier=wish.noise,
        steps=wish.steps,
        rate=wish.rate,
        sampling_rate=wish.sample,
        new_events=wish.new_events,
        cohort_least=wish.least,
        cohort_most=wish.goal,
        opens_at=now,
        closes_at=now + wish.open_s,
        spread_s=wish.spread_s,
    )
    return _scaled(draft)


def _names(wish: Wish, layout: Iterable[ParameterRecord]) -> tuple[str, ...]:
    have = tuple(record.name for record in layout)
    if wish.learn == (ALL,):
        return have
    unknown = sorted(set(wish.learn) - set(have))
    if unknown or not wish.learn:
        named = unknown[0] if unknown else ""
        raise RoundError(f"--learn {named!r}: no such parameter; all, or some of {', '.join(have)}")
    return tuple(dict.fromkeys(wish.learn))


def _coordinates(
    wish: Wish, layout: Iterable[ParameterRecord], names: tuple[str, ...], titles: int
) -> int:
    there = sum(math.prod(record.shape) for record in layout if record.name in names)
    fits = (FRAME_BYTES - frame_bytes(0)) // 2 - titles
    if fits < 1:
        raise RoundError(f"{titles} titles fill a frame of {FRAME_BYTES} bytes; use --no-titles")
    asked = min(there, fits) if wish.coordinates is None else wish.coordinates
    if not 0 < asked <= there:
        raise RoundError(f"--coordinates {asked}: the parameters have {there} values")
    if asked > fits:
        raise RoundError(
            f"--coordinates {asked}: beside {titles} titles a frame has room for {fits}"
        )
    return asked


def _scaled(draft: Round) -> Round:
    """With the largest cap that fits, and so the finest units."""
    if draft.cohort_most > SET:
        raise RoundError(
            f"--goal {draft.cohort_most}: the helper takes sets of at most {SET}; open more Rounds"
        )
    smallest = _with_cap(draft, CAP_LEAST, _light)
    wrong = contradiction(smallest)
    if wrong:
        raise RoundError(f"no such Round: {wrong}; {_advice(smallest)}")
    if not contradiction(_with_cap(draft, CAP_GOOD, _equal)):
        return _finest(draft, CAP_GOOD, _equal)
    light = _finest(draft, CAP_LEAST, _light)
    weight = _largest(
        lambda weight: not contradiction(replace(light, title_weight=weight)),
        light.title_weight,
        max(light.title_weight, _equal(light)),
    )
    return replace(light, title_weight=weight)


def _finest(draft: Round, least: int, weigh: Callable[[Round], int]) -> Round:
    """With the largest cap from ``least``, which fits, that fits with titles weighed so."""
    cap = _largest(
        lambda cap: not contradiction(_with_cap(draft, cap, weigh)),
        least,
        max(least, privacy.LANE // draft.cohort_most),
    )
    return _with_cap(draft, cap, weigh)


def _with_cap(draft: Round, cap: int, weigh: Callable[[Round], int]) -> Round:
    """The Round whose values are cut at ``cap`` units."""
    scale = cap * math.sqrt(draft.coordinates) / (SPREAD * draft.clipping_bound)
    capped = replace(draft, value_cap=cap, scale=scale)
    return replace(capped, title_weight=weigh(capped))


def _equal(asked: Round) -> int:
    """Units of a title with which all of a TV's titles weigh as much as its change."""
    if not asked.titles:
        return 0
    return max(1, int(_theta_units(asked) / math.sqrt(asked.title_cap)))


def _light(asked: Round) -> int:
    """Units of a title that take no room which the change has not taken already."""
    return min(asked.value_cap, _equal(asked))


def _theta_units(asked: Round) -> float:
    return asked.clipping_bound * asked.scale


def _largest(fits: Callable[[int], bool], low: int, high: int) -> int:
    """The largest whole number from ``low``, which fits, to ``high`` that does; by bisection."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _advice(asked: Round) -> str:
    room = privacy.LANE - privacy.TAIL * asked.sigma
    goal = int(room / max(asked.value_cap, asked.title_weight))
    if "would wrap" in contradiction(asked) and goal >= max(2, asked.cohort_least):
        return f"with this noise --goal {goal} would fit"
    return (
        "lower --noise, --coordinates or --goal"
        if "would wrap" in contradiction(asked)
        else ("change the flag that it names")
    )
