"""Answers: the shelf, titles like one, search, and why a card stands where it stands."""

from __future__ import annotations

import time
from array import array
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from couchside.device.errors import RequestError
from couchside.device.features import CLOCK_FLOOR, Signal
from couchside.device.ranker import score, top_k
from couchside.device.records import Card, Ranking, Row, RowCode
from couchside.device.shelf.reasons import Inquiry, Question, ReasonBook
from couchside.device.shelf.rows import Place, Shelf
from couchside.device.shelf.search import search

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from couchside.device.catalogue.arrays import Catalogue
    from couchside.device.catalogue.cache import Face, TitleCache
    from couchside.device.config import RowSettings
    from couchside.device.household.moments import Household, Member, Moment
    from couchside.device.models import Models
    from couchside.device.records import Reason, Title
    from couchside.device.shelf.rows import Line
    from couchside.device.shelf.taste import Steps

TIMED = 1000
"""Last answers whose time is remembered."""


class Recommender:
    """Answers for one household.

    Args:
        household: whose moments it reads.
        cache: where the texts of cards and the words for search are.
        models: the running Bundle's.
        settings: caps and thresholds of the shelf.
        clock: POSIX seconds by the TV's clock, which may not have been set.
    """

    def __init__(
        self,
        household: Household,
        cache: TitleCache,
        models: Models,
        *,
        settings: RowSettings,
        clock: Callable[[], float],
    ) -> None:
        self._household = household
        self._cache = cache
        self._models = models
        self._settings = settings
        self._clock = clock
        self.reasons = ReasonBook()
        self.timings = Timings(TIMED)

    def now(self) -> float | None:
        """POSIX seconds; None if the TV's clock was never set."""
        now = self._clock()
        return now if now >= CLOCK_FLOOR else None

    def rows(
        self, profile_id: str, *, rows: int | None = None, cards: int | None = None
    ) -> Ranking:
        """The shelf of a profile, at most as large as the settings allow.

        Raises:
            RequestError: there is no such profile.
        """
        started = time.perf_counter()
        moment = self._household.moment
        member = moment.member(profile_id)
        settings = replace(
            self._settings,
            rows=min(rows or self._settings.rows, self._settings.rows),
            cards=min(cards or self._settings.cards, self._settings.cards),
        )
        shelf = self._shelf(moment, member, settings)
        lines = shelf.lines()
        reasons = self.reasons.known(profile_id, member.taste)
        dressed = self._dress(moment.catalogue, lines, reasons)
        self._ask_reasons(shelf, member, lines, reasons)
        self.timings.add(time.perf_counter() - started)
        return Ranking(dressed, self._models.bundle.version, moment.generation)

    def similar(self, title_id: str, profile_id: str, k: int) -> tuple[Card, ...]:
        """Titles most like one title, for the page of a film.

        Raises:
            RequestError: the profile or the title is unknown, or the title has no vector.
        """
        moment = self._household.moment
        member = moment.member(profile_id)
        titles = moment.catalogue
        row = _visible_row(titles, member, title_id)
        if not titles.has_vector[row]:
            raise RequestError(f"title {title_id!r} has no vector yet", field="title_id")
        others = self._findable(titles, member) & (titles.group != titles.group[row])
        best = top_k(titles.likeness(row), k, titles.one_per_group(others & titles.has_vector))
        return self._cards(titles, [int(place) for place in best])

    def search(self, text: str, profile_id: str, k: int) -> tuple[Card, ...]:
        """Titles for what a viewer typed or said.

        Raises:
            RequestError: there is no such profile.
        """
        moment = self._household.moment
        member = moment.member(profile_id)
        found = search(
            text,
            catalogue=moment.catalogue,
            cache=self._cache,
            encode=self._models.encode,
            mask=self._findable(moment.catalogue, member),
            k=k,
        )
        return self._cards(moment.catalogue, found)

    def explain(self, title_id: str, profile_id: str) -> tuple[RowCode | None, Reason | None]:
        """Where on the shelf a title stands, and why; found out now if it was not yet.

        Raises:
            RequestError: the profile or the title is unknown.
        """
        moment = self._household.moment
        member = moment.member(profile_id)
        row = _visible_row(moment.catalogue, member, title_id)
        shelf = self._shelf(moment, member, self._settings)
        for line in shelf.lines():
            for place in line.places:
                if place.row == row and place.reason is not None:
                    return line.code, place.reason
                if place.row == row:
                    return line.code, self._reason(shelf, member, row)
        return None, self._reason(shelf, member, row)

    def title(self, title_id: str, profile_id: str) -> Title:
        """Everything that the catalogue says about a title.

        Raises:
            RequestError: the profile or the title is unknown.
        """
        moment = self._household.moment
        _visible_row(moment.catalogue, moment.member(profile_id), title_id)
        title = self._cache.title(title_id)
        if title is None:  # it left the cache a moment ago
            raise RequestError(f"no title {title_id!r} in the catalogue", field="title_id")
        return title

    def names(self, title_ids: Iterable[str]) -> dict[str, str]:
        """Names by title_id, as far as known."""
        faces = self._cache.faces(list(title_ids))
        return {title_id: face.name for title_id, face in faces.items()}

    def _shelf(self, moment: Moment, member: Member, settings: RowSettings) -> Shelf:
        return Shelf(
            moment.catalogue,
            member.viewer,
            now=self.now(),
            weight=self._models.bundle.popularity_weight,
            settings=settings,
        )

    def _findable(self, titles: Catalogue, member: Member) -> NDArray[np.bool_]:
        """[n]; what a profile may find by looking: on demand, on air, or announced."""
        now = self.now()
        there = titles.on_demand(now) | titles.on_air(now) | titles.upcoming(now)
        return there & titles.fence(member.profile.max_maturity)

    def _dress(
        self, titles: Catalogue, lines: Sequence[Line], reasons: Mapping[str, Reason | None]
    ) -> tuple[Row, ...]:
        """Rows with the texts of their cards and the reasons known so far."""
        shown = [place.row for line in lines for place in line.places]
        shown += [line.seed for line in lines if line.seed is not None]
        faces = self._cache.faces([titles.title_ids[row] for row in shown])
        return tuple(
            Row(
                line.code,
                tuple(_dressed(titles, line.places, faces, reasons)),
                _heading(titles, line, faces),
            )
            for line in lines
        )

    def _cards(self, titles: Catalogue, rows: Sequence[int]) -> tuple[Card, ...]:
        faces = self._cache.faces([titles.title_ids[row] for row in rows])
        places = [Place(row, expires_at=titles.expires_at(row)) for row in rows]
        return tuple(_dressed(titles, places, faces, {}))

    def _ask_reasons(
        self,
        shelf: Shelf,
        member: Member,
        lines: Sequence[Line],
        known: Mapping[str, Reason | None],
    ) -> None:
        """Have reasons found for the cards that have none yet, after this answer."""
        wanted = [
            place.row
            for line in lines
            if line.code is RowCode.FOR_YOU
            for place in line.places
            if shelf.catalogue.title_ids[place.row] not in known
        ]
        if wanted:
            self.reasons.ask(member.profile.profile_id, self._inquiry(shelf, member, wanted))

    def _reason(self, shelf: Shelf, member: Member, row: int) -> Reason | None:
        """The reason of one card, from the book or found out now."""
        title_id, profile_id = shelf.catalogue.title_ids[row], member.profile.profile_id
        known = self.reasons.known(profile_id, member.taste)
        if title_id not in known:
            known = self.reasons.answer(profile_id, self._inquiry(shelf, member, [row]))
        return known[title_id]

    def _inquiry(self, shelf: Shelf, member: Member, rows: Sequence[int]) -> Inquiry:
        titles = shelf.catalogue
        cards = np.array(rows, dtype=np.int64)
        history = np.array([titles.index[name] for name in member.steps.title_ids], dtype=np.int64)
        candidates = shelf.discoverable & titles.has_vector
        candidates[cards] = True
        question = Question(
            member.steps,
            titles.group[history],
            titles.fence(member.profile.max_maturity)[history]
            & (member.steps.signals != Signal.NEGATIVE),
            shelf.scores,
            candidates,
            cards,
            titles.vectors[cards],
        )
        names = tuple(titles.title_ids[row] for row in rows)
        return Inquiry(member.taste, names, question, self._rescorer(titles, member.personal))

    def _rescorer(
        self, titles: Catalogue, personal: NDArray[np.float32] | None
    ) -> Callable[[Steps], NDArray[np.float32]]:
        weight = self._models.bundle.popularity_weight
        nobody = np.zeros(titles.vectors.shape[1], np.float32)

        def rescore(steps: Steps) -> NDArray[np.float32]:
            user = self._models.user(steps, personal)
            return score(
                nobody if user is None else user, titles.vectors, titles.popularity, weight
            )

        return rescore


def _visible_row(titles: Catalogue, member: Member, title_id: str) -> int:
    """The row of a title that this profile may know of."""
    row = titles.index.get(title_id)
    if row is None or not titles.fence(member.profile.max_maturity)[row]:
        raise RequestError(f"no title {title_id!r} in the catalogue", field="title_id")
    return row


def _dressed(
    titles: Catalogue,
    places: Iterable[Place],
    faces: Mapping[str, Face],
    reasons: Mapping[str, Reason | None],
) -> Iterable[Card]:
    for place in places:
        title_id = titles.title_ids[place.row]
        face = faces.get(title_id)
        if face is not None:  # else it left the cache a moment ago
            yield Card(
                title_id,
                face.name,
                place.reason or reasons.get(title_id),
                place.progress,
                place.expires_at,
                face.deep_link,
                face.artwork,
            )


def _heading(
    titles: Catalogue, line: Line, faces: Mapping[str, Face]
) -> tuple[tuple[str, str], ...]:
    """What the launcher needs for the heading of a row."""
    seed = None if line.seed is None else faces.get(titles.title_ids[line.seed])
    return () if seed is None else (("title_id", seed.title_id), ("name", seed.name))


class Timings:
    """The last n durations.

    Args:
        size: how many are remembered.
    """

    def __init__(self, size: int) -> None:
        self._seconds = array("d")
        self._size = size
        self.count = 0

    def add(self, seconds: float) -> None:
        """Remember one more."""
        if len(self._seconds) < self._size:
            self._seconds.append(seconds)
        else:
            self._seconds[self.count % self._size] = seconds
        self.count += 1

    def percentile(self, percent: float) -> float | None:
        """Nearest-rank percentile in seconds; None before the first."""
        ordered = sorted(self._seconds)
        if not ordered:
            return None
        rank = max(1, -(-len(ordered) * percent // 100))
        return ordered[int(rank) - 1]
