"""Energy from the sensors a board has; no sensor, no permission or too few samples are said so."""

import itertools
import stat
import time

import pytest
from simulators.jetson import Jetson, Pc, fake_tegrastats

from couchside.benchmarks.errors import UsageError
from couchside.benchmarks.machine.power import PowerMeter, none_reading, open_meter
from couchside.benchmarks.machine.sensors import Rapl, Tegrastats, parse_tegrastats


class Constant:
    """Draws the same power for ever."""

    name = "constant"

    def __init__(self, watts):
        self._watts = watts

    def watts(self):
        return {"VDD_IN": self._watts, "VDD_SOC": 1.0}

    def close(self):
        pass


def meter(watts, hz=500.0):
    ticks = itertools.count()
    return PowerMeter(Constant(watts), hz, clock=lambda: next(ticks) * 0.5)


def test_energy_is_power_times_time_and_rails_are_not_added_to_the_board():
    measuring = meter(6.0)
    with measuring:
        time.sleep(0.1)
    found = measuring.reading(runs=10)
    assert found.verdict == "ok"
    assert found.mean_w == pytest.approx(6.0)
    assert found.joules == pytest.approx(6.0 * found.seconds)
    assert found.joules_per_run == pytest.approx(found.joules / 10)
    assert found.rails_w["VDD_SOC"] == pytest.approx(1.0)


def test_idle_is_taken_off_what_an_inference_costs():
    sensor = Constant(4.0)
    ticks = itertools.count()
    measuring = PowerMeter(sensor, 500.0, clock=lambda: next(ticks) * 0.5)
    measuring.idle(0.05)
    sensor._watts = 6.0
    with measuring:
        time.sleep(0.1)
    found = measuring.reading(runs=1)
    assert found.idle_w == pytest.approx(4.0)
    assert found.joules_per_run == pytest.approx(2.0 * found.seconds)


def test_few_samples_are_insufficient_and_no_number():
    measuring = meter(6.0, hz=1.0)
    with measuring:
        pass
    found = measuring.reading(runs=5)
    assert (found.verdict, found.joules) == ("insufficient", None)


def test_ina3221_is_found_by_its_name_on_orin_and_thor(tmp_path):
    for name in ("orin", "thor"):
        jetson = Jetson(tmp_path / name, board=name)
        with open_meter(jetson.root, "auto", 200.0) as measuring:
            time.sleep(0.1)
        found = measuring.reading(runs=1)
        assert found.source == "ina3221"
        assert found.mean_w == pytest.approx(jetson.watts)


class Listed:
    """Gives what it was given, then the last for ever."""

    name = "listed"

    def __init__(self, *samples):
        self._samples = list(samples)

    def watts(self):
        return self._samples.pop(0) if len(self._samples) > 1 else self._samples[0]

    def close(self):
        pass


def test_sensor_that_says_nothing_is_no_zero():
    with PowerMeter(Listed({}), 500.0) as measuring:
        time.sleep(0.1)
    found = measuring.reading(runs=10)
    assert (found.verdict, found.samples, found.joules_per_run) == ("insufficient", 0, None)


def test_sensor_that_goes_away_ends_the_samples_and_not_the_run(tmp_path):
    pc = Pc(tmp_path)
    with open_meter(pc.root, "rapl", 200.0) as measuring:
        (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
        time.sleep(0.1)
    assert measuring.reading(runs=1).verdict == "insufficient"


def test_sample_without_a_rail_is_left_out():
    one, both = {"VDD_GPU": 2.0}, {"VDD_GPU": 2.0, "VDD_CPU": 4.0}
    with PowerMeter(Listed(one, one, both, one, both), 500.0) as measuring:
        time.sleep(0.1)
    assert measuring.reading(runs=1).mean_w == pytest.approx(6.0)


def test_what_came_before_the_run_is_not_counted():
    """RAPL tells the mean since the last call, loading included."""
    with PowerMeter(Listed({"package-0": 90.0}, {"package-0": 5.0}), 500.0) as measuring:
        time.sleep(0.1)
    assert measuring.reading(runs=1).mean_w == pytest.approx(5.0)


def test_energy_is_of_the_whole_run_and_not_from_first_to_last_sample():
    with PowerMeter(Constant(2.0), 20.0) as measuring:
        time.sleep(0.7)
    found = measuring.reading(runs=1)
    assert found.seconds >= 0.7
    assert found.joules == pytest.approx(2.0 * found.seconds)


def test_thors_input_is_its_board_and_its_rails_are_part_of_it(tmp_path):
    with open_meter(Jetson(tmp_path, "thor").root, "ina3221", 200.0) as measuring:
        time.sleep(0.1)
    found = measuring.reading(runs=1)
    assert found.mean_w == pytest.approx(30.0)
    assert found.rails_w == pytest.approx({"VIN": 30.0, "VDD_GPU": 2.0, "VDD_CPU_SOC_MSS": 3.5})


def test_rapl_wraps_around(tmp_path):
    pc = Pc(tmp_path)
    now = iter((0.0, 1.0))
    pc.energy(262_143_000_000)
    sensor = Rapl(tmp_path, clock=lambda: next(now))
    pc.energy(5_000_000)
    assert sensor.watts() == {"package-0": pytest.approx(5.328850)}


def test_rapl_without_permission_says_who_may_read_it(tmp_path, monkeypatch):
    pc = Pc(tmp_path)

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    with pytest.raises(UsageError, match="run as root"):
        Rapl(pc.root)


@pytest.mark.parametrize("source", ["ina3221", "rapl", "tegrastats"])
def test_sensor_that_is_not_there_is_refused_when_it_is_asked_for(tmp_path, source):
    with pytest.raises(UsageError, match="--power"):
        open_meter(tmp_path, source, 10.0)


def test_machine_without_sensors_has_no_meter(tmp_path):
    assert open_meter(tmp_path, "auto", 10.0) is None
    assert open_meter(tmp_path, "off", 10.0) is None
    assert none_reading("auto").verdict == "unknown"
    assert none_reading("off").verdict == "off"


@pytest.mark.parametrize("hz", [0.0, float("nan"), 1e6])
def test_rate_out_of_range_is_refused(tmp_path, hz):
    with pytest.raises(UsageError, match="--power-hz"):
        open_meter(tmp_path, "auto", hz)


def test_line_of_tegrastats_is_read():
    line = "RAM 2448/7620MB CPU [1%@729] VDD_IN 4567mW/4500mW VDD_CPU_GPU_CV 613mW/600mW"
    assert parse_tegrastats(line) == {"VDD_IN": 4.567, "VDD_CPU_GPU_CV": 0.613}


def test_tegrastats_is_started_read_and_ended(tmp_path):
    tool = fake_tegrastats(tmp_path)
    assert tool.stat().st_mode & stat.S_IXUSR
    sensor = Tegrastats(str(tool))
    end = time.monotonic() + 10
    while not sensor.watts() and time.monotonic() < end:
        time.sleep(0.01)
    assert sensor.watts()["VDD_IN"] == 5.0
    sensor.close()
    assert sensor._tool.poll() is not None
