"""What the kernel counts of a process: bytes that it wrote, and how often it woke (proc(5))."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

VOLUNTARY = "voluntary_ctxt_switches"


@dataclass(frozen=True, slots=True)
class Written:
    """Since the process began."""

    asked: int
    """Bytes given to write(2) and its kin, into whatever; send(2) is not among them."""
    dirtied: int
    """Bytes of the page cache that became dirty, in whole pages: what flash has to take."""

    def __sub__(self, before: Written) -> Written:
        return Written(self.asked - before.asked, self.dirtied - before.dirtied)


def written(pid: int, proc: Path = Path("/proc")) -> Written:
    """What a process of ours has written.

    Raises:
        OSError: there is no such process, or it is somebody else's.
    """
    numbers = _numbers(proc / str(pid) / "io")
    return Written(numbers["wchar"], numbers["write_bytes"])


def wake_ups(pid: int, proc: Path = Path("/proc")) -> int:
    """How often the living threads of a process have gone to sleep, and so been woken.

    Raises:
        OSError: there is no such process.
    """
    total = 0
    for task in (proc / str(pid) / "task").iterdir():
        try:
            total += _numbers(task / "status")[VOLUNTARY]
        except FileNotFoundError:  # it ended a moment ago
            continue
    return total


def _numbers(file: Path) -> dict[str, int]:
    """The lines ``name: number`` of a file."""
    pairs = (line.partition(":") for line in file.read_text(encoding="utf-8").splitlines())
    return {name: int(value) for name, _, value in pairs if value.strip().isdecimal()}
