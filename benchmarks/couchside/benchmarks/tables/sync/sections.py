"""The sections of the table ``sync``: measured numbers in, rows and caveats out. Pure."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

from couchside.benchmarks.tables.table import Cell, Column, Row, Section
from couchside.cloud_sync.topics import BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from couchside.device.bundle import Bundle

KB, DAY_S, KEEPALIVE_S, PING_BYTES = 1000, 86_400, 60, 2
FAR = "100 ms"
MEASURED, COMPUTED = Cell(text="measured"), Cell(text="computed")
WIRE = (
    Column("received", "kB", "less"),
    Column("sent", "kB", "less"),
    Column("asked", "", "less"),
    Column("how"),
)
"""Of ways to a TV."""


def first_bundle(
    bundle: Bundle, found: Mapping[str, Any], streams: Mapping[str, Any], ways: Mapping[str, Any]
) -> Section:
    """A whole Bundle, ours and otherwise."""
    rows = [
        Row(
            f"Couchside, {flavour}",
            (*_kilobytes(way), Cell(way["blocks"]), MEASURED),
            ours=True,
        )
        for flavour, way in sorted(found["first"].items())
    ]
    rows += [
        Row(
            f"request and response, {form.upper()}",
            (*_kilobytes(way), Cell(way["requests"]), MEASURED),
        )
        for form, way in streams.items()
    ]
    rows += [
        Row(name, (_kb(ways[key]), Cell(text="—"), Cell(text="—"), COMPUTED))
        for name, key in (("the files as they are", "plain"), ("one tar.xz", "archive"))
    ]
    if "missing" in ways:
        rows.append(Row("one tar.zst", (Cell(text=ways["missing"]), Cell(), Cell(), Cell())))
    else:
        measured = (_kb(ways["whole"]), Cell(text="—"), Cell(text="—"), MEASURED)
        rows.append(Row("one tar.zst, level 19", measured))
    return Section(
        title="A first Bundle on its way to one TV",
        text=f"Bundles of `{bundle.manifest.recipe}`; the other ways carry {bundle.flavour}. Bytes "
        "above TCP on the TV's link, greeting and signed metadata included for ours. asked: blocks "
        "or requests, each a round trip.",
        columns=WIRE,
        rows=tuple(rows),
        caveats=(
            (
                "Request and response is our simulator of AWS IoT's file delivery (blocks of 45 "
                "KiB as "
                "base64 in JSON, or of 60 KiB as CBOR, two a request), with the compressed "
                "files of "
                "ours and without signatures: what differs is the protocol. It needs a server that "
                "answers every TV; ours needs none."
            ),
            (
                "An archive beats our blocks: it sees all files at once, and theta lies in a "
                "Bundle "
                "twice (theta.bin and the golden vectors)."
            ),
            "An archive, and what is computed, carry no signature and no header.",
        ),
        chart="received",
    )


def next_release(
    bundle: Bundle, found: Mapping[str, Any], ways: Mapping[str, Any], after: Mapping[str, Any]
) -> Section:
    """What follows the first Bundle."""
    quiet = found["quiet"]
    pings = DAY_S // KEEPALIVE_S * PING_BYTES
    whole = found["first"][bundle.flavour]["received"]
    rows = [
        _ours("Couchside, only the manifest is new", found["manifest"]),
        _ours("Couchside, popularity is new", found["popularity"]),
        Row(
            "Couchside, after a Round",
            (_kb(after["bytes"]), Cell(text="—"), Cell(after["blocks"]), COMPUTED),
            ours=True,
        ),
        Row(
            "Couchside, nothing new for a day",
            (_kb(quiet["received"] + pings), _kb(quiet["sent"] + pings), Cell(0),
             Cell(text="connection measured, pings computed")),
            ours=True,
        ),
        Row("the whole Bundle again", (_kb(whole), Cell(text="—"), Cell(text="—"), MEASURED)),
    ]  # fmt: skip
    rows += [
        Row(
            f"{name}, popularity is new",
            (_kb(ways[key]), Cell(text="—"), Cell(text="—"), MEASURED)
            if key in ways
            else (Cell(text=ways["missing"]), Cell(), Cell(), Cell()),
        )
        for name, key in (("zstd --patch-from", "zstd"), ("bsdiff", "bsdiff"))
    ]
    return Section(
        title="The releases after it",
        text=f"{bundle.flavour}, each from a new connection, as after standby; a difference "
        "carries "
        "its body alone.",
        columns=WIRE,
        rows=tuple(rows),
        caveats=(
            (
                "A difference is made for one Bundle on the TV: a fleet with five versions "
                "needs five, "
                "and each is another thing to sign. Blocks serve every version."
            ),
            (
                "After a Round: theta, golden vectors and the user model's graph are taken to "
                "change "
                "from end to end, and projection and popularity within the item table; without the "
                "greeting and the signed metadata."
            ),
        ),
    )


def kills(
    ours: Sequence[Mapping[str, Any]], greeting: int, theirs: Mapping[str, Any], form: str
) -> Section:
    """Killed half way."""
    again = [blocks_again(kill, greeting) for kill in ours]
    twice = [(kill["received"] - kill["undisturbed"]) / KB for kill in ours]
    other = (theirs["received"] - theirs["undisturbed"]) / KB
    half = statistics.median(kill["undisturbed"] for kill in ours) / KB / 2
    return Section(
        title="After kill -9 half way",
        text="The client is killed when half of the blocks are on the disk, and started again. "
        "Bytes on its link beyond those of a client that was left alone, 10 ms from the broker; "
        "blocks: the same less the second greeting, in blocks of 60 KiB. Lowest and highest kill.",
        columns=(
            Column("received again", "kB", "less"),
            Column("blocks again", "", "less"),
            Column("how"),
        ),
        rows=(
            Row("Couchside", (_spread(twice), _spread(again), MEASURED), ours=True),
            Row(
                f"request and response, {form.upper()}",
                (Cell(other), Cell(other * KB / BLOCK_BYTES), MEASURED),
            ),
            Row("a download without ranges",
                (Cell(half), Cell(half * KB / BLOCK_BYTES), COMPUTED)),
        ),
        caveats=(
            ("Both are killed while what they asked for is on its way: a block of ours, up to "
            "two of request and response."),
        ),
    )  # fmt: skip


def blocks_again(kill: Mapping[str, Any], greeting: int) -> float:
    """Blocks' worth of bytes that came twice; ``greeting`` bytes come with each connection."""
    again: int = kill["received"] - kill["undisturbed"] - greeting
    return max(0, again) / BLOCK_BYTES


def whole_blocks(kill: Mapping[str, Any], greeting: int) -> float:
    """The same, a begun block counted whole; MQTT's own bytes around it are no block."""
    return float(math.ceil(blocks_again(kill, greeting) - 0.01))


def far_away(took: Mapping[str, Sequence[float]]) -> Section:
    """What distance costs."""
    return Section(
        title=f"A first Bundle from a broker that is {FAR} away",
        text=f"Round trip of {FAR}, by holding every byte on the link; without loss, and with the "
        "loopback's bandwidth. longer: seconds beyond the same without delay, which takes "
        "processes, disk and golden vectors out.",
        columns=(Column("longer", "s", "less"),),
        rows=tuple(
            Row(
                f"Couchside, {way}" if way.startswith("window") else
                f"request and response, {way.upper()}",
                (Cell(far - near),),
                ours=way.startswith("window"),
            )
            for way, (near, far) in took.items()
        ),
        caveats=(
            ("Ours asks for one block at a time by default (window 1): a kill then costs one. "
            "Request and response asks for two."),
        ),
    )  # fmt: skip


def servers(sums: Mapping[str, Any], tvs: int, alone: Mapping[int, Mapping[str, Any]]) -> Section:
    """A Round through the real servers."""
    rows = []
    for name in ("aggregator", "helper", "broker"):
        cpu = sums["cpu"][name] / tvs
        cells = (Cell(1000 * cpu), Cell(1 / cpu if cpu else None), Cell(sums["resident"][name]),
                 Cell(sums["half"][name]), Cell(sums["grown"][name]))  # fmt: skip
        rows.append(Row(name, cells, ours=name != "broker"))
    for seeds, found in alone.items():
        cells = (Cell(found["ms"] / seeds), Cell(1000 * seeds / found["ms"]),
                 Cell(found["before"]), Cell(text="—"), Cell(found["peak"]))  # fmt: skip
        rows.append(Row(f"helper, unmasking {seeds:,} at the end", cells, ours=True))
    return Section(
        title="A Round through the real servers",
        text=f"{tvs:,} simulated TVs deliver a masked Update of {sums['frame']:,} bytes each "
        f"(with the projection alone it is {sums['projection']:,}) in {sums['seconds']:.1f} s and "
        f"hear a receipt of {sums['receipt']} bytes: checked, its seed opened by the helper, "
        f"counted once, on the disk. Lost: {sums['lost']}; sent, resent ones included: "
        f"{sums['sent'] / KB / tvs:.1f} kB an Update. Memory before, after half of them and after "
        "all (the last helpers: at the peak).",
        columns=(
            Column("CPU an Update", "ms", "less"),
            Column("Updates a second and core", "", "more"),
            Column("before", "MB"),
            Column("half way", "MB"),
            Column("after", "MB"),
        ),
        rows=tuple(rows),
        caveats=("The crowd shares the machine; CPU time is each server's own.",),
    )


def sums_alone(
    values: int, ours: Mapping[str, Sequence[float]], flower: Mapping[str, Any]
) -> Section:
    """The arithmetic beside Flower's."""

    def row(name: str, took: Sequence[float], size: int, *, mine: bool = False) -> Row:
        middle = statistics.median(took)
        return Row(name, (_spread(took), Cell(1000 / middle), Cell(size / KB)), mine)

    rows = [
        row("Couchside, masked sum", ours["fold"], 2 * values, mine=True),
        row("Couchside, masked sum and unmasking", ours["both"], 2 * values, mine=True),
    ]
    if "missing" in flower:
        rows.append(Row("Flower", (Cell(text=flower["missing"]), Cell(), Cell())))
    else:
        both = [a + b for a, b in zip(flower["fold_ms"], flower["unmask_ms"], strict=True)]
        rows += [
            row("Flower, FedAvg in the open", flower["ms"], flower["bytes"]),
            row("Flower, SecAgg+ masked sum", flower["fold_ms"], flower["masked_bytes"]),
            row("Flower, SecAgg+ sum and unmasking", both, flower["masked_bytes"]),
        ]
    return Section(
        title="The sum alone",
        text=f"CPU time of adding one Update of {values:,} values, and of taking its mask off; "
        "turns "
        "of ours and Flower's alternate, lowest and highest turn. Nobody checks, counts once or "
        "keeps anything here; reading an Update is in, and with ours its hash.",
        columns=(
            Column("CPU an Update", "ms", "less"),
            Column("Updates a second and core", "", "more"),
            Column("an Update", "kB", "less"),
        ),
        rows=tuple(rows),
        caveats=(
            (
                "FedAvg has no masks: its server sees every Update. Its floats are 32 bits, "
                "ours are "
                "whole units modulo 2¹⁶."
            ),
            (
                "SecAgg+ needs one server and four messages of every client, ours two servers that "
                "must not be one and a single message. Keys and shares between clients are not "
                "timed; "
                "a neighbourhood of ten, nobody missing. Each client that is missing costs more."
            ),
            "Unmasking is once a Round in both; ours draws noise in it, Flower's does not.",
        ),
    )


def _ours(name: str, way: Mapping[str, Any]) -> Row:
    return Row(name, (*_kilobytes(way), Cell(way["blocks"]), MEASURED), ours=True)


def _kilobytes(way: Mapping[str, Any]) -> tuple[Cell, Cell]:
    return _kb(way["received"]), _kb(way["sent"])


def _kb(size: float) -> Cell:
    return Cell(size / KB)


def _spread(values: Sequence[float]) -> Cell:
    return Cell(statistics.median(values), min(values), max(values))
