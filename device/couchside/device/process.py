"""What the daemon asks of its operating system: little memory, no network, word to systemd."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Options of glibc's mallopt(3)."""
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def limit_blas_threads() -> None:
    """Keep BLAS to one thread; must run before numpy is imported."""
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")


def keep_memory_small() -> None:
    """Tell glibc to give memory back: one arena for all threads, large blocks always mapped.

    Without it every connection's thread keeps an arena, and the arrays of a load stay in the heap.
    Does nothing on other C libraries.
    """
    import ctypes  # noqa: PLC0415 - numpy has it loaded by now

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    mallopt(M_ARENA_MAX, 1)
    mallopt(M_MMAP_THRESHOLD, 128 * 1024)
    mallopt(M_TRIM_THRESHOLD, 128 * 1024)


def return_memory() -> None:
    """Give the heap's free pages back to the system, after the start and after a load."""
    import ctypes  # noqa: PLC0415
    import gc  # noqa: PLC0415

    gc.unfreeze()
    gc.collect()
    gc.freeze()  # what is there now stays: a later collection would take 12 ms to find that out
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:
        return


def memory(status: Path) -> dict[str, int]:
    """Resident and anonymous bytes, from a ``/proc/PID/status``."""
    names = {"VmRSS": "rss_bytes", "RssAnon": "anonymous_bytes", "VmHWM": "peak_rss_bytes"}
    result = {}
    for line in status.read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name in names:
            result[names[name]] = int(value.split()[0]) * 1024
    return result


def boot_id(proc: Path) -> str:
    """Names this boot of the TV; "unknown" where the system has no such thing."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def refuse_networks() -> None:
    """Refuse every socket that is not a Unix socket, and every look-up of a name, from now on.

    A second wall behind the unit's ``PrivateNetwork=yes`` that holds on systems without systemd.
    It binds Python code, this daemon's and its libraries'; native code is the sandbox's matter.
    """

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.__new__" and args[1] != socket.AF_UNIX:
            raise PermissionError("couchside-device opens Unix sockets only")
        if event.startswith(("socket.getaddrinfo", "socket.gethostby", "socket.getnameinfo")):
            raise PermissionError("couchside-device has no network")

    sys.addaudithook(hook)


def notify(state: str, address: str | None) -> None:
    """Send ``state`` ("READY=1", "WATCHDOG=1", …) to systemd, as sd_notify(3).

    Args:
        state: the message.
        address: the value of ``NOTIFY_SOCKET``; None where nobody listens.
    """
    if not address:
        return
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.connect(target)
            sender.sendall(state.encode())
        except OSError:
            return  # a supervisor that went away is no reason to stop
