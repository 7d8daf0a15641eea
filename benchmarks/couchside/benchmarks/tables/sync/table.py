"""The table ``sync``: bytes of a TV, blocks after a kill, and what an Update costs the cloud."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from couchside.benchmarks.promises.budgets import read_promises
from couchside.benchmarks.tables import peers
from couchside.benchmarks.tables.peers import Peer, PeerMissingError
from couchside.benchmarks.tables.sync.summing import FOLDS, fold_ms, gather
from couchside.benchmarks.tables.sync.wire import deliver, killed, other_ways
from couchside.benchmarks.tables.table import Body, Cell, Column, Row, Section, Table

if TYPE_CHECKING:
    from couchside.benchmarks.tables.bench import Bench
    from couchside.device.bundle import Bundle

FLOWER = Peer("flower", ("flwr==1.22.0", "numpy==2.4.6"))
WIRE = (
    Column("received", "kB", "less"),
    Column("sent", "kB", "less"),
    Column("asked", "", "less"),
    Column("how"),
)
CPU = (Column("CPU an Update", "ms", "less"), Column("Updates a second and core", "", "more"))


def _run(bench: Bench) -> Body:
    bundle = bench.bundles()[read_promises().conditions.flavour]
    wire = bench.unit("sync/deliver", lambda: deliver(bundle))
    kills = [
        bench.unit(f"sync/kill {number}", lambda: killed(bundle))
        for number in range(1, bench.quick_or_full(1, 3) + 1)
    ]
    sums = bench.unit("sync/gather", lambda: gather(bundle, bench.quick_or_full(200, 1000)))
    folds = [fold_ms(sums["values"]) for _ in range(5)]
    flower = bench.unit("sync/flower", lambda: _flower(bench, sums["values"]))
    again = tuple(float(_again(kill, wire)) for kill in kills)
    rate = 1.0 / max(sums["cpu"]["aggregator"] / _tvs(bench), 1e-9)
    return Body(
        (_wire_section(bundle, wire), _kill_section(kills, wire), _sums_section(bench, sums),
         _fold_section(sums, folds, flower)),
        versions={"flwr": FLOWER.requirements[0].partition("==")[2]},
        promised={
            "resume_blocks": again,
            "manifest_release": (wire["next"]["in"] / 1000,),
            "aggregator_updates": (rate,),
            "aggregator_growth": (sums["grown"]["aggregator"] - sums["resident"]["aggregator"],),
        },
    )  # fmt: skip


TABLE = Table(
    "sync",
    "Sync",
    "What do delivery and learning together cost a TV on the wire, and the cloud?",
    _run,
)


def _tvs(bench: Bench) -> int:
    return int(bench.quick_or_full(200, 1000))


def _again(kill: dict[str, Any], wire: dict[str, Any]) -> int:
    """Blocks fetched twice: asked for again though they were on the disk, and one under way."""
    return int(kill["held"] + kill["wanted"] - wire["first"]["blocks"] + 1)


def _flower(bench: Bench, values: int) -> dict[str, Any]:
    request = {"updates": FOLDS, "values": values, "rounds": 5}
    try:
        answer: dict[str, Any] = peers.install(bench, FLOWER).ask("flower.py", request)
    except PeerMissingError as error:
        return {"missing": str(error)}
    return answer


def _wire_section(bundle: Bundle, wire: dict[str, Any]) -> Section:
    others = other_ways(bundle)

    def computed(name: str, key: str, how: str) -> Row:
        way = others[key]
        cells = (Cell(way["in"] / 1000), Cell(way["out"] / 1000), Cell(way["trips"]),
                 Cell(text=how))  # fmt: skip
        return Row(name, cells)

    def real(name: str, key: str) -> Row:
        way = wire[key]
        cells = (Cell(way["in"] / 1000), Cell(way["out"] / 1000), Cell(way["blocks"]),
                 Cell(text="measured"))  # fmt: skip
        return Row(name, cells, ours=True)

    return Section(
        title="A Bundle on its way to one TV",
        text=f"{bundle.flavour} of `{bundle.manifest.recipe}`; bytes above TCP, MQTT's own and the "
        "signed metadata included for ours; asked: blocks, files or requests, each a round trip.",
        columns=WIRE,
        rows=(
            real("Couchside, first Bundle", "first"),
            real("Couchside, next release with a new manifest", "next"),
            computed("plain files over HTTP", "plain", "computed: bodies only"),
            computed("one tar.xz over HTTP", "archive", "computed: body only, nothing to resume"),
            computed("blocks asked for in JSON over MQTT", "asked",
                     "computed: base64 in JSON, as AWS IoT's file streams"),
        ),
        caveats=(
            "A computed way carries no signatures and no headers: it flatters the others.",
            "An archive is all or nothing: a release that changes one file costs all of it again.",
        ),
        chart="received",
    )  # fmt: skip


def _kill_section(kills: list[dict[str, Any]], wire: dict[str, Any]) -> Section:
    blocks = wire["first"]["blocks"]
    again = [_again(kill, wire) for kill in kills]
    held = statistics.median(kill["held"] for kill in kills)
    return Section(
        title="After kill -9 half way",
        text="couchside-sync is killed when half of the blocks are on the disk, and started again. "
        "Blocks that come twice: asked for again, and the one that was under way, which is counted "
        "whole.",
        columns=(Column("blocks again", "", "less"), Column("of"), Column("how")),
        rows=(
            Row("Couchside", (Cell(statistics.median(again), min(again), max(again)),
                              Cell(blocks), Cell(text="measured")), ours=True),
            Row("a download without ranges", (Cell(held), Cell(blocks),
                                              Cell(text="computed: everything again"))),
        ),
    )  # fmt: skip


def _sums_section(bench: Bench, sums: dict[str, Any]) -> Section:
    tvs = _tvs(bench)
    rows = []
    for name in ("aggregator", "helper"):
        cpu = sums["cpu"][name] / tvs
        cells = (Cell(1000 * cpu), Cell(1 / cpu if cpu else None), Cell(sums["resident"][name]),
                 Cell(sums["grown"][name]))  # fmt: skip
        rows.append(Row(name, cells, ours=True))
    return Section(
        title="A Round through the real servers",
        text=f"{tvs:,} simulated TVs deliver a masked Update of {sums['frame']:,} bytes each "
        f"through a real broker in {sums['seconds']:.1f} s, until every one has its receipt: "
        "checked, opened by the helper, counted once, on the disk.",
        columns=(*CPU, Column("memory before", "MB"), Column("memory after", "MB")),
        rows=tuple(rows),
        caveats=("The crowd shares the machine; CPU time is each server's own.",),
    )


def _fold_section(sums: dict[str, Any], folds: list[float], flower: dict[str, Any]) -> Section:
    def row(name: str, took: list[float], *, ours: bool) -> Row:
        middle = statistics.median(took)
        cells = (Cell(middle, min(took), max(took)), Cell(1000 / middle))
        return Row(name, cells, ours)

    theirs = (
        row("Flower, FedAvg", flower["ms"], ours=False)
        if "ms" in flower
        else Row("Flower, FedAvg", (Cell(text=flower["missing"]), Cell()))
    )
    return Section(
        title="The sum alone",
        text=f"Adding one Update of {sums['values']:,} values to the sum: ours masked 16-bit "
        "numbers, Flower's deserialised float32 and averaged. Neither checks, counts once or keeps "
        "anything here.",
        columns=CPU,
        rows=(row("Couchside, masked sum", folds, ours=True), theirs),
        caveats=("Flower's has no masks: its server sees every Update.",),
    )
