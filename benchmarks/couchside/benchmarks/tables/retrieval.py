"""The best hundred titles for a user vector: exact, on every title, as a TV needs it.

Ours is the TV's own code (``device.ranker``): one product and a sampled threshold, in numpy alone,
on float vectors. At a TV's size nobody is much faster. At 100,000 titles int8 scans need half of
the time and graphs a tenth; graphs cost a build, memory, some of the best titles and, most of all,
the mask of what is available now. A plain loop in C over int8 and the time merely to read its bytes
stand beside it; neither is shipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from couchside.benchmarks.tables import peers
from couchside.benchmarks.tables.peers import Peer, PeerMissingError
from couchside.benchmarks.tables.table import Body, Cell, Column, Row, Section, Table

if TYPE_CHECKING:
    from couchside.benchmarks.tables.bench import Bench

LIBRARIES = {
    "faiss-cpu": "1.15.1",
    "usearch": "2.26.6",
    "hnswlib": "0.8.0",
    "sqlite-vec": "0.1.9",
    "scann": "1.4.2",
    "implicit": "0.7.3",
}
PEER = Peer("retrieval", ("numpy==2.4.6", *(f"{n}=={v}" for n, v in LIBRARIES.items())))
SIZES = (5_000, 100_000)
"""A TV's, and the most that a TV scans exactly."""
D = 64
"""As in the recipe tv-small."""
COLUMNS = (
    Column("hot", "µs", "less"),
    Column("cold", "µs", "less"),
    Column("ratio to numpy", "times", "more"),
    Column("recall@100", "", "more"),
    Column("index", "kB", "less"),
    Column("build", "s", "less"),
)


def _run(bench: Bench) -> Body:
    sections = []
    for n in SIZES:
        answer = bench.unit(f"retrieval/{n}", lambda n=n: _ask(bench, n))  # type: ignore[misc]
        sections.append(_section(n, answer))
        if n == SIZES[0]:
            masked = answer.get("masked", [])
    return Body((*sections, _masked(masked)), versions=LIBRARIES)


TABLE = Table(
    "retrieval",
    "Retrieval",
    "How long do the best hundred of all titles take, against libraries and the limit?",
    _run,
)


def _ask(bench: Bench, n: int) -> dict[str, Any]:
    request = {
        "n": n,
        "d": D,
        "seed": 0,
        "rounds": bench.quick_or_full(9, 21),
        "turn": bench.quick_or_full(5_000_000, 25_000_000),
        "work": str(bench.work.resolve()),
    }
    try:
        answer: dict[str, Any] = peers.install(bench, PEER).ask("retrieval.py", request)
    except PeerMissingError as error:
        return {"missing": {"everybody": str(error)}, "rows": []}
    return answer


def _section(n: int, answer: dict[str, Any]) -> Section:
    rows = [_row(row) for row in answer["rows"]]
    rows += [
        Row(name, (Cell(text=why), *[Cell()] * (len(COLUMNS) - 1)))
        for name, why in answer["missing"].items()
    ]
    return Section(
        title=f"The best 100 of {n:,} titles, {D} dimensions",
        text="CPU time of one call on one thread, turn by turn in one process; clustered unit "
        "vectors, queries near titles. Cold: 96 MB were streamed before each call, as a TV's video "
        "does. Recall is of the exact float answer.",
        columns=COLUMNS,
        rows=tuple(rows),
        caveats=(
            "Synthetic vectors: recall of int8 and of graphs depends on the data.",
            "A graph built with more effort finds more, and one asked for less is faster.",
            "A build is paid again whenever the guide changes, once a day at least.",
        ),
        chart="hot",
    )


def _row(row: dict[str, Any]) -> Row:
    cells = (
        Cell(1000 * row["hot"]),
        Cell(1000 * row["cold"]),
        Cell(*row["ratio"]),
        Cell(row["recall"]) if row["recall"] is not None else Cell(),
        Cell(row["bytes"] / 1000),
        Cell(row["build"]),
    )
    return Row(row["name"], cells, ours=row["name"].startswith("Couchside"))


def _masked(rows: list[list[Any]]) -> Section:
    return Section(
        title="With a mask",
        text=f"Of {SIZES[0]:,} titles 60 % are available now, at random: how many of the best "
        "hundred among those each finds. Libraries without a mask lose what is not available from "
        "their hundred; asking for more helps where little is missing, and not at the edges.",
        columns=(Column("how"), Column("recall@100", "", "more")),
        rows=tuple(
            Row(name, (Cell(text=how), Cell(recall)), ours=name.startswith("Couchside"))
            for name, how, recall in rows
        ),
        caveats=("faiss, usearch and ScaNN can filter in other modes, which are not measured.",),
    )
