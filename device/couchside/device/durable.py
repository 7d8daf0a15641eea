"""Writes that survive a power cut: temporary name in the same folder, sync, rename, sync folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(file: Path, text: str) -> None:
    """Replace ``file`` by ``text`` so that a power cut leaves the old or the new."""
    write_bytes_durably(file, text.encode("utf-8"))


def write_bytes_durably(file: Path, content: bytes, *, mode: int | None = None) -> None:
    """Replace ``file`` by ``content`` so that a power cut leaves the old or the new.

    Args:
        file: in a folder that exists.
        content: all of it.
        mode: its rights, whatever the umask says; None leaves them to that.
    """
    part = file.with_name(file.name + ".part")
    with part.open("wb") as writer:
        writer.write(content)
        writer.flush()
        if mode is not None:
            os.fchmod(writer.fileno(), mode)
        os.fsync(writer.fileno())
    part.replace(file)
    sync_folder(file.parent)
