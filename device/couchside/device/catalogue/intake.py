"""How titles come in: streamed from a guide or an app, tied to the Bundle, or encoded here.

A title that the Bundle knows (by an external id, or by its own) takes its item vector and
popularity from there; the text encoder makes the vector of any other, once for each different
text. A source is replaced as a whole or not at all.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from couchside.device.catalogue.loading import Entry
from couchside.device.encoders import fields as text_fields
from couchside.device.errors import CatalogueError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from couchside.device.bundle import Bundle
    from couchside.device.catalogue.cache import TitleCache
    from couchside.device.catalogue.loading import Loading
    from couchside.device.records import Title

CHUNK = 256
"""Titles in flight: enough to fill the encoder's batches, little to hold."""
PROBLEMS = 20
"""Problems of a load that are told one by one; the rest are counted."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of a source."""

    source: str
    titles: int
    known: int
    """Titles that the Bundle knows; the others were encoded from their text."""
    problems: int
    first_problems: tuple[str, ...]


class Intake:
    """Brings sources into the cache, a chunk at a time, so that size does not matter.

    Args:
        cache: where to.
        bundle: whose item rows to use.
        encode: titles → item vectors float32 [n, d], for titles the Bundle has never seen.
        stopped: asked between chunks; True ends the load without effect.
    """

    def __init__(
        self,
        cache: TitleCache,
        bundle: Bundle,
        encode: Callable[[Sequence[Title]], NDArray[np.float32]],
        *,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._cache = cache
        self._bundle = bundle
        self._encode = encode
        self._stopped = stopped

    def belongs(self) -> bool:
        """Whether the cache already belongs to this Bundle."""
        return self._cache.bundle_id() == self._bundle.bundle_id

    def adopt(self) -> None:
        """Tie what is in the cache to this Bundle: item rows again, vectors again."""
        with self._cache.loading() as loading:
            loading.set_bundle(self._bundle.bundle_id, _keys(self._bundle))
            for chunk in loading.titles(CHUNK):
                entries = self._entries(loading, chunk)
                loading.set_item_rows(entries)
                self._make_vectors(loading, entries)

    def replace(
        self,
        source: str,
        titles: Iterable[Title],
        *,
        problems: Problems,
        keep: Collection[str],
        now: float,
    ) -> LoadReport:
        """Replace everything that ``source`` had by ``titles``.

        Args:
            source: its name, such as "guide".
            titles: streamed.
            problems: where the reader of ``titles`` reports, too.
            keep: title_ids of the household's history, kept though no source has them.
            now: POSIX seconds; when titles that were not there before count as added.

        Raises:
            CatalogueError: not one usable title, or less than all of a source that was there
                before; what was there is kept.
        """
        known = 0
        with self._cache.loading() as loading:
            was_there = loading.has_source(source)
            added_at = now if was_there else None
            for chunk in _chunks(titles):
                entries = self._entries(loading, _unclaimed(loading, source, chunk, problems))
                loading.put(source, entries, added_at)
                self._make_vectors(loading, entries)
                known += sum(entry.item_row is not None for entry in entries)
            count = loading.finish_source(source, keep)
            if not count or (was_there and problems.truncated):
                raise CatalogueError(
                    f"source {source!r}: {'it breaks off' if count else 'no usable title'} "
                    f"({problems.count} problems, first: "
                    f"{next(iter(problems.first), 'the file is empty')}); kept what was there"
                )
        return LoadReport(source, count, known, problems.count, tuple(problems.first))

    def remove(self, source: str, *, keep: Collection[str]) -> None:
        """Drop a source; titles in ``keep`` stay for the history."""
        with self._cache.loading() as loading:
            loading.finish_source(source, keep)

    def _entries(self, loading: Loading, titles: Sequence[Title]) -> list[Entry]:
        return [Entry(title, text_digest(title), loading.item_row(title)) for title in titles]

    def _make_vectors(self, loading: Loading, entries: Sequence[Entry]) -> None:
        if self._stopped():
            raise CatalogueError("the daemon is stopping; load again when it is back")
        unseen = {entry.digest: entry.title for entry in entries if entry.item_row is None}
        wanted = sorted(loading.without_vector(unseen.keys()))
        if wanted:
            vectors = self._encode([unseen[digest] for digest in wanted]).astype("<f4")
            loading.put_vectors(
                {digest: row.tobytes() for digest, row in zip(wanted, vectors, strict=True)}
            )


class Problems:
    """Counts what was wrong with a source and keeps the first few, to be told."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []
        self.truncated = False
        """The source broke off: what is missing is not known to be gone."""

    def __call__(self, problem: object) -> None:
        """Take a problem of a reader, or a sentence."""
        self.count += 1
        self.truncated |= getattr(problem, "truncated", False)
        if len(self.first) < PROBLEMS:
            self.first.append(str(problem))


def text_digest(title: Title) -> str:
    """Names exactly what the text encoder reads of a title: equal digests, equal vectors."""
    text = "\x1f".join(text_fields(title))
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _keys(bundle: Bundle) -> Iterator[tuple[str, int]]:
    """Every name of every row of the Bundle's item table, as ``Bundle.title_rows``, streamed."""
    for row, title in enumerate(bundle.titles()):
        yield title.title_id, row
        for scheme, value in title.external_ids:
            yield f"{scheme}:{value}", row


def _chunks(titles: Iterable[Title]) -> Iterator[list[Title]]:
    chunk: list[Title] = []
    for title in titles:
        chunk.append(title)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    yield chunk


def _unclaimed(
    loading: Loading, source: str, chunk: Sequence[Title], problems: Problems
) -> list[Title]:
    """The titles of ``chunk`` that this source may bring; the others are problems."""
    fresh: dict[str, Title] = {}
    taken = loading.conflicts(source, [title.title_id for title in chunk])
    for title in chunk:
        reason = taken.get(title.title_id) or ("occurs twice" if title.title_id in fresh else "")
        if reason:
            problems(f"title {title.title_id!r} {reason}; kept the first")
        else:
            fresh[title.title_id] = title
    return list(fresh.values())
