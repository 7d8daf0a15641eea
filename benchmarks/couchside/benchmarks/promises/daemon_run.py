"""The day that the promises are about: a stocked TV, a week of history, a thousand shelves.

Films of the sample and a day's guide fill the catalogue; a simulated family watches for a week;
then the launcher asks for the shelf again and again, while now and then somebody stops a film half
way or sees it to the end, which the very next shelf has to show. Finding reasons goes on in the
background meanwhile, as it does on a TV.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from couchside.benchmarks.errors import InvalidRunError
from couchside.benchmarks.timing.percentiles import NS_PER_MS, nearest_rank
from couchside.benchmarks.timing.stopwatch import no_collections
from couchside.compression.data import load_interactions
from couchside.compression.households import FAMILY, evening, make_guide
from couchside.compression.recipe import load_recipe
from couchside.device import strict
from couchside.device.guide.jsonl import write_jsonl
from couchside.device.records import EventKind, RowCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from couchside.benchmarks.tv.process import TvProcess
    from couchside.device.records import Title, ViewingEvent
    from couchside.device.rpc.client import Client

MB = 1e6
DAY = 86_400.0
EVENINGS = 7
EVENT_EVERY = 20
"""Shelves between two events: a launcher asks far more often than anybody presses a key."""
FILM_S = 6000.0
HALF_WAY = 0.4
DISCOVERY = {RowCode.FOR_YOU, RowCode.BECAUSE_YOU_WATCHED, RowCode.NEW, RowCode.POPULAR}


@dataclass(frozen=True, slots=True)
class Stock:
    """What there is to watch."""

    films: tuple[Title, ...]
    guide: str
    """XMLTV."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of ``rows``, in nanoseconds."""

    wall: int
    cpu: int
    """CPU time of the whole daemon meanwhile, work in its background included."""
    waited: int | None
    """Time that its threads and ours waited for a core; None if the kernel does not count it."""
    quiet: bool
    """No event came close before it."""
    missed: bool
    """It did not show the event before it."""


def make_stock(titles: int, *, now: float, seed: int = 1) -> Stock:
    """Films of the sample and a guide from an hour ago on, ``titles`` programmes and films in all.

    Raises:
        InvalidRunError: the sample has too few films.
    """
    films = load_interactions(load_recipe("tv-small").data).titles
    guide = make_guide(films, day_start=now - 3600.0, seed=seed)
    wanted = titles - guide.count("<programme ")
    if not 0 < wanted <= len(films):
        raise InvalidRunError(f"{titles} titles can't be made of {len(films)} films and a guide")
    return Stock(films[:wanted], guide)


def run_day(tv: TvProcess, stock: Stock, *, rows: int, now: float) -> dict[str, float]:
    """Live through it once, on a TV with a Bundle installed and no history.

    Args:
        tv: off, with an empty state.
        stock: what there is.
        rows: how many shelves are asked for.
        now: POSIX seconds, for the week before.

    Returns:
        Measurements by name and in units as in ``budgets.toml``.

    Raises:
        InvalidRunError: the daemon did not do what it was asked.
    """
    tv.start()
    load_s = fill(tv, stock)
    events_ms = live_through(tv.client, week(stock.films, now))
    calls = ask(tv, rows)
    memory = tv.memory()
    tv.stop()
    first_answer_s = tv.start()
    first_answer_cpu_s = tv.cpu_ns() / 1e9
    tv.stop()
    return {
        "daemon_rss": memory["rss_bytes"] / MB,
        "daemon_anonymous": memory["anonymous_bytes"] / MB,
        "events_missed": float(sum(call.missed for call in calls)),
        "first_answer": first_answer_s,
        "first_answer_cpu": first_answer_cpu_s,
        "event_p50": nearest_rank(sorted(events_ms), 50),
        "catalogue_load": load_s,
        **describe(calls),
    }


def describe(calls: Sequence[Call]) -> dict[str, float]:
    """Milliseconds of ``rows``; what the kernel does not count is left out."""
    wall = sorted(call.wall for call in calls)
    quiet = sorted(call.wall for call in calls if call.quiet)
    cpu = sorted(call.cpu for call in calls)
    undisturbed = sorted(
        max(call.wall - call.waited, 0) for call in calls if call.waited is not None
    )
    found = {
        "rows_p50": nearest_rank(wall, 50),
        "rows_p99": nearest_rank(wall, 99),
        "rows_quiet_p95": nearest_rank(quiet, 95),
        "rows_cpu_mean": sum(cpu) / len(cpu),
        "rows_cpu_p99": nearest_rank(cpu, 99),
    }
    if undisturbed:
        found["rows_undisturbed_p99"] = nearest_rank(undisturbed, 99)
    return {name: nanoseconds / NS_PER_MS for name, nanoseconds in found.items()}


def fill(tv: TvProcess, stock: Stock) -> float:
    """Load both sources; seconds that it took."""
    films, guide = tv.folder / "films.jsonl", tv.folder / "guide.xml"
    films.write_text("".join(write_jsonl(stock.films)), encoding="utf-8")
    guide.write_text(stock.guide, encoding="utf-8")
    began = time.monotonic()
    for source, path in (("films", films), ("guide", guide)):
        tv.client.call("catalogue.load", source=source, path=str(path))
    seconds = time.monotonic() - began
    titles = tv.client.call("health")["titles"]
    wanted = len(stock.films) + stock.guide.count("<programme ")
    if titles != wanted:
        raise InvalidRunError(f"the TV took {titles} of {wanted} titles")
    return seconds


def week(films: Sequence[Title], now: float) -> Iterable[ViewingEvent]:
    """What the family watched in the seven evenings before ``now``."""
    for days in range(EVENINGS, 0, -1):
        yield from evening(FAMILY, films, start=now - days * DAY, seed=days)


def live_through(client: Client, events: Iterable[ViewingEvent]) -> list[float]:
    """Tell the TV, as its one household; milliseconds until each event was durable.

    Heartbeats, which gather in memory, are told but not counted.
    """
    took = []
    for event in events:
        params = {k: v for k, v in strict.to_json(event).items() if k != "profile_id"}
        began = time.perf_counter_ns()
        client.call("event", **params)
        if event.kind is not EventKind.PROGRESS:
            took.append((time.perf_counter_ns() - began) / NS_PER_MS)
    return took


def ask(tv: TvProcess, rows: int, **who: str) -> list[Call]:
    """Ask for the shelf ``rows`` times, with events in between.

    Args:
        tv: a stocked TV.
        rows: how often.
        who: ``profile_id`` of the member who asks; without it the household.
    """
    calls: list[Call] = []
    shelf = tv.client.call("rows", **who)
    half_seen = None
    with no_collections():
        for number in range(rows):
            shown: Callable[[Any], bool] | None = None
            if number % EVENT_EVERY == 0:
                half_seen, shown = press_key(tv.client, shelf, half_seen, number, who)
            shelf, call = ask_once(tv, who)
            missed = shown is not None and not shown(shelf)
            quiet = number % EVENT_EVERY >= EVENT_EVERY // 2
            calls.append(replace(call, missed=missed, quiet=quiet))
    return calls


def ask_once(tv: TvProcess, who: Mapping[str, str]) -> tuple[Any, Call]:
    """One shelf, for ``profile_id`` in ``who`` or the household, and what it took."""
    waited, cpu = tv.waited_ns(), tv.cpu_ns()
    began = time.perf_counter_ns()
    shelf = tv.client.call("rows", **who)
    wall = time.perf_counter_ns() - began
    cpu = tv.cpu_ns() - cpu
    after = tv.waited_ns()
    # A thread that ended meanwhile takes its count with it.
    lost = None if waited is None or after is None else max(after - waited, 0)
    return shelf, Call(wall, cpu, lost, quiet=False, missed=False)


def press_key(
    client: Client, shelf: Any, half_seen: str | None, number: int, who: Mapping[str, str]
) -> tuple[str | None, Callable[[Any], bool]]:
    """Stop a discovered film half way, or see the one that was stopped to its end.

    Returns:
        The film that waits half seen, if any, and what the next shelf must show.
    """
    if half_seen is None:
        film = _first_discovery(shelf)
        _say(client, film, EventKind.STOP, HALF_WAY * FILM_S, number, who)
        return film, lambda after: film in _titles(after, {RowCode.CONTINUE_WATCHING})
    _say(client, half_seen, EventKind.COMPLETE, FILM_S, number, who)
    return None, lambda after: half_seen not in _titles(after, set(RowCode))


def _say(
    client: Client,
    title_id: str,
    kind: EventKind,
    position_s: float,
    number: int,
    who: Mapping[str, str],
) -> None:
    client.call(
        "event",
        **who,
        event_id=f"bench-{number}",
        title_id=title_id,
        kind=kind.value,
        position_s=position_s,
        duration_s=FILM_S,
    )


def _first_discovery(shelf: Any) -> str:
    for row in shelf["rows"]:
        if row["code"] in DISCOVERY and row["cards"]:
            return str(row["cards"][0]["title_id"])
    raise InvalidRunError("the shelf shows nothing new to watch")


def _titles(shelf: Any, codes: set[RowCode]) -> set[str]:
    return {
        card["title_id"] for row in shelf["rows"] if row["code"] in codes for card in row["cards"]
    }
