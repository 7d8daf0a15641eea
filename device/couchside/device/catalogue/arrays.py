"""The titles of this TV as compact columns in memory: what ranking and rows look at.

An immutable picture: a load builds the next one beside it and the household swaps the reference,
so answering never waits for loading.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from couchside.device.records import TitleKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from couchside.device.bundle import Bundle
    from couchside.device.catalogue.cache import TitleCache

KINDS = tuple(TitleKind)
UNKNOWN = -1
"""Maturity or order that nobody told us."""
EPISODES = 1_000_001
"""More than any season has; readers refuse larger episode numbers."""


@dataclass(frozen=True)
class Catalogue:
    """n titles, one row each; d is the width of item vectors. Times are POSIX seconds."""

    title_ids: list[str]
    item_row: NDArray[np.int32]
    """[n]; of the Bundle's item table, UNKNOWN where the Bundle does not know the title."""
    vectors: NDArray[np.float32]
    """[n, d]; a zero row has no vector yet."""
    popularity: NDArray[np.float32]
    """[n]; 0 for titles that the Bundle does not know."""
    kind: NDArray[np.int8]
    """[n], places in KINDS."""
    group: NDArray[np.int32]
    """[n]; titles of one series share a group, any other title has its own."""
    order: NDArray[np.int64]
    """[n]; season and episode as one growing number, UNKNOWN where not told."""
    maturity: NDArray[np.int16]
    """[n]; years, or UNKNOWN."""
    duration_s: NDArray[np.float32]
    """[n]; NaN where not told."""
    on_demand_from: NDArray[np.float64]
    """[n]; when it can be chosen freely; inf for what is only broadcast or no longer here."""
    on_demand_until: NDArray[np.float64]
    """[n]."""
    starts_at: NDArray[np.float64]
    """[n]; of the broadcast, inf if there is none."""
    ends_at: NDArray[np.float64]
    """[n]; of the broadcast, -inf if there is none."""
    added_at: NDArray[np.float64]
    """[n]; when it came to this TV, -inf if it was there from the first."""

    def __len__(self) -> int:
        return len(self.title_ids)

    @cached_property
    def index(self) -> dict[str, int]:
        """Row by title_id."""
        return {title_id: row for row, title_id in enumerate(self.title_ids)}

    @cached_property
    def groups(self) -> int:
        """Number of groups."""
        return int(self.group.max(initial=-1)) + 1

    @cached_property
    def has_vector(self) -> NDArray[np.bool_]:
        """Bool [n]; false until the encoder has read the title."""
        return np.asarray(self.vectors.any(axis=1))

    @cached_property
    def mean(self) -> NDArray[np.float32]:
        """[d]; what all vectors share says nothing about two of them being alike."""
        known = self.vectors[self.has_vector]
        width = self.vectors.shape[1]
        return np.asarray(known.mean(axis=0) if len(known) else np.zeros(width, np.float32))

    @cached_property
    def centred_norms(self) -> NDArray[np.float32]:
        """[n], ‖v - mean‖."""
        squares = np.einsum("nd,nd->n", self.vectors, self.vectors)
        squares -= 2.0 * (self.vectors @ self.mean) - self.mean @ self.mean
        return np.asarray(np.sqrt(np.maximum(squares, 1e-12)), dtype=np.float32)

    @cached_property
    def by_group(self) -> NDArray[np.int64]:
        """[n] rows so that a group's best face comes first: the series itself, then episode 1."""
        unknown_last = np.where(self.order == UNKNOWN, np.iinfo(np.int64).max, self.order)
        is_series = self.kind == KINDS.index(TitleKind.SERIES)
        return np.lexsort((self.starts_at, unknown_last, ~is_series, self.group))

    def on_demand(self, now: float | None) -> NDArray[np.bool_]:
        """[n]; what can be chosen at ``now``. Without a clock (None) windows can't be judged."""
        if now is None:
            return self.on_demand_from < math.inf
        return (self.on_demand_from <= now) & (now < self.on_demand_until)

    def on_air(self, now: float | None) -> NDArray[np.bool_]:
        """[n]; programmes that are being broadcast at ``now``; none without a clock."""
        if now is None:
            return np.zeros(len(self), dtype=np.bool_)
        return (self.starts_at <= now) & (now < self.ends_at)

    def upcoming(self, now: float | None) -> NDArray[np.bool_]:
        """[n]; programmes that will be broadcast later than ``now``."""
        if now is None:
            return np.zeros(len(self), dtype=np.bool_)
        return (self.starts_at > now) & (self.starts_at < math.inf)

    def fence(self, max_maturity: int | None) -> NDArray[np.bool_]:
        """[n]; what a profile may see. With a fence, what nobody rated counts as adult."""
        if max_maturity is None:
            return np.ones(len(self), dtype=np.bool_)
        return np.asarray((self.maturity != UNKNOWN) & (self.maturity <= max_maturity))

    def one_per_group(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """[n]; of the rows in ``mask``, the best face of each group."""
        rows = self.by_group[mask[self.by_group]]
        groups = self.group[rows]
        first = np.ones(len(rows), dtype=np.bool_)
        first[1:] = groups[1:] != groups[:-1]
        result = np.zeros(len(self), dtype=np.bool_)
        result[rows[first]] = True
        return result

    def likeness(self, row: int) -> NDArray[np.float32]:
        """[n]; centred cosine similarity of every title to the one in ``row``, in [-1, 1].

        Centred, because all titles of a learned space lean the same way: uncentred, everything
        is "because you watched" everything (the complaint about every other media centre).
        """
        seed = self.vectors[row] - self.mean
        products = self.vectors @ seed - self.mean @ seed
        return np.asarray(
            np.where(self.has_vector, products / self.centred_norms, 0.0)
            / max(float(np.linalg.norm(seed)), 1e-6),
            dtype=np.float32,
        )

    def next_episode(self, row: int, mask: NDArray[np.bool_]) -> int | None:
        """The row in ``mask`` that follows ``row`` in its series; None if there is none."""
        if self.order[row] == UNKNOWN:
            return None
        later = mask & (self.group == self.group[row]) & (self.order > self.order[row])
        rows = np.flatnonzero(later)
        return int(rows[np.argmin(self.order[rows])]) if len(rows) else None

    def expires_at(self, row: int) -> float | None:
        """When a card of this title must go: its window or its broadcast ends; None: never."""
        broadcast = self.on_demand_from[row] == math.inf
        ends = float((self.ends_at if broadcast else self.on_demand_until)[row])
        return ends if math.isfinite(ends) else None

    def facts(self, title_id: str) -> tuple[TitleKind | None, float | None]:
        """Kind and length in seconds of a title, as far as known."""
        row = self.index.get(title_id)
        if row is None:
            return None, None
        duration = float(self.duration_s[row])
        return KINDS[self.kind[row]], None if math.isnan(duration) else duration


@dataclass(frozen=True, slots=True)
class Facts:
    """What the arrays take from a title; the names are those of cache.db's columns."""

    title_id: str
    kind: str
    digest: str
    """Of its text; programmes of equal text are one programme, repeated."""
    source: str | None = None
    """None: it is kept for the history and can't be shown."""
    item_row: int | None = None
    series_id: str | None = None
    season: int | None = None
    episode: int | None = None
    maturity: int | None = None
    duration_s: float | None = None
    starts_at: float | None = None
    ends_at: float | None = None
    available_from: float | None = None
    available_until: float | None = None
    added_at: float | None = None
    vector: bytes | None = None
    """Float32, little-endian [d], if it was made here."""


COLUMNS = tuple(field.name for field in fields(Facts) if field.name != "vector")


def build(cache: TitleCache, bundle: Bundle) -> Catalogue:
    """The arrays of everything in ``cache``; without vectors while it belongs to another Bundle."""
    rows = (Facts(*row) for row in cache.columns(COLUMNS))
    titles = arrange(rows, n=cache.count(), d=bundle.model.d)
    if cache.bundle_id() != bundle.bundle_id:
        titles.vectors[:] = 0.0
        return titles
    known = np.flatnonzero(titles.item_row >= 0)
    if len(known):
        titles.vectors[known] = bundle.item_vectors()[titles.item_row[known]]
        titles.popularity[known] = bundle.tensor("popularity")[titles.item_row[known]]
    return titles


def arrange(facts: Iterable[Facts], *, n: int, d: int) -> Catalogue:
    """Write ``n`` titles into arrays; those with an item row still lack vector and popularity."""
    titles = Catalogue(
        title_ids=[],
        item_row=np.full(n, UNKNOWN, np.int32),
        vectors=np.zeros((n, d), np.float32),
        popularity=np.zeros(n, np.float32),
        kind=np.zeros(n, np.int8),
        group=np.zeros(n, np.int32),
        order=np.full(n, UNKNOWN, np.int64),
        maturity=np.full(n, UNKNOWN, np.int16),
        duration_s=np.full(n, np.nan, np.float32),
        on_demand_from=np.full(n, np.inf),
        on_demand_until=np.full(n, np.inf),
        starts_at=np.full(n, np.inf),
        ends_at=np.full(n, -np.inf),
        added_at=np.full(n, -np.inf),
    )
    groups: dict[str, int] = {}
    for row, title in enumerate(facts):
        _fill(titles, row, title)
        titles.group[row] = groups.setdefault(_group_key(title), len(groups))
    return titles


def _fill(titles: Catalogue, row: int, title: Facts) -> None:
    """Write one title's facts into the arrays."""
    titles.title_ids.append(title.title_id)
    titles.kind[row] = KINDS.index(TitleKind(title.kind))
    if title.episode is not None:
        titles.order[row] = (title.season or 0) * EPISODES + title.episode
    for name in ("item_row", "maturity", "duration_s", "added_at"):
        value = getattr(title, name)
        if value is not None:
            getattr(titles, name)[row] = value
    if title.vector is not None:
        titles.vectors[row] = np.frombuffer(title.vector, "<f4")
    if title.source is not None:
        _fill_windows(titles, row, title)


def _group_key(title: Facts) -> str:
    """What makes two titles "the same thing" to a viewer: one series, or one repeated programme."""
    if title.series_id:
        return f"series {title.series_id}"
    if title.kind == TitleKind.SERIES:
        return f"series {title.title_id}"
    if title.kind == TitleKind.PROGRAMME:
        return f"text {title.digest}"
    return f"title {title.title_id}"


def _fill_windows(titles: Catalogue, row: int, title: Facts) -> None:
    """When a title can be chosen, and when it is broadcast."""
    starts, ends = title.starts_at, title.ends_at
    since, until = title.available_from, title.available_until
    # Whatever has a slot on a channel is a broadcast, an episode and a film as well.
    live = starts is not None and ends is not None
    if starts is not None and ends is not None:
        titles.starts_at[row] = starts
        titles.ends_at[row] = ends if until is None else min(ends, until)
        if math.isnan(titles.duration_s[row]):
            titles.duration_s[row] = ends - starts
    if not live or since is not None or until is not None:  # a broadcast: only with catch-up
        earliest = -math.inf if starts is None else starts
        titles.on_demand_from[row] = earliest if since is None else since
    if until is not None:
        titles.on_demand_until[row] = until
