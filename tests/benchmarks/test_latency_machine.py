"""``benchmark_latency`` on a Jetson that is a folder: power, modes, clocks, heat, throttling."""

import json
import threading

import pytest
from simulators.jetson import Jetson, Pc

from couchside.benchmarks import latency
from couchside.benchmarks.errors import ExitCode
from couchside.benchmarks.timing.stopwatch import Clocks
from couchside.benchmarks.timing.workload import Workload

SHORT = (
    *("--warmup-ms", "0", "--warmup-iters", "0", "--iterations", "100", "--duration", "0"),
    *("--percentiles", "50,90", "--baseline-idle", "0"),
)


@pytest.fixture
def jetson(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    return Jetson(root)


@pytest.fixture
def run(tiny_bundle, capsys):
    """Runs the command on a machine; exit code, document (None if there is none), and messages."""

    def once(machine, *flags):
        arguments = [str(tiny_bundle), *SHORT, "--sysfs-root", str(machine.root), "--json", "-"]
        code = latency.main([*arguments, *map(str, flags)])
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if printed.out else None, printed.err

    return once


@pytest.fixture
def when_timed(monkeypatch):
    """Does something a moment after the timing has begun."""
    timers = []

    def later(what, *arguments):
        told = latency._tell

        def tell(text):
            told(text)
            if text.startswith("timing at least"):
                timers.append(threading.Timer(0.2, what, arguments))
                timers[-1].start()

        monkeypatch.setattr(latency, "_tell", tell)

    yield later
    for timer in timers:
        timer.join()


METERED = ("--power", "ina3221", "--power-hz", "200", "--duration", "0.3")


def test_watts_of_the_board_and_joules_of_a_run_are_told(jetson, run):
    code, document, told = run(jetson, *METERED)
    assert code == ExitCode.OK
    power, total = document["power"], document["cases"][0]["latency_ms"]["total"]
    assert (power["source"], power["verdict"]) == ("ina3221", "ok")
    assert power["mean_w"] == pytest.approx(5.0)
    assert power["idle_w"] is None
    assert power["joules_per_run"] == pytest.approx(power["joules"] / total["n"])
    assert "5.0 W" in told.splitlines()[-1]
    assert "mJ/inf" in told.splitlines()[-1]


def test_rest_is_measured_before_and_taken_off(jetson, run):
    code, document, told = run(jetson, *METERED, "--baseline-idle", "0.2")
    assert code == ExitCode.OK
    assert document["power"]["idle_w"] == pytest.approx(5.0)
    assert document["power"]["joules_per_run"] == pytest.approx(0.0, abs=1e-9)
    assert "measuring the power at rest for 0.2 s" in told


def test_warm_up_takes_power_as_well(jetson, run):
    _, document, _ = run(jetson, *METERED, "--warmup-iters", "5000")
    total = document["cases"][0]["latency_ms"]["total"]
    runs = document["power"]["joules"] / document["power"]["joules_per_run"]
    assert runs == pytest.approx(total["n"] + 5000)


def test_meter_that_is_not_there_is_refused_by_name(jetson, run):
    code, document, told = run(jetson, "--power", "rapl")
    assert (code, document) == (ExitCode.USAGE, None)
    assert "no RAPL counters here" in told


def test_machine_without_a_meter_is_measured_without(tmp_path, run):
    (tmp_path / "bare").mkdir()
    pc = Pc(tmp_path / "bare")
    code, document, _ = run(pc, "--power", "off")
    assert code == ExitCode.OK
    assert (document["power"]["verdict"], document["power"]["mean_w"]) == ("off", None)


def test_energy_limit_is_kept_or_missed(jetson, run):
    assert run(jetson, *METERED, "--slo", "energy=10J")[0] == ExitCode.OK
    assert run(jetson, *METERED, "--slo", "energy=1uJ")[0] == ExitCode.MISSED


def test_energy_limit_that_too_few_readings_stand_behind_is_invalid(jetson, run):
    code, document, _ = run(jetson, "--power-hz", "0.1", "--slo", "energy=10J")
    assert code == ExitCode.INVALID
    assert document["power"]["verdict"] == "insufficient"
    assert document["validity"]["reasons"] == ["SLO energy was not measured"]


@pytest.mark.parametrize("mode", ["MAXN_SUPER", "maxn_super", "2"])
def test_required_mode_that_is_on_is_fine(jetson, run, mode):
    code, document, told = run(jetson, "--require-mode", mode)
    assert code == ExitCode.OK
    assert document["board"]["power_mode"] == "2 MAXN_SUPER"
    assert "MAXN_SUPER mode, clocks floating" in told.splitlines()[-1]


def test_other_mode_is_no_run(jetson, run):
    code, document, told = run(jetson, "--require-mode", "15W")
    assert (code, document) == (ExitCode.INVALID, None)
    assert "the board is in mode 2 MAXN_SUPER" in told
    assert "timing" not in told


def test_floating_clocks_are_no_run_where_locked_ones_are_required(jetson, run):
    code, document, told = run(jetson, "--require-locked-clocks")
    assert (code, document) == (ExitCode.INVALID, None)
    assert "sudo jetson_clocks" in told
    jetson.lock()
    code, _, told = run(jetson, "--require-locked-clocks")
    assert code == ExitCode.OK
    assert "clocks locked" in told.splitlines()[-1]


def test_over_current_while_timed_is_throttling(jetson, run, when_timed):
    when_timed(jetson.count_over_current, 1, 5)
    code, document, _ = run(jetson, "--duration", "1")
    assert code == ExitCode.INVALID
    assert document["throttle"]["rose"] == {"oc1": 5}
    assert document["validity"]["reasons"] == ["throttle: throttled (oc1 rose)"]


def test_peaks_of_current_are_suspect(jetson, run, when_timed):
    when_timed(jetson.count_over_current, 3, 200)
    code, document, _ = run(jetson, "--duration", "1")
    assert code == ExitCode.OK
    assert document["validity"]["verdict"] == "suspect"
    assert "throttle: oc3 rose" in document["validity"]["doubts"]


def test_suspect_will_not_do_where_only_clean_does(jetson, run, when_timed):
    when_timed(jetson.count_over_current, 3, 200)
    assert run(jetson, "--duration", "1", "--fail-on-throttle")[0] == ExitCode.INVALID


def test_slow_cores_count_while_busy_and_not_between_rests(jetson, run):
    jetson.run_at(0.5)
    code, document, _ = run(jetson, "--duration", "2.5")
    assert code == ExitCode.INVALID
    assert document["throttle"]["verdict"] == "throttled"
    code, document, _ = run(jetson, "--duration", "2.5", "--idle-ms", "5")
    assert code == ExitCode.OK
    assert document["throttle"]["verdict"] == "clean"


def test_unknown_is_not_clean(tmp_path, run):
    (tmp_path / "bare").mkdir()
    code, document, _ = run(Pc(tmp_path / "bare"), "--power", "off", "--fail-on-throttle")
    assert code == ExitCode.INVALID
    assert document["throttle"]["verdict"] == "unknown"


def test_hot_board_is_waited_for(jetson, run, monkeypatch):
    jetson.heat(70)
    told = latency._tell

    def tell(text):
        told(text)
        if text.startswith("waiting for"):
            jetson.heat(54)

    monkeypatch.setattr(latency, "_tell", tell)
    code, document, said = run(jetson, "--cooldown-until", "55C", "--power", "off")
    assert code == ExitCode.OK
    assert "waiting for cpu-thermal to cool from 70.0 °C to 55 °C" in said
    assert document["board"]["temperatures_c"]["cpu-thermal"] == 70.0


def test_noise_beyond_a_limit_is_invalid(run, jetson, monkeypatch):
    waits = iter(range(0, 10**12, 10**9))
    monkeypatch.setattr(
        Workload, "clocks", lambda _self, _streams: Clocks(waited=lambda: next(waits))
    )
    code, document, _ = run(jetson, "--power", "off", "--fail-on-noise", "50%")
    assert code == ExitCode.INVALID
    assert document["validity"]["reasons"][0].startswith("noise: ")
