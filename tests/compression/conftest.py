"""What the lab's tests share: the tiny recipe, its data, and the models that the pipeline kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from couchside.compression.data import Interactions, load_interactions
from couchside.compression.recipe import Recipe, load_recipe
from couchside.compression.student import Models, load_models
from couchside.device.records import Title, TitleKind

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


torch.set_num_threads(1)  # so small that more threads only wait for each other


@pytest.fixture(scope="session")
def tiny() -> Recipe:
    return load_recipe("tv-tiny")


@pytest.fixture(scope="session")
def interactions(tiny) -> Interactions:
    return load_interactions(tiny.data)


@pytest.fixture(scope="session")
def student(compressed: Path, tiny) -> Models:
    path = compressed / "work" / "student" / "models.npz"
    return load_models(tiny, tiny.student_text, tiny.student_user, path)


@pytest.fixture(scope="session")
def made():
    """Makes interactions of (user, item, rating, time) rows, in that order."""

    def make(events: Iterable[tuple[int, int, int, float]], titles: int) -> Interactions:
        table = np.array(list(events), np.float64).reshape(-1, 4)
        table = table[np.argsort(table[:, 3], kind="stable")]
        return Interactions(
            titles=tuple(Title(f"t{n}", TitleKind.MOVIE, f"Film {n}") for n in range(titles)),
            users=table[:, 0].astype(np.int64),
            items=table[:, 1].astype(np.int64),
            ratings=table[:, 2].astype(np.int64),
            times=table[:, 3],
        )

    return make
