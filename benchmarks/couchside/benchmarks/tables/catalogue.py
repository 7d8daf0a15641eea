"""All tables, in the order of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from couchside.benchmarks.tables import retrieval, runtimes
from couchside.benchmarks.tables.compression import table as compression
from couchside.benchmarks.tables.daemon import table as daemon
from couchside.benchmarks.tables.quality import table as quality
from couchside.benchmarks.tables.sync import table as sync

if TYPE_CHECKING:
    from couchside.benchmarks.tables.table import Table

TABLES: tuple[Table, ...] = (
    retrieval.TABLE,
    runtimes.TABLE,
    compression.TABLE,
    quality.TABLE,
    daemon.TABLE,
    sync.TABLE,
)
