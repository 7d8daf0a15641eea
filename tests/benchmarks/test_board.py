"""A Jetson laid out in a folder is read as one; an unknown machine is not guessed at."""

from pathlib import Path

from simulators.jetson import Jetson

from couchside.benchmarks.machine.board import read_board


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
