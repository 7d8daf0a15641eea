"""The unit files: systemd takes them, they open little, and they name the paths of the settings."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from couchside.cloud_sync.tv.config import Limits, SyncConfig
from couchside.device.config import Config

ROOT = Path(__file__).parents[2]
UNITS = sorted(
    unit
    for folder in ("device", "cloud_sync")
    for unit in (ROOT / folder).iterdir()
    if unit.suffix in {".service", ".socket", ".path"}
)
STATE = Path("/var/lib")
EXPOSURE = {"couchside-device": 10, "couchside-install@": 10, "couchside-sync": 15}
"""Most exposure, in tenths, as systemd-analyze counts it: 0 is a rock, 96 a service left open."""

analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def read(name: str) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    assert unit.read(next(file for file in UNITS if file.name == name))
    return unit


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units beside each other, their programs replaced by one that every machine has."""
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8")
        (tmp_path / unit.name).write_text(text.replace("=/usr/bin/", "=/bin/true "))
    return tmp_path


@analyze
def test_units_are_taken_by_systemd_without_a_warning(installed: Path) -> None:
    units = [str(installed / unit.name) for unit in UNITS]
    assert len(units) == 6
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if str(installed) in line]
    assert (done.returncode, ours) == (0, [])


@analyze
@pytest.mark.parametrize("name", EXPOSURE)
def test_service_is_exposed_to_little(installed: Path, name: str) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager"]
    command += [f"--threshold={EXPOSURE[name]}", str(installed / f"{name}.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_service_that_reads_input_has_a_threshold() -> None:
    services = {unit.stem for unit in UNITS if unit.suffix == ".service"}
    assert services - EXPOSURE.keys() == {"couchside-bundle"}  # one systemctl call, no input


def test_units_name_the_paths_of_the_settings() -> None:
    paths, device = SyncConfig().paths, Config()
    sync, install = read("couchside-sync.service"), read("couchside-install@.service")
    daemon, path = read("couchside-device.service"), read("couchside-bundle.path")
    states = [STATE / name for name in install["Service"]["StateDirectory"].split()]
    assert states == [Path(paths.state), Path(paths.slots)]
    assert STATE / sync["Service"]["StateDirectory"] == Path(paths.spool)
    assert install["Service"]["ReadOnlyPaths"] == f"-{paths.spool}"
    assert path["Path"]["PathChanged"] == paths.slots
    assert STATE / daemon["Service"]["StateDirectory"] == device.state
    assert Path("/run") / daemon["Service"]["RuntimeDirectory"] == device.socket.parent
    walled = set(sync["Service"]["InaccessiblePaths"].replace("-/", "/").split())
    assert walled == {str(device.state), str(device.socket.parent), paths.slots}
    assert install["Service"]["InaccessiblePaths"] == f"-{device.socket.parent}"


def test_units_give_each_process_a_user_of_its_own_and_the_network_to_one() -> None:
    units = {name: read(f"{name}.service")["Service"] for name in EXPOSURE}
    assert len({unit["User"] for unit in units.values()}) == 3
    assert all(unit["User"] == unit["Group"] for unit in units.values())
    socket = read("couchside-install.socket")["Socket"]
    assert socket["SocketUser"] == units["couchside-sync"]["User"]
    assert units["couchside-install@"]["SupplementaryGroups"] == units["couchside-sync"]["User"]
    reaching = {name for name, unit in units.items() if unit.get("PrivateNetwork") != "yes"}
    assert reaching == {"couchside-sync"}


def test_units_start_the_commands_that_are_installed() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for name in EXPOSURE:
        command = read(f"{name}.service")["Service"]["ExecStart"].split()
        assert Path(command[0]).name in scripts


def test_installer_may_eat_as_much_as_its_golden_child_is_allowed() -> None:
    """Its cgroup holds both, or the kernel's killer would strike before the child's own limit."""
    most = read("couchside-install@.service")["Service"]["MemoryMax"]
    assert int(most.removesuffix("M")) << 20 >= Limits().golden_bytes
