"""A board in another mode, with floating clocks, or too hot ends the run with what to type."""

import pytest
from simulators.jetson import Jetson

from couchside.benchmarks.errors import InvalidRunError, UsageError
from couchside.benchmarks.machine.board import locked_clocks
from couchside.benchmarks.machine.clocks import (
    cool_down,
    parse_celsius,
    require_locked_clocks,
    require_mode,
)


@pytest.mark.parametrize("wanted", ["MAXN_SUPER", "maxn_super", "2"])
def test_mode_by_name_or_id_is_accepted(tmp_path, wanted):
    require_mode(Jetson(tmp_path).root, wanted)


def test_other_mode_is_refused_with_the_command(tmp_path):
    with pytest.raises(InvalidRunError, match=r"in mode 2 MAXN_SUPER.*sudo nvpmodel -m 0$"):
        require_mode(Jetson(tmp_path).root, "15w")


def test_mode_that_the_board_has_not_is_refused_with_those_it_has(tmp_path):
    with pytest.raises(InvalidRunError, match="it has 0 15W, 2 MAXN_SUPER; choose one"):
        require_mode(Jetson(tmp_path).root, "25W")


def test_machine_without_modes_is_refused(tmp_path):
    with pytest.raises(InvalidRunError, match="tells no power mode"):
        require_mode(tmp_path, "15W")


def test_floating_clocks_are_refused_with_the_command(tmp_path):
    jetson = Jetson(tmp_path)
    assert locked_clocks(jetson.root) is False
    with pytest.raises(InvalidRunError, match="sudo jetson_clocks"):
        require_locked_clocks(jetson.root)


def test_locked_clocks_are_accepted(tmp_path):
    jetson = Jetson(tmp_path)
    jetson.lock()
    assert locked_clocks(jetson.root) is True
    require_locked_clocks(jetson.root)


def test_machine_without_clocks_does_not_count_as_locked(tmp_path):
    assert locked_clocks(tmp_path) is None
    with pytest.raises(InvalidRunError, match="shows no clocks"):
        require_locked_clocks(tmp_path)


def test_waits_until_the_hottest_zone_is_cool(tmp_path):
    jetson = Jetson(tmp_path)
    jetson.heat(70.0)
    told, temperatures = [], iter((62.0, 54.0))
    cool_down(
        jetson.root, 55.0, limit_s=60, tell=told.append, clock=lambda: 0.0,
        sleep=lambda _: jetson.heat(next(temperatures)),
    )  # fmt: skip
    assert len(told) == 2
    assert "cpu-thermal" in told[0]


def test_board_that_stays_hot_ends_the_run(tmp_path):
    jetson = Jetson(tmp_path)
    jetson.heat(70.0)
    times = iter((0.0, 30.0, 61.0))
    with pytest.raises(InvalidRunError, match=r"still at 70\.0 °C after 60 s"):
        cool_down(jetson.root, 55.0, limit_s=60, tell=lambda _: None,
                  clock=lambda: next(times), sleep=lambda _: None)  # fmt: skip


def test_machine_without_zones_is_refused(tmp_path):
    with pytest.raises(InvalidRunError, match="no temperatures"):
        cool_down(tmp_path, 55.0, limit_s=1, tell=lambda _: None)


@pytest.mark.parametrize(("text", "celsius"), [("55C", 55.0), ("48.5", 48.5), ("60 c", 60.0)])
def test_degrees_are_read(text, celsius):
    assert parse_celsius(text) == celsius


@pytest.mark.parametrize("text", ["", "warm", "-3", "55F"])
def test_what_is_no_temperature_is_refused(text):
    with pytest.raises(UsageError, match="--cooldown-until"):
        parse_celsius(text)
