"""The shelf: which rows, which titles, in which order. Pure: arrays and values in, places out.

One card per series and no title twice across the whole shelf (a row further up wins), a hard
maturity fence, dismissed and disliked titles nowhere, finished ones in no row of discovery.
Caps default to Google Engage's; continue watching follows Google's Watch Next rules. "For you" is
diversified by maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from couchside.device.bundle import unit
from couchside.device.catalogue.arrays import KINDS
from couchside.device.ranker import score, top_k
from couchside.device.records import EventKind, Reason, ReasonCode, RowCode, TitleKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from couchside.device.catalogue.arrays import Catalogue
    from couchside.device.config import RowSettings
    from couchside.device.shelf.watching import Viewing

DAY = 86_400.0
SEEDS = 6
"""Last titles that may seed a "because you watched" row, whether or not they make one."""

POPULAR_SHARE = 0.01
"""Of the most popular title's share: less is not "watched by many"."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """One profile as the shelf sees it."""

    viewings: Mapping[str, Viewing]
    user: NDArray[np.float32] | None = None
    """User vector [d]; None while nothing is known of the profile's taste."""
    max_maturity: int | None = None
    """Years; None is no fence."""


@dataclass(frozen=True, slots=True)
class Place:
    """A card before its texts are fetched; ``row`` is the title's row in the catalogue."""

    row: int
    reason: Reason | None = None
    progress: float | None = None
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the shelf before its texts are fetched."""

    code: RowCode
    places: tuple[Place, ...]
    seed: int | None = None
    """Catalogue row of the title that "because you watched" names."""


class Shelf:
    """Builds the rows of one viewer at one moment.

    Args:
        catalogue: the titles.
        viewer: the profile.
        now: POSIX seconds; None if the TV's clock was never set.
        weight: the Bundle's weight of popularity.
        settings: caps and thresholds.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        viewer: Viewer,
        *,
        now: float | None,
        weight: float,
        settings: RowSettings,
    ) -> None:
        self.catalogue = catalogue
        self.viewer = viewer
        self.now = now
        self.settings = settings
        nobody = np.zeros(catalogue.vectors.shape[1], np.float32)
        user = nobody if viewer.user is None else viewer.user
        self.scores = score(user, catalogue.vectors, catalogue.popularity, weight)
        self._taken = np.zeros(catalogue.groups, dtype=np.bool_)
        self._fence = catalogue.fence(viewer.max_maturity)
        self._watched = self._last_watched()
        hidden, disliked, met = self._known_groups()
        allowed = self._fence & ~hidden[catalogue.group]
        self._choosable = allowed & catalogue.on_demand(now)
        self._on_air = allowed & catalogue.on_air(now) & ~disliked[catalogue.group]
        fresh = ~(met | disliked)[catalogue.group]
        self.discoverable = catalogue.one_per_group(self._choosable & fresh)
        """bool [n]: what discovery rows may show, one face of each group."""

    def lines(self) -> list[Line]:
        """The rows from top to bottom, none of them empty."""
        rows: list[Line] = []
        for line in self._all_lines():
            if line.places:
                self._taken[[self.catalogue.group[place.row] for place in line.places]] = True
                rows.append(line)
            if len(rows) == self.settings.rows:
                break
        return rows

    def _all_lines(self) -> Iterator[Line]:
        """Rows in order; lazily, as each depends on what those before it took."""
        yield Line(RowCode.CONTINUE_WATCHING, tuple(self._continue_watching()))
        yield Line(RowCode.FOR_YOU, tuple(self._for_you()))
        yield Line(RowCode.LIVE_NOW, tuple(self._live_now()))
        yield from self._because_you_watched()
        yield Line(RowCode.NEW, tuple(self._new()))
        yield Line(RowCode.POPULAR, tuple(self._popular()))

    def _known_groups(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """Groups dismissed since they were last played, those disliked, and those met before."""
        hidden, disliked, met = np.zeros((3, self.catalogue.groups), dtype=np.bool_)
        met[list(self._watched)] = True
        for viewing in self.viewer.viewings.values():
            row = self.catalogue.index.get(viewing.title_id)
            if row is not None and (viewing.dismissed or viewing.opinion is EventKind.DISLIKE):
                group = int(self.catalogue.group[row])
                last = self._watched.get(group)
                hidden[group] |= viewing.dismissed > (last[1].sequence if last else 0)
                disliked[group] |= viewing.opinion is EventKind.DISLIKE
        return hidden, disliked, met

    def _free(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The rows of ``mask`` whose group is not on the shelf yet."""
        return mask & ~self._taken[self.catalogue.group]

    def _place(self, row: int, reason: Reason | None, progress: float | None = None) -> Place:
        return Place(row, reason, progress, self.catalogue.expires_at(row))

    def _last_watched(self) -> dict[int, tuple[int, Viewing]]:
        """By group, catalogue row and viewing of what was played last in it, newest first."""
        found: dict[int, tuple[int, Viewing]] = {}
        newest = sorted(self.viewer.viewings.values(), key=lambda v: v.sequence, reverse=True)
        for viewing in newest:
            row = self.catalogue.index.get(viewing.title_id)
            if row is not None and (viewing.started or viewing.finished):
                found.setdefault(int(self.catalogue.group[row]), (row, viewing))
        return found

    def _continue_watching(self) -> Iterator[Place]:
        """Unfinished titles, and the next episode after a finished one, newest first."""
        left = min(self.settings.continue_watching, self.settings.cards)
        for row, viewing in self._watched.values():
            place = self._unfinished(row, viewing) or self._next_episode(row, viewing)
            if place is not None and left:
                left -= 1
                yield place

    def _unfinished(self, row: int, viewing: Viewing) -> Place | None:
        clip = KINDS[self.catalogue.kind[row]] is TitleKind.CLIP
        if not viewing.unfinished or clip or viewing.opinion is EventKind.DISLIKE:
            return None
        # A broadcast goes on without us: it can be continued only while it is paused.
        paused = self._on_air[row] and viewing.kind is EventKind.PAUSE
        if not (self._choosable[row] or paused):
            return None
        return self._place(row, Reason(ReasonCode.UNFINISHED), viewing.fraction)

    def _next_episode(self, row: int, viewing: Viewing) -> Place | None:
        if not viewing.finished:
            return None
        following = self.catalogue.next_episode(row, self._choosable)
        if following is None:
            return None
        seen = self.viewer.viewings.get(self.catalogue.title_ids[following])
        if seen is not None and (seen.finished or seen.opinion is EventKind.DISLIKE):
            return None
        progress = seen.fraction if seen is not None and seen.started else None
        evidence = (viewing.title_id,) if self._fence[row] else ()
        return self._place(following, Reason(ReasonCode.NEXT_EPISODE, evidence), progress)

    def _for_you(self) -> Iterator[Place]:
        """The best of the whole catalogue, diversified; nothing until a taste is known."""
        if self.viewer.user is None:
            return
        candidates = self._free(self.discoverable & self.catalogue.has_vector)
        pool = top_k(self.scores, self.settings.pool, candidates)
        vectors = unit(self.catalogue.vectors[pool] - self.catalogue.mean)
        chosen = diversify(
            self.scores[pool], vectors, k=self.settings.cards, weight=self.settings.diversity
        )
        # No reason yet: which past choice explains a card is found out afterwards (reasons.py).
        yield from (self._place(int(row), None) for row in pool[chosen])

    def _live_now(self) -> Iterator[Place]:
        """Programmes on air, never channels, the most fitting first."""
        rows = self._free(self.catalogue.one_per_group(self._on_air))
        for row in top_k(self.scores, self.settings.cards, rows):
            yield self._place(int(row), Reason(ReasonCode.ON_NOW))

    def _because_you_watched(self) -> Iterator[Line]:
        """A row for each of the last liked titles that enough others are really like."""
        left = self.settings.because_rows
        for row in self._seeds():
            if not left:
                return
            line = self._because(row)
            if len(line.places) >= self.settings.because_cards:
                left -= 1
                yield line

    def _seeds(self) -> list[int]:
        rows = [
            row
            for row, viewing in self._watched.values()
            if (viewing.finished or viewing.opinion is EventKind.LIKE)
            and viewing.opinion not in (EventKind.DISLIKE, EventKind.SKIP)
            and self.catalogue.has_vector[row]
            and self._fence[row]  # a heading names its seed, so the fence holds for it too
        ]
        return rows[:SEEDS]

    def _because(self, seed: int) -> Line:
        likeness = self.catalogue.likeness(seed)
        alike = self._free(self.discoverable & (likeness >= self.settings.because_similarity))
        reason = Reason(ReasonCode.SIMILAR_TO, (self.catalogue.title_ids[seed],))
        rows = top_k(likeness, self.settings.cards, alike)
        places = tuple(self._place(int(row), reason) for row in rows)
        return Line(RowCode.BECAUSE_YOU_WATCHED, places, seed)

    def _new(self) -> Iterator[Place]:
        """What came lately, the latest day first; first showings only, never a repeat on air."""
        if self.now is None:
            return
        oldest = self.now - self.settings.new_days * DAY
        arrived = np.maximum(self.catalogue.added_at, self.catalogue.on_demand_from)
        fresh = self._free(self.discoverable & (arrived >= oldest) & (arrived <= self.now))
        rows = np.flatnonzero(fresh)
        days = np.floor(arrived[rows] / DAY)
        order = np.lexsort((-self.scores[rows], -days))[: self.settings.cards]
        for row in rows[order]:
            yield self._place(int(row), Reason(ReasonCode.NEW_HERE))

    def _popular(self) -> Iterator[Place]:
        popularity = self.catalogue.popularity
        least = POPULAR_SHARE * float(popularity.max(initial=0.0))
        watched = self._free(self.discoverable & (popularity > 0.0) & (popularity >= least))
        for row in top_k(popularity, self.settings.cards, watched):
            yield self._place(int(row), Reason(ReasonCode.POPULAR))


def diversify(
    scores: NDArray[np.float32], vectors: NDArray[np.float32], *, k: int, weight: float
) -> list[int]:
    """Maximal marginal relevance: places of at most ``k`` of n titles, best first.

    Args:
        scores: relevance [n]; only its order and spacing count.
        vectors: unit vectors [n, d].
        k: how many.
        weight: in [0, 1], of not resembling what was chosen before.
    """
    n = len(scores)
    if not n:
        return []
    spread = float(scores.max() - scores.min())
    gain = (1.0 - weight) * (scores - scores.min()) / (spread or 1.0)
    resemblance = np.full(n, -1.0, dtype=np.float32)
    chosen: list[int] = []
    for _ in range(min(k, n)):
        value = gain - weight * resemblance if chosen else gain.copy()
        value[chosen] = -np.inf
        best = int(value.argmax())
        chosen.append(best)
        np.maximum(resemblance, vectors @ vectors[best], out=resemblance)
    return chosen
