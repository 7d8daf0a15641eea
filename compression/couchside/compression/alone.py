"""One run at a time in a folder: two would delete each other's work."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from typing import TYPE_CHECKING

from couchside.compression.errors import CompressionError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK = "lock"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold ``folder``, which is made if need be; the kernel lets go of it however the run ends.

    Raises:
        CompressionError: another run holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CompressionError(
                f"{folder}: another run is at work there; wait for it"
            ) from error
        yield
