"""What the study's tests share: rating files, and a data set whose next title follows a rule."""

from __future__ import annotations

import gzip
from dataclasses import replace

import pytest
import torch

from couchside.compression.study.ratings import read_ratings
from couchside.compression.study.recipe import load_recipe
from couchside.compression.study.split import make_split

torch.set_num_threads(1)  # so small that more threads only wait for each other

TITLES, USERS, STEPS = 15, 60, 9


@pytest.fixture
def write(tmp_path):
    """Writes a file of lines, packed where its name says so."""

    def write(name: str, *lines: str):
        path = tmp_path / name
        text = "".join(line + "\n" for line in lines)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


@pytest.fixture(scope="session")
def ring_file(tmp_path_factory):
    """Every user goes round a ring of titles from a place of its own, one title a day."""
    path = tmp_path_factory.mktemp("ring") / "ratings.dat"
    lines = [
        f"{user}::{100 + (user + step) % TITLES}::5::{86400 * step + user}"
        for user in range(USERS)
        for step in range(STEPS)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def ring(ring_file):
    return make_split(read_ratings(ring_file), "leave-one-out")


@pytest.fixture(scope="session")
def small():
    """A recipe that learns the ring in a second or two."""
    return replace(
        load_recipe("small"),
        d=16,
        layers=1,
        length=8,
        dropout=0.1,
        loss="softmax",
        tokens=128,
        learning_rate=1e-2,
        warm_up_steps=5,
        averaging=0.9,
        epochs=12,
        bf16=False,
    )
