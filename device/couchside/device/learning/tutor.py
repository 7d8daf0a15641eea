"""When the TV learns: the daemon's side of the learning child.

Nothing is learned without consent (to learn together) and an idle TV (always): in standby, and for
what will be sent also unmetered. The child may be killed at any moment, by a power cut, a household
that comes back or withdraws its word, and nothing has happened. An Update is in the privacy ledger
before it is in the spool.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import sqlite3
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from couchside.device.durable import write_bytes_durably
from couchside.device.errors import CouchsideError, LearningError, UpdateError
from couchside.device.household.ledger import QUEUED, WITHDRAWN, Entry, spent
from couchside.device.household.store import Purpose
from couchside.device.learning.examples import History
from couchside.device.learning.lesson import (
    Answer,
    Lesson,
    PersonalOrder,
    UpdateOrder,
    read_answer,
    write_lesson,
)
from couchside.device.learning.privacy import epsilon
from couchside.device.learning.round import Limits
from couchside.device.learning.update import read_update

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from couchside.device.bundle import Bundle
    from couchside.device.catalogue.arrays import Catalogue
    from couchside.device.config import LearningSettings
    from couchside.device.household.moments import Household, Member, Moment
    from couchside.device.learning.spool import Spool

_log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "couchside.device.learning.child")
KEY_BYTES = 32
PERSONAL = "personal"
PASSED_ON = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG")
"""All that the child learns of the environment."""
REFUSALS, REFUSALS_S = 8, 3600.0
"""Refused Rounds, and seconds: whoever shows more of them in that time only burns electricity."""
REMEMBERED = 256
"""Lessons that gave nothing and are not tried again."""
FAILURES = 3
"""Children that ended without an answer after which this daemon tries that lesson no more."""
SHARED = (Purpose.LEARNING, Purpose.POPULARITY)


@dataclass(frozen=True, slots=True)
class Idleness:
    """What the TV's power manager said last."""

    standby: bool = False
    unmetered: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A lesson that is due, frozen at one moment."""

    name: str
    lesson: Lesson
    histories: list[History]
    profiles: tuple[str, ...]
    """Whose the histories are."""
    sequence: int
    """Of the history at that moment."""


class Tutor:
    """Starts lessons and takes what they give.

    Args:
        household: its moments, history and ledger.
        bundle: the running one.
        settings: what this TV allows.
        spool: where Updates go; None: this TV does not learn with others.
        device_key: file of this TV's own key; made when first needed.
        clock: POSIX seconds by the TV's clock.
    """

    def __init__(
        self,
        household: Household,
        bundle: Bundle,
        *,
        settings: LearningSettings,
        spool: Spool | None,
        device_key: Path,
        clock: Callable[[], float],
    ) -> None:
        self._household, self._bundle = household, bundle
        self._settings, self._spool = settings, spool
        self._device_key, self._clock = device_key, clock
        self._lock = threading.RLock()
        self._idle = Idleness()
        self._child: subprocess.Popen[bytes] | None = None
        self._plan_now: Plan | None = None
        self._refusals: deque[float] = deque(maxlen=REFUSALS)
        self._thread: threading.Thread | None = None
        self._settled: deque[str] = deque(maxlen=REMEMBERED)
        self._taken_part: set[str] = set()
        self._failures: dict[str, int] = {}
        self._stopped = False
        self._peak = 0
        self.last: Answer | None = None
        """The last answer of a child."""
        if spool is not None:
            spool.drop_parts()

    @property
    def busy(self) -> bool:
        """Whether a child is learning."""
        return self._child is not None

    @property
    def child_pid(self) -> int | None:
        """Process id of the learning child."""
        child = self._child
        return None if child is None else child.pid

    def idle(self, idleness: Idleness) -> None:
        """The TV goes to standby, or the household is back: then learning ends at once."""
        with self._lock:
            self._idle = idleness
            leaving = self._plan_now is not None and self._plan_now.lesson.update is not None
            if not idleness.standby or (leaving and not idleness.unmetered):
                self._kill()
        self.look()

    def look(self) -> None:
        """Take receipts, and start the next lesson if one is due."""
        with self._lock:
            self._take_receipts()
            if self._child is not None or self._stopped or not self._idle.standby:
                return
            plan = self._next_lesson()
            if plan is not None:
                self._start(plan)

    @contextmanager
    def silenced(self) -> Iterator[None]:
        """Drop what is being made or waits, and start nothing until the block is over.

        For whatever makes it wrong that something leaves: a consent withdrawn, history forgotten, a
        fence. What has a receipt already has left.
        """
        with self._lock:
            self._kill()
            self._take_receipts()
            if self._spool is not None:
                for update_id in self._spool.queued():
                    self._spool.take_back(update_id)
                    self._household.ledger.settle(update_id, WITHDRAWN)
            yield

    def status(self) -> dict[str, Any]:
        """How learning stands, for people: no title, no vector."""
        entries = self._household.ledger.entries()
        updates, rho = spent(entries, self._clock())
        personal = self._household.ledger.personal(self._bundle.bundle_id)
        return {
            "busy": self.busy,
            "child_pid": self.child_pid,
            "standby": self._idle.standby,
            "unmetered": self._idle.unmetered,
            "why_not": self._why_not_together(),
            "queued": [] if self._spool is None else self._spool.queued(),
            "updates_this_year": updates,
            "epsilon_this_year": round(epsilon(rho), 3),
            "epsilon_most": self._settings.most_epsilon,
            "last_round": entries[-1].round_id if entries else 0,
            "last_verdict": entries[-1].verdict if entries else "",
            "personal": sorted(name for name, (_, values) in personal.items() if len(values)),
            "last_outcome": self.last.outcome if self.last else "",
            "last_why": self.last.why if self.last else "",
            "child_peak_rss_bytes": self._peak,
        }

    def stop(self) -> None:
        """End a lesson without effect, and start no more."""
        with self._lock:
            self._stopped = True
            self._kill()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _why_not_together(self) -> str:
        """Why no Update is made just now; empty if one may be."""
        if self._spool is None:
            return "paths.rounds is not set"
        if not any(self._consents().values()):
            return "no consent"
        if not (self._idle.standby and self._idle.unmetered):
            return "the TV is not idle" if not self._idle.standby else "the network is metered"
        since = time.monotonic() - REFUSALS_S
        if len(self._refusals) == REFUSALS and self._refusals[0] > since:
            return "too many Rounds that had to be refused; somebody forges them"
        return "" if self._spool.round() else "no Round is open"

    def _consents(self) -> dict[Purpose, bool]:
        said = {one.purpose: one.granted for one in self._household.consent()}
        return {purpose: said.get(purpose, False) for purpose in SHARED}

    def _next_lesson(self) -> Plan | None:
        """What to learn now, if anything."""
        moment, settings = self._household.moment, self._settings
        raw = b"" if self._spool is None or self._why_not_together() else self._spool.round()
        if raw:
            # A child's fence keeps a child's history out of what leaves the house.
            grown = [one for one in moment.members.values() if one.profile.max_maturity is None]
            order = self._update_order(raw, grown)
            name = _name(raw, order.new_steps)
            settled = name in self._settled or _round_of(name) in self._taken_part
            if not settled and self._failures.get(name, 0) < FAILURES:
                return self._plan(name, moment, grown, update=order)
        due = self._due_for_personal(moment) if settings.personal else []
        if due and self._failures.get(PERSONAL, 0) < FAILURES:
            personal = PersonalOrder(settings.personal_steps, settings.personal_rate)
            return self._plan(PERSONAL, moment, due, personal=personal)
        return None

    def _plan(
        self,
        name: str,
        moment: Moment,
        members: Sequence[Member],
        *,
        update: UpdateOrder | None = None,
        personal: PersonalOrder | None = None,
    ) -> Plan:
        lesson = Lesson(str(self._bundle.path.resolve()), 1, update, personal)
        histories = [_history(one, moment.catalogue) for one in members]
        profiles = tuple(one.profile.profile_id for one in members)
        return Plan(name, lesson, histories, profiles, moment.generation)

    def _update_order(self, raw: bytes, members: Sequence[Member]) -> UpdateOrder:
        entries = self._household.ledger.entries()
        updates, rho = spent(entries, self._clock())
        since = max((entry.sequence for entry in entries), default=0)
        consents, settings = self._consents(), self._settings
        return UpdateOrder(
            round=raw.hex(),
            device_key=self._key().hex(),
            limits=Limits(
                settings.least_cohort,
                settings.least_noise,
                settings.most_epsilon,
                settings.most_updates,
            ),
            spent_updates=updates,
            spent_rho=rho,
            last_round=max((entry.round_id for entry in entries), default=0),
            learn=consents[Purpose.LEARNING],
            count=consents[Purpose.POPULARITY],
            new_steps=tuple(int((one.steps.sequences > since).sum()) for one in members),
            now=self._clock(),
        )

    def _due_for_personal(self, moment: Moment) -> list[Member]:
        """Profiles with enough new steps since they were last fitted to this Bundle."""
        done = self._household.ledger.personal(self._bundle.bundle_id)
        due = []
        for name, member in moment.members.items():
            since, _ = done.get(name, (0, None))
            if (member.steps.sequences > since).sum() >= self._settings.personal_every:
                due.append(member)
        return due

    def _key(self) -> bytes:
        """This TV's own key: born here when first needed, and never sent."""
        try:
            key = self._device_key.read_bytes()
        except FileNotFoundError:
            key = b""
        if len(key) != KEY_BYTES:
            key = secrets.token_bytes(KEY_BYTES)
            write_bytes_durably(self._device_key, key)
        return key

    def _start(self, plan: Plan) -> None:
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        try:
            child = subprocess.Popen(
                COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
            )
        except OSError as error:
            _log.warning("couchside-learn can't be started: %s", error)
            self._failures[plan.name] = FAILURES
            return
        self._child, self._plan_now = child, plan
        self._thread = threading.Thread(
            target=self._attend, args=(child, plan), name="tutor", daemon=True
        )
        self._thread.start()

    def _attend(self, child: subprocess.Popen[bytes], plan: Plan) -> None:
        """The thread of one child: hand the lesson over, take the answer, see it end."""
        timer = threading.Timer(self._settings.limit_s, child.kill)
        timer.daemon = True
        timer.start()
        answer, arrays = _ask(child, plan)
        if answer is None:
            child.kill()
        # Its input stays open until it has ended: closed, it means that nobody wants the answer.
        if child.wait() and answer is not None:
            _log.warning("couchside-learn answered and then ended with %d", child.returncode)
        timer.cancel()
        _close(child)
        with self._lock:
            if self._child is not child:  # killed on purpose: nothing has happened
                return
            self._child = self._plan_now = None
            self._finish(plan, answer, arrays)
        self.look()

    def _finish(self, plan: Plan, answer: Answer | None, arrays: list[NDArray[Any]]) -> None:
        name = plan.name
        if answer is None:
            self._failures[name] = self._failures.get(name, 0) + 1
            return
        self.last, self._peak = answer, max(self._peak, answer.peak_rss_bytes)
        try:
            if answer.outcome == "personal":
                self._household.learned(
                    dict(zip(plan.profiles, arrays, strict=True)), plan.sequence
                )
            elif answer.outcome == "update":
                self._let_leave(answer, arrays, plan)
            else:
                self._settled.append(name)
                if answer.outcome == "refused":
                    self._refusals.append(time.monotonic())
                level = logging.WARNING if answer.outcome == "refused" else logging.INFO
                _log.log(level, "Round: %s: %s", answer.outcome, answer.why)
        except (sqlite3.Error, OSError, CouchsideError, ValueError) as error:
            _log.warning("what was learned can't be kept: %s", error)
            self._failures[name] = self._failures.get(name, 0) + 1
        else:
            self._failures.pop(name, None)

    def _let_leave(self, answer: Answer, arrays: list[NDArray[Any]], plan: Plan) -> None:
        """Charge the ledger, then let go: a crash in between costs budget, never privacy.

        Raises:
            UpdateError: what the child answered is no Update of that name and Round.
        """
        if self._spool is None or self._why_not_together():
            return
        frame = b"".join(array.tobytes() for array in arrays)
        update = read_update(frame)
        if (update.update_id.hex(), update.round_id) != (answer.update_id, answer.round_id):
            raise UpdateError("couchside-learn answered with another Update than it says")
        at = max(self._clock(), float(answer.opens_at))
        entry = Entry(answer.round_id, answer.update_id, answer.rho, at, plan.sequence, QUEUED)
        self._household.ledger.charge(entry)
        self._taken_part.add(_round_of(plan.name))
        self._spool.put_update(answer.update_id, frame)

    def _take_receipts(self) -> None:
        if self._spool is None:
            return
        waiting = set(self._spool.queued())
        for receipt in self._spool.receipts() if waiting else ():
            if receipt.update_id in waiting:
                self._household.ledger.settle(receipt.update_id, receipt.verdict.value)
                self._spool.take_back(receipt.update_id)

    def _kill(self) -> None:
        child, self._child, self._plan_now = self._child, None, None
        if child is not None:
            child.kill()


def _history(member: Member, catalogue: Catalogue) -> History:
    steps = member.steps
    rows = [catalogue.item_row[catalogue.index[title]] for title in steps.title_ids]
    return History(np.array(rows, np.int32), steps.vectors, steps.signals, steps.gaps)


def _name(raw: bytes, new_steps: Sequence[int]) -> str:
    """Names a lesson: a Round sat out is worth another look when there is more to learn from."""
    return f"{hashlib.sha256(raw).hexdigest()} {sum(new_steps)}"


def _round_of(name: str) -> str:
    return name.partition(" ")[0]


def _ask(child: subprocess.Popen[bytes], plan: Plan) -> tuple[Answer | None, list[NDArray[Any]]]:
    """Hand the lesson over and take the answer; None from a child that died or was killed."""
    assert child.stdin is not None  # noqa: S101 - for the type checker: both are pipes
    assert child.stdout is not None  # noqa: S101
    try:
        write_lesson(child.stdin, plan.lesson, plan.histories)
        return read_answer(child.stdout)
    except (LearningError, OSError, MemoryError) as error:
        _log.info("couchside-learn gave no answer: %s", error)
        return None, []


def _close(child: subprocess.Popen[bytes]) -> None:
    """Close the pipes of a child that has ended; what it did not take of the lesson is lost."""
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
