"""One TV, put together: history and titles on disk, the running Bundle, and the answers.

What must happen across rooms is here and nowhere else: to forget is to erase from the history,
from the titles that were kept for its sake, and from the reasons, before it is acknowledged.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from couchside.device.catalogue.arrays import build
from couchside.device.catalogue.cache import TitleCache
from couchside.device.catalogue.library import Library
from couchside.device.household.moments import Household
from couchside.device.household.store import HistoryStore
from couchside.device.learning.spool import Spool
from couchside.device.learning.tutor import Tutor
from couchside.device.liveness import RunGuard, take_in_flight
from couchside.device.models import Models
from couchside.device.runtime.graph import check_golden
from couchside.device.shelf.recommender import Recommender
from couchside.device.slots import Choice, Slots, choose
from couchside.device.verdicts import Trial, Verdicts

if TYPE_CHECKING:
    from collections.abc import Callable

    from couchside.device.bundle import Bundle
    from couchside.device.config import Config
    from couchside.device.records import Profile


@dataclass(frozen=True, slots=True)
class TV:
    """The rooms of one TV."""

    store: HistoryStore
    cache: TitleCache
    household: Household
    library: Library
    recommender: Recommender
    choice: Choice
    trial: Trial
    guard: RunGuard
    tutor: Tutor
    clock: Callable[[], float]
    """POSIX seconds by the TV's clock, whatever it says."""

    def forget(self, *, title_id: str | None = None, profile_id: str | None = None) -> int:
        """Erase what was done with a title, by a profile, both, or (neither) everything.

        On return no file of the TV holds it and no answer knows of it. Updates that wait are taken
        back, as it may be in them. Titles that a source still
        offers stay: a catalogue says nothing about a household.

        Returns:
            The number of events erased.

        Raises:
            RequestError: there is no such profile.
        """
        if profile_id is not None:
            self.household.moment.member(profile_id)
        with self.tutor.silenced():
            erased = self.household.forget(title_id=title_id, profile_id=profile_id)
        self._forgotten()
        return erased

    def remove_profile(self, profile_id: str) -> None:
        """Remove a profile with everything it did.

        Raises:
            RequestError: there is no such profile, or it is the household's own.
        """
        self.household.moment.member(profile_id)
        with self.tutor.silenced():
            self.household.remove_profile(profile_id)
        self._forgotten()

    def put_profile(self, profile: Profile) -> None:
        """Add a profile, or change it.

        One that gets a fence takes part in nothing any more: what it took part in is taken back.
        """
        before = self.household.moment.members.get(profile.profile_id)
        was_open = before is not None and before.profile.max_maturity is None
        if was_open and profile.max_maturity is not None:
            with self.tutor.silenced():
                self.household.put_profile(profile)
        else:
            self.household.put_profile(profile)

    def close(self) -> None:
        """Write what waits and stop; a load in progress ends without effect."""
        self.tutor.stop()
        self.library.stop()
        self.recommender.reasons.stop()
        self.household.close()
        self.trial.stopped()
        self.guard.close()

    def _forgotten(self) -> None:
        self.recommender.reasons.forget()
        self.library.drop_unwatched()


def open_tv(
    config: Config,
    *,
    boot_id: str,
    give_up: Callable[[str], None],
    clock: Callable[[], float] = time.time,
) -> TV:
    """Put a TV together from its state folder.

    Args:
        config: paths, caps and limits.
        boot_id: of this boot.
        give_up: called with the reason when the running Bundle has failed; must end the process.
        clock: POSIX seconds by the TV's clock.

    Raises:
        BundleError: no installed Bundle runs.
        StoreError: a database can't be opened.
        OSError: the state folder can't be written.
    """
    config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    verdicts = Verdicts(config.state / "verdicts.json")
    guard, choice = _choose_bundle(config, verdicts, boot_id)
    trial = Trial(
        verdicts,
        choice.bundle.bundle_id,
        healthy_rows=config.model.healthy_rows,
        give_up=give_up,
    )
    models = Models(choice.bundle, guard, threads=config.model.threads)
    store = HistoryStore(
        config.state / "history.db",
        boot_id=boot_id,
        buffer_events=config.history.buffer_events,
        max_events=config.history.max_events,
    )
    cache = TitleCache(config.state / "cache.db")
    household = Household(store, models, build(cache, choice.bundle), trial.failed)
    library = Library(cache, models, household, failed=trial.failed, clock=clock)
    recommender = Recommender(household, cache, models, settings=config.rows, clock=clock)
    tutor = Tutor(
        household,
        choice.bundle,
        settings=config.learning,
        spool=None if config.rounds is None else Spool(config.updates, config.rounds),
        device_key=config.state / "device.key",
        clock=clock,
    )
    return TV(store, cache, household, library, recommender, choice, trial, guard, tutor, clock)


def _choose_bundle(config: Config, verdicts: Verdicts, boot_id: str) -> tuple[RunGuard, Choice]:
    """Settle what the last process left behind, then take the first Bundle that runs."""
    left = take_in_flight(config.state, boot_id=boot_id)
    if left is not None and left.hung:
        verdicts.condemn(left.bundle_id, f"it hung: {left.what} took longer than its limit")
    elif left is not None:
        verdicts.crashed(left.bundle_id, left.what)
    guard = RunGuard(config.state, boot_id=boot_id, limit_s=config.model.run_limit_s)

    def check(bundle: Bundle) -> None:
        with guard.running(bundle.bundle_id, "loading", limit_s=config.model.load_limit_s):
            check_golden(bundle, threads=config.model.threads)

    return guard, choose(Slots(config.slots), verdicts, check)
