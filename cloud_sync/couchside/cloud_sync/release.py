"""What the signed metadata says about a release: the words that cloud and TV share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from couchside.cloud_sync.blocks import LIST_NAME
from couchside.cloud_sync.errors import UntrustedError
from couchside.cloud_sync.topics import is_sha256
from couchside.device import strict

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile

ISSUED = "x-couchside-issued"
"""POSIX seconds of signing, in every document: from them a TV without a clock learns the time."""
LIST_BLOCKS = 20
"""Most blocks of a block list."""


def target_path(channel: str, flavour: str) -> str:
    """The TUF target that leads to the Bundle of a channel and flavour."""
    return f"{channel}/{flavour}/{LIST_NAME}"


@dataclass(frozen=True, slots=True)
class Destination:
    """The signed ``custom`` of a target: what its block list leads to."""

    version: int
    """Of the Bundle; grows with every release of a channel."""
    bundle_id: str
    bytes: int
    """Of the Bundle on the disk."""
    blocks: tuple[str, ...]
    """SHA-256 of the blocks of the block list itself."""

    @classmethod
    def of(cls, target: TargetFile) -> Destination:
        """What a target leads to.

        Raises:
            UntrustedError: its ``custom`` is not as specified.
        """
        try:
            destination = strict.from_json(cls, target.custom)
        except strict.StrictError as error:
            raise UntrustedError(f"{target.path}: custom.{error}; wait for another") from error
        hashes = (destination.bundle_id, *destination.blocks)
        good = all(map(is_sha256, hashes)) and len(destination.blocks) <= LIST_BLOCKS
        if not good or destination.version < 1 or destination.bytes < 1:
            raise UntrustedError(f"{target.path}: custom is out of bounds; wait for another")
        return destination
