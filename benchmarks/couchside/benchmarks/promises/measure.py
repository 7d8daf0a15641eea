"""Everything about one TV that a promise is about: days, nights and deliveries, one run a unit."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from couchside.benchmarks.promises.daemon_run import make_stock, run_day
from couchside.benchmarks.promises.delivery_run import run_delivery
from couchside.benchmarks.promises.learning_run import run_night
from couchside.benchmarks.tv.process import TvProcess

if TYPE_CHECKING:
    from couchside.benchmarks.promises.budgets import Conditions
    from couchside.benchmarks.promises.daemon_run import Stock
    from couchside.benchmarks.tables.bench import Bench
    from couchside.device.bundle import Bundle


def measure_tv(
    bench: Bench, bundle: Bundle, conditions: Conditions, runs: int
) -> dict[str, tuple[float, ...]]:
    """Each measurement's values, one a run; every run is a new TV.

    Raises:
        InvalidRunError: a TV did not do what it was asked.
    """
    stock = make_stock(conditions.titles, now=time.time())
    found = [
        bench.unit(f"a TV's day, night and delivery, {number} of {runs}",
                   lambda: _once(bundle, stock, conditions))
        for number in range(1, runs + 1)
    ]  # fmt: skip
    return {name: tuple(once[name] for once in found) for name in found[0]}


def _once(bundle: Bundle, stock: Stock, conditions: Conditions) -> dict[str, float]:
    now = time.time()
    with _folder() as name, TvProcess(Path(name)) as tv:
        tv.install(bundle.path)
        measured = run_day(tv, stock, rows=conditions.rows, now=now)
    with _folder() as name:
        measured |= run_night(bundle, stock, Path(name), now=now)
    with _folder() as name:
        measured |= run_delivery(bundle, Path(name))
    return measured


def _folder() -> tempfile.TemporaryDirectory[str]:
    """Short, as sockets lie in it."""
    return tempfile.TemporaryDirectory(prefix="couchside-")
