"""What a table may use while it measures: its size, the Bundles, a folder, and a memory.

A long table is made of *units*. A finished unit is remembered on disk under the code's commit, the
Bundles and the size, so a run that was killed goes on where it was, and one after a change to the
code starts anew.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from couchside.benchmarks.errors import UsageError
from couchside.device.bundle import MANIFEST, open_bundle
from couchside.device.durable import write_bytes_durably

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from couchside.benchmarks.tables.table import Size
    from couchside.device.bundle import Bundle


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bench:
    """The surroundings of one table's run."""

    size: Size
    bundles_folder: Path
    """With a folder a flavour, as ``couchside-compress`` leaves them."""
    work: Path
    """For whatever the run makes: units, peers' environments, downloads of nothing."""
    fingerprint: str
    """Of code, Bundles and size: units of another one don't count."""
    peers: bool = True
    """Whether other people's software may be installed and asked."""

    def tell(self, what: str) -> None:
        """Say what begins now, for whoever waits."""
        sys.stderr.write(f"bench: {what}\n")
        sys.stderr.flush()

    def quick_or_full(self, quick: T, full: T) -> T:
        """The one of two settings that fits the run's size."""
        return quick if self.size == "quick" else full

    def bundles(self) -> dict[str, Bundle]:
        """Opened Bundles by flavour.

        Raises:
            UsageError: there are none.
            BundleError: one is damaged.
        """
        return open_bundles(self.bundles_folder)

    def unit(self, name: str, measure: Callable[[], Any]) -> Any:
        """What ``measure`` returns (JSON values), from memory if it was measured before.

        Args:
            name: unique within the whole bench, such as ``retrieval/10000``.
            measure: does the work.
        """
        key = hashlib.sha256(f"{self.fingerprint} {self.peers} {name}".encode()).hexdigest()[:24]
        file = self.work / "units" / f"{key}.json"
        if file.exists():
            self.tell(f"{name}: measured before")
            return json.loads(file.read_bytes())["value"]
        self.tell(f"{name} …")
        value = measure()
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_durably(file, json.dumps({"name": name, "value": value}).encode())
        return value


def open_bundles(folder: Path) -> dict[str, Bundle]:
    """Bundles below ``folder`` by flavour.

    Raises:
        UsageError: there are none.
        BundleError: one is damaged.
    """
    paths = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
    if not paths:
        raise UsageError(f"{folder}: no Bundles there; make some with couchside-compress")
    return {bundle.flavour: bundle for bundle in map(open_bundle, paths)}
