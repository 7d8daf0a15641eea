"""Was the machine held back while it was measured? Only counters may say no.

Three sources: the over-current counters of a Jetson (hwmon ``soctherm_oc``; cumulative since boot,
so a run is judged by their difference), the thermal counters of x86, and the state of cooling
devices, which is only looked at before and after. The hwmon is found by its name, as its number
varies from board to board. Where there is no counter the verdict is *unknown*, never *clean*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from couchside.benchmarks.machine.board import read_int, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Verdict = Literal["clean", "suspect", "throttled", "unknown"]

HARMLESS_OFTEN = ("oc3",)
"""Instantaneous over-current: climbs routinely at full power with hardly any effect on clocks."""
COUNTERS = ("oc", "core_throttle", "package_throttle")
"""Names that begin like this count events and never fall; the others are states."""


@dataclass(frozen=True, slots=True)
class Throttling:
    """The verdict with its evidence."""

    verdict: Verdict
    rose: Mapping[str, int]
    """By how much each counter or cooling state rose during the run."""


def read_counters(root: Path) -> dict[str, int]:
    """Counters and cooling states by name, below ``root``, which is ``/`` but in tests."""
    return dict((*_over_current(root), *_thermal(root), *_cooling(root)))


def judge(before: Mapping[str, int], after: Mapping[str, int]) -> Throttling:
    """Compare two readings of one machine."""
    rose = {
        name: after[name] - value
        for name, value in before.items()
        if name in after and after[name] > value
    }
    if any(not name.startswith(HARMLESS_OFTEN) for name in rose):
        return Throttling("throttled", rose)
    if rose:
        return Throttling("suspect", rose)
    counted = any(name.startswith(COUNTERS) for name in before)
    return Throttling("clean" if counted else "unknown", rose)


def _over_current(root: Path) -> Iterator[tuple[str, int]]:
    for hwmon in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if read_text(hwmon / "name") == "soctherm_oc":
            for file in sorted(hwmon.glob("oc*_event_cnt")):
                value = read_int(file)
                if value is not None:
                    yield file.name.removesuffix("_event_cnt"), value


def _thermal(root: Path) -> Iterator[tuple[str, int]]:
    for kind in ("core_throttle", "package_throttle"):
        pattern = f"cpu[0-9]*/thermal_throttle/{kind}_count"
        values = [read_int(file) for file in (root / "sys/devices/system/cpu").glob(pattern)]
        known = [value for value in values if value is not None]
        if known:
            yield kind, sum(known)


def _cooling(root: Path) -> Iterator[tuple[str, int]]:
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind, state = read_text(device / "type"), read_int(device / "cur_state")
        # A fan that speeds up is what keeps the clocks up.
        if kind and state is not None and "fan" not in kind.lower():
            yield f"cooling {device.name} {kind}", state
