"""Is the board as the person says it is: power mode, clocks, temperature? Nothing is ever set here.

Numbers of one board in two power modes differ by a factor of two, so a run may ask for the mode and
for locked clocks, and ends with words and the command to type where the board is otherwise.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from couchside.benchmarks.errors import InvalidRunError, UsageError
from couchside.benchmarks.machine.board import (
    locked_clocks,
    power_mode,
    power_modes,
    temperatures,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

POLL_S = 2.0


def require_mode(root: Path, wanted: str) -> None:
    """See to it that a Jetson is in a power mode.

    Args:
        root: of the system's files.
        wanted: its name (MAXN, 15W, in any case) or its id.

    Raises:
        InvalidRunError: it is in another one, or the machine has no power modes.
    """
    mode = power_mode(root)
    if mode is None:
        raise InvalidRunError(f"--require-mode {wanted}: this machine tells no power mode")
    number, _, name = mode.partition(" ")
    if wanted.casefold() not in (number, name.casefold()):
        raise InvalidRunError(
            f"--require-mode {wanted}: the board is in mode {mode}; {_how_to_choose(root, wanted)}"
        )


def _how_to_choose(root: Path, wanted: str) -> str:
    modes = power_modes(root)
    for number, name in modes.items():
        if wanted.casefold() in (str(number), name.casefold()):
            return f"choose it with: sudo nvpmodel -m {number}"
    if not modes:
        return "list modes with nvpmodel -p --verbose and choose one with: sudo nvpmodel -m ID"
    have = ", ".join(f"{number} {name}" for number, name in modes.items())
    return f"it has {have}; choose one with: sudo nvpmodel -m ID"


def require_locked_clocks(root: Path) -> None:
    """See to it that the clocks are locked.

    Raises:
        InvalidRunError: they float, or the machine does not tell.
    """
    locked = locked_clocks(root)
    if locked is None:
        raise InvalidRunError("--require-locked-clocks: this machine shows no clocks")
    if not locked:
        raise InvalidRunError(
            "--require-locked-clocks: they float; on a Jetson: sudo jetson_clocks (after choosing "
            "the power mode), elsewhere set scaling_min_freq to scaling_max_freq"
        )


def parse_celsius(text: str) -> float:
    """``55C`` or ``55`` as a number.

    Raises:
        UsageError: it is neither.
    """
    found = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)\s*[Cc]?", text)
    if not found:
        raise UsageError(f"--cooldown-until {text}: must be degrees, such as 55C")
    return float(found[1])


def cool_down(
    root: Path,
    celsius: float,
    *,
    limit_s: float,
    tell: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until every thermal zone is below ``celsius``.

    Raises:
        InvalidRunError: it did not get that cool in time, or no zone can be read.
    """
    end = clock() + limit_s
    while True:
        zones = temperatures(root)
        if not zones:
            raise InvalidRunError("--cooldown-until: this machine shows no temperatures")
        zone = max(zones, key=lambda name: zones[name])
        if zones[zone] <= celsius:
            return
        if clock() >= end:
            raise InvalidRunError(
                f"--cooldown-until: {zone} is still at {zones[zone]:.1f} °C after {limit_s:g} s"
            )
        tell(f"waiting for {zone} to cool from {zones[zone]:.1f} °C to {celsius:g} °C")
        sleep(POLL_S)
