"""Fetching blocks through a subscribe window: pure bookkeeping, no sockets, no files.

The TV subscribes to a block, and to the next when that one is on its disk: it sets the pace, and no
process in the cloud takes part (measured: 2.5 times the throughput of request and response). What
is under way when the TV loses power is fetched again, so the window is what a kill can cost: one
block by default. A wider one only helps where the broker is far.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

TRIES = 3
"""Damaged copies of one block after which the broker is not asked again for a while."""


class Transfer:
    """Which blocks are under way, which wait.

    Args:
        names: blocks to fetch, in order.
        window: most under way at once.
        now: monotonic seconds.
    """

    def __init__(self, names: Iterable[str], *, window: int, now: float) -> None:
        self._waiting = deque(dict.fromkeys(names))
        self._window = window
        self._damaged: dict[str, int] = {}
        self.under_way: set[str] = set()
        self.last_arrival = now
        self.arrived = 0

    @property
    def done(self) -> bool:
        """Whether everything has arrived."""
        return not self._waiting and not self.under_way

    @property
    def hopeless(self) -> str:
        """A block of which only damaged copies come; empty if there is none."""
        return next((name for name, n in self._damaged.items() if n >= TRIES), "")

    def next(self) -> list[str]:
        """Blocks to subscribe to now."""
        begun = []
        while self._waiting and len(self.under_way) < self._window:
            name = self._waiting.popleft()
            self.under_way.add(name)
            begun.append(name)
        return begun

    def took(self, name: str, now: float) -> None:
        """A good copy of ``name`` arrived."""
        self.under_way.discard(name)
        self._damaged.pop(name, None)
        self.last_arrival = now
        self.arrived += 1

    def refused(self, name: str) -> None:
        """A damaged copy of ``name`` arrived; it is asked for again, last."""
        self.under_way.discard(name)
        self._damaged[name] = self._damaged.get(name, 0) + 1
        self._waiting.append(name)
