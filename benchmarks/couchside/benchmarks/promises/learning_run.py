"""The night that the promises are about: a TV in standby learns while somebody still asks for rows.

A stocked TV with a week of history gets signed Rounds, one after another. Stretches of calls while
its child is at work alternate with stretches while it is not, so that both see the same machine.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from couchside.benchmarks.errors import InvalidRunError
from couchside.benchmarks.promises.daemon_run import MB, ask_once, fill, live_through, week
from couchside.benchmarks.timing.percentiles import nearest_rank
from couchside.benchmarks.tv.process import TvProcess
from couchside.cloud_sync.learning.plan import Wish, plan_round
from couchside.device.bundle import LearningRecord, open_bundle, write_manifest
from couchside.device.learning.round import PURPOSE, write_round
from couchside.device.learning.signed import sign
from couchside.device.learning.spool import Spool

if TYPE_CHECKING:
    from couchside.benchmarks.promises.daemon_run import Call, Stock
    from couchside.device.bundle import Bundle

SETTINGS = """\
[paths]
rounds = "{folder}/rounds"
updates = "{folder}/updates"
[learning]
most_epsilon = 1000.0
"""
WISH = Wish(learn=("all",), steps=64, noise=1.0, new_events=1, spread_s=0.0)
"""As many steps and values as a Round may ask for: the longest lesson, the largest frame."""
CALLS = 1000
"""Of ``rows`` while a child learns: a p99 needs as many."""
NIGHTS = 60
"""Rounds at most until there are that many."""
START_S, LEARN_S = 20.0, 120.0
POLL_S = 0.002


@dataclass(frozen=True)
class Cloud:
    """Signs Rounds for a copy of a Bundle that pins its keys."""

    key: Ed25519PrivateKey
    bundle: Bundle

    @classmethod
    def of(cls, source: Bundle, folder: Path) -> Cloud:
        """Copy ``source`` into the new folder ``folder`` and make keys."""
        key, helper = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
        shutil.copytree(source.path, folder)
        record = LearningRecord(
            (key.public_key().public_bytes_raw().hex(),),
            helper.public_key().public_bytes_raw().hex(),
        )
        write_manifest(folder, replace(source.manifest, learning=record))
        return cls(key, open_bundle(folder))

    def round(self, number: int) -> bytes:
        """A signed Round."""
        asked = plan_round(
            WISH, self.bundle.manifest, number, int(time.time()), secrets.token_bytes(32)
        )
        return sign(self.key, PURPOSE, write_round(asked))


def run_night(bundle: Bundle, stock: Stock, folder: Path, *, now: float) -> dict[str, float]:
    """Live through it once, on a new TV in the empty folder ``folder``.

    Returns:
        Measurements by name and in units as in ``budgets.toml``.

    Raises:
        InvalidRunError: the TV did not learn, or left a child behind.
    """
    cloud, spool = Cloud.of(bundle, folder / "b"), Spool(folder / "updates", folder / "rounds")
    spool.rounds.mkdir()
    with TvProcess(folder, settings=SETTINGS.format(folder=folder)) as tv:
        tv.install(cloud.bundle.path)
        tv.start()
        fill(tv, stock)
        live_through(tv.client, week(stock.films, now))
        for purpose in ("learning", "popularity"):
            tv.client.call("consent.set", purpose=purpose, granted=True)
        learning, idle = _alternate(tv, stock, cloud, spool)
        status = tv.client.call("learning.status")
        frame = spool.read_update(spool.queued()[0]) or b""
        return {
            "learn_child_peak": status["child_peak_rss_bytes"] / MB,
            "learn_left_behind": float(len(_children(tv.pid))),
            "uplink_frame": len(frame) / 1e3,
            "rows_p99_learning": _p99([call.wall for call in learning]) / 1e6,
            "rows_p99_idle": _p99([call.wall for call in idle]) / 1e6,
            "learn_rows_ratio": _ratio(
                [call.wall for call in learning], [call.wall for call in idle]
            ),
            "learn_rows_ratio_undisturbed": _ratio(_undisturbed(learning), _undisturbed(idle)),
        }


def _alternate(
    tv: TvProcess, stock: Stock, cloud: Cloud, spool: Spool
) -> tuple[list[Call], list[Call]]:
    """Calls while a child is at work, and as many while none is."""
    learning: list[Call] = []
    idle: list[Call] = []
    for night in range(1, NIGHTS + 1):
        tv.client.call("device.state", standby=False)
        _watch_something_new(
            tv, stock.films[-night].title_id, night
        )  # or there is nothing to learn
        spool.put_round(cloud.round(night))
        tv.client.call("device.state", standby=True, unmetered=True)
        child = _wait_for_child(tv)
        with_child = []
        end = time.monotonic() + LEARN_S
        while _is_alive(child):
            if time.monotonic() > end:
                raise InvalidRunError(f"the learning child was not done after {LEARN_S:g} s")
            with_child.append(ask_once(tv, {})[1])
        learning += with_child
        idle += [ask_once(tv, {})[1] for _ in with_child]
        if len(learning) >= CALLS:
            return learning, idle
    raise InvalidRunError(f"{NIGHTS} Rounds gave {len(learning)} calls while a child learned")


def _watch_something_new(tv: TvProcess, title_id: str, night: int) -> None:
    tv.client.call("event", event_id=f"night-{night}", title_id=title_id, kind="complete")


def _wait_for_child(tv: TvProcess) -> int:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if children := _children(tv.pid):
            return children[0]
        time.sleep(POLL_S)
    status = tv.client.call("learning.status")
    raise InvalidRunError(f"no learning child: {status['why_not'] or status['last_why']}")


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that just ended
            found += map(int, (task / "children").read_text(encoding="ascii").split())
    return [child for child in found if _is_alive(child)]


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2][0]
    except OSError:
        return False
    return state != "Z"


def _undisturbed(calls: list[Call]) -> list[int]:
    return [max(call.wall - call.waited, 0) for call in calls if call.waited is not None]


def _p99(took: list[int]) -> float:
    return nearest_rank(sorted(took), 99)


def _ratio(learning: list[int], idle: list[int]) -> float:
    return _p99(learning) / max(_p99(idle), 1.0) if learning and idle else float("nan")
