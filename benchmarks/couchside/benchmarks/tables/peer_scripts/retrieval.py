"""The best hundred of n titles by everybody, turn by turn in one process, hot and cold.

Runs inside an environment with numpy and whichever libraries installed; the others are told apart.
"""

import ctypes
import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from couchside.benchmarks.tables.contest import contest
from couchside.device.ranker import top_k

K = 100
CACHE_BYTES = 96 * 1024 * 1024
"""Streamed before a cold call: more than any cache here."""


def main():
    request = json.load(sys.stdin)
    rng = np.random.default_rng(request["seed"])
    vectors, queries = _clustered(rng, request["n"], request["d"])
    mask = rng.random(request["n"]) < 0.6
    answer = {"missing": {}, "rows": []}
    makers = _makers(request["work"])
    runs, sizes, builds, recalls = {}, {}, {}, {}
    for name, make in makers.items():
        try:
            began = time.process_time()
            search, size = make(vectors)
            builds[name] = time.process_time() - began
        except (ImportError, OSError, subprocess.SubprocessError, AttributeError) as error:
            answer["missing"][name] = f"{type(error).__name__}: {error}"[:90]
            continue
        recalls[name] = _recall(search, vectors, queries)
        sizes[name] = size
        runs[name] = _turn(search, queries)
    hot = {s.contender: s for s in contest(runs, rounds=request["rounds"], turn_ns=request["turn"])}
    flood = np.zeros(CACHE_BYTES // 8)
    cold = {
        s.contender: s
        for s in contest(runs, rounds=max(3, request["rounds"] // 3), turn_ns=request["turn"] // 4,
                         before=flood.sum)
    }  # fmt: skip
    for name, standing in hot.items():
        answer["rows"].append(
            {
                "name": name,
                "hot": standing.cpu_ms,
                "ratio": [standing.ratio, standing.ratio_low, standing.ratio_high],
                "cold": cold[name].cpu_ms,
                "recall": recalls[name],
                "bytes": sizes[name],
                "build": builds[name],
            }
        )
    answer["masked"] = _masked(vectors, queries, mask, makers, answer["missing"])
    print(json.dumps(answer))


def _clustered(rng, n, d):
    """Titles in 200 clusters, and queries near titles, as users are."""
    centres = rng.standard_normal((200, d))
    vectors = centres[rng.integers(0, 200, n)] + 0.7 * rng.standard_normal((n, d))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[rng.integers(0, n, 64)] + 0.3 * rng.standard_normal((64, d)) / np.sqrt(d)
    return vectors.astype(np.float32), queries.astype(np.float32)


def _turn(search, queries):
    place = [0]

    def run():
        place[0] = (place[0] + 1) % len(queries)
        return search(queries[place[0]])

    return run


def _recall(search, vectors, queries, mask=None):
    found = []
    for query in queries[:16]:
        scores = vectors @ query
        if mask is not None:
            scores[~mask] = -np.inf
        best = set(np.argsort(-scores, kind="stable")[:K].tolist())
        got = search(query)
        if got is None:  # a limit finds nothing
            return None
        found.append(len(best.intersection(np.asarray(got).ravel().tolist())) / K)
    return float(np.mean(found))


def _makers(work):
    return {
        "numpy, product and argpartition": _numpy,
        "Couchside, as the TV does it": _ours,
        "faiss, flat float32": _faiss_flat,
        "faiss, flat int8 (SQ8)": _faiss_int8,
        "ScaNN, brute force int8": _scann,
        "usearch, exact int8": _usearch_exact,
        "usearch, HNSW int8": _usearch_hnsw,
        "hnswlib, HNSW float32": _hnswlib,
        "sqlite-vec": _sqlite_vec,
        "implicit, recommend": _implicit,
        "plain C loop over int8": lambda vectors: _c_loop(vectors, work),
        "limit: reading the int8 bytes": lambda vectors: _reading(vectors, work),
    }


def _numpy(vectors):
    def search(query):
        scores = vectors @ query
        best = np.argpartition(scores, len(scores) - K)[-K:]
        return best[np.argsort(-scores[best], kind="stable")]

    return search, vectors.nbytes


def _ours(vectors):
    popularity = np.zeros(len(vectors), dtype=np.float32)

    def search(query):
        from couchside.device.ranker import score

        return top_k(score(query, vectors, popularity, 0.0), K)

    return search, vectors.nbytes


def _faiss_flat(vectors):
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return (lambda query: index.search(query[None], K)[1][0]), vectors.nbytes


def _faiss_int8(vectors):
    import faiss

    kind = faiss.ScalarQuantizer.QT_8bit
    index = faiss.IndexScalarQuantizer(vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    return (lambda query: index.search(query[None], K)[1][0]), vectors.nbytes // 4


def _scann(vectors):
    import scann

    searcher = (
        scann.scann_ops_pybind.builder(vectors, K, "dot_product").score_brute_force(quantize=True)
    ).build()
    return (lambda query: searcher.search(query)[0]), vectors.nbytes // 4


def _usearch_exact(vectors):
    from usearch.index import MetricKind, search

    # It knows no scale a row: one for all.
    scale = 127 / np.abs(vectors).max()
    rows = np.rint(scale * vectors).astype(np.int8)

    def run(query):
        codes = _int8(query[None])[0]
        return search(rows, codes, K, MetricKind.IP, exact=True, threads=1).keys

    return run, rows.nbytes


def _usearch_hnsw(vectors):
    from usearch.index import Index

    index = Index(ndim=vectors.shape[1], metric="ip", dtype="i8", expansion_search=128)
    index.add(np.arange(len(vectors)), vectors, threads=1)
    return (lambda query: index.search(query, K, threads=1).keys), index.memory_usage


def _hnswlib(vectors):
    import hnswlib

    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), ef_construction=128, M=16)
    index.add_items(vectors, num_threads=1)
    index.set_ef(256)
    size = len(vectors) * (vectors.shape[1] * 4 + 16 * 2 * 4 + 8)
    return (lambda query: index.knn_query(query, K, num_threads=1)[0][0]), size


def _sqlite_vec(vectors):
    import sqlite_vec

    database = sqlite3.connect(":memory:")
    database.enable_load_extension(True)  # noqa: FBT003 - sqlite3's own signature
    sqlite_vec.load(database)
    database.execute(f"create virtual table titles using vec0(v float[{vectors.shape[1]}])")
    rows = ((i, vector.tobytes()) for i, vector in enumerate(vectors))
    database.executemany("insert into titles(rowid, v) values (?, ?)", rows)
    # It knows no inner product; for unit vectors the nearest by distance are the same.
    sql = "select rowid from titles where v match ? and k = ? order by distance"
    return (
        lambda query: [row for (row,) in database.execute(sql, (query.tobytes(), K))],
        vectors.nbytes,
    )


def _implicit(vectors):
    from implicit.cpu.matrix_factorization_base import MatrixFactorizationBase

    class Factors(MatrixFactorizationBase):
        def fit(self):
            raise NotImplementedError

        def save(self):
            raise NotImplementedError

    model = Factors()
    model.num_threads = 1
    model.item_factors = vectors
    model.user_factors = np.zeros((1, vectors.shape[1]), dtype=np.float32)

    def search(query):
        model.user_factors[0] = query
        return model.recommend(0, None, N=K, filter_already_liked_items=False)[0]

    return search, vectors.nbytes


def _int8(vectors):
    scales = np.abs(vectors).max(axis=1) / 127
    codes = np.rint(vectors / scales[:, None]).astype(np.int8)
    return np.ascontiguousarray(codes), scales.astype(np.float32)


def _library(work):
    source, target = Path(__file__).with_name("scan.c"), Path(work) / "scan.so"
    flags = ["-O3", "-march=native", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, "-o", target, source], check=True, capture_output=True)
    return ctypes.CDLL(str(target))


def _c_loop(vectors, work):
    library = _library(work)
    library.scan.restype = ctypes.c_long
    rows, scales = _int8(vectors)
    n, d = vectors.shape
    scores, best = np.empty(n, dtype=np.float32), np.empty(n, dtype=np.int32)
    fixed = [ctypes.c_long(value) for value in (n, d, K)]

    def search(query):
        codes = _int8(query[None])[0]
        found = library.scan(_at(rows), _at(scales), _at(codes), *fixed, _at(scores), _at(best))
        chosen = best[:found]
        return chosen[np.argsort(-scores[chosen], kind="stable")[:K]]

    return search, rows.nbytes + scales.nbytes


def _reading(vectors, work):
    library = _library(work)
    library.touch.restype = ctypes.c_long
    rows = _int8(vectors)[0]
    words = ctypes.c_long(rows.nbytes // 8)

    def search(_):
        library.touch(_at(rows), words)

    return search, rows.nbytes


def _at(array):
    return ctypes.c_void_p(array.ctypes.data)


def _masked(vectors, queries, mask, makers, missing):
    """Of the best hundred among the available 60 %: how many everybody finds."""
    rows = []
    for name, make in makers.items():
        if name in missing or name.startswith(("limit", "plain")):
            continue
        if name.startswith("Couchside"):
            rows.append([name, "a mask", _recall(lambda q: top_k(vectors @ q, K, mask), vectors,
                                                 queries, mask)])  # fmt: skip
        elif name.startswith("numpy"):
            rows.append([name, "a mask", _recall(_numpy_masked(vectors, mask), vectors, queries,
                                                 mask)])  # fmt: skip
        else:
            search, _ = make(vectors)
            rows.append([name, "taken out of its hundred", _recall(_kept(search, mask), vectors,
                                                                   queries, mask)])  # fmt: skip
    return rows


def _numpy_masked(vectors, mask):
    rows = np.flatnonzero(mask)

    def search(query):
        scores = vectors[rows] @ query
        return rows[np.argpartition(scores, len(scores) - K)[-K:]]

    return search


def _kept(search, mask):
    return lambda query: [title for title in np.asarray(search(query)).ravel() if mask[title]]


main()
