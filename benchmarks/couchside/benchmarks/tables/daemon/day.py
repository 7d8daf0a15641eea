"""One run: the same titles, a week, an evening that is weighed, shelves in turn, and nothing to do.

The clock of the week is the events' own. Our daemon writes heartbeats when they have waited for a
minute; as the evening is told in a second, it is told to write (``standby``) whenever a minute of
the evening has passed, which is what its own clock would have made it do.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from couchside.benchmarks.errors import InvalidRunError
from couchside.benchmarks.promises.daemon_run import (
    DAY,
    EVENINGS,
    EVENT_EVERY,
    ask_once,
    fill,
    live_through,
    press_key,
)
from couchside.benchmarks.tables.daemon.kernel import wake_ups, written
from couchside.benchmarks.tables.daemon.servers import Echo, EchoClient, Stack, lay_out
from couchside.benchmarks.timing.percentiles import NS_PER_MS
from couchside.benchmarks.timing.stopwatch import no_collections
from couchside.benchmarks.tv.process import TvProcess
from couchside.compression.households import FAMILY, evening
from couchside.device import strict
from couchside.device.records import EventKind, RowCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from couchside.benchmarks.promises.daemon_run import Stock
    from couchside.benchmarks.tables.peers import Installed
    from couchside.device.bundle import Bundle
    from couchside.device.records import ViewingEvent

STACK, ECHO = "reference stack", "echo of the same length"
BUFFER_S = 60.0
"""Our daemon's default for how long a heartbeat waits."""
SAME = 0.8
"""Least share of our titles that the stack has to find; int8 against float costs one or two."""
SETTLE_S = 2.0
"""Work behind the answers, our search for reasons, is over by then."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is asked."""

    rows: int
    """Calls of ``rows`` for each server."""
    idle_s: float
    """Seconds of doing nothing; 0 leaves the wake-ups out."""


@dataclass
class Contender:
    """One server and what was seen of it."""

    tv: TvProcess
    ours: bool
    half_seen: str | None = None
    shelf: Any = None
    """The last one."""
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    quiet_cpu_ms: list[float] = field(default_factory=list)
    """Of the later half of the calls after an event, when work behind the answers is over."""
    event_ms: list[float] = field(default_factory=list)
    missed: int = 0
    """Events that the next shelf did not show."""
    found: dict[str, Any] = field(default_factory=dict)


def run_once(
    bundles: Mapping[str, Bundle],
    flavours: Sequence[str],
    stock: Stock,
    installed: Installed | None,
    effort: Effort,
) -> dict[str, Any]:
    """Everything about each server once, by name; JSON values.

    Args:
        bundles: by flavour.
        flavours: of our daemons.
        stock: what there is to watch.
        installed: the stack's environment; None where it can't be had.
        effort: how much is asked.

    Raises:
        InvalidRunError: a server did not do what it was asked.
    """
    now = time.time()
    with ExitStack() as held:
        contenders = {}
        for flavour in flavours:
            tv = held.enter_context(TvProcess(_folder(held)))
            tv.install(bundles[flavour].path)
            tv.start()
            fill(tv, stock)
            contenders[f"couchside-device, {flavour}"] = Contender(tv, ours=True)
        if installed is not None:
            stack = held.enter_context(Stack(_folder(held), installed))
            model, tv = bundles["onnx-float"], next(iter(contenders.values())).tv
            tv.stop()
            lay_out(tv.folder / "state", bundles[flavours[0]], model, stack.folder, now=now)
            tv.start()
            stack.start()
            contenders[STACK] = Contender(stack, ours=False)
        _live(contenders.values(), stock, now)
        echo = Contender(held.enter_context(Echo(_folder(held))), ours=False)
        echo.tv.start()
        shared = _first_shelves(contenders)
        _ask(contenders, echo, effort.rows)
        contenders[ECHO] = echo
        _weigh(contenders.values(), effort.idle_s)
        return {name: _told(one) for name, one in contenders.items()} | {"shared": shared}


def tell_evening(contender: Contender, events: Sequence[ViewingEvent]) -> None:
    """Tell an evening at its own pace, and count the bytes that it wrote."""
    pid, client = contender.tv.pid, contender.tv.client
    before, written_at = written(pid), events[0].at
    for event in events:
        if contender.ours and event.at - written_at >= BUFFER_S:
            client.call("standby")
            written_at = event.at
        params = {k: v for k, v in strict.to_json(event).items() if k != "profile_id"}
        client.call("event", **params)
    if contender.ours:
        client.call("standby")
    spent = written(pid) - before
    contender.found |= {
        "asked": spent.asked / len(events),
        "dirtied": spent.dirtied / len(events),
        "events": len(events),
    }


def _live(contenders: Iterable[Contender], stock: Stock, now: float) -> None:
    """The week, evening by evening for everybody; the last one has heartbeats and is weighed."""
    for days in range(EVENINGS, 0, -1):
        events = evening(FAMILY, stock.films, start=now - days * DAY, seed=days)
        for one in contenders:
            if days > 1:
                spoken = (event for event in events if event.kind is not EventKind.PROGRESS)
                one.event_ms += live_through(one.tv.client, spoken)
            else:
                tell_evening(one, events)


def _ask(contenders: Mapping[str, Contender], echo: Contender, rows: int) -> None:
    """Shelves in turn, an event before every twenty; the echo carries one of ours."""
    client = echo.tv.client
    if not isinstance(client, EchoClient):  # a slip of ours
        raise InvalidRunError("the echo is asked in another protocol")
    client.payload = json.dumps(next(iter(contenders.values())).shelf).encode()
    order = [*contenders.values(), echo]
    with no_collections():
        for start in range(0, rows, EVENT_EVERY):
            for one in order:
                _turn(one, start, with_event=one is not echo)
            order = [*order[1:], order[0]]


def _turn(one: Contender, start: int, *, with_event: bool) -> None:
    """Twenty shelves of one server, after an event."""
    shown = None
    if with_event:
        one.half_seen, shown = press_key(one.tv.client, one.shelf, one.half_seen, start, {})
    for number in range(EVENT_EVERY):
        one.shelf, call = ask_once(one.tv, {})
        one.wall_ms.append(call.wall / NS_PER_MS)
        one.cpu_ms.append(call.cpu / NS_PER_MS)
        if number >= EVENT_EVERY // 2:
            one.quiet_cpu_ms.append(one.cpu_ms[-1])
        if shown is not None:
            one.missed += not shown(one.shelf)
            shown = None


def _weigh(contenders: Iterable[Contender], idle_s: float) -> None:
    """Memory after the calls, wake-ups of everybody at once, and a start on what is stored."""
    for one in contenders:
        one.found |= one.tv.memory()
    if idle_s:
        time.sleep(SETTLE_S)
        before = [wake_ups(one.tv.pid) for one in contenders]
        began = time.monotonic()
        time.sleep(idle_s)
        for one, count in zip(contenders, before, strict=True):
            woken = wake_ups(one.tv.pid) - count
            one.found["wake_ups"] = woken / (time.monotonic() - began)
    for one in contenders:
        one.tv.stop()
        one.found["start_s"] = one.tv.start()


def _told(one: Contender) -> dict[str, Any]:
    cards = sum(len(row["cards"]) for row in one.shelf["rows"])
    return {
        **one.found,
        "wall_ms": one.wall_ms,
        "cpu_ms": one.cpu_ms,
        "quiet_cpu_ms": one.quiet_cpu_ms,
        "event_ms": one.event_ms,
        "missed": one.missed,
        "rows": len(one.shelf["rows"]),
        "cards": cards,
    }


def _first_shelves(contenders: Mapping[str, Contender]) -> float | None:
    """After the same history: the share of our row "for you" that the stack shows there too.

    Returns:
        None without the stack.

    Raises:
        InvalidRunError: less than half, so they don't answer the same question.
    """
    for one in contenders.values():
        one.shelf = one.tv.client.call("rows")
    if STACK not in contenders:
        return None
    ours = _for_you(next(iter(contenders.values())).shelf)
    same = len(ours & _for_you(contenders[STACK].shelf)) / max(1, len(ours))
    if same < SAME:
        raise InvalidRunError(
            f"of our {len(ours)} titles for you the reference stack shows {same:.0%}: a fast wrong "
            "answer is no contender"
        )
    return same


def _for_you(shelf: Any) -> set[str]:
    cards = [row["cards"] for row in shelf["rows"] if row["code"] == RowCode.FOR_YOU]
    return {card["title_id"] for card in cards[0]} if cards else set()


def _folder(held: ExitStack) -> Path:
    """Empty, gone afterwards, and short, as a socket lies in it."""
    return Path(held.enter_context(TemporaryDirectory(prefix="couchside-")))
