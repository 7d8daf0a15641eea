"""Where the TV and couchside-sync meet: sealed Updates out, a Round and receipts in.

One file per item. The daemon owns ``updates/`` and alone may take a frame out of it; couchside-sync
reads a frame at the moment of sending, so a consent that is withdrawn while an Update waits takes
it back. couchside-sync owns ``rounds/``; nothing in it is trusted. No numpy here: couchside-sync
has little memory, and understands neither frames nor Rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from couchside.device.durable import sync_folder, write_bytes_durably
from couchside.device.errors import UpdateError
from couchside.device.learning.receipt import RECEIPT_BYTES, Receipt, read_receipt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUND_BYTES = 8 * 1024
"""Most bytes of a signed Round; ours have 1."""
FRAME_BYTES = 48_000
"""Most bytes of a frame: it must fit one message, and a household's uplink."""
HEADER_BYTES = 64
SEALED_BYTES = 80
"""Of the seed: encapsulated key 32, seed 32, tag 16."""
ID_BYTES = 16
ROUND_FILE = "round"
UPDATE_SUFFIX, RECEIPT_SUFFIX = ".update", ".receipt"
FILES_MOST = 64
"""Files looked at in a folder: whoever writes more of them is no friend."""


@dataclass(frozen=True, slots=True)
class Spool:
    """Both folders, from either side."""

    updates: Path
    rounds: Path

    def put_update(self, update_id: str, frame: bytes) -> None:
        """Let a frame leave; durable when this returns."""
        self.updates.mkdir(mode=0o750, parents=True, exist_ok=True)
        write_bytes_durably(self.updates / f"{update_id}{UPDATE_SUFFIX}", frame, mode=0o640)

    def drop_parts(self) -> None:
        """Drop what a kill left unfinished; the daemon's, before it writes."""
        for part in self.updates.glob("*.part"):
            part.unlink(missing_ok=True)

    def queued(self) -> list[str]:
        """Identifiers of the Updates that wait."""
        return _names(self.updates, UPDATE_SUFFIX)

    def read_update(self, update_id: str) -> bytes | None:
        """A frame that waits; None if it was taken back."""
        return _read(self.updates / f"{update_id}{UPDATE_SUFFIX}", FRAME_BYTES)

    def take_back(self, update_id: str) -> None:
        """Have a frame not leave any more."""
        (self.updates / f"{update_id}{UPDATE_SUFFIX}").unlink(missing_ok=True)
        if self.updates.is_dir():
            sync_folder(self.updates)

    def put_round(self, raw: bytes) -> None:
        """Keep the newest Round as received; nothing takes it away."""
        self.rounds.mkdir(parents=True, exist_ok=True)
        if raw:
            write_bytes_durably(self.rounds / ROUND_FILE, raw)
        else:
            (self.rounds / ROUND_FILE).unlink(missing_ok=True)

    def round(self) -> bytes:
        """The newest Round as received; empty if there is none, or more than one may have."""
        return _read(self.rounds / ROUND_FILE, ROUND_BYTES) or b""

    def put_receipt(self, update_id: str, raw: bytes) -> None:
        """Keep a receipt until its Update is gone."""
        self.rounds.mkdir(parents=True, exist_ok=True)
        write_bytes_durably(self.rounds / f"{update_id}{RECEIPT_SUFFIX}", raw)

    def receipts(self) -> Iterator[Receipt]:
        """Receipts that are there; what is none is left out."""
        for update_id in _names(self.rounds, RECEIPT_SUFFIX):
            raw = _read(self.rounds / f"{update_id}{RECEIPT_SUFFIX}", RECEIPT_BYTES)
            try:
                receipt = read_receipt(raw or b"")
            except UpdateError:
                continue
            if receipt.update_id == update_id:
                yield receipt

    def drop_receipts(self) -> None:
        """Drop receipts whose Updates are gone."""
        for update_id in set(_names(self.rounds, RECEIPT_SUFFIX)) - set(self.queued()):
            (self.rounds / f"{update_id}{RECEIPT_SUFFIX}").unlink(missing_ok=True)


def frame_bytes(n: int) -> int:
    """Size of a frame of n values."""
    return HEADER_BYTES + SEALED_BYTES + 2 * n


def round_id_of(frame: bytes) -> int:
    """The Round that a frame says it is of; see ``learning.update`` for its header."""
    return int.from_bytes(frame[8:12], "little")


def is_update_id(text: str) -> bool:
    """Whether ``text`` can name an Update, and so a file."""
    return len(text) == 2 * ID_BYTES and all(char in "0123456789abcdef" for char in text)


def _names(folder: Path, suffix: str) -> list[str]:
    try:
        found = sorted(file.name for file in folder.iterdir() if file.suffix == suffix)
    except OSError:  # not there yet, or not a folder that can be read
        return []
    names = [name.removesuffix(suffix) for name in found[:FILES_MOST]]
    return [name for name in names if is_update_id(name)]


def _read(file: Path, limit: int) -> bytes | None:
    try:
        if file.is_symlink() or not file.is_file():
            return None
        with file.open("rb") as stream:
            raw = stream.read(limit + 1)
    except OSError:
        return None
    return raw if len(raw) <= limit else None
