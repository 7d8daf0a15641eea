"""Search without a network: words (BM25) and meaning (text encoder), fused by reciprocal rank.

Reciprocal rank fusion (Cormack et al., SIGIR 2009) needs no common scale between the two lists.
A title found by meaning alone must stand out from the catalogue, or every query would find 25.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from couchside.device.encoders import words
from couchside.device.ranker import similarity, top_k
from couchside.device.records import Title, TitleKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from couchside.device.catalogue.arrays import Catalogue
    from couchside.device.catalogue.cache import TitleCache

RRF_K = 60
"""The paper's constant: how fast a place in a list loses worth."""
DEPTH = 100
"""Places of each list that count."""
STAND_OUT = 3.0
"""Standard deviations above the catalogue's mean likeness to the query."""
QUERY_WORDS = 16
"""Words of a query that count; a voice remote says fewer."""


def search(
    text: str,
    *,
    catalogue: Catalogue,
    cache: TitleCache,
    encode: Callable[[Sequence[Title]], NDArray[np.float32]],
    mask: NDArray[np.bool_],
    k: int,
) -> list[int]:
    """Catalogue rows for what a viewer typed or said, best first, one of each group.

    Args:
        text: any text; nothing in it is syntax.
        catalogue: the titles.
        cache: where their words are.
        encode: text → item vectors float32 [n, d].
        mask: [n], the titles that this viewer may find.
        k: how many at most.
    """
    said = words(text)[:QUERY_WORDS]
    if not said:
        return []
    by_words = [
        row
        for title_id in cache.match(said, DEPTH)
        if (row := catalogue.index.get(title_id)) is not None and mask[row]
    ]
    query = encode([Title("query", TitleKind.MOVIE, text)])[0]
    by_meaning = _standing_out(similarity(query, catalogue.vectors), mask & catalogue.has_vector)
    return _one_per_group(fuse((by_words, by_meaning)), catalogue.group)[:k]


def _standing_out(likeness: NDArray[np.float32], mask: NDArray[np.bool_]) -> list[int]:
    if not mask.any():
        return []
    usual = likeness[mask]
    least = float(usual.mean() + STAND_OUT * usual.std())
    return [int(row) for row in top_k(likeness, DEPTH, mask & (likeness >= least))]


def fuse(lists: Iterable[Sequence[int]]) -> list[int]:
    """Rows by the sum of 1 / (60 + place) over the lists, best first, ties to the lower row."""
    worth: dict[int, float] = {}
    for rows in lists:
        for place, row in enumerate(rows, start=1):
            worth[row] = worth.get(row, 0.0) + 1.0 / (RRF_K + place)
    return sorted(worth, key=lambda row: (-worth[row], row))


def _one_per_group(rows: Iterable[int], group: NDArray[np.int32]) -> list[int]:
    best: dict[int, int] = {}
    for row in rows:
        best.setdefault(int(group[row]), row)
    return list(best.values())
