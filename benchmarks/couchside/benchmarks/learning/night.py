"""A night in which TVs learn together: an open Round, sealed Updates, one sum, a better Bundle.

Three of the TVs are real (a daemon, its learning child, couchside-sync), the rest is a crowd that
runs the same code. Every household is a real person's ratings. Nothing is told that did not happen,
and quality is judged on what these people rated later, which nobody has learned from.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from couchside.benchmarks.errors import BenchmarkError, InvalidRunError
from couchside.benchmarks.learning.crowd import Pupil, deliver, study_together
from couchside.benchmarks.page.report import Learning, LearningTv
from couchside.device.bundle import open_bundle
from couchside.device.config import LearningSettings
from couchside.device.features import Signal
from couchside.device.learning.result import read_result
from couchside.device.learning.round import Limits
from couchside.device.quality import paired_difference

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from couchside.benchmarks.delivery.fleet import FleetTv
    from couchside.benchmarks.delivery.journey import Journey
    from couchside.benchmarks.learning.panel import Home, Panel
    from couchside.device.bundle import Bundle

HOUSEHOLD = "household"
LIMIT_S = 120.0
POLL_S = 0.1
WISH = ("--noise", "1.0", "--steps", "2", "--rate", "0.1", "--new-events", "1", "--spread-s", "2")
"""One pass of each household is 3 events; more steps on them only learn them by heart."""
SERVER_RATE = "0.3"
"""A third of the mean change: one Round of few events should not move the model far."""
NAMED = 5
"""Titles that came and went, in the story."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What came together in a Round."""

    parameters: str
    """Names of what was learned."""
    uplink_bytes: int
    """Of one frame."""
    server_rss: dict[str, int]


class Night:
    """Learning together, on the TVs of a journey.

    Args:
        folder: short-lived; its path is short.
        journey: its TVs have a Bundle and films.
        panel: the households.
    """

    def __init__(self, folder: Path, journey: Journey, panel: Panel) -> None:
        folder.mkdir(exist_ok=True)
        self._folder, self._journey, self._panel = folder, journey, panel
        self._start = journey.released
        by_news = sorted(panel.homes, key=lambda home: -home.new)
        count = len(journey.tvs)
        self._seats, self._others = by_news[:count], by_news[count:]
        self._before: list[list[str]] = []
        self._peaks: dict[str, int] = {}

    @cached_property
    def _bundle(self) -> Bundle:
        """The Bundle that everybody starts from, as it was released."""
        return open_bundle(self._start)

    @property
    def households(self) -> int:
        """Of all kinds."""
        return len(self._panel.homes)

    def live(self) -> list[int]:
        """The real TVs hear what their households watched; the number of events of each."""
        self._start = self._journey.released
        lived = [
            self._play(tv, home) for tv, home in zip(self._journey.tvs, self._seats, strict=True)
        ]
        self._before = [_for_you(tv) for tv in self._journey.tvs]
        return lived

    def open(self) -> dict[str, Any]:
        """Start the servers and open a Round; what couchside-cloud said of it."""
        servers = self._journey.servers
        servers.start()
        least = self._journey.least_cohort
        wish = ("--goal", str(self.households), "--least", str(least), *WISH)
        return servers.open_round(self._start, *wish)

    def gather(self, asked: dict[str, Any]) -> Gathered:
        """Let every TV learn, and wait for every receipt."""
        for tv in self._journey.tvs:
            for purpose in ("learning", "popularity"):
                tv.process.client.call("consent.set", purpose=purpose, granted=True)
            tv.process.client.call("device.state", standby=True, unmetered=True)
        raw = self._journey.round()
        frames = study_together(
            self._pupils(),
            self._bundle,
            raw,
            _limits(self._journey.least_cohort),
            processes=os.cpu_count() or 1,
        )
        try:
            verdicts, _ = deliver(frames, int(asked["round_id"]), self._journey.address)
        except InvalidRunError as error:
            raise InvalidRunError(f"{error}\n{self._journey.servers.logs()}") from error
        if verdicts != {"folded": len(frames)}:
            raise InvalidRunError(f"of {len(frames)} Updates became {verdicts}")
        self._wait(lambda: all(map(_folded, self._journey.tvs)), "an Update of every real TV")
        self._peaks = {tv.name: _child_peak(tv) for tv in self._journey.tvs}
        learned = ", ".join(asked["parameters"])
        return Gathered(learned, len(frames[0][2]), self._journey.servers.peak_rss())

    def close(self) -> dict[str, Any]:
        """Seal, have the helper unmask the sum with its noise, and write the result."""
        out = self._folder / "result"
        return self._journey.servers.close_round(out, "--server-rate", SERVER_RATE)

    def refresh(self, base: Path, out: Path) -> Path:
        """Have the lab make the new Bundle, or refuse to; its folder.

        Raises:
            BenchmarkError: ``couchside-compress`` refuses; the message is its own.
        """
        module = "couchside.compression.cli"
        command = [sys.executable, "-m", module, "refresh", str(base)]
        command += ["--flavour", self._bundle.flavour]
        command += ["--params", str(self._folder / "result"), "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchmarkError(done.stderr.strip()[-1500:])
        return out / "bundles" / self._bundle.flavour

    def tell(self, gathered: Gathered, new: Path) -> Learning:
        """What changed: rows of the real TVs, and quality on what was watched later."""
        result, _, _ = read_result(self._folder / "result")
        before = self._panel.quality(self._bundle).ndcg
        after = self._panel.quality(open_bundle(new)).ndcg
        return Learning(
            households=result.folded,
            real=len(self._seats),
            round_id=result.round_id,
            parameters=gathered.parameters,
            uplink_bytes=gathered.uplink_bytes,
            epsilon=result.epsilon,
            delta=result.delta,
            noise_multiplier=result.noise_multiplier,
            count_sigma=result.count_sigma,
            change_norm=result.change_norm,
            ndcg_before=float(before.mean()),
            ndcg_after=float(after.mean()),
            gain=paired_difference(after, before, relative=True),
            users=len(before),
            targets=len(self._panel.later),
            tvs=tuple(self._changed()),
            server_rss=tuple(sorted(gathered.server_rss.items())),
        )

    def _play(self, tv: FleetTv, home: Home) -> int:
        """Replay a household's events, shifted so that the middle of the data is now."""
        data, shift = self._panel.interactions, time.time() - self._panel.middle
        events = home.events[-self._bundle.model.history_length :]
        for number, row in enumerate(events):
            tv.process.client.call(
                "event",
                event_id=f"panel-{number}",
                title_id=data.titles[data.items[row]].title_id,
                at=float(data.times[row]) + shift,
                **_said(Signal(int(data.signals[row]))),
            )
        return len(events)

    def _pupils(self) -> list[Pupil]:
        vectors = self._bundle.item_vectors()
        return [
            Pupil(f"home-{number}", self._panel.history(home, self._bundle, vectors), home.new)
            for number, home in enumerate(self._others)
        ]

    def _changed(self) -> list[LearningTv]:
        told = []
        for tv, home, old in zip(self._journey.tvs, self._seats, self._before, strict=True):
            status = tv.process.client.call("learning.status")
            new = _for_you(tv)
            told.append(
                LearningTv(
                    tv.name,
                    len(home.events[-self._bundle.model.history_length :]),
                    self._peaks[tv.name],
                    float(status["epsilon_this_year"]),
                    tuple(name for name in new if name not in old)[:NAMED],
                    tuple(name for name in old if name not in new)[:NAMED],
                )
            )
        return told

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + LIMIT_S
        while not condition():
            if time.monotonic() > end:
                raise InvalidRunError(f"{what} did not come within {LIMIT_S:g} s")
            for tv in self._journey.tvs:
                tv.look_after()
            time.sleep(POLL_S)


def _limits(least_cohort: int) -> Limits:
    """What a TV allows as it ships, but for the size of the demo."""
    shipped = LearningSettings()
    return Limits(least_cohort, shipped.least_noise, shipped.most_epsilon, shipped.most_updates)


def _folded(tv: FleetTv) -> bool:
    status = tv.process.client.call("learning.status")
    if status["last_outcome"] == "refused":
        raise InvalidRunError(f"{tv.name}: {status['last_why']}")
    return bool(status["last_verdict"] == "folded")


def _child_peak(tv: FleetTv) -> int:
    return int(tv.process.client.call("learning.status")["child_peak_rss_bytes"])


def _for_you(tv: FleetTv) -> list[str]:
    answer: Any = tv.process.client.call("rows")
    rows = [row for row in answer["rows"] if row["code"] == "for_you"]
    return [card["name"] for row in rows for card in row["cards"]]


def _said(signal: Signal) -> dict[str, Any]:
    """What a viewer did who rated a title so."""
    if signal is Signal.NEGATIVE:
        return {"kind": "dislike"}
    if signal is Signal.POSITIVE:
        return {"kind": "complete"}
    return {"kind": "stop", "position_s": 3000.0, "duration_s": 6000.0}
