"""The release repository: TUF metadata (specification 1.0) and blocks in one folder.

``metadata/`` holds every root and the newest of the other roles, ``blocks/`` every block of the
newest release. A release has one target per flavour, ``CHANNEL/FLAVOUR/blocks.json``, whose signed
``custom`` says what it leads to. Each change writes snapshot before timestamp, so that a crash
leaves the old release or the new.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from couchside.cloud_sync import blocks as blockwise
from couchside.cloud_sync import head
from couchside.cloud_sync.cloud.keys import ROLES, key_file, load_keys, make_keys
from couchside.cloud_sync.errors import SigningError
from couchside.cloud_sync.learning.identity import learning_record
from couchside.cloud_sync.release import ISSUED, Destination, target_path
from couchside.device import strict
from couchside.device.bundle import MANIFEST, open_bundle, write_manifest
from couchside.device.durable import write_bytes_durably

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from couchside.device.bundle import Bundle, LearningRecord


@dataclass(frozen=True, slots=True)
class Released:
    """What one flavour of a release costs a TV that has nothing."""

    flavour: str
    version: int
    bundle_id: str
    bundle_bytes: int
    wire_bytes: int
    blocks: int


class Repository:
    """A repository on disk.

    Args:
        folder: made by ``create``.
        keys: folder of the private keys.
    """

    def __init__(self, folder: Path, keys: Path) -> None:
        self._metadata, self._blocks = folder / "metadata", folder / "blocks"
        self._folder, self._keys = folder, keys

    @property
    def exists(self) -> bool:
        """Whether it was created."""
        return (self._metadata / "1.root.json").exists()

    def create(self, now: datetime) -> Path:
        """Make all keys and the first metadata; the file of the first root, for the TVs.

        Raises:
            SigningError: there is a repository or a key already.
        """
        if self.exists:
            raise SigningError(f"{self._folder}: there is a repository already")
        root = Root(consistent_snapshot=True)
        for role, plan in ROLES.items():
            for signer in make_keys(self._keys, role):
                root.add_key(signer.public_key, role)
            root.roles[role].threshold = plan.threshold
        self._metadata.mkdir(parents=True, exist_ok=True)
        self._sign("root", root, now)
        self._sign("targets", Targets(), now)
        self._sign_online(now)
        return self._metadata / "1.root.json"

    def release(
        self, channel: str, sources: Sequence[Path], now: datetime, *, version: int | None = None
    ) -> list[Released]:
        """Sign Bundles, one per flavour, as the release of a channel.

        Args:
            channel: which TVs take it.
            sources: folders of the Bundles, all of one version.
            now: the time of signing.
            version: release them under this version instead of their own; the way back to an
                older Bundle, because a TV never takes a lower version.

        Raises:
            BundleError: a Bundle is not good.
            SigningError: versions differ or don't grow, a flavour comes twice, or keys are missing.
        """
        learning = learning_record(self._folder, self._keys)
        opened = [open_bundle(source) for source in sources]
        bundles = [self._rewritten(bundle, version, learning) for bundle in opened]
        targets = self._read("targets", Targets).signed
        self._check_versions(channel, bundles, targets)
        for path in [path for path in targets.targets if path.startswith(f"{channel}/")]:
            del targets.targets[path]
        released = [self._add(channel, bundle, targets) for bundle in bundles]
        self._sign("targets", targets, now)
        self._sign_online(now)
        return released

    def renew(self, now: datetime) -> None:
        """Sign snapshot and timestamp again, as every day: their signatures expire."""
        self._sign_online(now)

    def rotate(self, role: str, now: datetime) -> None:
        """Replace every key of ``role``; the old files get the suffix ``.old-N``.

        A new root is signed by enough of the old keys and of the new, so each TV can follow.

        Raises:
            SigningError: the old root keys are not here.
        """
        old = load_keys(self._keys, "root")
        metadata = self._read("root", Root)
        root = metadata.signed
        for number in range(1, ROLES[role].keys + 1):
            file = key_file(self._keys, role, number)
            if file.exists():
                file.rename(file.with_name(f"{file.name}.old-{root.version}"))
        for keyid in list(root.roles[role].keyids):
            root.revoke_key(keyid, role)
        for signer in make_keys(self._keys, role):
            root.add_key(signer.public_key, role)
        self._sign("root", root, now, also=old)
        if role == "targets":
            self._sign("targets", self._read("targets", Targets).signed, now)
        self._sign_online(now)

    def roots(self) -> list[bytes]:
        """Every root from version 1."""
        count = self._version("root")
        return [(self._metadata / head.root_file(n)).read_bytes() for n in range(1, count + 1)]

    def head(self) -> bytes:
        """The newest metadata as one message."""
        names = ["timestamp.json", self._file("snapshot"), self._file("targets")]
        return head.pack({name: (self._metadata / name).read_bytes() for name in names})

    def releases(self) -> dict[str, Destination]:
        """What each target of the newest release leads to."""
        targets = self._read("targets", Targets).signed.targets
        return {path: Destination.of(target) for path, target in sorted(targets.items())}

    def channels(self) -> list[str]:
        """Channels that have a release."""
        return sorted({path.split("/")[0] for path in self.releases()})

    def expires(self) -> dict[str, datetime]:
        """When each role's signature ends."""
        kinds: dict[str, Any] = {
            "root": Root,
            "targets": Targets,
            "snapshot": Snapshot,
            "timestamp": Timestamp,
        }
        return {role: self._read(role, kind).signed.expires for role, kind in kinds.items()}

    def blocks(self) -> Iterator[tuple[str, bytes]]:
        """Every block that the newest release needs, by name, once each."""
        store = blockwise.BlockStore(self._blocks)
        for name in self.block_names():
            yield name, store.read(name)

    def block_names(self) -> list[str]:
        """Names of the blocks that the newest release needs."""
        store = blockwise.BlockStore(self._blocks)
        names: dict[str, None] = {}
        for destination in self.releases().values():
            names |= dict.fromkeys(destination.blocks)
            raw = b"".join(map(store.read, destination.blocks))
            files = blockwise.read_list(raw).files
            names |= dict.fromkeys(name for file in files for name in file.blocks)
        return list(names)

    def forget_old_blocks(self) -> list[str]:
        """Delete blocks that the newest release does not need; their names."""
        return blockwise.BlockStore(self._blocks).keep_only(self.block_names())

    def _rewritten(
        self, bundle: Bundle, version: int | None, learning: LearningRecord | None
    ) -> Bundle:
        """The same Bundle with another version, or with whom its TVs learn; only by its manifest.

        A repository that trusts no helper leaves the manifest's own word on learning alone.
        """
        manifest = replace(
            bundle.manifest,
            version=bundle.version if version is None else version,
            learning=learning or bundle.manifest.learning,
        )
        if manifest == bundle.manifest:
            return bundle
        folder = self._folder / "rewritten" / f"{manifest.version}-{bundle.flavour}"
        folder.mkdir(parents=True, exist_ok=True)
        for name in manifest.files:
            (folder / name).write_bytes(bundle.file(name).read_bytes())
        write_manifest(folder, manifest)
        return open_bundle(folder)

    def _check_versions(self, channel: str, bundles: list[Bundle], targets: Targets) -> None:
        versions = sorted({bundle.version for bundle in bundles})
        flavours = [bundle.flavour for bundle in bundles]
        if len(versions) != 1 or len(set(flavours)) != len(flavours):
            raise SigningError(
                f"a release is one Bundle per flavour, all of one version; these are of versions "
                f"{versions} and flavours {sorted(flavours)}"
            )
        last = max(
            (
                Destination.of(target).version
                for path, target in targets.targets.items()
                if path.startswith(f"{channel}/")
            ),
            default=0,
        )
        if versions[0] <= last:
            raise SigningError(
                f"version {versions[0]} is not above {last}, the channel's last release, so no TV "
                f"would take it; release it with --as-version {last + 1}"
            )

    def _add(self, channel: str, bundle: Bundle, targets: Targets) -> Released:
        store = blockwise.BlockStore(self._blocks)
        files = []
        wire: dict[str, bytes] = {}
        for name in sorted((MANIFEST, *bundle.manifest.files)):
            record, blocks = blockwise.encode(name, (bundle.path / name).read_bytes())
            files.append(record)
            wire.update(zip(record.blocks, blocks, strict=True))
        listing = blockwise.BlockList(
            format=blockwise.FORMAT,
            flavour=bundle.flavour,
            version=bundle.version,
            bundle_id=bundle.bundle_id,
            files=tuple(files),
        )
        raw = json.dumps(strict.to_json(listing), sort_keys=True, separators=(",", ":")).encode()
        list_blocks = {blockwise.name_of(block): block for block in blockwise.cut(raw)}
        wire.update(list_blocks)
        for name in store.missing(wire):
            store.put(name, wire[name])
        destination = Destination(
            bundle.version, bundle.bundle_id, listing.bytes, tuple(list_blocks)
        )
        path = target_path(channel, bundle.flavour)
        targets.targets[path] = TargetFile(
            length=len(raw),
            hashes={"sha256": hashlib.sha256(raw).hexdigest()},
            path=path,
            unrecognized_fields={"custom": strict.to_json(destination)},
        )
        return Released(
            flavour=bundle.flavour,
            version=bundle.version,
            bundle_id=bundle.bundle_id,
            bundle_bytes=listing.bytes,
            wire_bytes=sum(map(len, wire.values())),
            blocks=len(wire),
        )

    def _sign_online(self, now: datetime) -> None:
        snapshot = Snapshot()
        snapshot.meta["targets.json"] = MetaFile(self._version("targets"))
        self._sign("snapshot", snapshot, now)
        timestamp = Timestamp()
        timestamp.snapshot_meta = MetaFile(self._version("snapshot"))
        self._sign("timestamp", timestamp, now)

    def _sign(self, role: str, signed: Any, now: datetime, *, also: Sequence[Any] = ()) -> None:
        """Count the version up, date, sign with every key at hand and write durably."""
        signed.version = self._version(role) + 1
        signed.expires = now.replace(microsecond=0) + timedelta(days=ROLES[role].days)
        signed.unrecognized_fields[ISSUED] = int(now.timestamp())
        metadata = Metadata(signed)
        for signer in (*load_keys(self._keys, role), *also):
            metadata.sign(signer, append=True)
        raw = metadata.to_bytes(JSONSerializer(compact=True))
        versioned = role != "timestamp"
        write_bytes_durably(
            self._metadata / (f"{signed.version}.{role}.json" if versioned else "timestamp.json"),
            raw,
        )

    def _version(self, role: str) -> int:
        if role == "timestamp":
            if not (self._metadata / "timestamp.json").exists():
                return 0
            return int(self._read(role, Timestamp).signed.version)
        names = self._metadata.glob(f"*.{role}.json")
        return max((int(name.name.split(".")[0]) for name in names), default=0)

    def _file(self, role: str) -> str:
        """The file of a role that counts: of snapshot and targets, the one the role before pins.

        A crash between two signatures leaves a newer file that nothing leads to.
        """
        if role == "timestamp":
            return "timestamp.json"
        if role == "snapshot":
            return (
                f"{self._read('timestamp', Timestamp).signed.snapshot_meta.version}.snapshot.json"
            )
        if role == "targets":
            pinned = self._read("snapshot", Snapshot).signed.meta["targets.json"]
            return f"{pinned.version}.targets.json"
        return head.root_file(self._version("root"))

    def _read(self, role: str, kind: type[Any]) -> Metadata[Any]:
        name = self._file(role)
        try:
            return Metadata[kind].from_bytes((self._metadata / name).read_bytes())  # type: ignore[valid-type]
        except OSError as error:
            raise SigningError(
                f"{self._metadata / name}: {error.strerror}; make a repository with: "
                "couchside-cloud keys"
            ) from error


def now_utc() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)
