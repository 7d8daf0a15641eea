"""Where Bundles lie on the TV, and which of them runs.

The slots ``current``, ``previous`` and ``factory`` are symbolic links into one folder. Only an
installer writes them (``place``, ``activate``); only the daemon chooses among them and writes
verdicts (``verdicts``), into its own state folder. ``factory`` is never deleted, and verdicts never
leave the TV without any Bundle: where all are bad they are set aside.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from couchside.device.durable import sync_folder
from couchside.device.errors import BundleError, RuntimeUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from couchside.device.bundle import Bundle
    from couchside.device.verdicts import Verdicts


class Slot(StrEnum):
    """In the order in which the daemon tries them."""

    CURRENT = "current"
    PREVIOUS = "previous"
    FACTORY = "factory"


class Slots:
    """The installer's side: a folder with Bundles and the links to them.

    Args:
        root: the folder; made if it is missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, slot: Slot) -> Path | None:
        """The Bundle folder behind a slot; None if the slot is empty."""
        link = self.root / slot.value
        return link.resolve() if link.is_symlink() and link.exists() else None

    def place(self, source: Path) -> Bundle:
        """Copy the Bundle in ``source`` into the folder; it is in no slot yet.

        Raises:
            BundleError: it is not a good Bundle, or the copy is not.
            OSError: the folder can't be written.
        """
        bundle = _open(source)
        target = self.root / bundle.bundle_id
        if not _opens(target):
            shutil.rmtree(target, ignore_errors=True)
            self.root.mkdir(parents=True, exist_ok=True)
            part = self.root / f"{bundle.bundle_id}.part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            for name in ("manifest.json", *bundle.manifest.files):
                _copy(source / name, part / name)
            sync_folder(part)
            part.rename(target)
            sync_folder(self.root)
        return _open(target)

    def activate(self, bundle: Bundle) -> None:
        """Make a placed Bundle ``current``; what was current becomes ``previous``.

        The switch itself is one rename: at every moment ``current`` is the old or the new one.
        """
        self._check_placed(bundle)
        self.switch(bundle.bundle_id)

    def adopt(self, part: Path, bundle_id: str) -> None:
        """Place a folder that was made inside ``root`` and checked there; needs no copy.

        Args:
            part: ``root / (bundle_id + ".part")``, every file in it already on the disk.
            bundle_id: SHA-256 of its manifest.

        Raises:
            OSError: the folder can't be written, or the Bundle is placed already.
        """
        sync_folder(part)
        part.rename(self.root / bundle_id)
        sync_folder(self.root)

    def switch(self, bundle_id: str, *, proven: bool = True) -> None:
        """Make the placed Bundle of this id ``current``.

        Args:
            bundle_id: names its folder.
            proven: whether what is current now deserves to become ``previous``; if not, it goes
                and ``previous`` stays, so that the last Bundle that ran well is never lost.
        """
        current = self.path(Slot.CURRENT)
        keep = proven or self.path(Slot.PREVIOUS) is None
        if keep and current is not None and current.name != bundle_id:
            self._link(Slot.PREVIOUS, current.name)
        if self.path(Slot.FACTORY) is None:
            self._link(Slot.FACTORY, bundle_id)
        self._link(Slot.CURRENT, bundle_id)
        self._delete_unlinked()

    def _check_placed(self, bundle: Bundle) -> None:
        if bundle.path.resolve().parent != self.root.resolve():
            raise BundleError(f"{bundle.path}: not inside {self.root}; place it first")

    def _link(self, slot: Slot, name: str) -> None:
        temporary = self.root / f"{slot.value}.part"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(name)
        temporary.rename(self.root / slot.value)
        sync_folder(self.root)

    def _delete_unlinked(self) -> None:
        """Free the space of Bundles that no slot leads to any more."""
        kept = {self.path(slot) for slot in Slot}
        for folder in self.root.iterdir():
            if folder.is_dir() and not folder.is_symlink() and folder.resolve() not in kept:
                shutil.rmtree(folder)


@dataclass(frozen=True, slots=True)
class Choice:
    """The Bundle that runs, and why others don't."""

    bundle: Bundle
    slot: Slot
    skipped: Mapping[str, str]
    """Slot → why it was passed over."""


def choose(slots: Slots, verdicts: Verdicts, check: Callable[[Bundle], object]) -> Choice:
    """The first good Bundle of current, previous, factory.

    Args:
        slots: where they lie.
        verdicts: what is known about them; a Bundle that fails here is condemned.
        check: loads a Bundle's models and compares golden vectors; raises BundleError.

    Raises:
        BundleError: no slot holds a Bundle that opens and computes what it promises.
    """
    skipped: dict[str, str] = {}
    for slot, path in _filled(slots):
        bundle = _try(path, slot, verdicts, check, skipped, heed_verdicts=True)
        if bundle is not None:
            return Choice(bundle, slot, skipped)
    # Rather a Bundle with a doubtful past than a TV without one; the oldest is the least doubtful.
    for slot, path in reversed(list(_filled(slots))):
        bundle = _try(path, slot, verdicts, check, skipped, heed_verdicts=False)
        if bundle is not None:
            return Choice(bundle, slot, skipped)
    raise BundleError(_nothing_runs(slots, skipped))


def _try(
    path: Path,
    slot: Slot,
    verdicts: Verdicts,
    check: Callable[[Bundle], object],
    skipped: dict[str, str],
    *,
    heed_verdicts: bool,
) -> Bundle | None:
    """The Bundle in ``path`` if it may run and passes; otherwise the reason goes to ``skipped``."""
    try:
        bundle = _open(path)
    except BundleError as error:
        skipped[slot.value] = str(error)
        return None
    refusal = verdicts.of(bundle.bundle_id).refusal
    if refusal and heed_verdicts:
        skipped[slot.value] = refusal
        return None
    try:
        check(bundle)
    except RuntimeUnavailableError as error:
        skipped[slot.value] = str(error)  # may be installed tomorrow: no verdict
        return None
    except BundleError as error:
        skipped[slot.value] = str(error)
        verdicts.condemn(bundle.bundle_id, str(error))
        return None
    return bundle


def _opens(path: Path) -> bool:
    try:
        _open(path)
    except BundleError:
        return False
    return True


def _filled(slots: Slots) -> Iterator[tuple[Slot, Path]]:
    for slot in Slot:
        path = slots.path(slot)
        if path is not None:
            yield slot, path


def _nothing_runs(slots: Slots, skipped: Mapping[str, str]) -> str:
    if not skipped:
        return f"{slots.root}: no Bundle installed; run couchside-device install BUNDLE"
    reasons = "; ".join(f"{slot}: {why}" for slot, why in skipped.items())
    return f"{slots.root}: no installed Bundle runs ({reasons}); install another"


def _open(path: Path) -> Bundle:
    # Late: it brings numpy, which an installer that only switches slots should not carry.
    from couchside.device.bundle import open_bundle  # noqa: PLC0415

    return open_bundle(path)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
        writer.flush()
        os.fsync(writer.fileno())
