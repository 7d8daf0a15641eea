"""A Jetson (Orin Nano, AGX Thor) or a PC as a folder: the kernel files that a benchmark reads.

    >>> from pathlib import Path; from tempfile import TemporaryDirectory
    >>> from couchside.benchmarks.machine.board import read_board
    >>> with TemporaryDirectory() as folder:
    ...     jetson = Jetson(Path(folder))
    ...     read_board(jetson.root).power_mode
    '2 MAXN_SUPER'

File names and formats follow the tegra234 kernel and Jetson Linux 36 (Orin) and reports of boards
with Jetson Linux 38 (Thor; jetson_stats pull request 900 for the INA238 at its input); values are
invented. The hwmon numbers differ on purpose, as they do from board to board.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

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
    "sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq": "729600\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1728000\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1728000\n",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_min_freq": "729600\n",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_cur_freq": "729600\n",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq": "1510400\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48562\n",
    "sys/class/thermal/thermal_zone0/trip_point_0_type": "critical\n",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp": "104500\n",
    "sys/class/thermal/thermal_zone0/trip_point_1_type": "passive\n",
    "sys/class/thermal/thermal_zone0/trip_point_1_temp": "99000\n",
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
    "sys/class/thermal/cooling_device0/cur_state": "1\n",
    "sys/class/thermal/cooling_device1/type": "cpufreq-cpu0\n",
    "sys/class/thermal/cooling_device1/cur_state": "0\n",
    "sys/class/hwmon/hwmon0/name": "tmp451\n",
}


THOR = {
    "proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
    "proc/cpuinfo": "".join(CORE.format(number=number) for number in range(14)),
    "proc/sys/kernel/osrelease": "6.8.12-tegra\n",
    "etc/nv_tegra_release": (
        "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, "
        "DATE: Fri Aug 22 00:55:42 UTC 2025\n"
    ),
    "etc/nvpmodel.conf": (
        "< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_0 1\n\n"
        "< POWER_MODEL ID=1 NAME=120W >\nCPU_ONLINE CORE_0 1\n\n"
    ),
    "var/lib/nvpmodel/status": "pmode:0001\n",
}
"""What is otherwise than on an Orin Nano."""
OVER_CURRENT = {"orin": 3, "thor": 5}
INA3221 = {"orin": 1, "thor": 7}
INA238 = 6
"""Numbers of the hwmons."""
RAILS = {
    "orin": ((1, "VDD_IN", 1000), (2, "VDD_CPU_GPU_CV", 200)),
    "thor": ((1, "VDD_GPU", 400), (2, "VDD_CPU_SOC_MSS", 700)),
}
"""Channel, label, mA at 5 V."""
GPU = {"orin": "17000000.gpu", "thor": "gpu-gpc-0"}
"""Names of the GPU among the devfreq devices."""


class Machine:
    """Files of a kernel below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, name: str, text: str) -> None:
        """Write one of the kernel's files, named without the leading slash."""
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


class Jetson(Machine):
    """Lays the files out below a folder.

    Args:
        root: an empty folder, to be given as the root of the system.
        board: which one.
    """

    def __init__(self, root: Path, board: Literal["orin", "thor"] = "orin") -> None:
        super().__init__(root)
        self.watts = 30.0 if board == "thor" else 5.0
        """That the board takes, as its sensor says."""
        self._gpu = f"sys/class/devfreq/{GPU[board]}"
        for name, hertz in (("min", 306_000_000), ("cur", 306_000_000), ("max", 1_020_000_000)):
            self.write(f"{self._gpu}/{name}_freq", f"{hertz}\n")
        for name, text in {**FILES, **(THOR if board == "thor" else {})}.items():
            self.write(name, text)
        self._hwmon = f"sys/class/hwmon/hwmon{OVER_CURRENT[board]}"
        self.write(f"{self._hwmon}/name", "soctherm_oc\n")
        for kind, count in ((1, 0), (2, 3), (3, 117)):
            self.count_over_current(kind, count)
        sensor = f"sys/class/hwmon/hwmon{INA3221[board]}"
        self.write(f"{sensor}/name", "ina3221\n")
        for number, rail, milli_a in RAILS[board]:
            self.write(f"{sensor}/in{number}_label", f"{rail}\n")
            self.write(f"{sensor}/in{number}_input", "5000\n")
            self.write(f"{sensor}/curr{number}_input", f"{milli_a}\n")
        if board == "thor":
            self.write(f"sys/class/hwmon/hwmon{INA238}/name", "ina238\n")
            self.write(f"sys/class/hwmon/hwmon{INA238}/power1_input", "30000000\n")
        # The sum of shunt voltages: a label without a current.
        self.write(f"{sensor}/in7_label", "sum of shunt voltages\n")

    def count_over_current(self, kind: int, count: int) -> None:
        """Set the counter of over-current events of a kind: 1 under-voltage, 2 average, 3 peak."""
        self.write(f"{self._hwmon}/oc{kind}_event_cnt", f"{count}\n")

    def cool(self, device: int, state: int) -> None:
        """Set how hard a cooling device works: 0 is the fan, 1 holds back the CPU's clock."""
        self.write(f"sys/class/thermal/cooling_device{device}/cur_state", f"{state}\n")

    def run_at(self, share: float) -> None:
        """Let all cores run at a share of what they may."""
        for policy, most in ((0, 1_728_000), (4, 1_510_400)):
            self.write(
                f"sys/devices/system/cpu/cpufreq/policy{policy}/scaling_cur_freq",
                f"{int(share * most)}\n",
            )

    def lock(self) -> None:
        """What jetson_clocks does: the lowest frequency becomes the highest."""
        for policy, most in ((0, 1_728_000), (4, 1_510_400)):
            folder = f"sys/devices/system/cpu/cpufreq/policy{policy}"
            self.write(f"{folder}/scaling_min_freq", f"{most}\n")
            self.write(f"{folder}/scaling_cur_freq", f"{most}\n")
        self.write(f"{self._gpu}/min_freq", "1020000000\n")

    def heat(self, celsius: float) -> None:
        """Set the temperature of the CPU's zone."""
        self.write("sys/class/thermal/thermal_zone0/temp", f"{int(1000 * celsius)}\n")


class Pc(Machine):
    """A PC with one package and RAPL."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.write("sys/class/powercap/intel-rapl:0/name", "package-0\n")
        self.write("sys/class/powercap/intel-rapl:0/max_energy_range_uj", "262143328850\n")
        self.write("sys/class/powercap/intel-rapl:0:0/name", "core\n")
        self.energy(1_000_000)

    def clock(self, megahertz: int, *, base: int | None, turbo: bool) -> None:
        """Let the core run at a frequency; it may reach 5 GHz, and is promised its base."""
        policy = "sys/devices/system/cpu/cpufreq/policy0"
        self.write(f"{policy}/scaling_cur_freq", f"{megahertz * 1000}\n")
        self.write(f"{policy}/scaling_max_freq", "5000000\n")
        if base is not None:
            self.write(f"{policy}/base_frequency", f"{base * 1000}\n")
        self.write("sys/devices/system/cpu/intel_pstate/no_turbo", f"{int(not turbo)}\n")

    def energy(self, micro_j: int) -> None:
        """Set the package's counter."""
        self.write("sys/class/powercap/intel-rapl:0/energy_uj", f"{micro_j}\n")


def fake_tegrastats(folder: Path) -> Path:
    """A tool that prints what the real one does, five watts, until it is ended."""
    tool = folder / "usr/bin/tegrastats"
    tool.parent.mkdir(parents=True)
    tool.write_text(
        "#!/bin/sh\nwhile :; do echo 'RAM 2448/7620MB VDD_IN 5000mW/4800mW'; sleep 0.02; done\n"
    )
    tool.chmod(0o755)
    return tool
