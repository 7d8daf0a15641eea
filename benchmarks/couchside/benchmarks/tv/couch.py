"""The couch and its TV: what a launcher, an app and a player would say to the daemon."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

from couchside.benchmarks.errors import InvalidRunError
from couchside.benchmarks.page.report import Latency, Sockets
from couchside.benchmarks.timing.percentiles import NS_PER_MS, nearest_rank, summarize
from couchside.benchmarks.tv.sockets import count_sockets
from couchside.device import strict
from couchside.device.guide.jsonl import write_jsonl
from couchside.device.records import RowCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from couchside.benchmarks.tv.process import TvProcess
    from couchside.compression.households import Household
    from couchside.device.records import Title, ViewingEvent

SHOWN = 18
"""Cards that a launcher asks for at first; it fetches more when somebody scrolls."""
REASONS_S = 3.0
"""Patience for reasons, which are found after the shelf is shown."""
POLL_S = 0.05


class Couch:
    """Somebody's place in front of a running TV.

    Args:
        tv: switched on.
    """

    def __init__(self, tv: TvProcess) -> None:
        self._tv = tv
        self._looks: list[tuple[int, int]] = []

    def load(self, films: Sequence[Title], guide: str) -> list[Any]:
        """Hand the TV an app's catalogue and a programme guide; its report on each."""
        catalogue, schedule = self._tv.folder / "films.jsonl", self._tv.folder / "guide.xml"
        catalogue.write_text("".join(write_jsonl(films)), encoding="utf-8")
        schedule.write_text(guide, encoding="utf-8")
        return [
            self._tv.client.call("catalogue.load", source=source, path=str(path))
            for source, path in (("films", catalogue), ("guide", schedule))
        ]

    def move_in(self, household: Household) -> None:
        """Tell the TV who lives here, fences included."""
        for member in household.members:
            self._tv.client.call(
                "profiles.add",
                profile_id=member.profile_id,
                name=member.profile_id.title(),
                max_maturity=member.max_maturity,
            )

    def play(self, events: Iterable[ViewingEvent]) -> list[int]:
        """Live through events; nanoseconds until each of the durable ones was acknowledged."""
        took = []
        for event in events:
            began = time.perf_counter_ns()
            answer = self._tv.client.call("event", **strict.to_json(event))
            if answer["status"] == "stored":
                took.append(time.perf_counter_ns() - began)
        return took

    def shelf(self, profile_id: str) -> Any:
        """The shelf, with the reasons that can be found for it."""
        deadline = time.monotonic() + REASONS_S
        answer = self._tv.client.call("rows", profile_id=profile_id, cards=SHOWN)
        while _waits_for_reasons(answer) and time.monotonic() < deadline:
            time.sleep(POLL_S)
            answer = self._tv.client.call("rows", profile_id=profile_id, cards=SHOWN)
        self._looks.append(count_sockets(self._tv.pid))
        return answer

    def why(self, title_id: str, profile_id: str) -> Any:
        """Why a card stands where it stands."""
        return self._tv.client.call("explain", title_id=title_id, profile_id=profile_id)

    def look_at_sockets(self) -> None:
        """Count the daemon's sockets once more."""
        self._looks.append(count_sockets(self._tv.pid))

    def pull_the_plug(self) -> tuple[float, float]:
        """Kill the daemon as a power cut would, and switch on again.

        Returns:
            Seconds until the first shelf, on the wall and of the daemon's CPU time.
        """
        os.kill(self._tv.pid, signal.SIGKILL)
        self._tv.stop()
        return self._tv.start(), self._tv.cpu_ns() / 1e9

    @property
    def sockets(self) -> Sockets:
        """What all looks at the daemon's sockets saw."""
        unix, others = zip(*self._looks, strict=True)
        return Sockets(len(self._looks), max(unix), max(others))


def latency(what: str, took: Sequence[int]) -> Latency:
    """Describe nanoseconds.

    Raises:
        InvalidRunError: there are none.
    """
    summary = summarize(took, (50, 99))
    if summary is None:
        raise InvalidRunError(f"{what}: nothing was measured")
    p50 = percentile_ms(took, 50)
    return Latency(what, summary.n, p50, summary.percentiles["p99"], summary.max)


def percentile_ms(took: Sequence[int], percent: float) -> float:
    """A percentile of nanoseconds, by nearest rank."""
    return nearest_rank(sorted(took), percent) / NS_PER_MS


def _waits_for_reasons(answer: Any) -> bool:
    """Reasons of the row "for you" come all at once, or not at all."""
    rows = [row for row in answer["rows"] if row["code"] == RowCode.FOR_YOU]
    return any(row["cards"] and all(not card["reason"] for card in row["cards"]) for row in rows)
