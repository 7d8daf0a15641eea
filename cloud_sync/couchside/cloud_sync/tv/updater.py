"""TUF on the TV: python-tuf's client, made to survive power cuts, wiped caches and a dead clock.

python-tuf 7 makes no fsync: after a power cut its files may be empty and it accepts a rollback.
``DurableUpdater`` writes each file durably. ``verify`` adds floors from a database of its own, and
a time that never runs backwards. It reads only what it is given: no network.

What it can't do: a TV whose clock has stood in 1970 ever since it last accepted a head can't tell
that a broker shows it that head again and again; with a running clock it can, 14 days after the
head was signed, and it does not forget that when the clock dies later.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuf.api import exceptions
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from couchside.cloud_sync.errors import ExpiredError, RefusedError, RollbackError, UntrustedError
from couchside.cloud_sync.head import UNPACKED_BYTES
from couchside.cloud_sync.release import ISSUED, Destination, target_path
from couchside.cloud_sync.topics import ROOT_BYTES, ROOTS
from couchside.device.durable import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tuf.api.metadata import TargetFile

    from couchside.cloud_sync.tv.floors import Floors

ROLES = ("root", "timestamp", "snapshot", "targets")
LIMITS = UpdaterConfig(
    max_root_rotations=ROOTS,
    max_delegations=4,
    root_max_length=ROOT_BYTES,
    timestamp_max_length=ROOT_BYTES,
    snapshot_max_length=UNPACKED_BYTES,
    targets_max_length=UNPACKED_BYTES,
)


class HeadFetcher(FetcherInterface):
    """Looks documents up in a head; what is not there is "404", which ends the walk over roots."""

    def __init__(self, documents: Mapping[str, bytes]) -> None:
        self._documents = documents

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.rpartition("/")[2]
        if name not in self._documents:
            raise exceptions.DownloadHTTPError(f"{name} is not in the head", 404)
        return iter([self._documents[name]])


class DurableUpdater(Updater):
    """python-tuf's client with durable writes and a time of our own."""

    def __init__(
        self,
        folder: Path,
        documents: Mapping[str, bytes],
        *,
        bootstrap: bytes,
        floor: int,
        now: int,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(
            str(folder), "head:", fetcher=HeadFetcher(documents), config=LIMITS, bootstrap=bootstrap
        )
        seconds = max(floor, now, issued(self._trusted_set.root))
        self.time = datetime.fromtimestamp(seconds, UTC)
        self._trusted_set.reference_time = self.time

    def version(self, role: str) -> int:
        """Version of the verified metadata of ``role``."""
        return int(self._signed(role).version)

    def keys(self, role: str) -> str:
        """The keys that the verified root trusts for ``role``, as one string."""
        return " ".join(sorted(self._trusted_set.root.roles[role].keyids))

    def issued(self) -> int:
        """POSIX seconds at which the verified timestamp was signed."""
        return issued(self._trusted_set.timestamp)

    def ends(self) -> int:
        """POSIX seconds at which the signature of the timestamp ends; 0 before one is verified."""
        if "timestamp" not in self._trusted_set:
            return 0
        return int(self._trusted_set.timestamp.expires.timestamp())

    def _signed(self, role: str) -> Any:
        return getattr(self._trusted_set, role)

    def _persist_file(self, filename: str, data: bytes) -> None:
        file = Path(filename)
        part = file.with_name(file.name + ".part")
        with part.open("wb") as writer:
            writer.write(data)
            writer.flush()
            os.fsync(writer.fileno())
        part.replace(file)
        sync_folder(file.parent)

    def _update_root_symlink(self) -> None:
        link = Path(self._dir) / "root.json"
        part = link.with_name("root.json.part")
        part.unlink(missing_ok=True)
        part.symlink_to(f"root_history/{self._trusted_set.root.version}.root.json")
        part.replace(link)
        sync_folder(link.parent)


def issued(signed: Any) -> int:
    """When a document says it was signed, POSIX seconds; 0 where it does not say."""
    at = signed.unrecognized_fields.get(ISSUED, 0)
    return at if type(at) is int and 0 <= at < 1 << 34 else 0


def verify(
    documents: Mapping[str, bytes],
    *,
    bootstrap: bytes,
    folder: Path,
    floors: Floors,
    channel: str,
    flavour: str,
    now: int,
) -> tuple[TargetFile, Destination]:
    """Verify a head and find what it says about this TV's flavour; lifts the floors.

    Args:
        documents: the head and the roots beside it, by file name.
        bootstrap: the root that came with the TV.
        folder: where verified metadata is kept.
        floors: what was accepted before.
        channel: this TV's.
        flavour: this TV's.
        now: POSIX seconds of the wall clock, right or wrong.

    Raises:
        ExpiredError: it is past its date.
        RollbackError: it is older than what was accepted before.
        UntrustedError: it is not signed as it must be, or says nothing for this TV.
        OSError: verified metadata can't be written.
    """
    updater = _refreshed(documents, bootstrap=bootstrap, folder=folder, floors=floors, now=now)
    _check_floors(updater, floors)
    target = _target(updater, target_path(channel, flavour))
    seen = {role: (updater.version(role), updater.keys(role)) for role in ROLES}
    # ``now`` is at most the timestamp's expiry here, so a wrong clock can't lift the floor far.
    floors.raise_to(seen, max(updater.issued(), now))
    return target, Destination.of(target)


def _refreshed(
    documents: Mapping[str, bytes], *, bootstrap: bytes, folder: Path, floors: Floors, now: int
) -> DurableUpdater:
    floor = floors.time()
    try:
        updater = DurableUpdater(folder, documents, bootstrap=bootstrap, floor=floor, now=now)
    except exceptions.RepositoryError as error:
        raise _explained(error, max(floor, now)) from error
    try:
        updater.refresh()
    except exceptions.ExpiredMetadataError as error:
        # Remembered, so that a clock that dies tomorrow does not make it valid again. A clock that
        # stands too far ahead lifts the floor to a signed date only: the next renewal is above it.
        floors.raise_to({}, min(updater.ends(), now))
        raise _explained(error, max(floor, now)) from error
    except exceptions.RepositoryError as error:
        raise _explained(error, max(floor, now)) from error
    except exceptions.DownloadError as error:
        raise UntrustedError(f"the head is not whole: {error}; wait for another") from error
    return updater


def _explained(error: exceptions.RepositoryError, at: int) -> RefusedError:
    if isinstance(error, exceptions.ExpiredMetadataError):
        return ExpiredError(
            f"{error} (it is {datetime.fromtimestamp(at, UTC):%Y-%m-%d} here); what is installed "
            "keeps running; the cloud must sign again: couchside-cloud renew"
        )
    if isinstance(error, exceptions.BadVersionNumberError):
        return RollbackError(f"{error}; older than what was accepted before")
    return UntrustedError(f"{error}; wait for another head")


def _check_floors(updater: DurableUpdater, floors: Floors) -> None:
    """Nothing older than before; where a new root gave a role new keys, its count starts anew."""
    for role in ROLES:
        version, (floor, keys) = updater.version(role), floors.of(role)
        rekeyed = role in {"timestamp", "snapshot"} and keys != updater.keys(role)
        if version < floor and not rekeyed:
            raise RollbackError(f"{role} is version {version}, {floor} was accepted before")


def _target(updater: DurableUpdater, path: str) -> TargetFile:
    target = updater.get_targetinfo(path)
    if target is None:
        raise UntrustedError(f"the release has no {path}; check channel and flavour")
    return target
