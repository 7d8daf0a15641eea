"""Every method of the RPC: its parameters, who may call it, what it is for.

A parameter class is the schema: its fields, types and defaults are enforced as written, and each
error names the field. Identifiers are opaque; names and queries are any printable text.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal

from couchside.device.errors import RequestError
from couchside.device.household.store import HOUSEHOLD, Purpose
from couchside.device.records import EventKind  # noqa: TC001 - read at run time by strict

if TYPE_CHECKING:
    from collections.abc import Mapping

ID_CHARACTERS = 255
TEXT_CHARACTERS = 1000
MOST_CARDS = 100
MOST_EVENTS = 500
LONGEST_S = 366 * 86_400.0
LATEST_S = float(2**33)
"""POSIX seconds in the year 2242; a clock beyond it is broken."""
MOST_YEARS = 21


class Scope(Enum):
    """Who may call a method, by the user id of the process at the other end."""

    VIEWER = "viewer"  # any user that the socket's mode lets in: launchers and apps
    OWNER = "owner"  # root, the daemon's own user, and rpc.owner_uids


@dataclass(frozen=True, slots=True)
class NoParams:
    """Nothing."""


@dataclass(frozen=True, slots=True)
class EventParams:
    """A ViewingEvent; without ``at`` it happened now."""

    event_id: str
    title_id: str
    kind: EventKind
    profile_id: str = HOUSEHOLD
    at: float | None = None
    position_s: float | None = None
    duration_s: float | None = None
    credits_s: float | None = None

    def __post_init__(self) -> None:
        _identifiers(event_id=self.event_id, title_id=self.title_id, profile_id=self.profile_id)
        _between(0.0, LATEST_S, at=self.at)
        _between(
            0.0,
            LONGEST_S,
            position_s=self.position_s,
            duration_s=self.duration_s,
            credits_s=self.credits_s,
        )


@dataclass(frozen=True, slots=True)
class RowsParams:
    """For whom, and how much of the shelf at most."""

    profile_id: str = HOUSEHOLD
    rows: int | None = None
    cards: int | None = None

    def __post_init__(self) -> None:
        _identifiers(profile_id=self.profile_id)
        _between(1, MOST_CARDS, rows=self.rows, cards=self.cards)


@dataclass(frozen=True, slots=True)
class SimilarParams:
    """Which title, for whom, how many."""

    title_id: str
    profile_id: str = HOUSEHOLD
    k: int = 25

    def __post_init__(self) -> None:
        _identifiers(title_id=self.title_id, profile_id=self.profile_id)
        _between(1, MOST_CARDS, k=self.k)


@dataclass(frozen=True, slots=True)
class SearchParams:
    """What was typed or said, by whom, how many."""

    text: str
    profile_id: str = HOUSEHOLD
    k: int = 25

    def __post_init__(self) -> None:
        _texts(text=self.text)
        _identifiers(profile_id=self.profile_id)
        _between(1, MOST_CARDS, k=self.k)


@dataclass(frozen=True, slots=True)
class TitleParams:
    """Which title, for whom."""

    title_id: str
    profile_id: str = HOUSEHOLD

    def __post_init__(self) -> None:
        _identifiers(title_id=self.title_id, profile_id=self.profile_id)


@dataclass(frozen=True, slots=True)
class FeedbackParams:
    """An opinion; it has no default, so that a skip can never pass for a like."""

    event_id: str
    title_id: str
    opinion: Literal["like", "dislike", "skip", "watchlist", "clear"]
    profile_id: str = HOUSEHOLD

    def __post_init__(self) -> None:
        _identifiers(event_id=self.event_id, title_id=self.title_id, profile_id=self.profile_id)


@dataclass(frozen=True, slots=True)
class DismissParams:
    """A card that should go, whether or not it was watched."""

    event_id: str
    title_id: str
    profile_id: str = HOUSEHOLD

    def __post_init__(self) -> None:
        _identifiers(event_id=self.event_id, title_id=self.title_id, profile_id=self.profile_id)


@dataclass(frozen=True, slots=True)
class ForgetParams:
    """What to erase: of a title, of a profile, of both; all of it only by saying ``everything``."""

    title_id: str | None = None
    profile_id: str | None = None
    everything: bool = False

    def __post_init__(self) -> None:
        _identifiers(title_id=self.title_id, profile_id=self.profile_id)
        narrowed = self.title_id is not None or self.profile_id is not None
        if narrowed == self.everything:
            raise RequestError(
                "name a title_id or a profile_id (or both), or say everything: true",
                field="everything",
            )


@dataclass(frozen=True, slots=True)
class ExportParams:
    """Events after ``after``, at most ``limit``; call again with ``next`` until it is null."""

    profile_id: str | None = None
    after: int = 0
    limit: int = MOST_EVENTS

    def __post_init__(self) -> None:
        _identifiers(profile_id=self.profile_id)
        _between(0, 2**62, after=self.after)
        _between(1, MOST_EVENTS, limit=self.limit)


@dataclass(frozen=True, slots=True)
class ProfileParams:
    """A profile; one that is there is changed."""

    profile_id: str
    name: str
    max_maturity: int | None = None

    def __post_init__(self) -> None:
        _identifiers(profile_id=self.profile_id)
        _texts(name=self.name)
        _between(0, MOST_YEARS, max_maturity=self.max_maturity)


@dataclass(frozen=True, slots=True)
class ProfileIdParams:
    """Which profile."""

    profile_id: str

    def __post_init__(self) -> None:
        _identifiers(profile_id=self.profile_id)


@dataclass(frozen=True, slots=True)
class LoadParams:
    """A file of titles on this TV, and the name of the source that it replaces."""

    source: str
    path: str

    def __post_init__(self) -> None:
        _identifiers(source=self.source)
        _texts(path=self.path)
        if not self.path.startswith("/"):
            raise RequestError(
                "path must be absolute: the daemon has no place of its own", field="path"
            )


@dataclass(frozen=True, slots=True)
class SourceParams:
    """Which source."""

    source: str

    def __post_init__(self) -> None:
        _identifiers(source=self.source)


@dataclass(frozen=True, slots=True)
class ConsentParams:
    """The household's word on one purpose."""

    purpose: Purpose
    granted: bool


@dataclass(frozen=True, slots=True)
class StateParams:
    """What the power manager knows: whether anybody is there, and whether bytes cost."""

    standby: bool
    unmetered: bool = False


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the RPC."""

    params: type
    scope: Scope
    summary: str


METHODS: Mapping[str, Method] = {
    "event": Method(EventParams, Scope.VIEWER, "The household did something with a title."),
    "rows": Method(RowsParams, Scope.VIEWER, "The shelf."),
    "similar": Method(SimilarParams, Scope.VIEWER, "Titles like one title."),
    "search": Method(SearchParams, Scope.VIEWER, "Titles for what was typed or said."),
    "title": Method(TitleParams, Scope.VIEWER, "Everything the catalogue says about a title."),
    "health": Method(NoParams, Scope.VIEWER, "How the daemon is; names no title."),
    "explain": Method(TitleParams, Scope.OWNER, "Why a title stands where it stands."),
    "feedback": Method(FeedbackParams, Scope.OWNER, "An opinion about a title."),
    "dismiss": Method(DismissParams, Scope.OWNER, "Hide a card until the title is played again."),
    "forget": Method(ForgetParams, Scope.OWNER, "Erase history, down to the bytes."),
    "export": Method(ExportParams, Scope.OWNER, "Everything that is stored of the household."),
    "profiles.list": Method(NoParams, Scope.OWNER, "The members of the household."),
    "profiles.add": Method(ProfileParams, Scope.OWNER, "Add a member, or change one."),
    "profiles.remove": Method(ProfileIdParams, Scope.OWNER, "Remove a member and all it did."),
    "catalogue.load": Method(LoadParams, Scope.OWNER, "Replace a source of titles by a file."),
    "catalogue.remove": Method(SourceParams, Scope.OWNER, "Drop a source of titles."),
    "catalogue.status": Method(NoParams, Scope.OWNER, "The sources of titles."),
    "consent.get": Method(NoParams, Scope.OWNER, "What the household allows."),
    "consent.set": Method(ConsentParams, Scope.OWNER, "Allow or forbid one purpose."),
    "bundle.status": Method(NoParams, Scope.OWNER, "The Bundle that ranks, and its trial."),
    "device.state": Method(StateParams, Scope.OWNER, "The TV is idle, or the household is back."),
    "learning.status": Method(NoParams, Scope.OWNER, "What was learned, and what of it left."),
    "standby": Method(NoParams, Scope.OWNER, "The TV goes to standby: write what waits."),
}


def _identifiers(**values: str | None) -> None:
    for field, value in values.items():
        if value is not None and not (0 < len(value) <= ID_CHARACTERS and value.isprintable()):
            raise RequestError(
                f"{field} must be 1 to {ID_CHARACTERS} printable characters", field=field
            )


def _texts(**values: str) -> None:
    for field, value in values.items():
        if not (value.strip() and len(value) <= TEXT_CHARACTERS and _is_utf8(value)):
            raise RequestError(f"{field} must be 1 to {TEXT_CHARACTERS} characters", field=field)


def _is_utf8(value: str) -> bool:
    """Whether it can be stored; JSON can write half a surrogate pair, UTF-8 can't."""
    return not any("\ud800" <= char <= "\udfff" for char in value)


def _between(low: float, high: float, **values: float | None) -> None:
    for field, value in values.items():
        if value is not None and not low <= value <= high:
            raise RequestError(f"{field} must be from {low:g} to {high:g}", field=field)
