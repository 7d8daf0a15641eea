"""Only a counter may say that a machine was not held back."""

import time

import pytest
from simulators.jetson import Jetson, Pc

from couchside.benchmarks.machine.throttle import ThrottleWatch, glance, judge, read_counters


def verdict(jetson, change):
    before = read_counters(jetson.root)
    change(jetson)
    return judge(before, read_counters(jetson.root))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(lambda _: None, "clean", id="nothing"),
        pytest.param(lambda j: j.count_over_current(1, 1), "throttled", id="under-voltage"),
        pytest.param(lambda j: j.count_over_current(2, 4), "throttled", id="average over-current"),
        pytest.param(lambda j: j.count_over_current(3, 150), "suspect", id="peaks at full power"),
        pytest.param(lambda j: j.cool(0, 3), "clean", id="a faster fan"),
        pytest.param(lambda j: j.cool(1, 2), "throttled", id="a slower clock"),
    ],
)
def test_verdict_follows_the_counters_of_a_jetson(tmp_path, change, expected):
    assert verdict(Jetson(tmp_path), change).verdict == expected


def test_verdict_carries_its_evidence(tmp_path):
    found = verdict(Jetson(tmp_path), lambda jetson: jetson.count_over_current(3, 150))
    assert found.rose == {"oc3": 33}


def test_counts_from_before_the_run_do_not_matter(tmp_path):
    jetson = Jetson(tmp_path)
    jetson.count_over_current(1, 1000)
    assert verdict(jetson, lambda _: None).verdict == "clean"


def test_machine_without_counters_is_unknown_and_never_clean(tmp_path):
    assert judge(read_counters(tmp_path), read_counters(tmp_path)).verdict == "unknown"


def test_cooling_states_alone_can_not_clear_a_machine():
    states = {"cooling cooling_device1 Processor": 0}
    assert judge(states, states).verdict == "unknown"
    assert judge(states, dict.fromkeys(states, 2)).verdict == "throttled"


def test_x86_counts_are_summed_over_cores(tmp_path):
    for core, count in ((0, 2), (1, 5)):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{core}/thermal_throttle"
        folder.mkdir(parents=True)
        (folder / "core_throttle_count").write_text(f"{count}\n")
    assert read_counters(tmp_path) == {"core_throttle": 7}


def watched(jetson, *changes):
    with ThrottleWatch(jetson.root, period_s=0.005) as watch:
        for change in changes:
            change()
            time.sleep(0.05)
    return watch.verdict()


def test_core_below_what_it_may_is_throttled(tmp_path):
    jetson = Jetson(tmp_path)
    found = watched(jetson, lambda: jetson.run_at(0.7))
    assert found.verdict == "throttled"
    assert "70% of what it may" in found.reasons[0]


def test_one_fast_core_is_enough(tmp_path):
    """The others idle: one thread is measured."""
    jetson = Jetson(tmp_path)
    jetson.run_at(0.3)
    jetson.write("sys/devices/system/cpu/cpufreq/policy4/scaling_cur_freq", "1510400\n")
    assert watched(jetson, lambda: None).verdict == "clean"


def test_zone_at_its_passive_trip_point_is_throttled(tmp_path):
    jetson = Jetson(tmp_path)
    found = watched(jetson, lambda: jetson.heat(99.5))
    assert found.verdict == "throttled"
    assert found.reasons == ("cpu-thermal at 100 °C, its passive trip point",)


def test_clock_that_was_held_back_in_between_is_throttled(tmp_path):
    jetson = Jetson(tmp_path)
    found = watched(jetson, lambda: jetson.cool(1, 2), lambda: jetson.cool(1, 0))
    assert found.verdict == "throttled"
    assert found.rose == {"cooling cooling_device1 cpufreq-cpu0": 2}


def test_clock_that_was_held_back_before_and_no_more_is_clean(tmp_path):
    jetson = Jetson(tmp_path)
    jetson.cool(1, 3)
    assert watched(jetson, lambda: jetson.cool(1, 0)).verdict == "clean"


def test_watch_of_a_machine_that_tells_nothing_is_unknown(tmp_path):
    with ThrottleWatch(tmp_path, period_s=0.005) as watch:
        time.sleep(0.02)
    assert watch.verdict().verdict == "unknown"


@pytest.mark.parametrize(
    ("megahertz", "base", "turbo", "speed"),
    [
        pytest.param(4000, 3000, True, 4000 / 3000, id="turbo above its base"),
        pytest.param(2000, 3000, True, 2000 / 3000, id="below its base"),
        pytest.param(4000, None, True, None, id="turbo without a promise"),
        pytest.param(4000, 3000, False, 0.8, id="no turbo"),
    ],
)
def test_turbo_that_gives_way_is_no_throttling(tmp_path, megahertz, base, turbo, speed):
    pc = Pc(tmp_path)
    pc.clock(megahertz, base=base, turbo=turbo)
    assert glance(pc.root).speed == speed
