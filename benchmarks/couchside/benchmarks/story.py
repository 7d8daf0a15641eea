"""What a person at the terminal sees of the demo: parts with their times, and a sign of life."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from couchside.benchmarks.page import words
from couchside.benchmarks.page.report import Timed

if TYPE_CHECKING:
    from collections.abc import Iterator

BOLD, PLAIN = "\x1b[1m", "\x1b[0m"
DOT_S = 1.0


class Story:
    """Tells the demo, part by part.

    Args:
        out: the terminal, or a file.
        parts: how many parts there will be.
    """

    def __init__(self, out: TextIO, parts: int) -> None:
        self._out = out
        self._parts = parts
        self.timed: list[Timed] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part: its heading now, its time at the end."""
        heading = f"[{len(self.timed) + 1}/{self._parts}] {name}"
        self.say("\n" + (f"{BOLD}{heading}{PLAIN}" if self._out.isatty() else heading))
        began = time.monotonic()
        yield
        self.timed.append(Timed(name, time.monotonic() - began))

    def say(self, text: str = "") -> None:
        """A line or several, at once."""
        self._out.write(text + "\n")
        self._out.flush()

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Say what is going on, and a dot a second until it is done."""
        self._write(f"  {what} ")
        done = threading.Event()
        dots = threading.Thread(target=self._dots, args=(done,), daemon=True)
        began = time.monotonic()
        dots.start()
        try:
            yield
        finally:
            done.set()
            dots.join()
            self._write("\n")
        self._write(f"    {words.span(time.monotonic() - began)}\n")

    def times(self) -> str:
        """Every part with its time, and their sum."""
        width = max(len(part.name) for part in self.timed)
        lines = [f"  {part.name:<{width}}  {words.span(part.seconds):>9}" for part in self.timed]
        total = words.span(sum(part.seconds for part in self.timed))
        return "\n".join((*lines, f"  {'together':<{width}}  {total:>9}"))

    def _dots(self, done: threading.Event) -> None:
        while not done.wait(DOT_S):
            self._write(".")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
