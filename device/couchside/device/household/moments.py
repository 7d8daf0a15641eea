"""Who lives here and what they did, as one immutable ``Moment`` that answers read without a lock.

Whatever changes the household or its titles makes the next moment and swaps the reference before
it is acknowledged: feedback is visible in the very next answer, and neither a load nor a slow
flash chip delays the shelf. A user vector is made when an event is acknowledged, never by ``rows``.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from couchside.device.errors import BundleError, RequestError
from couchside.device.household.ledger import Ledger
from couchside.device.household.store import Acknowledgement
from couchside.device.shelf.rows import Viewer
from couchside.device.shelf.taste import steps_of
from couchside.device.shelf.watching import advance, fold

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from couchside.device.catalogue.arrays import Catalogue
    from couchside.device.household.store import Consent, HistoryStore
    from couchside.device.models import Models
    from couchside.device.records import Profile, ViewingEvent
    from couchside.device.shelf.taste import Steps
    from couchside.device.shelf.watching import Viewing


@dataclass(frozen=True, slots=True)
class Member:
    """A profile at one moment."""

    profile: Profile
    viewings: Mapping[str, Viewing]
    steps: Steps
    """The history as the user model read it."""
    user: NDArray[np.float32] | None
    """User vector [d]; None without a history."""
    taste: int
    """Grows when ``user`` may have changed; the version of reasons."""
    personal: NDArray[np.float32] | None = None
    """What this TV learned for the profile; None for what was shipped."""

    @property
    def viewer(self) -> Viewer:
        """As the shelf sees the profile."""
        return Viewer(self.viewings, self.user, self.profile.max_maturity)


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything that an answer depends on."""

    catalogue: Catalogue
    members: Mapping[str, Member]
    generation: int
    """Of the history."""

    def member(self, profile_id: str) -> Member:
        """The profile.

        Raises:
            RequestError: there is no such profile.
        """
        try:
            return self.members[profile_id]
        except KeyError:
            raise RequestError(
                f"no profile {profile_id!r}; profiles.list tells which there are",
                field="profile_id",
            ) from None


class Household:
    """The profiles, their history, and the moment they make together with the titles.

    Args:
        store: history.db.
        models: the running Bundle's.
        catalogue: the titles at the start.
        failed: called with the reason when the user model breaks its promise; the profile then
            keeps the user vector it had.
    """

    def __init__(
        self,
        store: HistoryStore,
        models: Models,
        catalogue: Catalogue,
        failed: Callable[[str], None],
    ) -> None:
        self._store = store
        self._models = models
        self._failed = failed
        self._writing = threading.RLock()
        self._tastes = 0
        self.ledger = Ledger(store)
        self._moment = Moment(catalogue, self._read_members(catalogue), store.generation)

    @property
    def moment(self) -> Moment:
        """What answers depend on now."""
        return self._moment

    def watched_titles(self) -> set[str]:
        """The title_ids in anybody's history."""
        return {title for member in self._moment.members.values() for title in member.viewings}

    def add_event(self, event: ViewingEvent) -> Acknowledgement:
        """Take an event; on return it is durable (or said to be buffered) and counts.

        Raises:
            RequestError: there is no such profile.
        """
        with self._writing:
            moment = self._moment
            member = moment.member(event.profile_id)
            sequence, acknowledgement = self._store.add(event)
            if acknowledgement is not Acknowledgement.DUPLICATE:
                kind, duration = moment.catalogue.facts(event.title_id)
                before = member.viewings.get(event.title_id)
                after = advance(before, event, sequence=sequence, kind=kind, duration_s=duration)
                viewings = {**member.viewings, event.title_id: after}
                changed = self._member(moment.catalogue, member.profile, viewings, before=member)
                self._swap(moment.catalogue, {**moment.members, event.profile_id: changed})
            return acknowledgement

    def consent(self) -> list[Consent]:
        """The household's word on every purpose."""
        return self._store.consent()

    def put_profile(self, profile: Profile) -> None:
        """Add a profile, or change its name or fence."""
        with self._writing:
            self._store.put_profile(profile)
            self._read_again()

    def remove_profile(self, profile_id: str) -> None:
        """Remove a profile with everything it did.

        Raises:
            RequestError: there is no such profile, or it is the household's own.
        """
        with self._writing:
            self._moment.member(profile_id)
            self._store.remove_profile(profile_id)
            self._read_again()

    def forget(self, *, title_id: str | None, profile_id: str | None) -> int:
        """Erase the events of a title, of a profile, of both, or (neither) all; their number.

        Raises:
            RequestError: there is no such profile.
        """
        with self._writing:
            if profile_id is not None:
                self._moment.member(profile_id)
            erased = self._store.forget(title_id=title_id, profile_id=profile_id)
            self._read_again()
            return erased

    def take(self, catalogue: Catalogue) -> None:
        """Use other titles from now on; user vectors follow their titles' vectors."""
        with self._writing:
            members = {
                name: self._member(catalogue, member.profile, member.viewings, own=member.personal)
                for name, member in self._moment.members.items()
            }
            self._swap(catalogue, members)

    def learned(self, values: Mapping[str, NDArray[np.float32]], sequence: int) -> None:
        """Take personal values of profiles [p], learned from the history up to ``sequence``.

        An empty array says that the shipped values are better; a profile that is gone takes none.
        """
        with self._writing:
            moment = self._moment
            members = dict(moment.members)
            for profile_id in values.keys() & members.keys():
                member = members[profile_id]
                own = self._proven(values[profile_id], member.steps)
                self.ledger.put_personal(profile_id, self._models.bundle.bundle_id, sequence, own)
                members[profile_id] = self._member(
                    moment.catalogue,
                    member.profile,
                    member.viewings,
                    own=own if len(own) else None,
                )
            self._swap(moment.catalogue, members)

    def _proven(self, own: NDArray[np.float32], steps: Steps) -> NDArray[np.float32]:
        """``own``, or nothing if the user model can't run with it, which is no Bundle's fault."""
        try:
            self._models.user(steps, own if len(own) else None)
        except BundleError:
            return own[:0]
        return own

    def close(self) -> None:
        """Write what waits and take no more events."""
        with self._writing:
            self._store.close()

    def _read_again(self) -> None:
        self._swap(self._moment.catalogue, self._read_members(self._moment.catalogue))

    def _swap(self, catalogue: Catalogue, members: Mapping[str, Member]) -> None:
        self._moment = Moment(catalogue, members, self._store.generation)

    def _read_members(self, catalogue: Catalogue) -> dict[str, Member]:
        members = {}
        personal = self.ledger.personal(self._models.bundle.bundle_id)
        for profile in self._store.profiles():
            stored = self._store.history(profile.profile_id)
            viewings = fold(((one.sequence, one.event) for one in stored), catalogue.facts)
            _, own = personal.get(profile.profile_id, (0, None))
            members[profile.profile_id] = self._member(
                catalogue, profile, viewings, own=own if own is not None and len(own) else None
            )
        return members

    def _member(
        self,
        catalogue: Catalogue,
        profile: Profile,
        viewings: Mapping[str, Viewing],
        *,
        before: Member | None = None,
        own: NDArray[np.float32] | None = None,
    ) -> Member:
        """A profile with its user vector, which is ``before``'s where the taste is the same."""
        steps = steps_of(viewings.values(), catalogue, self._models.length)
        if before is not None and steps.same_as(before.steps):
            return replace(before, viewings=viewings)
        self._tastes += 1
        personal = own if before is None else before.personal
        try:
            user = self._models.user(steps, personal)
        except BundleError as error:
            self._failed(str(error))
            user = None if before is None else before.user
        return Member(profile, viewings, steps, user, self._tastes, personal)
