"""When numbers may be quoted, and what a person and a spreadsheet get to read."""

import csv
import io
from dataclasses import replace

import pytest
from simulators.latency_report import TIMER, board, case, config, report, samples

from couchside.benchmarks.errors import ExitCode
from couchside.benchmarks.latency import exit_code
from couchside.benchmarks.machine.throttle import Throttling
from couchside.benchmarks.timing.choice import Conditions, Plan
from couchside.benchmarks.timing.compare import Comparison
from couchside.benchmarks.timing.line import human_lines
from couchside.benchmarks.timing.outputs import to_csv, to_markdown
from couchside.benchmarks.timing.report import Noise, Validity
from couchside.benchmarks.timing.slo import Judgement
from couchside.benchmarks.timing.stopwatch import Samples
from couchside.benchmarks.timing.summary import (
    add_up,
    describe_case,
    describe_noise,
    judge_run,
    read_timer,
)
from couchside.benchmarks.timing.workload import Size

CLEAN = Throttling("clean", {}, ())
QUIET = Noise(0, 0.0)


def judged(cases=None, *, partial=False, throttling=CLEAN, noise=QUIET, **conditions):
    return judge_run(
        cases or (case(),),
        partial=partial,
        throttling=throttling,
        noise=noise,
        timer=TIMER,
        conditions=Conditions(**conditions),
    )


def test_undisturbed_run_is_valid():
    assert judged() == Validity("valid", True, False, (), ())  # noqa: FBT003


def test_throttled_run_is_not_valid():
    validity = judged(throttling=Throttling("throttled", {"oc1": 2}, ()))
    assert validity.verdict == "invalid"
    assert validity.reasons == ("throttle: throttled (oc1 rose)",)


def test_suspected_throttling_makes_a_run_suspect():
    validity = judged(throttling=Throttling("suspect", {"oc3": 9}, ()))
    assert (validity.verdict, validity.valid) == ("suspect", True)
    assert validity.doubts == ("throttle: oc3 rose",)


def test_machine_without_counters_is_neither():
    assert judged(throttling=Throttling("unknown", {}, ())).verdict == "valid"


@pytest.mark.parametrize("verdict", ["suspect", "unknown", "throttled"])
def test_only_clean_will_do_with_fail_on_throttle(verdict):
    validity = judged(throttling=Throttling(verdict, {}, ()), fail_on_throttle=True)
    assert not validity.valid
    assert judged(fail_on_throttle=True).valid


def test_worst_stretch_counts_and_everything_is_kept():
    found = add_up([
        Throttling("clean", {}, ()),
        Throttling("suspect", {"oc3": 2}, ()),
        Throttling("throttled", {"oc3": 1, "oc1": 1}, ("hot",)),
        Throttling("unknown", {}, ("hot",)),
    ])  # fmt: skip
    assert found == Throttling("throttled", {"oc3": 3, "oc1": 1}, ("hot",))
    assert add_up([]).verdict == "unknown"
    assert add_up([Throttling("clean", {}, ()), Throttling("unknown", {}, ())]).verdict == "unknown"


def test_interrupted_run_is_partial_and_not_valid():
    validity = judged(partial=True)
    assert (validity.partial, validity.valid) == (True, False)
    assert validity.reasons == ("interrupted after 1,000 runs",)


def test_waiting_for_a_core_is_a_doubt_and_with_a_limit_a_reason():
    assert judged(noise=Noise(90, 0.2)).doubts == ("20% of the time went by waiting for a core",)
    validity = judged(noise=Noise(90, 0.2), most_waiting=0.1)
    assert validity.reasons == ("noise: 20.0% of the time went by waiting for a core",)
    assert judged(noise=Noise(0, 0.01), most_waiting=0.1).verdict == "valid"


def test_noise_that_nobody_counts_can_not_be_within_a_limit():
    validity = judged(noise=Noise(None, None), most_waiting=0.1)
    assert "does not count" in validity.reasons[0]


def test_drifting_run_is_suspect():
    drifting = [[samples([*[100.0] * 500, *[130.0] * 500])]]
    found = describe_case(Size("rank"), drifting, Plan(percentiles=(50.0,)))
    assert judged((found,)).doubts == ("rank drifted by +30%",)


def test_measurements_that_differ_are_suspect():
    apart = [[samples([100.0] * 100)], [samples([150.0] * 100)]]
    found = describe_case(Size("rank"), apart, Plan(percentiles=(50.0,)))
    assert [run.p50 for run in found.runs] == [0.1, 0.15]
    assert "rank: medians differ by 50%" in judged((found,)).doubts


def test_query_as_short_as_a_look_at_the_clock_is_suspect():
    found = describe_case(Size("nothing"), [[samples([0.1] * 100)]], Plan(percentiles=(50.0,)))
    assert judged((found,)).doubts == ("nothing is hardly longer than a look at the clock",)


def test_noise_is_a_share_of_the_timed_time():
    busy, quiet = samples([100.0] * 10), samples([100.0] * 10)
    busy.waited_ns, quiet.waited_ns = 400_000, 0
    busy.preemptions = 3
    assert describe_noise([busy, quiet]) == Noise(3, 0.2)
    quiet.waited_ns = None
    assert describe_noise([busy, quiet]).waiting is None


def test_streams_are_described_together_and_their_rates_added():
    found = describe_case(
        Size("rank"), [[samples([100.0] * 50), samples([200.0] * 50)]], Plan(percentiles=(50.0,))
    )
    assert found.latency_ms["total"].n == 100
    assert found.latency_ms["total"].drift == 1.0
    assert found.queries_per_second == pytest.approx(10_000 + 5_000)


def test_items_of_a_batch_count_for_the_rate():
    found = describe_case(Size("titles", 16), [[samples([1000.0] * 50)]], Plan(percentiles=(50.0,)))
    assert (found.queries_per_second, found.items_per_second) == pytest.approx((1000, 16_000))


def test_nothing_timed_is_described_as_nothing():
    found = describe_case(Size("rank"), [[Samples()]], Plan())
    assert (dict(found.latency_ms), found.runs, found.queries_per_second) == ({}, (), 0.0)


def test_clock_is_described_by_looking_at_it():
    timer = read_timer()
    assert 0 < timer.resolution_ns < 1e6
    assert 0 <= timer.overhead_ns < 1e5


MISSED = Judgement("p99", 0.1, "ms", 0.99, "missed")
SLOWER = Comparison("base.json", "ab", (), 0.05, (), "regression", "")
INVALID = Validity("invalid", False, True, ("interrupted",), ())  # noqa: FBT003


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, ExitCode.OK),
        ({"slo": (MISSED,)}, ExitCode.MISSED),
        ({"comparison": SLOWER}, ExitCode.MISSED),
        ({"comparison": replace(SLOWER, verdict="unclear")}, ExitCode.OK),
        ({"validity": INVALID}, ExitCode.INVALID),
        ({"validity": INVALID, "slo": (MISSED,)}, ExitCode.INVALID),
    ],
)
def test_exit_code_tells_the_outcome(changes, code):
    assert exit_code(report(**changes)) == code


def test_person_reads_one_line_last():
    line = human_lines(report())[-1]
    for part in (
        "p50 0.500 ms  p90 0.900  p99 0.990 [0.98",
        "(n=1,000, 1 in flight)",
        "RSS 61 MB",
        "6.1 W  2 mJ/inf",
        "MAXN_SUPER mode, clocks floating",
        "throttle: clean",
    ):
        assert part in line
    assert line.endswith("VALID")


def test_result_by_mlperfs_rule_is_told():
    lines = human_lines(report(mlperf={"rank of 200 titles": 0.9}))
    assert "rank of 200 titles by MLPerf's SingleStream rule: p90 0.900 ms" in lines


def test_cases_have_a_line_each_before_the_last():
    lines = human_lines(report(cases=(case("rank of 200 titles"), case("rank of 20,000 titles"))))
    assert lines[-3].startswith("rank of 200 titles on litert: p50 0.500 ms")
    assert lines[-2].startswith("rank of 20,000 titles on litert: p50")
    assert lines[-1].startswith("RSS 61 MB")


def test_partial_run_says_so():
    assert human_lines(report(validity=INVALID))[-1].endswith("PARTIAL, INVALID: interrupted")


def test_spreadsheet_gets_a_line_for_each_case_and_numbers():
    rows = list(csv.DictReader(io.StringIO(to_csv(report(cases=(case("a"), case("b, c")))))))
    assert [row["case"] for row in rows] == ["a", "b, c"]
    assert float(rows[0]["p99"]) == 0.99
    assert rows[0]["verdict"] == "valid"


def test_table_names_the_machine_and_the_verdict():
    text = to_markdown(report(board=board(model="A board"), config=config(threads=2)))
    head, rule, row, *_ = text.splitlines()
    assert head.count("|") == rule.count("|") == row.count("|")
    assert "| rank of 200 titles | total | 1,000 |" in row
    assert "A board" in text
    assert "2 threads" in text
    assert "Verdict: valid." in text
