"""``end-to-end``: the launcher asks a real couchside-device for its shelf, over its Unix socket.

The process, its socket, its SQLite files and its background work are those of a TV; the catalogue
is the Bundle's own titles. Between shelves somebody stops a film half way, on nobody's clock, so
that the next shelf has to be made anew.
"""

from __future__ import annotations

import time
from itertools import count, cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from couchside.benchmarks.errors import InvalidRunError, UsageError
from couchside.benchmarks.timing.artefact import Parity, describe_bundle
from couchside.benchmarks.timing.percentiles import NS_PER_MS, nearest_rank
from couchside.benchmarks.timing.stopwatch import Query, Stage, time_once
from couchside.benchmarks.timing.workload import Case, Server, Size, Subject, Workload
from couchside.benchmarks.tv.process import TvProcess
from couchside.device.guide.jsonl import write_jsonl
from couchside.device.rpc.client import Client
from couchside.device.runtime.graph import check_golden

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from couchside.benchmarks.timing.choice import Choice
    from couchside.device.bundle import Bundle

EVENT_EVERY = 20
"""Shelves between two events: a launcher asks far more often than anybody presses a key."""
FILM_S = 6000.0
HALF_WAY = 0.4
FILMS = 8
"""Films that are stopped half way, again and again."""
PINGS = 200
"""Calls of a method that computes nothing: what the way there and back costs."""


class EndToEnd(Workload):
    """A TV of its own, stocked and with a history, switched off until it is loaded."""

    def __init__(self, bundle: Bundle, choice: Choice) -> None:
        _refuse(bundle, choice)
        self._bundle, self._choice = bundle, choice
        # A short path, as a Unix socket's has 107 bytes at most.
        self._folder = TemporaryDirectory(prefix="couchside-")
        settings = f"[model]\nthreads = {choice.threads}\n"
        self._tv = TvProcess(Path(self._folder.name), settings=settings)
        self._clients: list[Client] = []
        steps = bundle.model.history_length if choice.history is None else choice.history
        try:
            self._films = self._live_so_far(steps)
        except BaseException:
            self.close()
            raise
        self.subject = Subject(
            describe_bundle(bundle, "user_model"),
            "end-to-end",
            "user_model",
            bundle.manifest.quality,
            steps,
            (
                "load is from the start of couchside-device to its first answered rows",
                f"somebody stops a film half way before every {EVENT_EVERY}th rows, untimed",
            ),
        )

    @property
    def backend(self) -> str:
        """What the daemon runs its models on."""
        return self._bundle.runtime

    @property
    def server(self) -> Server:
        """The daemon."""
        tv = self._tv
        return Server(tv.memory, tv.cpu_ns, self._facts)

    def load(self) -> tuple[Case, ...]:
        """Switch the TV on, or sit one more caller down in front of it."""
        if self._tv.is_on:
            client = Client(self._tv.folder / "rpc.sock")
            self._clients.append(client)
            before = None
        else:
            self._tv.start()
            client, before = self._tv.client, self._every_now_and_then()
        titles = self._bundle.manifest.tensors["content"].shape[0]
        rows = Stage("rows", lambda _: client.call("rows"))
        size = Size("rows over the socket", titles=titles, made="the whole table")
        return (Case(size, Query((rows,), before)),)

    def check(self) -> Parity:
        """By all golden vectors, as the daemon did itself before it took the Bundle."""
        cosines = check_golden(self._bundle, threads=self._choice.threads)
        return Parity(checked=True, graph="user_model", cosine=cosines["user_model"])

    def close(self) -> None:
        """Switch the TV off and remove its files."""
        for client in self._clients:
            client.close()
        self._tv.stop()
        self._folder.cleanup()

    def _live_so_far(self, steps: int) -> list[str]:
        """Stock the TV and watch ``steps`` films; films to be stopped half way later."""
        tv, rng = self._tv, np.random.default_rng(self._choice.seed)
        tv.install(self._bundle.path)
        tv.start()
        films = list(self._bundle.titles())
        listed = tv.folder / "films.jsonl"
        listed.write_text("".join(write_jsonl(films)), encoding="utf-8")
        report = tv.client.call("catalogue.load", source="films", path=str(listed))
        if report["titles"] != len(films):
            raise InvalidRunError(f"the TV took {report['titles']} of {len(films)} titles")
        for number, row in enumerate(rng.integers(0, len(films), steps).tolist()):
            self._say(films[row].title_id, "complete", FILM_S, f"before-{number}")
        tv.stop()
        return [films[row].title_id for row in rng.integers(0, len(films), FILMS).tolist()]

    def _every_now_and_then(self) -> Callable[[], None]:
        films, number = cycle(self._films), count()

        def press_key() -> None:
            turn = next(number)
            if turn % EVENT_EVERY == 0:
                self._say(next(films), "stop", HALF_WAY * FILM_S, f"timed-{turn}")

        return press_key

    def _say(self, title_id: str, kind: str, position_s: float, event_id: str) -> None:
        self._tv.client.call(
            "event",
            event_id=event_id,
            title_id=title_id,
            kind=kind,
            position_s=position_s,
            duration_s=FILM_S,
            at=time.time(),
        )

    def _facts(self) -> Mapping[str, float]:
        """What the way costs, and how long the daemon says that it takes for rows."""
        # Ctrl-C in the middle of a call has left its answer in the old connection.
        self._tv.client.close()
        call = self._tv.client.call
        pings = sorted(time_once(lambda: call("profiles.list")) for _ in range(PINGS))
        health: Any = call("health")
        facts = {"socket_p50_ms": nearest_rank(pings, 50) / NS_PER_MS}
        told = {"daemon_rows_p50_ms": "rows_p50_ms", "daemon_rows_p99_ms": "rows_p99_ms"}
        facts |= {ours: health[its] for ours, its in told.items() if health[its] is not None}
        return facts


def _refuse(bundle: Bundle, choice: Choice) -> None:
    if choice.batch != 1:
        raise UsageError("--batch: the daemon answers one shelf at a time")
    if choice.graph is not None:
        raise UsageError(f"--scenario end-to-end runs all graphs: leave out --graph {choice.graph}")
    if choice.backend not in ("auto", bundle.runtime):
        raise UsageError(
            f"--backend {choice.backend}: couchside-device runs this Bundle on {bundle.runtime}"
        )
