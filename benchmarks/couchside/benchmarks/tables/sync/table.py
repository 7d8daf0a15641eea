"""The table ``sync``: bytes of a TV, bytes after a kill, distance, and what an Update costs.

Everything that is called measured is of real processes over a real broker on the loopback; CPU time
of servers is read from the kernel. It says nothing of radio, of TLS, or of a broker with a million
TVs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from couchside.benchmarks.promises.budgets import read_promises
from couchside.benchmarks.tables import peers
from couchside.benchmarks.tables.peers import Peer, PeerMissingError
from couchside.benchmarks.tables.sync import crossing, sections
from couchside.benchmarks.tables.sync.summing import FOLDS, fold_ms, gather
from couchside.benchmarks.tables.sync.unmasking import unmask_apart
from couchside.benchmarks.tables.sync.wire import DELTAS, differences, other_ways
from couchside.benchmarks.tables.table import Body, Table

if TYPE_CHECKING:
    from couchside.benchmarks.tables.bench import Bench
    from couchside.benchmarks.tables.sync.streams import Form
    from couchside.benchmarks.tables.table import Section
    from couchside.device.bundle import Bundle

FLOWER = Peer("flower", ("flwr==1.41.0", "numpy==2.4.6"))
TURNS = 3
DELAY_S = 0.05
FORM: Form = "cbor"
"""Of a stream that is killed: the better of the two."""


def _run(bench: Bench) -> Body:
    bundle = bench.bundles()[read_promises().conditions.flavour]
    found = bench.unit("sync/releases", lambda: _releases(bench, bundle))
    kills = [
        bench.unit(f"sync/kill {number}", lambda: crossing.killed(bundle))
        for number in range(1, bench.quick_or_full(1, 5) + 1)
    ]
    tvs = bench.quick_or_full(100, 500)
    sums = bench.unit("sync/gather", lambda: gather(bundle, tvs))
    greeting = found["quiet"]["received"]
    return Body(
        (
            *_wire(bench, bundle, found),
            sections.kills(
                kills, greeting,
                bench.unit("sync/stream killed", lambda: crossing.stream_killed(bundle, FORM)),
                FORM,
            ),
            *_distance(bench, bundle),
            *_sums(bench, bundle, sums, tvs),
        ),
        versions={peer.name: ", ".join(peer.requirements) for peer in (FLOWER, DELTAS)},
        promised={
            "resume_blocks": tuple(sections.whole_blocks(kill, greeting) for kill in kills),
            "manifest_release": (found["manifest"]["received"] / 1000,),
            "popularity_release": (found["popularity"]["received"] / 1000,),
            "aggregator_updates": (tvs / sums["cpu"]["aggregator"],),
            "aggregator_growth": (sums["grown"]["aggregator"] - sums["resident"]["aggregator"],),
            "aggregator_rss": (sums["grown"]["aggregator"],),
        },
    )  # fmt: skip


TABLE = Table(
    "sync",
    "Sync",
    "What do delivery and learning together cost a TV on the wire, and the cloud?",
    _run,
)


def _releases(bench: Bench, bundle: Bundle) -> dict[str, Any]:
    wanted = bench.quick_or_full({bundle.flavour: bundle}, bench.bundles())
    return crossing.releases(wanted, bundle.flavour, bench.quick_or_full(2.0, 10.0))


def _wire(bench: Bench, bundle: Bundle, found: dict[str, Any]) -> tuple[Section, Section]:
    streams: dict[str, Any] = {
        form: bench.unit(f"sync/stream {form}", lambda form=form: crossing.stream(bundle, form))  # type: ignore[misc]
        for form in crossing.FORMS
    }
    ways = {
        **bench.unit("sync/other ways", lambda: other_ways(bundle)),
        **differences(bench, bundle),
    }
    after = bench.unit("sync/after a round", lambda: crossing.after_round(bundle))
    return (
        sections.first_bundle(bundle, found, streams, ways),
        sections.next_release(bundle, found, ways, after),
    )


def _distance(bench: Bench, bundle: Bundle) -> tuple[Section, ...]:
    """Only without haste: the far way takes a while."""
    if bench.size == "quick":
        return ()
    took = bench.unit("sync/distance", lambda: crossing.distance(bundle, DELAY_S, (1, 2, 8)))
    return (sections.far_away(took),)


def _sums(bench: Bench, bundle: Bundle, sums: dict[str, Any], tvs: int) -> tuple[Section, Section]:
    alone = {
        seeds: bench.unit(f"sync/unmask {seeds}", lambda s=seeds: unmask_apart(bundle, s))  # type: ignore[misc]
        for seeds in bench.quick_or_full((500,), (500, 3000))
    }
    turns = bench.unit("sync/turns", lambda: _turns(bench, sums["values"]))
    unmasking = alone[500]["ms"] / 500
    ours = {"fold": turns["ours"], "both": [fold + unmasking for fold in turns["ours"]]}
    return (
        sections.servers(sums, tvs, alone),
        sections.sums_alone(sums["values"], ours, turns["flower"]),
    )


def _turns(bench: Bench, values: int) -> dict[str, Any]:
    """Turns of ours and Flower's, one after the other."""
    ours: list[float] = []
    theirs: list[dict[str, Any]] = []
    request = {"updates": FOLDS // 2, "values": values}
    for _ in range(TURNS):
        ours.append(fold_ms(values))
        try:
            theirs.append(peers.install(bench, FLOWER).ask("flower.py", request))
        except PeerMissingError as error:
            return {"ours": ours, "flower": {"missing": str(error)}}
    flower = {name: [turn[name] for turn in theirs] for name in ("ms", "fold_ms", "unmask_ms")}
    sizes = {name: theirs[0][name] for name in ("bytes", "masked_bytes")}
    return {"ours": ours, "flower": {**flower, **sizes}}
