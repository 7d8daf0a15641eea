"""The best hundred titles for a user vector: exact, on every title, as a TV needs it.

Ours is the TV's own code (``device.ranker``): one product and a sampled threshold, in numpy alone,
on float vectors. The reference is what one writes in numpy without a thought. The limits are a loop
in C over int8 as a compiler makes it, and the time merely to read those bytes; neither is shipped.
The numbers say what a call costs on one thread of this machine, not what a library can do with all
cores, in batches, or on millions of titles, which is what most of them are made for.
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
    "apsw": "3.54.1.0",
    "scann": "1.4.2",
    "implicit": "0.7.3",
    "ai-edge-litert": "2.3.0",
    "pyversity": "0.2.0",
}
PEER = Peer(
    "retrieval", ("numpy==2.4.6",), optional=tuple(f"{n}=={v}" for n, v in LIBRARIES.items())
)
SIZES = (5_000, 100_000)
"""A TV's, and the most that a TV scans exactly."""
D = 64
"""As in the recipe tv-small."""
SEED = 0
POOL, CARDS, DIVERSITY = 500, 50, 0.3
RATIO = Column("ratio to numpy", "times", "more")
RECALL = Column("recall@100", "", "more")
COLUMNS = (
    Column("hot", "µs", "less"),
    Column("cold", "µs", "less"),
    RATIO,
    RECALL,
    Column("index", "kB", "less"),
    Column("build", "s", "less"),
)
MASK_COLUMNS = (
    Column("filter"),
    Column("hot", "µs", "less"),
    RATIO,
    Column("recall@100, titles at random", "", "more"),
    Column("recall@100, whole clusters", "", "more"),
)
DIVERSITY_COLUMNS = (
    Column("hot", "µs", "less"),
    Column("ratio to pyversity", "times", "more"),
    Column("same picks", "share", "more"),
)


def _run(bench: Bench) -> Body:
    answers = {n: bench.unit(f"retrieval/{n}", _asker(bench, n)) for n in SIZES}
    diverse = bench.unit("retrieval/diversity", lambda: _ask(bench, what="diversity", n=POOL))
    sections = [_section(n, answer) for n, answer in answers.items()]
    small = answers[SIZES[0]]
    return Body((*sections, _masked(SIZES[0], small), _diversity(diverse)), versions=LIBRARIES)


TABLE = Table(
    "retrieval",
    "Retrieval",
    "How long do the best hundred of all titles take, against libraries and the limit?",
    _run,
)


def _asker(bench: Bench, n: int) -> Any:
    return lambda: _ask(bench, what="retrieval", n=n, masks=n == SIZES[0])


def _ask(bench: Bench, **what: Any) -> dict[str, Any]:
    request = {
        **what,
        "d": D,
        "seed": SEED,
        "k": CARDS,
        "weight": DIVERSITY,
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
    return Section(
        title=f"The best 100 of {n:,} titles, {D} dimensions",
        text="CPU time of one call on one thread, turn by turn in one process; brackets are the "
        f"lowest and highest round. Unit vectors in 200 clusters (seed {SEED}), queries near "
        "titles. Cold: 96 MB were streamed before each call, as a TV's video does. Recall is of "
        "the exact float answer.",
        columns=COLUMNS,
        rows=(*map(_row, answer["rows"]), *_missing(answer, len(COLUMNS))),
        caveats=(
            "Synthetic vectors: recall of int8 and of graphs depends on the data.",
            "HNSW: usearch ef 128, hnswlib M 16, ef 256. More effort finds more, less is faster.",
            "Couchside adds a weighted popularity to every score, which nobody else is asked for.",
            "A build is paid again whenever the guide changes, once a day at least.",
            "sqlite-vec is asked through apsw: Python's own sqlite3 often loads no extensions.",
        ),
        chart="hot",
    )


def _row(row: dict[str, Any]) -> Row:
    return Row(
        row["name"],
        (
            Cell(1000 * row["hot"]),
            Cell(1000 * row["cold"]),
            Cell(*row["ratio"]),
            Cell() if row["recall"] is None else Cell(row["recall"]),
            Cell(row["bytes"] / 1000),
            Cell(row["build"]),
        ),
        ours=_is_ours(row["name"]),
    )


def _masked(n: int, answer: dict[str, Any]) -> Section:
    return Section(
        title="With a mask",
        text=f"Of {n:,} titles 60 % are available now: drawn one by one, or whole clusters, as a "
        "service is paid for or not. Recall is of the exact best hundred among the available. Who "
        "has no filter is asked for 200 titles, of which the available are kept. Times are with "
        "titles drawn one by one, in turns and brackets as above.",
        columns=MASK_COLUMNS,
        rows=(*map(_masked_row, answer.get("masked", [])), *_missing(answer, len(MASK_COLUMNS))),
        caveats=(
            "A filter is made once, off the clock; a TV's changes with the hour and the household.",
            "Asking for 200 is enough on average, and not for households whose clusters are out.",
        ),
        chart="hot",
    )


def _masked_row(row: dict[str, Any]) -> Row:
    return Row(
        row["name"],
        (
            Cell(text=row["how"]),
            Cell(1000 * row["hot"]),
            Cell(*row["ratio"]),
            Cell(row["recall"]["random"]),
            Cell(row["recall"]["clusters"]),
        ),
        ours=_is_ours(row["name"]),
    )


def _diversity(answer: dict[str, Any]) -> Section:
    return Section(
        title=f"{CARDS} of {POOL} titles that do not resemble each other",
        text=f"Maximal marginal relevance, weight {DIVERSITY}, {D} dimensions; turns and brackets "
        "as above. Same picks: the share of places with the title that pyversity's defaults put "
        "there.",
        columns=DIVERSITY_COLUMNS,
        rows=(
            *(
                Row(
                    row["name"],
                    (Cell(1000 * row["hot"]), Cell(*row["ratio"]), Cell(row["agreed"])),
                    ours=_is_ours(row["name"]),
                )
                for row in answer["rows"]
            ),
            *_missing(answer, len(DIVERSITY_COLUMNS)),
        ),
        caveats=(
            "Vectors are of unit length, so that pyversity's normalising can be left out as well.",
        ),
        chart="hot",
    )


def _missing(answer: dict[str, Any], columns: int) -> list[Row]:
    """A row with the reason for everybody who did not take part."""
    return [
        Row(name, (Cell(text=why), *[Cell()] * (columns - 1)))
        for name, why in answer["missing"].items()
    ]


def _is_ours(name: str) -> bool:
    return name.startswith("Couchside")
