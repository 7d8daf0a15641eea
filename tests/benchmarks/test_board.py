"""A Jetson laid out in a folder is read as one; an unknown machine is not guessed at."""

from pathlib import Path

import pytest
from simulators.jetson import Jetson, Pc

from couchside.benchmarks.machine.board import _commit, locked_clocks, read_board


def test_orin_tells_what_it_is(tmp_path):
    board = read_board(Jetson(tmp_path).root)
    assert board.model == "NVIDIA Jetson Orin Nano Developer Kit"
    assert board.l4t == "R36.4.3"
    assert board.power_mode == "2 MAXN_SUPER"
    assert board.cpu == "ARM implementer 0x41 part 0xd42"
    assert board.cores == 6
    assert board.governors == ("schedutil",)
    assert board.max_mhz == 1728.0
    assert board.memory_bytes == 7802252 * 1024
    assert board.kernel == "5.15.148-tegra"
    assert board.load_average == (0.12, 0.34, 0.56)


def test_thor_tells_what_it_is(tmp_path):
    board = read_board(Jetson(tmp_path, "thor").root)
    assert board.model == "NVIDIA Jetson AGX Thor Developer Kit"
    assert (board.l4t, board.jetpack, board.power_mode) == ("R38.2.0", "7.0", "1 120W")
    assert board.gpu_mhz == {"min": 306.0, "cur": 306.0, "max": 1020.0}


@pytest.mark.parametrize(
    ("release", "revision", "jetpack"),
    [
        (35, "6.0", "5"), (36, "3.0", "6.0"), (36, "4.0", "6.1"), (36, "4.3", "6.2"),
        (36, "4.4", "6.2.1"), (36, "5.0", "6"), (38, "2.1", "7.0"), (38, "4.0", "7.1"),
        (39, "2.0", "7.2"), (39, "3.0", "7"), (40, "1.0", None),
    ],
)  # fmt: skip
def test_jetpack_follows_jetson_linux_and_is_not_guessed(tmp_path, release, revision, jetpack):
    jetson = Jetson(tmp_path)
    jetson.write("etc/nv_tegra_release", f"# R{release} (release), REVISION: {revision}, GCID: 1\n")
    assert read_board(jetson.root).jetpack == jetpack


def test_model_is_found_where_the_link_in_proc_leads_nowhere(tmp_path):
    """Below /host in a container, the link is to the container's own, hidden /sys/firmware."""
    jetson = Jetson(tmp_path)
    (tmp_path / "proc/device-tree/model").unlink()
    (tmp_path / "proc/device-tree").rmdir()
    (tmp_path / "proc/device-tree").symlink_to("/nowhere/devicetree/base")
    jetson.write("sys/firmware/devicetree/base/model", "NVIDIA Jetson Orin Nano\0")
    assert read_board(jetson.root).model == "NVIDIA Jetson Orin Nano"


def test_toolkit_and_limits_of_a_container_are_told(tmp_path):
    jetson = Jetson(tmp_path)
    jetson.write(
        "usr/local/cuda/version.json",
        '{"cuda" : {"name" : "CUDA SDK", "version" : "12.6.11"}, "x" : {"version" : "1.2"}}',
    )
    jetson.write("sys/fs/cgroup/cpu.max", "150000 100000\n")
    jetson.write("sys/fs/cgroup/memory.max", "max\n")
    jetson.write(".dockerenv", "")
    board = read_board(jetson.root)
    assert (board.cuda, board.cpu_limit, board.memory_limit_bytes) == ("12.6.11", 1.5, None)
    assert board.container == "/.dockerenv"


def test_commit_is_read_without_git(tmp_path):
    pc = Pc(tmp_path)
    assert _commit(tmp_path) is None
    pc.write(".git/HEAD", "ref: refs/heads/main\n")
    assert _commit(tmp_path) is None
    pc.write(".git/refs/heads/main", "ab12\n")
    assert _commit(tmp_path) == "ab12"
    pc.write(".git/HEAD", "cd34\n")
    assert _commit(tmp_path) == "cd34"


@pytest.mark.parametrize("board", ["orin", "thor"])
def test_floating_gpu_is_not_locked(tmp_path, board):
    jetson = Jetson(tmp_path, board)
    jetson.lock()
    assert locked_clocks(jetson.root)
    gpu = next((tmp_path / "sys/class/devfreq").iterdir())
    (gpu / "min_freq").write_text("306000000\n")
    assert locked_clocks(jetson.root) is False


def test_sleeping_gpu_has_no_temperature(tmp_path):
    assert read_board(Jetson(tmp_path).root).temperatures_c == {"cpu-thermal": 48.562}


def test_power_mode_without_a_name_is_its_number(tmp_path):
    jetson = Jetson(tmp_path)
    jetson.write("var/lib/nvpmodel/status", "pmode:0007\n")
    assert read_board(jetson.root).power_mode == "7"


def test_differing_governors_are_all_named(tmp_path):
    jetson = Jetson(tmp_path)
    jetson.write("sys/devices/system/cpu/cpufreq/policy4/scaling_governor", "powersave\n")
    assert read_board(jetson.root).governors == ("powersave", "schedutil")


def test_machine_that_tells_nothing_is_not_guessed_at(tmp_path):
    board = read_board(tmp_path)
    facts = (board.model, board.cpu, board.l4t, board.power_mode, board.max_mhz, board.kernel)
    assert set(facts) == {None}
    assert (board.cores, board.governors, board.load_average) == (0, (), ())


def test_garbage_in_a_file_of_numbers_is_left_out(tmp_path):
    jetson = Jetson(tmp_path)
    jetson.write("sys/class/thermal/thermal_zone0/temp", "hot\n")
    assert read_board(jetson.root).temperatures_c == {}


def test_this_machine_has_cores_memory_and_numpy():
    board = read_board(Path("/"))
    assert board.cores >= 1
    assert board.memory_bytes > 2**27
    assert "numpy" in board.runtimes
