"""What there is to watch: brings sources of titles into cache.db, and the arrays to the household.

One load at a time, in its caller's thread, while answers go on from the moment before.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from couchside.device.catalogue.arrays import build
from couchside.device.catalogue.intake import Intake, Problems
from couchside.device.errors import BundleError, CatalogueError, RequestError
from couchside.device.process import return_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from couchside.device.catalogue.cache import TitleCache
    from couchside.device.catalogue.intake import LoadReport
    from couchside.device.household.moments import Household
    from couchside.device.models import Models
    from couchside.device.records import Title

_log = logging.getLogger(__name__)


class Library:
    """The sources of titles of one TV.

    Args:
        cache: cache.db.
        models: the running Bundle's.
        household: gets the new arrays; its history says which titles outlive their source.
        failed: called with the reason when the text encoder breaks its promise.
        clock: POSIX seconds by the TV's clock.
    """

    def __init__(
        self,
        cache: TitleCache,
        models: Models,
        household: Household,
        *,
        failed: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._cache = cache
        self._models = models
        self._household = household
        self._failed = failed
        self._clock = clock
        self._loading = threading.Lock()
        self._stopping = threading.Event()
        self._intake = Intake(cache, models.bundle, models.encode, stopped=self._stopping.is_set)
        self.last_report: LoadReport | None = None

    @property
    def belongs(self) -> bool:
        """Whether vectors in cache.db are the running Bundle's; if not, ``adopt`` is due."""
        return self._intake.belongs()

    def sources(self) -> dict[str, int]:
        """Number of titles by source."""
        return self._cache.sources()

    def load(self, source: str, path: Path) -> LoadReport:
        """Replace ``source`` by the titles in a file: XMLTV if its name says xml, else JSON lines.

        Raises:
            CatalogueError: the file can't be read or holds no usable title; the old ones stay.
        """
        with self._loading:
            if not self._intake.belongs():
                self._adopt()
            problems = Problems()
            try:
                report = self._intake.replace(
                    source,
                    read_titles(path, problems),
                    problems=problems,
                    keep=self._household.watched_titles(),
                    now=self._clock(),
                )
            except BundleError as error:
                self._failed(str(error))
                raise CatalogueError(f"source {source!r}: {error}") from error
            finally:
                self._models.close_encoder()
            self._publish()
            self.last_report = report
        return report

    def remove(self, source: str) -> None:
        """Drop a source.

        Raises:
            RequestError: there is no such source.
        """
        with self._loading:
            if source not in self._cache.sources():
                raise RequestError(
                    f"no source {source!r}; catalogue.status tells which there are", field="source"
                )
            self._intake.remove(source, keep=self._household.watched_titles())
            self._publish()

    def adopt(self) -> None:
        """Make the cached titles fit the running Bundle, if they do not; may take seconds.

        Never raises, as it is a thread's whole work: a stop leaves it to the next start.
        """
        with self._loading:
            if self._intake.belongs():
                return
            try:
                self._adopt()
            except BundleError as error:
                self._failed(str(error))
            except CatalogueError as error:
                _log.info("titles do not fit the new Bundle yet: %s", error)
            else:
                self._publish()

    def drop_unwatched(self) -> None:
        """Drop titles that were kept for the history alone and are not in it any more."""
        with self._loading:
            with self._cache.loading() as loading:
                loading.drop_unowned(self._household.watched_titles())
            self._publish()

    def stop(self) -> None:
        """End a load in progress, without effect."""
        self._stopping.set()

    def _adopt(self) -> None:
        try:
            self._intake.adopt()
        finally:
            self._models.close_encoder()

    def _publish(self) -> None:
        self._household.take(build(self._cache, self._models.bundle))
        return_memory()


def read_titles(path: Path, problems: Problems) -> Iterator[Title]:
    """The titles in a guide (``.xml``, ``.xmltv``) or catalogue (any other name), maybe gzipped."""
    # The readers come late: a TV loads once a day, and XML parsers are not small.
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    if suffixes and suffixes[-1] in (".xml", ".xmltv"):
        from couchside.device.guide.xmltv import read_xmltv  # noqa: PLC0415

        return read_xmltv(path, report=problems)
    from couchside.device.guide.jsonl import read_jsonl  # noqa: PLC0415

    return read_jsonl(path, report=problems)
