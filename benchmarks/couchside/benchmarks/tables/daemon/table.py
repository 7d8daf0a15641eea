"""The daemon against a stack of good parts: what one process of our own saves, and what it costs.

Both serve the same 5,000 titles over a Unix socket with SQLite beneath, after the same week. The
stack (``peer_scripts/reference_stack.py``) does less, which its caveats list; it is no product, but
what a week's work with FastAPI, faiss, onnxruntime and pyversity gives. Its user model is our own,
so the numbers compare servers and not models. Times over a socket are wall times of a client in
Python on the same machine; an echo of a reply's length says how little of them could be saved.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

from couchside.benchmarks.promises.daemon_run import make_stock
from couchside.benchmarks.tables import peers
from couchside.benchmarks.tables.daemon.day import STACK, Effort, run_once
from couchside.benchmarks.tables.peers import Peer, PeerMissingError
from couchside.benchmarks.tables.table import Body, Cell, Column, Row, Section, Table
from couchside.benchmarks.timing.percentiles import nearest_rank, runs_needed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from couchside.benchmarks.promises.daemon_run import Stock
    from couchside.benchmarks.tables.bench import Bench
    from couchside.benchmarks.tables.peers import Installed

LIBRARIES = {
    "fastapi": "0.165.0",
    "uvicorn": "0.54.0",
    "uvloop": "0.23.0",
    "httptools": "0.9.0",
    "faiss-cpu": "1.15.1",
    "onnxruntime": "1.32.0",
    "pyversity": "0.2.0",
}
PEER = Peer("reference-stack", ("numpy==2.4.6", *(f"{n}=={v}" for n, v in LIBRARIES.items())))
TITLES = 5000
RUNS = 3
MB = 1e6
COLUMNS = (
    Column("start to first answer", "s", "less"),
    Column("rows, p50", "ms", "less"),
    Column("rows, p99", "ms", "less"),
    Column("CPU a call", "ms", "less"),
    Column("CPU a quiet call", "ms", "less"),
    Column("resident", "MB", "less"),
    Column("anonymous", "MB", "less"),
    Column("event, p50", "ms", "less"),
    Column("flash an event", "kB", "less"),
    Column("written an event", "kB", "less"),
    Column("wake-ups, idle", "1/s", "less"),
    Column("events missed", "", "less"),
    Column("cards"),
)
COMPARED = COLUMNS[:11]
"""Of which a ratio says something."""
LEFT_OUT = """\
The stack leaves out: reasons, the rows of the guide, the row of what is new, next episodes, fences
of age, one card a series, forgetting, export, checks of the model, limits on what it is sent, and
gathering of heartbeats. It gets its titles' vectors ready-made."""
FOR_SPEED = """\
It keeps titles, the household and the user vector in memory and answers without pydantic, which
tutorials do not. Whoever keeps whole answers until the next event is faster than either, and wrong
when a broadcast ends."""
CPU = """\
CPU is all of the process; after an event ours searches for reasons behind the answers. Quiet calls
are the eleventh and later ones after an event."""
FLASH = """\
The evening was told at once; our daemon was made to write whenever a minute of it had passed. Flash
is what the page cache was given to write, in pages of 4 kB; the file system's journal and the
chip's own copying come on top, for both."""
CAVEATS = (
    LEFT_OUT.replace("\n", " "),
    FOR_SPEED.replace("\n", " "),
    CPU.replace("\n", " "),
    FLASH.replace("\n", " "),
    "Written counts write(2): the stack's loop answers with it too, about 150 bytes an event.",
    "Idle: a connection is open, nothing is asked. systemd's watchdog, where set, adds to ours.",
)


def _run(bench: Bench) -> Body:
    flavours = bench.quick_or_full(["litert-int8"], ["litert-int8", "onnx-int8"])
    why, installed = "", None
    try:
        installed = peers.install(bench, PEER)
    except PeerMissingError as error:
        why = str(error)
    stock = make_stock(TITLES, now=time.time())
    found = [_unit(bench, flavours, stock, installed, number) for number in range(RUNS)]
    ours = [_measured(once, found_name(flavours[0])) for once in found]
    return Body(
        tuple(sections(found, why)),
        versions=LIBRARIES if installed is not None else {},
        promised={
            "evening_flash": tuple(value for once in ours for value in once["flash an event"]),
            "idle_wake_ups": tuple(value for once in ours for value in once["wake-ups, idle"]),
        },
    )


TABLE = Table(
    "daemon",
    "The daemon",
    "What does the daemon cost a TV, against a stack of what everybody uses?",
    _run,
)


def found_name(flavour: str) -> str:
    """Our daemon's name in what a run found."""
    return f"couchside-device, {flavour}"


def _unit(
    bench: Bench, flavours: Sequence[str], stock: Stock, installed: Installed | None, number: int
) -> dict[str, Any]:
    # Our daemon wakes every 15 s, so less than that would count none or one.
    idle_s = bench.quick_or_full(16.0 if number == 0 else 0.0, 60.0)
    effort = Effort(bench.quick_or_full(340, 1000), idle_s)
    bundles = bench.bundles()
    name = f"daemon/{'with' if installed else 'without'} stack/{number}"
    once: dict[str, Any] = bench.unit(
        name, lambda: run_once(bundles, flavours, stock, installed, effort)
    )
    return once


def sections(found: Sequence[dict[str, Any]], why: str = "") -> list[Section]:
    """Sections of what the runs found; ``why`` says why the stack is missing."""
    names = [name for name in found[0] if name != "shared"]
    rows = [_row(name, found) for name in names]
    if STACK not in names:
        rows.append(Row(STACK, (Cell(text=why), *[Cell()] * (len(COLUMNS) - 1))))
    shared = [once["shared"] for once in found if once["shared"] is not None]
    text = (
        f"{TITLES:,} titles, a week of a family's events (heartbeats on its last evening only), "
        "then rows with an event before every twentieth, the servers in turns of twenty; medians "
        f"of {len(found)} runs with the lowest and the highest. The 99th percentile is of the "
        "calls of all runs."
    )
    if shared:
        text += (
            f" Of our 25 titles for you the stack shows {100 * statistics.median(shared):.0f} % "
            "there too, after the same week."
        )
    result = [Section("Our daemon and a reference stack", text, COLUMNS, tuple(rows), CAVEATS)]
    if STACK in names:
        result.append(_ratios(names, found))
    return result


def _row(name: str, found: Sequence[dict[str, Any]]) -> Row:
    measured = [_measured(once, name) for once in found]
    cells = []
    for column in COLUMNS:
        values = [value for once in measured for value in once[column.name]]
        cells.append(_interval(values) if values else Cell())
    pooled = sorted(value for once in found for value in once[name]["wall_ms"])
    place = [column.name for column in COLUMNS].index("rows, p99")
    enough = len(pooled) >= runs_needed(99)
    cells[place] = Cell(nearest_rank(pooled, 99)) if enough else Cell(text="too few calls")
    return Row(name, tuple(cells), ours=name.startswith("couchside"))


def _ratios(names: Sequence[str], found: Sequence[dict[str, Any]]) -> Section:
    """Ours over the stack's, run by run."""
    rows = []
    for name in names:
        if not name.startswith("couchside"):
            continue
        cells = []
        for column in COMPARED:
            pairs = [
                (_measured(once, name)[column.name], _measured(once, STACK)[column.name])
                for once in found
            ]
            ratios = [
                a / b for ours, theirs in pairs for a, b in zip(ours, theirs, strict=False) if b
            ]
            cells.append(_interval(ratios) if ratios else Cell())
        rows.append(Row(name, tuple(cells), ours=True))
    return Section(
        "Ours over the stack's",
        "Each ratio is of one run; medians with the lowest and the highest. Below 1 ours needs "
        "less.",
        tuple(Column(column.name, "times", "less") for column in COMPARED),
        tuple(rows),
    )


def _measured(once: dict[str, Any], name: str) -> dict[str, list[float]]:
    """One run's values of one server by column: a list of one, or of none where not measured."""
    one = once[name]
    wall = sorted(one["wall_ms"])
    found: dict[str, float | None] = {
        "start to first answer": one["start_s"],
        "rows, p50": nearest_rank(wall, 50),
        "rows, p99": nearest_rank(wall, 99),
        "CPU a call": statistics.fmean(one["cpu_ms"]),
        "CPU a quiet call": statistics.fmean(one["quiet_cpu_ms"]),
        "resident": one["rss_bytes"] / MB,
        "anonymous": one["anonymous_bytes"] / MB,
        "event, p50": nearest_rank(sorted(one["event_ms"]), 50) if one["event_ms"] else None,
        "flash an event": one["dirtied"] / 1000 if one.get("dirtied") else None,
        "written an event": one["asked"] / 1000 if "asked" in one else None,
        "wake-ups, idle": one.get("wake_ups"),
        "events missed": one["missed"],
        "cards": one["cards"],
    }
    return {name: [] if value is None else [float(value)] for name, value in found.items()}


def _interval(values: Sequence[float]) -> Cell:
    if len(values) == 1:
        return Cell(values[0])
    return Cell(statistics.median(values), min(values), max(values))
