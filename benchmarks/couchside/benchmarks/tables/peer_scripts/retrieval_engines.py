"""What finds the best titles for a query: one maker a library, all with the same interface."""

import ctypes
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np

from couchside.device.ranker import score, top_k


class Engine(NamedTuple):
    """A library with all titles in it."""

    search: object
    """``search(query, k)`` → titles, best first; None of a limit, which finds nothing."""
    size: int
    """Bytes of the index."""
    masked: object = None
    """``masked(mask)`` → a search among the titles of the mask; None of one that has no filter."""
    how: str = ""
    """What does the filtering."""


def makers(work):
    """By name, ``make(vectors)`` → Engine; the first is what others are compared with."""
    return {
        "numpy, product and argpartition": _numpy,
        "Couchside, as the TV does it": _ours,
        "LiteRT, int8, and our top_k": _litert,
        "faiss, flat float32": _faiss_flat,
        "faiss, flat int8 (SQ8)": _faiss_int8,
        "ScaNN, brute force int8": _scann,
        "usearch, exact int8": _usearch_exact,
        "usearch, HNSW int8": _usearch_hnsw,
        "hnswlib, HNSW float32": _hnswlib,
        "sqlite-vec, float32": _sqlite_vec,
        "implicit, recommend": _implicit,
        "plain C loop over int8": lambda vectors: _c_loop(vectors, work),
        "limit: reading the int8 bytes": lambda vectors: _reading(vectors, work),
    }


def _numpy(vectors):
    def best(scores, k):
        chosen = np.argpartition(scores, len(scores) - k)[-k:]
        return chosen[np.argsort(-scores[chosen], kind="stable")]

    def masked(mask):
        unavailable = ~mask

        def search(query, k):
            scores = vectors @ query
            scores[unavailable] = -np.inf
            return best(scores, k)

        return search

    return Engine(lambda query, k: best(vectors @ query, k), vectors.nbytes, masked, "mask")


def _ours(vectors):
    popularity = np.zeros(len(vectors), dtype=np.float32)

    def masked(mask):
        return lambda query, k: top_k(score(query, vectors, popularity, 0.0), k, mask)

    return Engine(masked(None), vectors.nbytes, masked, "mask")


def _litert(vectors):
    from ai_edge_litert.interpreter import Interpreter

    model = _fully_connected(*int8(vectors))
    graph = Interpreter(model_content=model, num_threads=1)
    graph.allocate_tensors()

    def masked(mask):
        def search(query, k):
            graph.set_tensor(0, query[None])
            graph.invoke()
            return top_k(graph.get_tensor(2)[0], k, mask)

        return search

    return Engine(masked(None), len(model), masked, "mask")


def _fully_connected(rows, scales):
    """A TFLite file with one layer: float query, int8 rows with a scale each, float scores."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    n, d = rows.shape
    floats, bytes_ = schema.TensorType.FLOAT32, schema.TensorType.INT8
    graph = schema.SubGraphT()
    for name, shape, kind, buffer in (
        ("user", [1, d], floats, 0), ("titles", [n, d], bytes_, 1), ("scores", [1, n], floats, 0),
    ):  # fmt: skip
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, kind, buffer
        graph.tensors = [*(graph.tensors or []), tensor]
    quantised = graph.tensors[1].quantization = schema.QuantizationParametersT()
    quantised.scale, quantised.zeroPoint = scales, np.zeros(n, dtype=np.int64)
    layer = schema.OperatorT()
    layer.inputs, layer.outputs = [0, 1, -1], [2]
    layer.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    layer.builtinOptions = schema.FullyConnectedOptionsT()
    graph.inputs, graph.outputs, graph.operators = [0], [2], [layer]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 9
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT(), schema.BufferT()]
    model.buffers[1].data = rows.reshape(-1).view(np.uint8)
    builder = flatbuffers.Builder(rows.nbytes + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _faiss_flat(vectors):
    import faiss

    return _faiss(faiss, faiss.IndexFlatIP(vectors.shape[1]), vectors)


def _faiss_int8(vectors):
    import faiss

    kind = faiss.ScalarQuantizer.QT_8bit
    index = faiss.IndexScalarQuantizer(vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    return _faiss(faiss, index, vectors)


def _faiss(faiss, index, vectors):
    faiss.omp_set_num_threads(1)
    index.add(vectors)

    def masked(mask):
        chosen = faiss.SearchParameters(sel=faiss.IDSelectorBatch(np.flatnonzero(mask)))
        return lambda query, k: index.search(query[None], k, params=chosen)[1][0]

    size = faiss.serialize_index(index).nbytes
    return Engine(lambda query, k: index.search(query[None], k)[1][0], size, masked, "IDSelector")


def _scann(vectors):
    import scann

    builder = scann.scann_ops_pybind.builder(vectors, 100, "dot_product")
    searcher = builder.score_brute_force(quantize=True).build()
    size = vectors.size + 4 * vectors.shape[1]
    return Engine(lambda query, k: searcher.search(query, final_num_neighbors=k)[0], size)


def _usearch_exact(vectors):
    from usearch.index import MetricKind, search

    # It knows no scale a row: one for all.
    rows = np.rint(127 / np.abs(vectors).max() * vectors).astype(np.int8)

    def run(query, k):
        codes = int8(query[None])[0]
        return search(rows, codes, k, MetricKind.IP, exact=True, threads=1).keys

    return Engine(run, rows.nbytes)


def _usearch_hnsw(vectors):
    from usearch.index import Index

    index = Index(ndim=vectors.shape[1], metric="ip", dtype="i8", expansion_search=128)
    index.add(np.arange(len(vectors)), vectors, threads=1)
    return Engine(lambda query, k: index.search(query, k, threads=1).keys, index.serialized_length)


def _hnswlib(vectors):
    import hnswlib

    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), ef_construction=128, M=16)
    index.add_items(vectors, num_threads=1)
    index.set_ef(256)

    def masked(mask):
        allowed = mask.tolist()
        return lambda query, k: index.knn_query(query, k, 1, allowed.__getitem__)[0][0]

    def search(query, k):
        return index.knn_query(query, k, num_threads=1)[0][0]

    return Engine(search, index.index_file_size(), masked, "callback")


def _sqlite_vec(vectors):
    import apsw  # Python's own sqlite3 is often built without extensions
    import sqlite_vec

    database = apsw.Connection(":memory:")
    database.enable_load_extension(True)  # noqa: FBT003 - apsw's own signature
    database.load_extension(sqlite_vec.loadable_path())
    database.execute(f"create virtual table titles using vec0(v float[{vectors.shape[1]}])")
    database.execute("create table available(title integer primary key)")
    with database:
        rows = ((title, vector.tobytes()) for title, vector in enumerate(vectors))
        database.executemany("insert into titles(rowid, v) values (?, ?)", rows)
    # It knows no inner product; of unit vectors the nearest are the same.
    sql = "select rowid from titles where v match ? and k = ? {} order by distance"

    def run(among):
        asked = sql.format(among)
        return lambda query, k: [t for (t,) in database.execute(asked, (query.tobytes(), k))]

    def masked(mask):
        titles = ((title,) for title in np.flatnonzero(mask).tolist())
        with database:
            database.execute("delete from available")
            database.executemany("insert into available values (?)", titles)
        return run("and rowid in (select title from available)")

    size = database.pragma("page_count") * database.pragma("page_size")
    return Engine(run(""), size, masked, "rowid in (…)")


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

    def masked(mask):
        unavailable = None if mask is None else np.flatnonzero(~mask)

        def search(query, k):
            model.user_factors[0] = query
            return model.recommend(
                0, None, N=k, filter_already_liked_items=False, filter_items=unavailable
            )[0]

        return search

    return Engine(masked(None), vectors.nbytes, masked, "filter_items")


def int8(vectors):
    """Codes int8 [n, d] and scales float32 [n] of rows."""
    scales = np.abs(vectors).max(axis=1) / 127
    codes = np.rint(vectors / scales[:, None]).astype(np.int8)
    return np.ascontiguousarray(codes), scales.astype(np.float32)


def _library(work):
    source, target = Path(__file__).with_name("scan.c"), Path(work) / "scan.so"
    flags = ["-O3", "-march=native", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, "-o", target, source], check=True, capture_output=True)
    return ctypes.CDLL(str(target))


def _c_loop(vectors, work):
    scan = _library(work).scan
    scan.restype = ctypes.c_long
    rows, scales = int8(vectors)

    def search(query, k):
        codes = int8(query[None])[0].astype(np.int16)
        # As scan.c holds them: four times as many.
        scores, titles = np.empty(4 * k, np.float32), np.empty(4 * k, np.int32)
        fixed = [ctypes.c_long(value) for value in (*vectors.shape, k)]
        found = scan(_at(rows), _at(scales), _at(codes), *fixed, _at(scores), _at(titles))
        return titles[:found][np.argsort(-scores[:found], kind="stable")]

    return Engine(search, rows.nbytes + scales.nbytes)


def _reading(vectors, work):
    touch = _library(work).touch
    touch.restype = ctypes.c_long
    rows = int8(vectors)[0]
    words = ctypes.c_long(rows.nbytes // 8)

    def search(_query, _k):
        touch(_at(rows), words)

    return Engine(search, rows.nbytes)


def _at(array):
    return ctypes.c_void_p(array.ctypes.data)
