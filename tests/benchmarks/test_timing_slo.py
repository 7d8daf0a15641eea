"""Limits: what may be asked for, and what a measurement makes of them."""

from dataclasses import replace

import pytest
from simulators.latency_report import case, report

from couchside.benchmarks.errors import UsageError
from couchside.benchmarks.machine.power import none_reading
from couchside.benchmarks.timing.slo import judge_slo, parse_slo


def verdicts(text, measured):
    return {one.key: one.verdict for one in judge_slo(parse_slo(text), measured)}


def test_limits_are_kept_or_missed_in_any_unit():
    # 1, 2, … 1,000 µs; 61 MB; 2 mJ a run.
    asked = "p50=501us,p90=0.9ms,p99=980us,max=1ms,rss=61MB,energy=2mJ,power=7W,first=0.001s"
    assert verdicts(asked, report()) == {
        "p50": "kept",
        "p90": "kept",
        "p99": "missed",
        "max": "kept",
        "rss": "kept",
        "energy": "kept",
        "power": "kept",
        "first": "missed",
    }


def test_throughput_is_the_least():
    assert verdicts("throughput=1000/s", report()) == {"throughput": "kept"}
    assert verdicts("throughput=1e4/s", report()) == {"throughput": "missed"}


def test_worst_of_all_cases_counts():
    both = report(cases=(case("rank of 200 titles"), case("rank of 2,000 titles", slower=3.0)))
    (judged,) = judge_slo(parse_slo("p50=1ms"), both)
    assert judged.measured == pytest.approx(1.5)
    assert judged.verdict == "missed"


def test_memory_is_that_of_the_process_that_answers():
    assert verdicts("rss=30MB", report(server_rss=25_000_000)) == {"rss": "kept"}


@pytest.mark.parametrize("verdict", ["insufficient", "unknown"])
def test_energy_that_was_not_measured_is_unknown(verdict):
    measured = report()
    measured = replace(measured, power=replace(measured.power, verdict=verdict))
    assert verdicts("energy=1J", measured) == {"energy": "unknown"}
    assert verdicts("power=9W", replace(measured, power=none_reading("off"))) == {
        "power": "unknown"
    }


def test_nothing_timed_keeps_no_promise():
    empty = replace(case("rank"), latency_ms={}, cpu_ms=None)
    assert verdicts("p99=1s", report(cases=(empty,))) == {"p99": "unknown"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speed=5ms", "no such key; it takes p50"),
        ("p99", "takes a number and one of"),
        ("p99=50", "takes a number and one of us"),
        ("p99=50MB", "takes a number and one of us"),
        ("p99=-1ms", "takes a number"),
        ("p99=nanms", "takes a number"),
        ("p0=1ms", "no such key"),
        ("p100=1ms", "no such key"),
        ("rss=1s", "takes a number and one of B"),
        ("p99=1ms,p99=2ms", "appears twice"),
        ("p99=1ms,p99.0=2ms", "appears twice"),
        ("p99=1ms,", "no such key"),
        ("", "no such key"),
    ],
)
def test_limit_that_means_nothing_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parse_slo(text)
