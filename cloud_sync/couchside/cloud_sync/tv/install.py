"""``couchside-install``: verifies a release and writes it into the slots; no network; exits.

``plan`` verifies the head and says which blocks are wanted; ``apply`` makes the files from blocks,
compares SHA-256 with what was signed, runs the golden vectors in a child, and switches ``current``
by one rename. Whatever kills it, whenever: ``current`` is the old Bundle or the new one, and the
next run goes on. Exit status: 0 as planned, 1 refused, 2 wrong usage, 3 try again later.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import sqlite3
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from couchside.cloud_sync import blocks as blockwise
from couchside.cloud_sync import head
from couchside.cloud_sync.errors import (
    DamagedBlockError,
    RefusedError,
    RollbackError,
    SpaceError,
    UntrustedError,
)
from couchside.cloud_sync.topics import BLOCK_BYTES
from couchside.cloud_sync.tv import updater
from couchside.cloud_sync.tv.config import SyncConfig, read_config
from couchside.cloud_sync.tv.floors import Floors
from couchside.cloud_sync.tv.plan import Plan
from couchside.cloud_sync.tv.trial import NoRuntimeError, run_golden
from couchside.device import process, strict
from couchside.device.errors import ConfigError, StoreError
from couchside.device.slots import Slot, Slots
from couchside.device.verdicts import Verdicts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tuf.api.metadata import TargetFile

    from couchside.cloud_sync.blocks import BlockList, FileBlocks
    from couchside.cloud_sync.release import Destination

OK, REFUSED, USAGE, LATER = 0, 1, 2, 3
BUNDLE = "bundle"
"""Name of the floor under which no Bundle is installed; its "keys" are the Bundle's id."""
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Installer:
    """One run of couchside-install.

    Args:
        config: its settings.
        floors: its memory.
        now: POSIX seconds of the wall clock, right or wrong.
    """

    config: SyncConfig
    floors: Floors
    now: int

    def plan(self, pack: Path) -> Plan:
        """Verify the head in ``pack`` and say what is to be done.

        Raises:
            RefusedError: the release must not be installed.
            SpaceError: there is no room for it.
        """
        plan, _ = self._plan(pack)
        return plan

    def apply(self, pack: Path) -> Plan:
        """Install the release if all its blocks are here; else the same as ``plan``.

        Raises:
            RefusedError: the release must not be installed.
            SpaceError: there is no room for it.
            OSError: a disk error; what was written is taken back.
        """
        plan, files = self._plan(pack)
        if plan.state != "ready" or files is None:
            return plan
        slots = Slots(self.config.slots)
        part = slots.root / f"{plan.bundle_id}.part"
        self._drop_leftovers(slots)
        try:
            self._assemble(files, part)
            peak = self._check(part, plan)
            slots.adopt(part, plan.bundle_id)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        # Before the switch: a kill in between must not leave a floor below what is current.
        self.floors.raise_to({BUNDLE: (plan.version, plan.bundle_id)}, 0)
        slots.switch(plan.bundle_id, proven=self._current_is_proven(slots))
        self.floors.record(plan.bundle_id, plan.version, plan.flavour, "", self.now)
        return Plan(
            "installed",
            version=plan.version,
            bundle_id=plan.bundle_id,
            flavour=plan.flavour,
            total_blocks=plan.total_blocks,
            bundle_bytes=plan.bundle_bytes,
            golden_peak_bytes=peak,
        )

    def _plan(self, pack: Path) -> tuple[Plan, BlockList | None]:
        target, destination = updater.verify(
            head.read(pack),
            bootstrap=_read_root(Path(self.config.paths.root)),
            folder=self.config.state / "metadata",
            floors=self.floors,
            channel=self.config.channel,
            flavour=self.config.flavour,
            now=self.now,
        )
        common = {
            "version": destination.version,
            "bundle_id": destination.bundle_id,
            "flavour": self.config.flavour,
            "bundle_bytes": destination.bytes,
        }
        if _current(self.config.slots).name == destination.bundle_id:
            return strict.from_json(Plan, {"state": "current", **common}), None
        self._check_destination(destination)
        store = blockwise.BlockStore(self.config.blocks)
        missing = store.missing(destination.blocks)
        files = None if missing else _block_list(store, target, destination, self.config.flavour)
        if files is not None:
            missing = self._store(files).missing(self._needed(files))
            common["total_blocks"] = len({name for file in files.files for name in file.blocks})
        self._check_space(destination.bytes, len(missing))
        state = "wanted" if missing else "ready"
        return strict.from_json(Plan, {"state": state, "blocks": missing, **common}), files

    def _check_destination(self, destination: Destination) -> None:
        """Nothing older than what is or was here, nothing that failed here, nothing too large."""
        floor, accepted = self.floors.of(BUNDLE)
        current = _current(self.config.slots)
        for version, bundle_id in ((floor, accepted), (_version(current), current.name)):
            if destination.version < version:
                raise RollbackError(
                    f"the release is version {destination.version}, this TV has had {version}"
                )
            if destination.version == version and destination.bundle_id != bundle_id:
                raise RollbackError(f"version {version} is another Bundle on this TV")
        refused = self.floors.refused(destination.bundle_id)
        if refused:
            raise RefusedError(f"version {destination.version} failed here before: {refused}")
        if destination.bytes > self.config.limits.bundle_bytes:
            raise RefusedError(
                f"the Bundle has {destination.bytes} bytes; limits.bundle_bytes allows "
                f"{self.config.limits.bundle_bytes}"
            )

    def _needed(self, files: BlockList) -> list[str]:
        """Blocks of the files that no installed Bundle has."""
        return [
            name
            for file in files.files
            if self._installed_copy(file) is None
            for name in file.blocks
        ]

    def _installed_copy(self, file: FileBlocks) -> Path | None:
        """The same file, undamaged, in an installed Bundle."""
        for slot in Slot:
            folder = Slots(self.config.slots).path(slot)
            copy = folder / file.name if folder else None
            if copy and copy.is_file() and copy.stat().st_size == file.bytes:
                with copy.open("rb") as stream:
                    if hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256:
                        return copy
        return None

    def _store(self, files: BlockList) -> blockwise.BlockStore:
        """The spool's blocks, and those of installed files of which only a part has changed.

        A new popularity is one block at the end of the item table; the others lie here already.
        """
        here = dict[str, tuple[Path, int]]()
        plain = {file.name: set(file.blocks) for file in files.files if file.codec == "plain"}
        for folder in filter(None, map(Slots(self.config.slots).path, Slot)):
            for name, wanted in plain.items():
                copy = folder / name
                if copy.is_file():
                    found = blockwise.blocks_within(copy)
                    here |= {block: (copy, at) for block, at in found if block in wanted}
        return blockwise.BlockStore(self.config.blocks, here)

    def _check_space(self, bundle_bytes: int, missing: int) -> None:
        slots, spool = self.config.slots, Path(self.config.paths.spool)
        for folder in (slots, spool):
            folder.mkdir(parents=True, exist_ok=True)
        need = {slots: bundle_bytes, spool: missing * BLOCK_BYTES}
        together = slots.stat().st_dev == spool.stat().st_dev
        for folder, size in need.items():
            size_here = (sum(need.values()) if together else size) + self.config.limits.spare_bytes
            disk = os.statvfs(folder)
            if disk.f_bavail * disk.f_frsize < size_here:
                raise SpaceError(
                    f"{folder}: {disk.f_bavail * disk.f_frsize} bytes free, version needs "
                    f"{size_here}; free some, the next attempt goes on from here"
                )

    def _drop_leftovers(self, slots: Slots) -> None:
        """Take back what a killed run left: unfinished folders, and placed ones in no slot."""
        linked = {slots.path(slot) for slot in Slot}
        for folder in slots.root.iterdir():
            if folder.is_dir() and not folder.is_symlink() and folder.resolve() not in linked:
                shutil.rmtree(folder)

    def _assemble(self, files: BlockList, part: Path) -> None:
        """Write every file of the Bundle, each checked against its signed SHA-256."""
        store = self._store(files)
        part.mkdir()
        for file in files.files:
            copy = self._installed_copy(file)
            pieces = blockwise.join(file, store) if copy is None else _pieces(copy, file)
            with (part / file.name).open("xb") as writer:
                for piece in pieces:
                    writer.write(piece)
                writer.flush()
                os.fsync(writer.fileno())

    def _check(self, part: Path, plan: Plan) -> int:
        """Run the golden vectors; peak bytes of the process that did.

        Raises:
            RefusedError: it failed, which this TV remembers.
        """
        limits = self.config.limits
        try:
            seen = run_golden(part, timeout_s=limits.golden_s, data_bytes=limits.golden_bytes)
            if (seen.bundle_id, seen.version, seen.flavour) != (
                plan.bundle_id,
                plan.version,
                plan.flavour,
            ):
                raise UntrustedError(
                    f"its manifest says version {seen.version} ({seen.flavour}), the signed "
                    f"release version {plan.version} ({plan.flavour})"
                )
        except NoRuntimeError:
            raise
        except RefusedError as error:
            self.floors.record(plan.bundle_id, plan.version, plan.flavour, str(error), self.now)
            raise
        return seen.peak_rss_bytes

    def _current_is_proven(self, slots: Slots) -> bool:
        """Whether the daemon found the current Bundle good; unknown counts as yes."""
        current, file = slots.path(Slot.CURRENT), self.config.paths.verdicts
        if current is None or not file or not Path(file).is_file():
            return True
        return Verdicts(Path(file)).of(current.name).good


def _read_root(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"paths.root: {file}: {error.strerror}; it comes with the system"
        ) from error


def _current(slots: Path) -> Path:
    return Slots(slots).path(Slot.CURRENT) or slots / "none"


def _version(bundle: Path) -> int:
    """Version of an installed Bundle; 0 where there is none that can be read."""
    try:
        version = strict.loads((bundle / MANIFEST).read_bytes())["version"]
    except (OSError, strict.StrictError, KeyError, TypeError):
        return 0
    return version if type(version) is int else 0


def _block_list(
    store: blockwise.BlockStore, target: TargetFile, destination: Destination, flavour: str
) -> BlockList:
    """The block list whose bytes were signed.

    Raises:
        DamagedBlockError: one of its blocks is not what it was.
        UntrustedError: it is not what was signed.
    """
    if target.length > blockwise.LIST_BYTES:
        raise UntrustedError(f"{target.path}: {target.length} bytes are too many for a block list")
    raw = b"".join(map(store.read, destination.blocks))
    if len(raw) != target.length or hashlib.sha256(raw).hexdigest() != target.hashes.get("sha256"):
        raise UntrustedError(f"{target.path}: its blocks make another list than was signed")
    files = blockwise.read_list(raw)
    if (files.bundle_id, files.version, files.flavour, files.bytes) != (
        destination.bundle_id,
        destination.version,
        flavour,
        destination.bytes,
    ):
        raise UntrustedError(f"{target.path}: the list describes another Bundle than was signed")
    return files


def _pieces(copy: Path, file: FileBlocks) -> Iterator[bytes]:
    """An installed file's content, its hash taken again while it is copied."""
    digest = hashlib.sha256()
    with copy.open("rb") as reader:
        while piece := reader.read(BLOCK_BYTES):
            digest.update(piece)
            yield piece
    if digest.hexdigest() != file.sha256:
        raise OSError(f"{copy} changed while it was copied")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``couchside-install``; the exit status."""
    options = _parser().parse_args(arguments)
    os.umask(0o027)
    logging.basicConfig(level="WARNING", stream=sys.stderr)
    try:
        config = read_config(options.config)
        command, pack = options.command, getattr(options, "pack", None) or config.head
        if command == "serve":
            command = _asked(sys.stdin)
        process.refuse_networks()
        plan = run(config, command, pack, now=int(time.time()))
    except ConfigError as error:
        sys.stderr.write(f"couchside-install: {error}\n")
        return USAGE
    sys.stdout.write(json.dumps(strict.to_json(plan)) + "\n")
    return {"refused": REFUSED, "failed": LATER, "damaged": LATER}.get(plan.state, OK)


def _asked(line: TextIO) -> str:
    command = line.readline(16).strip()
    if command not in {"plan", "apply"}:
        raise ConfigError(f"serve: asked for {command!r}; it knows plan and apply")
    return command


def run(config: SyncConfig, command: str, pack: Path, *, now: int) -> Plan:
    """Plan or apply, one at a time on this TV; every trouble becomes a Plan that names it."""
    try:
        config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (config.state / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with contextlib.closing(Floors(config.state / "sync.db")) as floors:
                installer = Installer(config, floors, now)
                return installer.apply(pack) if command == "apply" else installer.plan(pack)
    except DamagedBlockError as error:
        return Plan("damaged", why=str(error), blocks=(error.block,))
    except NoRuntimeError as error:
        return Plan("failed", why=str(error))
    except RefusedError as error:
        return Plan("refused", why=f"{type(error).__name__}: {error}")
    except (SpaceError, OSError, sqlite3.Error, StoreError) as error:
        return Plan("failed", why=str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="couchside-install", description="Verifies and installs a Bundle. Reaches no network."
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="settings, TOML")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, words in (
        ("plan", "verify a head and print which blocks are wanted"),
        ("apply", "install the release if all its blocks are here"),
    ):
        command = commands.add_parser(name, help=words)
        command.add_argument("pack", type=Path, nargs="?", metavar="PACK", help="default: spool's")
    commands.add_parser("serve", help="read plan or apply from standard input (inetd style)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
