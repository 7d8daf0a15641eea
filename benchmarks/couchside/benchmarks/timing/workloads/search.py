"""``search``: what a viewer said → titles, with the device's own words and meaning."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from couchside.benchmarks.errors import UsageError
from couchside.benchmarks.timing.artefact import (
    Parity,
    backend_name,
    describe_bundle,
    golden_parity,
    insist,
    on_backend,
)
from couchside.benchmarks.timing.stopwatch import one_stage
from couchside.benchmarks.timing.workload import Case, Size, Subject, Workload
from couchside.device.catalogue.arrays import build
from couchside.device.catalogue.cache import TitleCache
from couchside.device.catalogue.intake import Intake, Problems
from couchside.device.encoders import TextEncoder
from couchside.device.shelf.search import search

if TYPE_CHECKING:
    from couchside.benchmarks.timing.choice import Choice
    from couchside.device.bundle import Bundle
    from couchside.device.records import Title

QUERIES = 20
"""Different queries that take turns; as many as divide a tenth of the usual runs, or drift would
compare easy queries with hard ones."""
SPOKEN_WORDS = 2
"""Of a title's name, from its beginning: people do not say all of it."""
FOUND = 25
"""Titles that a search brings at most, as the daemon's method does unless asked otherwise."""


class Search(Workload):
    """The Bundle's own titles in a cache.db of their own, searched by beginnings of their names."""

    def __init__(self, bundle: Bundle, choice: Choice) -> None:
        if choice.batch != 1:
            raise UsageError("--batch: search answers one query at a time")
        self._choice = choice
        self._bundle = on_backend(bundle, "text_encoder", choice)
        self._folder = TemporaryDirectory(prefix="couchside-search-")
        self._titles = tuple(bundle.titles())
        self._cache = fill_cache(Path(self._folder.name) / "cache.db", bundle, self._titles)
        self._catalogue = build(self._cache, bundle)
        self.subject = Subject(
            describe_bundle(bundle, "text_encoder"),
            "search",
            "text_encoder",
            bundle.manifest.quality,
            notes=("the titles were in cache.db before the clock of load began",),
        )

    @property
    def backend(self) -> str:
        """What runs the text encoder."""
        return backend_name(self._bundle.runtime)

    def load(self) -> tuple[Case, ...]:
        """Open the text encoder, as the first search of an evening does."""
        insist(self._choice.backend)
        encoder = TextEncoder(self._bundle, threads=self._choice.threads)
        n = len(self._catalogue)
        mask = np.ones(n, dtype=np.bool_)
        said = cycle(say(self._titles, self._choice.seed))

        def ask() -> list[int]:
            return search(
                next(said),
                catalogue=self._catalogue,
                cache=self._cache,
                encode=encoder.encode,
                mask=mask,
                k=FOUND,
            )

        size = Size(f"search among {n:,} titles", titles=n, made="the whole table")
        return (Case(size, one_stage(ask, "search")),)

    def check(self) -> Parity:
        """By the golden vectors of the text encoder."""
        return golden_parity(self._bundle, "text_encoder", self._choice.threads)

    def close(self) -> None:
        """Remove cache.db."""
        self._cache.close()
        self._folder.cleanup()


def fill_cache(path: Path, bundle: Bundle, titles: tuple[Title, ...]) -> TitleCache:
    """A cache.db with the Bundle's own titles, none of which needs the text encoder."""
    cache = TitleCache(path)

    def encode(unseen: object) -> np.ndarray:
        raise UsageError(f"{bundle.path}: its own titles are not in its table: {unseen}")

    intake = Intake(cache, bundle, encode)
    intake.adopt()
    intake.replace("bundle", titles, problems=Problems(), keep=(), now=0.0)
    return cache


def say(titles: tuple[Title, ...], seed: int) -> list[str]:
    """Beginnings of the names of some titles."""
    chosen = np.random.default_rng(seed).integers(0, len(titles), QUERIES).tolist()
    return [" ".join(titles[row].name.split()[:SPOKEN_WORDS]) for row in chosen]
