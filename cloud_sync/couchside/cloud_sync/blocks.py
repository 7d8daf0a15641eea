"""A Bundle as blocks named by their own SHA-256, and back.

A file is one stream, compressed where that pays, cut into blocks of 60 KiB. A signed block list
says which blocks make which file. A block that arrives is checked against its name and kept as a
file of that name: the folder is the bitmap of what is there, and survives a kill or a power cut.
Equal files of several flavours or releases have equal blocks and travel once.
"""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from couchside.cloud_sync.errors import DamagedBlockError, UntrustedError
from couchside.cloud_sync.topics import BLOCK_BYTES, is_name, is_sha256
from couchside.device import strict
from couchside.device.durable import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

FORMAT = "couchside-blocks/1"
LIST_NAME = "blocks.json"
LIST_BYTES = 1 << 20
"""Most bytes of a block list: enough for a Bundle of 900 MB."""
FILES = 64
"""Most files in a Bundle; ours have eight."""
WORTH_IT = 0.9
"""A file travels compressed where that leaves at most this share of it."""
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class FileBlocks:
    """How one file of a Bundle is made from blocks."""

    name: str
    bytes: int
    """Of the file itself."""
    sha256: str
    """Of the file itself."""
    codec: Literal["plain", "zlib"]
    """What the joined blocks are."""
    blocks: tuple[str, ...]
    """SHA-256 of each block, in order."""


@dataclass(frozen=True, slots=True)
class BlockList:
    """``blocks.json``: a whole Bundle of one flavour."""

    format: str
    flavour: str
    version: int
    bundle_id: str
    """SHA-256 of ``manifest.json``."""
    files: tuple[FileBlocks, ...]

    @property
    def bytes(self) -> int:
        """Size of the Bundle on the disk."""
        return sum(file.bytes for file in self.files)


def cut(data: bytes) -> list[bytes]:
    """``data`` in blocks; nothing is no block."""
    return [data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES)]


def name_of(block: bytes) -> str:
    """The name of a block: its SHA-256."""
    return hashlib.sha256(block).hexdigest()


def encode(name: str, content: bytes) -> tuple[FileBlocks, list[bytes]]:
    """The record and the blocks of a file called ``name``."""
    packed = zlib.compress(content, 9)
    smaller = len(packed) <= WORTH_IT * len(content)
    blocks = cut(packed if smaller else content)
    record = FileBlocks(
        name=name,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        codec="zlib" if smaller else "plain",
        blocks=tuple(map(name_of, blocks)),
    )
    return record, blocks


def read_list(raw: bytes) -> BlockList:
    """Parse a block list whose signed hash has been checked; it is still read with care.

    Raises:
        UntrustedError: it is not as specified, or leads out of the Bundle's folder.
    """
    try:
        blocks = strict.from_json(BlockList, strict.loads(raw))
    except (strict.StrictError, UnicodeDecodeError) as error:
        raise UntrustedError(f"{LIST_NAME}: {error}; wait for another release") from error
    names = [file.name for file in blocks.files]
    hashes = [
        blocks.bundle_id,
        *(sha for file in blocks.files for sha in (file.sha256, *file.blocks)),
    ]
    good = (
        blocks.format == FORMAT
        and is_name(blocks.flavour)
        and len(set(names)) == len(names) <= FILES
        and all(map(_FILE_NAME.fullmatch, names))
        and all(file.bytes >= 0 for file in blocks.files)
        and all(map(is_sha256, hashes))
    )
    if not good or ("manifest.json", blocks.bundle_id) not in {
        (f.name, f.sha256) for f in blocks.files
    }:
        raise UntrustedError(f"{LIST_NAME}: it describes no Bundle; wait for another release")
    return blocks


class BlockStore:
    """A folder of blocks, each a file named by its SHA-256 and durable once it has that name.

    Args:
        folder: made if it is missing.
        elsewhere: blocks that lie within other files: the file, and where in it they begin.
    """

    def __init__(
        self, folder: Path, elsewhere: Mapping[str, tuple[Path, int]] | None = None
    ) -> None:
        self._folder, self._elsewhere = folder, elsewhere or {}

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that are not here, once each, in order."""
        return [
            name
            for name in dict.fromkeys(names)
            if name not in self._elsewhere and not (self._folder / name).is_file()
        ]

    def put(self, name: str, block: bytes) -> None:
        """Keep a block that arrived.

        Raises:
            DamagedBlockError: its SHA-256 is not its name.
            OSError: the folder can't be written; nothing is left behind.
        """
        if len(block) > BLOCK_BYTES or name_of(block) != name:
            raise DamagedBlockError(name, "what arrived has another SHA-256")
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._folder / f"{name}.part"
        try:
            with part.open("wb") as writer:
                writer.write(block)
                writer.flush()
                os.fsync(writer.fileno())
            part.replace(self._folder / name)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        sync_folder(self._folder)

    def read(self, name: str) -> bytes:
        """A block.

        Raises:
            DamagedBlockError: it is not here, or no longer what its name says.
        """
        file, offset = self._elsewhere.get(name, (self._folder / name, 0))
        most = BLOCK_BYTES if name in self._elsewhere else BLOCK_BYTES + 1
        try:
            with file.open("rb") as stream:
                stream.seek(offset)
                block = stream.read(most)
        except OSError as error:
            raise DamagedBlockError(name, str(error.strerror)) from error
        if name_of(block) != name:
            raise DamagedBlockError(name, "it was damaged on the disk")
        return block

    def discard(self, name: str) -> None:
        """Drop a block."""
        (self._folder / name).unlink(missing_ok=True)

    def keep_only(self, names: Iterable[str]) -> list[str]:
        """Delete every other file in the folder; the names of the blocks that went."""
        if not self._folder.is_dir():
            return []
        kept = set(names)
        gone = [file for file in self._folder.iterdir() if file.name not in kept]
        for file in gone:
            file.unlink()
        return [file.name for file in gone if is_sha256(file.name)]


def blocks_within(file: Path) -> Iterator[tuple[str, int]]:
    """Name and place of each block that ``file`` would be cut into, were it to travel plain.

    Raises:
        OSError: it can't be read.
    """
    with file.open("rb") as stream:
        place = 0
        while block := stream.read(BLOCK_BYTES):
            yield name_of(block), place
            place += len(block)


def join(file: FileBlocks, store: BlockStore) -> Iterator[bytes]:
    """The content of ``file`` in pieces of at most 60 KiB, never more than it should be.

    Raises:
        DamagedBlockError: a block is missing or damaged.
        UntrustedError: the blocks make another file than the signed list promises.
    """
    digest, left = hashlib.sha256(), file.bytes
    for piece in _pieces(file, store):
        left -= len(piece)
        if left < 0:
            raise UntrustedError(f"{file.name}: its blocks make more than {file.bytes} bytes")
        digest.update(piece)
        yield piece
    if left or digest.hexdigest() != file.sha256:
        raise UntrustedError(f"{file.name}: its blocks make another file than was signed")


def _pieces(file: FileBlocks, store: BlockStore) -> Iterator[bytes]:
    if file.codec == "plain":
        yield from map(store.read, file.blocks)
        return
    inflate = zlib.decompressobj()
    try:
        for name in file.blocks:
            rest = store.read(name)
            while rest:
                yield inflate.decompress(rest, BLOCK_BYTES)
                rest = inflate.unconsumed_tail
        while piece := inflate.decompress(b"", BLOCK_BYTES):
            yield piece
    except zlib.error as error:
        raise UntrustedError(f"{file.name}: its blocks are not zlib: {error}") from error
