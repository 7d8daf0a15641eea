"""The best hundred of n titles by everybody, turn by turn in one process, hot and cold.

Runs inside an environment with numpy and whichever libraries installed; the others are told apart.
"""

import json
import subprocess
import sys
import time

import numpy as np
from retrieval_engines import makers

from couchside.benchmarks.tables.contest import contest

K = 100
CLUSTERS = 200
CACHE_BYTES = 96 * 1024 * 1024
"""Streamed before a cold call: more than most caches; what a TV's video does to its."""
ABSENT = (ImportError, OSError, subprocess.SubprocessError)
"""How a library or a compiler that is not here shows."""


def main():
    request = json.load(sys.stdin)
    answer = diversity(request) if request["what"] == "diversity" else retrieval(request)
    print(json.dumps(answer))


def retrieval(request):
    """Everybody's times and recall, and those with masks if asked for."""
    rng = np.random.default_rng(request["seed"])
    clusters, vectors, queries = _clustered(rng, request["n"], request["d"])
    engines, builds, missing = {}, {}, {}
    for name, make in makers(request["work"]).items():
        began = time.process_time()
        try:
            engines[name] = make(vectors)
        except ABSENT as error:
            missing[name] = f"{type(error).__name__}: {error}"[:90]
        builds[name] = time.process_time() - began
    runs = {name: _turn(engine.search, queries) for name, engine in engines.items()}
    recalls = {n: _recall(engine.search, vectors, queries) for n, engine in engines.items()}
    hot = {s.contender: s for s in contest(runs, rounds=request["rounds"], turn_ns=request["turn"])}
    cold = _cold(runs, request)
    rows = [
        {
            "name": name, "hot": standing.cpu_ms, "cold": cold[name], "recall": recalls[name],
            "ratio": [standing.ratio, standing.ratio_low, standing.ratio_high],
            "bytes": engines[name].size, "build": builds[name],
        }
        for name, standing in hot.items()
    ]  # fmt: skip
    answer = {"missing": missing, "rows": rows}
    if request["masks"]:
        masks = _masks(rng, clusters)
        answer["masked"] = _masked(engines, vectors, queries, masks, request)
    return answer


def _clustered(rng, n, d):
    """Cluster of each title, unit vectors, and queries near titles, as users are."""
    centres = rng.standard_normal((CLUSTERS, d))
    clusters = rng.integers(0, CLUSTERS, n)
    vectors = centres[clusters] + 0.7 * rng.standard_normal((n, d))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[rng.integers(0, n, 64)] + 0.3 * rng.standard_normal((64, d)) / np.sqrt(d)
    return clusters, vectors.astype(np.float32), queries.astype(np.float32)


def _turn(search, queries):
    place = [0]

    def run():
        place[0] = (place[0] + 1) % len(queries)
        return search(queries[place[0]], K)

    return run


def _cold(runs, request):
    flood = np.zeros(CACHE_BYTES // 8)
    # A shorter turn, as most of its time goes into streaming, which is off the clock.
    turn = request["turn"] // 4
    cold = contest(runs, rounds=request["rounds"], turn_ns=turn, before=flood.sum)
    return {standing.contender: standing.cpu_ms for standing in cold}


def _recall(search, vectors, queries, mask=None):
    """Share of the exact best hundred that was found; None of a limit, which finds nothing."""
    found = []
    for query in queries[:32]:
        scores = vectors @ query
        if mask is not None:
            scores[~mask] = -np.inf
        best = set(np.argsort(-scores, kind="stable")[:K].tolist())
        got = search(query, K)
        if got is None:
            return None
        found.append(len(best.intersection(np.asarray(got).ravel().tolist())) / K)
    return float(np.mean(found))


def _masks(rng, clusters):
    """60 % of the titles: drawn one by one, and whole clusters, as services are or are not paid."""
    chosen = rng.permutation(CLUSTERS)[: CLUSTERS * 6 // 10]
    return {"random": rng.random(len(clusters)) < 0.6, "clusters": np.isin(clusters, chosen)}


def _masked(engines, vectors, queries, masks, request):
    """Time with the random mask, and recall with both, of every engine that answers."""
    hows, runs, recalls = {}, {}, {}
    for name, engine in engines.items():
        if name.startswith(("limit", "plain")):
            continue
        hows[name] = engine.how or f"asks for {2 * K}"
        recalls[name] = {}
        # The random mask last: an engine that keeps its mask is timed with that one.
        for kind in ("clusters", "random"):
            search = engine.masked(masks[kind]) if engine.masked else _kept(engine, masks[kind])
            recalls[name][kind] = _recall(search, vectors, queries, masks[kind])
        runs[name] = _turn(search, queries)
    standings = contest(runs, rounds=request["rounds"], turn_ns=request["turn"])
    return [
        {"name": s.contender, "how": hows[s.contender], "hot": s.cpu_ms,
         "ratio": [s.ratio, s.ratio_low, s.ratio_high], "recall": recalls[s.contender]}
        for s in standings
    ]  # fmt: skip


def _kept(engine, mask):
    """What is available of twice as many."""

    def search(query, k):
        found = np.asarray(engine.search(query, 2 * k)).ravel().astype(np.int64)
        return found[mask[found]][:k]

    return search


def diversity(request):
    """50 of 500 titles that do not resemble each other: times, and whether the same 50."""
    try:
        import pyversity

        from couchside.device.shelf.rows import diversify
    except ImportError as error:
        return {"missing": {"everybody": f"{type(error).__name__}: {error}"[:90]}, "rows": []}
    rng = np.random.default_rng(request["seed"])
    _, vectors, queries = _clustered(rng, request["n"], request["d"])
    scores = vectors @ queries[0]
    scores = (scores - scores.min()) / (scores.max() - scores.min())
    k, weight = request["k"], request["weight"]
    same = {"k": k, "diversity": weight}
    runs = {
        "pyversity, MMR": lambda: pyversity.mmr(vectors, scores, **same).indices,
        "pyversity, MMR on unit vectors": lambda: (
            pyversity.mmr(
                vectors, scores, normalize=False, metric=pyversity.Metric.DOT, **same
            ).indices
        ),
        "Couchside, MMR as the TV does it": lambda: diversify(scores, vectors, k=k, weight=weight),
    }
    first = list(map(int, next(iter(runs.values()))()))
    agreed = {n: float(np.mean(np.asarray(run()) == first)) for n, run in runs.items()}
    return {
        "missing": {},
        "rows": [
            {"name": s.contender, "hot": s.cpu_ms, "agreed": agreed[s.contender],
             "ratio": [s.ratio, s.ratio_low, s.ratio_high]}
            for s in contest(runs, rounds=request["rounds"], turn_ns=request["turn"])
        ],
    }  # fmt: skip


main()
