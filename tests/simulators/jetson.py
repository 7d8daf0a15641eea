"""A Jetson Orin Nano as a folder: the kernel's files that a benchmark reads.

    >>> from pathlib import Path; from tempfile import TemporaryDirectory
    >>> from couchside.benchmarks.machine.board import read_board
    >>> with TemporaryDirectory() as folder:
    ...     jetson = Jetson(Path(folder))
    ...     read_board(jetson.root).power_mode
    '2 MAXN_SUPER'

File names and formats follow the tegra234 kernel and Jetson Linux 36; the values are invented. The
hwmon has an odd number on purpose: it differs from board to board.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CORE = """\
processor\t: {number}
BogoMIPS\t: 62.50
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd42
CPU revision\t: 1

"""
FILES = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "proc/cpuinfo": "".join(CORE.format(number=number) for number in range(6)),
    "proc/meminfo": "MemTotal:        7802252 kB\nMemFree:         5010020 kB\n",
    "proc/loadavg": "0.12 0.34 0.56 1/345 6789\n",
    "proc/sys/kernel/osrelease": "5.15.148-tegra\n",
    "etc/nv_tegra_release": (
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
        "DATE: Wed Jan  8 01:49:37 UTC 2025\n"
    ),
    "etc/nvpmodel.conf": (
        "< PARAM TYPE=FILE NAME=CPU_ONLINE >\nCORE_0 /sys/devices/system/cpu/cpu0/online\n\n"
        "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n\n"
        "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\nCPU_ONLINE CORE_0 1\n\n"
        "< PM_CONFIG DEFAULT=0 >\n"
    ),
    "var/lib/nvpmodel/status": "pmode:0002\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1728000\n",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq": "1510400\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48562\n",
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
    "sys/class/thermal/cooling_device0/cur_state": "1\n",
    "sys/class/thermal/cooling_device1/type": "cpufreq-cpu0\n",
    "sys/class/thermal/cooling_device1/cur_state": "0\n",
    "sys/class/hwmon/hwmon0/name": "tmp451\n",
    "sys/class/hwmon/hwmon5/name": "soctherm_oc\n",
    "sys/class/hwmon/hwmon5/oc1_event_cnt": "0\n",
    "sys/class/hwmon/hwmon5/oc2_event_cnt": "3\n",
    "sys/class/hwmon/hwmon5/oc3_event_cnt": "117\n",
}


class Jetson:
    """Lays the files out below a folder.

    Args:
        root: an empty folder, to be given as the root of the system.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in FILES.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        """Write one of the kernel's files, named without the leading slash."""
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def count_over_current(self, kind: int, count: int) -> None:
        """Set the counter of over-current events of a kind: 1 under-voltage, 2 average, 3 peak."""
        self.write(f"sys/class/hwmon/hwmon5/oc{kind}_event_cnt", f"{count}\n")

    def cool(self, device: int, state: int) -> None:
        """Set how hard a cooling device works: 0 is the fan, 1 holds back the CPU's clock."""
        self.write(f"sys/class/thermal/cooling_device{device}/cur_state", f"{state}\n")
