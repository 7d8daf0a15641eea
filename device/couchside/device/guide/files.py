"""Catalogue files as bytes: regular files only, plain or gzip, damage with a name.

Files come from apps, USB sticks and broadcasters. A pipe or a device node would block or never
end, so only regular files are opened; gzip is told by its first two bytes, not by its name.
"""

from __future__ import annotations

import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

from couchside.device.errors import CatalogueError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GZIP_MAGIC = b"\x1f\x8b"

DAMAGE = (OSError, EOFError, zlib.error)
"""What reading an opened file can raise: a bad disk, or a gzip file that is cut or damaged."""


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a regular file, decompressed if it is gzip.

    Raises:
        CatalogueError: the file is missing, unreadable or not a regular file.
    """
    try:
        if not path.is_file():
            what = "is not a regular file" if path.exists() else "does not exist"
            raise CatalogueError(f"{path} {what}; give the path of a catalogue or guide file")
        raw = path.open("rb")
    except (OSError, ValueError) as error:
        raise CatalogueError(f"{path} can't be opened: {error}; check its permissions") from error
    with raw:
        if raw.read(len(GZIP_MAGIC)) != GZIP_MAGIC:
            raw.seek(0)
            yield raw
            return
        import gzip  # noqa: PLC0415 - most files are plain, and memory on a TV is a budget

        raw.seek(0)
        with gzip.GzipFile(fileobj=raw) as plain:
            yield cast("BinaryIO", plain)
