"""What this TV learned about Bundles by running them, and the trial of a new one.

A freshly activated Bundle is on trial: it is committed after a few healthy answers, and passed
over at the next start once it failed its checks, hung, or broke its promise while running.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from couchside.device import strict
from couchside.device.durable import write_durably

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UNFINISHED = 3
"""Starts on trial that ended neither with enough answers nor with a stop: it kills the daemon."""
CRASHES = 2
"""A process that died while a model ran may have been killed from outside, once."""
REMEMBERED = 32
"""Verdicts kept."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What this TV learned about a Bundle by running it."""

    bundle_id: str
    good: bool = False
    """Committed: it gave enough healthy answers."""
    bad: str = ""
    """What it did wrong; empty if nothing."""
    crashes: int = 0
    """Times the process died while one of its models ran, since it last was healthy."""
    starts: int = 0
    """Times it was started on trial and the process ended without a word."""

    @property
    def refusal(self) -> str:
        """Why it must not run; empty if it may."""
        if not self.bad and self.starts >= UNFINISHED:
            return f"on trial the daemon ended {self.starts} times without a word"
        return self.bad


class Verdicts:
    """The daemon's side: a small file in the state folder, written durably.

    Args:
        file: ``verdicts.json``; a damaged one counts as empty.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._verdicts = _read_verdicts(file)

    def of(self, bundle_id: str) -> Verdict:
        """What is known about a Bundle."""
        return self._verdicts.get(bundle_id, Verdict(bundle_id))

    def commit(self, bundle_id: str) -> None:
        """It runs well: the trial is over."""
        self._put(Verdict(bundle_id, good=True))

    def condemn(self, bundle_id: str, why: str) -> None:
        """It must not run again."""
        self._put(Verdict(bundle_id, bad=why))

    def on_trial(self, bundle_id: str, change: int) -> None:
        """Count a start on trial (+1), or take it back after a proper stop (-1)."""
        before = self.of(bundle_id)
        self._put(replace(before, starts=max(before.starts + change, 0)))

    def crashed(self, bundle_id: str, what: str) -> None:
        """The process died while it ran; condemns it the second time."""
        before = self.of(bundle_id)
        after = replace(before, crashes=before.crashes + 1)
        if after.crashes >= CRASHES:
            after = Verdict(bundle_id, bad=f"the daemon died {after.crashes} times during {what}")
        self._put(after)

    def _put(self, verdict: Verdict) -> None:
        self._verdicts.pop(verdict.bundle_id, None)
        self._verdicts[verdict.bundle_id] = verdict
        newest = dict(list(self._verdicts.items())[-REMEMBERED:])
        self._verdicts = newest
        write_durably(self._file, json.dumps([strict.to_json(v) for v in newest.values()]))


class Trial:
    """Watches a running Bundle until it is committed, and after that for failures.

    Args:
        verdicts: where the outcome goes.
        bundle_id: which Bundle.
        healthy_rows: answers until it is committed.
        give_up: called with the reason once the Bundle has failed; ends the daemon, whose next
            start takes another slot.
    """

    def __init__(
        self,
        verdicts: Verdicts,
        bundle_id: str,
        *,
        healthy_rows: int,
        give_up: Callable[[str], None],
    ) -> None:
        self._verdicts = verdicts
        self._bundle_id = bundle_id
        self._left = 0 if verdicts.of(bundle_id) == Verdict(bundle_id, good=True) else healthy_rows
        self._give_up = give_up
        self._lock = threading.Lock()
        if self._left:
            verdicts.on_trial(bundle_id, +1)

    @property
    def left(self) -> int:
        """Healthy answers still needed; 0 once it is committed."""
        return self._left

    def healthy(self) -> None:
        """One more answer went well."""
        if not self._left:
            return
        with self._lock:
            self._left = max(self._left - 1, 0)
            if not self._left:
                self._verdicts.commit(self._bundle_id)

    def stopped(self) -> None:
        """The daemon ends properly, which says nothing against the Bundle."""
        with self._lock:
            if self._left and not self._verdicts.of(self._bundle_id).bad:
                self._verdicts.on_trial(self._bundle_id, -1)

    def failed(self, why: str) -> None:
        """A model broke its promise while running."""
        with self._lock:
            self._verdicts.condemn(self._bundle_id, why)
        self._give_up(why)


def _read_verdicts(file: Path) -> dict[str, Verdict]:
    try:
        records = strict.from_json(tuple[Verdict, ...], strict.loads(file.read_bytes()))
    except (OSError, strict.StrictError):
        return {}
    return {record.bundle_id: record for record in records}
