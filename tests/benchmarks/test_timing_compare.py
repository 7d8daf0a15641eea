"""A regression is one that the noise of both measurements leaves; everything else is unclear."""

import json
from dataclasses import replace

import pytest
from simulators.latency_report import board, case, config, report, samples, shuffled

from couchside.benchmarks.document import to_document
from couchside.benchmarks.errors import UsageError
from couchside.benchmarks.timing.choice import Plan
from couchside.benchmarks.timing.compare import compare, read_baseline
from couchside.benchmarks.timing.report import Validity
from couchside.benchmarks.timing.summary import describe_case
from couchside.benchmarks.timing.workload import Size

PLAN = Plan(percentiles=(50.0, 90.0, 99.0))


def steady(middle_us, *, spread_us=0.001, repeats=(1.0,)):
    """A case with hardly any noise within a measurement; ``repeats`` shift each as a whole."""
    measured = [
        [samples([(middle_us + spread_us * step) * shift for step in shuffled()])]
        for shift in repeats
    ]
    return describe_case(Size("rank of 200 titles", titles=200), measured, PLAN)


@pytest.fixture
def save(tmp_path):
    """Writes a report as ``--json`` does; the baseline read back."""

    def write(measured):
        file = tmp_path / "baseline.json"
        file.write_text(json.dumps(to_document("latency", measured)))
        return read_baseline(file)

    return write


def verdict(baseline, now, most=0.05):
    return compare(baseline, (now,), (), most).verdict


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        pytest.param(steady(100), steady(101), "no regression", id="one percent slower"),
        pytest.param(steady(100), steady(120), "regression", id="a fifth slower, no noise"),
        pytest.param(steady(100), steady(80), "no regression", id="faster"),
        pytest.param(
            steady(100, repeats=(0.9, 1.0, 1.2)), steady(110), "unclear", id="noisy baseline"
        ),
        pytest.param(
            steady(100), steady(110, repeats=(0.9, 1.0, 1.1)), "unclear", id="noisy now"
        ),
        pytest.param(
            steady(100, repeats=(0.9, 1.0, 1.1)),
            steady(200, repeats=(0.9, 1.0, 1.1)),
            "regression",
            id="twice as slow in spite of noise",
        ),
        pytest.param(
            steady(100, spread_us=0.5), steady(100, spread_us=0.5), "unclear",
            id="within a run too uncertain to exclude five percent",
        ),
    ],
)  # fmt: skip
def test_only_what_noise_leaves_is_a_regression(save, before, now, expected):
    assert verdict(save(report(cases=(before,))), now) == expected


def test_limit_decides_how_much_slower_is_too_slow(save):
    baseline = save(report(cases=(steady(100),)))
    assert verdict(baseline, steady(108), most=0.10) == "no regression"
    assert verdict(baseline, steady(108), most=0.05) == "regression"


def test_change_is_told_with_its_bounds(save):
    found = compare(save(report(cases=(steady(100),))), (steady(120),), (), 0.05)
    p50, p99 = found.changes
    assert (p50.what, p99.what) == ("p50", "p99")
    assert p50.low <= p50.ratio <= p50.high
    assert p50.ratio == pytest.approx(1.2, abs=0.01)
    assert "--repeat 3" in found.note


def test_repeated_measurements_need_no_advice(save):
    twice = steady(100, repeats=(1.0, 1.01))
    assert compare(save(report(cases=(twice,))), (twice,), (), 0.05).note == ""


def test_same_measurement_differs_in_nothing(save):
    before = report()
    assert save(before).differences(before.config, before.board, before.artefact) == ()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"config": config(scenario="search")}, "config scenario was 'rank', is 'search'"),
        ({"config": config(threads=4)}, "config threads was 1, is 4"),
        ({"board": board(model="Raspberry Pi 4")}, "board model was"),
        ({"board": board(power_mode="0 15W")}, "board power_mode was '2 MAXN_SUPER', is '0 15W'"),
    ],
)
def test_other_scenario_or_board_is_named(save, changes, told):
    now = replace(report(), **changes)
    (difference,) = save(report()).differences(now.config, now.board, now.artefact)
    assert told in difference


def test_newer_bytes_of_the_same_kind_are_comparable(save):
    newer = replace(report().artefact, sha256="cd" * 32, version=2)
    assert save(report()).differences(config(), board(), newer) == ()


def test_no_case_in_common_is_refused(save):
    with pytest.raises(UsageError, match="it has rank of 200 titles, this run search"):
        compare(save(report()), (case("search"),), (), 0.05)


def test_invalid_baseline_is_refused(save):
    with pytest.raises(UsageError, match="was not valid"):
        save(report(validity=Validity("invalid", False, True, ("interrupted",), ())))  # noqa: FBT003


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"schema": "couchside.bench/1", "kind": "bench"}', "\xff"]
)
def test_what_is_no_baseline_is_refused(tmp_path, text):
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(UsageError, match="--compare"):
        read_baseline(file)


def test_baseline_with_words_for_numbers_is_refused(save, tmp_path):
    save(report())
    file = tmp_path / "baseline.json"
    document = json.loads(file.read_text())
    document["cases"][0]["latency_ms"]["total"]["percentiles"]["p50"] = "fast"
    file.write_text(json.dumps(document))
    with pytest.raises(UsageError, match="--compare"):
        read_baseline(file)


def test_missing_baseline_is_refused(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        read_baseline(tmp_path / "nothing.json")
