"""Title → vector on the TV, for titles that the Bundle has never seen.

Text is split into words and hashed into a fixed number of buckets (feature hashing, Weinberger
et al., ICML 2009), each word with its field, so there is no vocabulary to ship and no language
that falls outside one. Training uses this same ``tokens``.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from typing import TYPE_CHECKING

import numpy as np

from couchside.device.bundle import project, unit
from couchside.device.runtime.graph import open_graph

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from couchside.device.bundle import Bundle
    from couchside.device.records import Title

PADDING = 0
_WORD = re.compile(r"\w+")
_STOP_WORDS = frozenset(("the", "a", "an", "of", "and", "in", "to"))
"""So common in English titles that they only push real words out of the token budget."""


def words(text: str) -> list[str]:
    """Lower-case words without accents (NFKD), in order."""
    folded = unicodedata.normalize("NFKD", text).casefold()  # in this order: № is No is no
    plain = "".join(char for char in folded if not unicodedata.combining(char))
    return _WORD.findall(plain)


def fields(title: Title) -> Iterator[str]:
    """What the encoder reads of a title, most telling first: genres, time, name."""
    for genre in title.genres:
        yield "genre:" + "-".join(words(genre))
    if title.year is not None:
        yield f"year:{title.year}"
        yield f"decade:{title.year // 10}"
    for word in words(title.name):
        if word not in _STOP_WORDS:
            yield "word:" + word


def tokens(title: Title, *, length: int, buckets: int) -> NDArray[np.int32]:
    """Token ids of a title: int32 [length], padded with 0; ids lie in 1 … buckets - 1."""
    ids = np.full(length, PADDING, dtype=np.int32)
    for place, field in zip(range(length), fields(title), strict=False):
        ids[place] = 1 + zlib.crc32(field.encode()) % (buckets - 1)
    return ids


class TextEncoder:
    """The Bundle's text encoder with its content projection."""

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        self._model = bundle.model
        self._graph = open_graph(bundle, "text_encoder", threads=threads)
        self._projection = bundle.projection

    def content(self, titles: Sequence[Title]) -> NDArray[np.float32]:
        """Unit content vectors float32 [n, content_d]."""
        model, parts = self._model, []
        for start in range(0, len(titles), model.text_batch):
            part = titles[start : start + model.text_batch]
            batch = np.zeros((model.text_batch, model.text_tokens), dtype=np.int32)
            for row, title in enumerate(part):
                batch[row] = tokens(title, length=model.text_tokens, buckets=model.text_buckets)
            parts.append(self._graph.run({"tokens": batch})["content"][: len(part)])
        if not parts:
            return np.zeros((0, model.content_d), dtype=np.float32)
        return unit(np.concatenate(parts))

    def encode(self, titles: Sequence[Title]) -> NDArray[np.float32]:
        """Item vectors float32 [n, d]: the content part alone, as nothing is known of viewing."""
        return project(self.content(titles), self._projection)
