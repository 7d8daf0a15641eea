"""Codecs of the item table, applied after training: bytes against ranking. Pure numpy.

int4 in groups is what facts about small catalogues recommend; product quantisation (Jégou et al.,
PAMI 2011) after the fact is what they warn of: codebooks must be trained in (RecJPQ, WSDM 2024).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

CENTROIDS = 256
ITERATIONS = 20


def codecs(vectors: NDArray[np.float32]) -> Iterator[tuple[str, int, NDArray[np.float32]]]:
    """(name, bytes, decoded vectors [n, d]) of each codec; the first is the table as it is."""
    n, d = vectors.shape
    yield "float32", vectors.nbytes, vectors
    yield "float16", 2 * n * d, vectors.astype(np.float16).astype(np.float32)
    yield "int8 a row", n * (d + 4), integers(vectors, bits=8, group=d)
    for group in (32, 16):
        if d % group == 0:
            size = n * d // 2 + 2 * n * d // group  # a float16 scale a group
            yield f"int4, groups of {group}", size, integers(vectors, bits=4, group=group)
    for pieces in (16, 8):
        if d % pieces == 0 and n > CENTROIDS:
            size = n * pieces + 4 * CENTROIDS * d
            yield f"PQ, {pieces} bytes a row", size, product(vectors, pieces)


def integers(vectors: NDArray[np.float32], *, bits: int, group: int) -> NDArray[np.float32]:
    """Symmetric integers with a scale for every ``group`` values of a row, decoded again."""
    most = 2 ** (bits - 1) - 1
    parts = vectors.reshape(len(vectors), -1, group)
    scale = np.abs(parts).max(axis=2, keepdims=True) / most
    if group != vectors.shape[1]:
        scale = scale.astype(np.float16).astype(np.float32)
    codes = np.clip(np.rint(parts / np.maximum(scale, 1e-12)), -most, most)
    decoded: NDArray[np.float32] = (codes * scale).reshape(vectors.shape).astype(np.float32)
    return decoded


def product(vectors: NDArray[np.float32], pieces: int, seed: int = 0) -> NDArray[np.float32]:
    """Each of ``pieces`` parts of a row replaced by the nearest of 256 centroids (k-means)."""
    parts = np.split(vectors, pieces, axis=1)
    rng = np.random.default_rng(seed)
    return np.concatenate([_nearest(part, rng) for part in parts], axis=1)


def _nearest(part: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    centres = part[rng.choice(len(part), CENTROIDS, replace=False)]
    for _ in range(ITERATIONS):
        codes = _assign(part, centres)
        sums = np.zeros_like(centres)
        np.add.at(sums, codes, part)
        counts = np.bincount(codes, minlength=CENTROIDS)[:, None]
        centres = np.where(counts > 0, sums / np.maximum(counts, 1), centres).astype(np.float32)
    chosen: NDArray[np.float32] = centres[_assign(part, centres)]
    return chosen


def _assign(part: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    distance = (centres**2).sum(axis=1) - 2 * part @ centres.T
    return np.asarray(distance.argmin(axis=1), dtype=np.int64)
