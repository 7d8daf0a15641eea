"""Which sockets a process holds, by the kernel's own tables (proc(5))."""

from __future__ import annotations

import re
from pathlib import Path


def count_sockets(pid: int, proc: Path = Path("/proc")) -> tuple[int, int]:
    """Sockets of a process of ours.

    Args:
        pid: of the process.
        proc: where procfs is.

    Returns:
        (Unix sockets, sockets of any other family).

    Raises:
        OSError: there is no such process, or it is somebody else's.
    """
    held = set()
    for entry in (proc / str(pid) / "fd").iterdir():
        try:
            found = re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink()))
        except FileNotFoundError:  # closed a moment ago
            continue
        held |= {found[1]} if found else set()
    table = (proc / str(pid) / "net/unix").read_text(encoding="utf-8", errors="replace")
    unix = {line.split()[6] for line in table.splitlines()[1:]}
    return len(held & unix), len(held - unix)
