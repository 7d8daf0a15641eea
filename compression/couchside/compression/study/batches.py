"""Sequences → batches of stretches of like length, so that little of a batch is padding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from couchside.compression.study.recipe import StudyRecipe

LENGTH_NOISE = 0.1
"""Stretches are sorted by the log of their length plus so much noise: batches differ by epoch."""
LEAST_PHASE = 20
"""A long history's latest events are a stretch of their own only where it has more than these."""


def stretches(
    sequences: Sequence[NDArray[np.int64]], recipe: StudyRecipe, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Pieces of at most length + 1 items, in which every item but the first is a target."""
    found: list[NDArray[np.int64]] = []
    for items in sequences:
        if len(items) < 2:
            continue
        if recipe.windows == "last" or len(items) <= recipe.length + 1:
            found.append(items[-recipe.length - 1 :])
        else:
            found.extend(_windows(items, recipe.length, rng))
    return found


def _windows(
    items: NDArray[np.int64], length: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """A long history cut at a random phase, so that each item gets contexts of every length."""
    phase = int(rng.integers(0, length))
    found = [items[-length - 1 :]] if phase > LEAST_PHASE else []
    ends = range(len(items) - phase, 1, -length)
    return found + [items[max(0, end - length - 1) : end] for end in ends]


def batches(
    pieces: Sequence[NDArray[np.int64]], tokens: int, rng: np.random.Generator
) -> list[list[NDArray[np.int64]]]:
    """Batches of at most ``tokens`` places, padding included, in random order."""
    noise = rng.random(len(pieces)) * LENGTH_NOISE
    order = np.argsort(noise + np.log([len(piece) for piece in pieces]))
    result: list[list[NDArray[np.int64]]] = [[]]
    longest = 0
    for place in order:
        piece = pieces[place]
        longest = max(longest, len(piece) - 1)
        if result[-1] and longest * (len(result[-1]) + 1) > tokens:
            result.append([])
            longest = len(piece) - 1
        result[-1].append(piece)
    rng.shuffle(result)
    return result
