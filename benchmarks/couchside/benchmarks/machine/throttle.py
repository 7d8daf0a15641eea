"""Was the machine held back while it was measured? Only counters may say no.

Looked at before and after: the over-current counters of a Jetson (hwmon ``soctherm_oc``; cumulative
since boot, so a run is judged by their difference), the thermal counters of x86, and the state of
cooling devices. The hwmon is found by its name, as its number varies from board to board. Looked at
meanwhile, twice a second: whether the fastest core runs as fast as it may, and whether a zone is as
hot as its passive trip point. Where there is no counter the verdict is *unknown*, never *clean*.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping  # noqa: TC003 - strict reads the types of Throttling's fields
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from couchside.benchmarks.machine.board import read_int, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

Verdict = Literal["clean", "suspect", "throttled", "unknown"]

HARMLESS_OFTEN = ("oc3",)
"""Instantaneous over-current: climbs routinely at full power with hardly any effect on clocks."""
HARMLESS_COOLING = ("fan", "lcd")
"""Cooling devices that hold nothing back: a fan keeps the clocks up, a screen is not ours."""
COUNTERS = ("oc", "core_throttle", "package_throttle")
"""Names that begin like this count events and never fall; the others are states."""


@dataclass(frozen=True, slots=True)
class Throttling:
    """The verdict with its evidence."""

    verdict: Verdict
    rose: Mapping[str, int]
    """By how much each counter or cooling state rose during the run."""
    reasons: tuple[str, ...] = ()
    """What was seen meanwhile, in words."""


SLOW = 0.97
"""A core that may run at f and runs below this share of it is held back."""
SLOW_SHARE = 0.01
"""Share of the samples that may be slow: a core takes a moment to speed up."""
PERIOD_S = 0.5


@dataclass(frozen=True, slots=True)
class Glance:
    """One look at a running machine."""

    speed: float | None
    """Frequency of the fastest core over what it may be; None where that is not known."""
    hot: tuple[str, ...]
    """Zones at or above their passive trip point."""


class ThrottleWatch:
    """Watches a machine while the block runs: a thread that reads a few small files twice a second.

    A look takes 0.4 ms of CPU time on a Jetson laid out in a folder (x86), 0.1 % of a core.

    Args:
        root: of the system's files.
        period_s: between two looks.
    """

    def __init__(self, root: Path, *, period_s: float = PERIOD_S) -> None:
        self._root, self._period_s = root, period_s
        self._before: dict[str, int] = {}
        self._after: dict[str, int] = {}
        self._peaks: dict[str, int] = {}
        self._glances: list[Glance] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._before = read_counters(self._root)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._after = read_counters(self._root)

    def verdict(self) -> Throttling:
        """What the block's run is worth, once it is over."""
        # A cooling device may have worked in between and be at rest by now.
        most = {name: max(self._peaks.get(name, 0), now) for name, now in self._after.items()}
        return judge(self._before, most, self._glances)

    def _watch(self) -> None:
        # Not at once: a core needs a moment to speed up.
        while not self._over.wait(self._period_s):
            self._glances.append(glance(self._root))
            for name, state in _cooling(self._root):
                self._peaks[name] = max(self._peaks.get(name, state), state)


def glance(root: Path) -> Glance:
    """Look once, below ``root``."""
    speeds = []
    for policy in (root / "sys/devices/system/cpu/cpufreq").glob("policy*"):
        now, most = read_int(policy / "scaling_cur_freq"), _most(root, policy)
        if now and most:
            speeds.append(now / most)
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    return Glance(max(speeds, default=None), tuple(name for zone in zones for name in _hot(zone)))


def _most(root: Path, policy: Path) -> int | None:
    """What a core may run at for ever; None if nobody promises anything.

    Above its base a PC's core runs as fast as heat and neighbours allow, which is no throttling.
    """
    most = read_int(policy / "scaling_max_freq")
    cpu = root / "sys/devices/system/cpu"
    boosts = read_int(cpu / "intel_pstate/no_turbo") == 0 or read_int(cpu / "cpufreq/boost") == 1
    base = read_int(policy / "base_frequency")
    if not boosts or most is None:
        return most
    return None if base is None else min(base, most)


def _hot(zone: Path) -> Iterator[str]:
    now = read_int(zone / "temp")
    for kind in sorted(zone.glob("trip_point_*_type")):
        trip = read_int(kind.with_name(kind.name.replace("_type", "_temp")))
        if read_text(kind) == "passive" and now is not None and trip and now >= trip:
            yield f"{read_text(zone / 'type') or zone.name} at {now / 1000:.0f} °C"
            return


def read_counters(root: Path) -> dict[str, int]:
    """Counters and cooling states by name, below ``root``, which is ``/`` but in tests."""
    return dict((*_over_current(root), *_thermal(root), *_cooling(root)))


def judge(
    before: Mapping[str, int], after: Mapping[str, int], glances: list[Glance] | None = None
) -> Throttling:
    """Compare two readings of one machine, and what was seen between them."""
    rose = {
        name: after[name] - value
        for name, value in before.items()
        if name in after and after[name] > value
    }
    reasons = tuple(_seen(glances or []))
    if reasons or any(not name.startswith(HARMLESS_OFTEN) for name in rose):
        return Throttling("throttled", rose, reasons)
    if rose:
        return Throttling("suspect", rose)
    counted = any(name.startswith(COUNTERS) for name in before)
    return Throttling("clean" if counted else "unknown", rose)


def _seen(glances: list[Glance]) -> Iterator[str]:
    speeds = [seen.speed for seen in glances if seen.speed is not None]
    slow = [speed for speed in speeds if speed < SLOW]
    if len(slow) > max(SLOW_SHARE * len(speeds), 1):
        often = f"{len(slow)} of {len(speeds)} times"
        yield f"the fastest core ran at {min(slow):.0%} of what it may, {often}"
    yield from sorted({f"{zone}, its passive trip point" for seen in glances for zone in seen.hot})


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
        if kind and state is not None and not any(h in kind.lower() for h in HARMLESS_COOLING):
            yield f"cooling {device.name} {kind}", state
