"""The demo's night and the bench's: households of real ratings, a crowd, promises of learning."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from simulators.demo_report import sample_report

from couchside.benchmarks.learning.crowd import Pupil, study_together
from couchside.benchmarks.learning.panel import Panel, read_panel
from couchside.benchmarks.page import words
from couchside.benchmarks.page.render import render
from couchside.benchmarks.promises.daemon_run import make_stock
from couchside.benchmarks.promises.learning_run import Cloud, run_night
from couchside.compression.recipe import load_recipe
from couchside.device.bundle import Bundle, open_bundle
from couchside.device.learning.round import Limits
from couchside.device.learning.spool import frame_bytes
from couchside.device.learning.update import read_update
from couchside.device.quality import Interval


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def panel(bundle: Bundle) -> Panel:
    return read_panel(load_recipe("tv-tiny").data, bundle)


def test_households_learn_from_before_the_middle_and_are_judged_after_it(
    panel: Panel, bundle: Bundle
) -> None:
    times, cut = panel.interactions.times, bundle.manifest.popularity_as_of
    for home in panel.homes:
        assert (times[home.events] < panel.middle).all()
        assert (times[home.events] >= cut).sum() == home.new > 0
    for target in panel.later:
        row = panel.interactions.by_user[target.user][len(target.history)]
        assert times[row] >= panel.middle
        assert panel.interactions.items[row] == target.item
    assert len(panel.homes) > 5
    assert len(panel.later) > 5


def test_history_of_a_household_is_what_its_tv_would_hand_to_the_child(
    panel: Panel, bundle: Bundle
) -> None:
    vectors = bundle.item_vectors()
    history = panel.history(panel.homes[0], bundle, vectors)
    assert len(history) <= bundle.model.history_length
    np.testing.assert_array_equal(history.vectors, vectors[history.rows])


def test_better_popularity_is_seen_as_better_quality(panel: Panel, bundle: Bundle) -> None:
    """A judge that can't see a change of the Bundle would make every night look the same."""
    later = np.zeros(len(panel.interactions.titles), np.float32)
    np.add.at(later, [target.item for target in panel.later], 1.0)

    class Prophet(Bundle):
        def tensor(self, name: str):  # type: ignore[no-untyped-def]
            return 10 * later if name == "popularity" else super().tensor(name)

    prophet = Prophet(bundle.path, bundle.manifest, bundle.bundle_id)
    better = panel.quality(replace(prophet, manifest=bundle.manifest)).ndcg.mean()
    assert better > panel.quality(bundle).ndcg.mean()


def test_crowd_makes_frames_of_one_size_with_names_of_their_own(
    panel: Panel, bundle: Bundle, tmp_path: Path
) -> None:
    cloud = Cloud.of(bundle, tmp_path / "b")
    vectors = bundle.item_vectors()
    pupils = [
        Pupil(f"home-{n}", panel.history(home, bundle, vectors), home.new)
        for n, home in enumerate(panel.homes[:4])
    ]
    limits = Limits(2, 0.3, 1000.0, 26)
    frames = study_together(pupils, cloud.bundle, cloud.round(1), limits, processes=1)
    assert [device for device, _, _ in frames] == [pupil.device for pupil in pupils]
    assert len({name for _, name, _ in frames}) == 4
    for _, name, frame in frames:
        update = read_update(frame)
        assert update.update_id.hex() == name
        assert len(frame) == frame_bytes(len(update.values))


def test_night_of_the_bench_measures_what_is_promised(bundle: Bundle, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("couchside.benchmarks.promises.learning_run.CALLS", 20)
    now = time.time()
    with tempfile.TemporaryDirectory(prefix="couchside-") as name:
        found = run_night(bundle, make_stock(400, now=now), Path(name), now=now)
    assert 20 < found["learn_child_peak"] < 200
    assert found["learn_left_behind"] == 0
    assert found["uplink_frame"] * 1000 <= 48_000
    ratio = found["rows_p99_learning"] / found["rows_p99_idle"]
    assert found["learn_rows_ratio"] == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("gain", "heading"),
    [
        (Interval(0.01, 0.1, 0.2), "What the fleet learned made the shelf better"),
        (Interval(-0.3, -0.2, -0.1), "What the fleet learned made the shelf worse"),
        (Interval(-0.1, 0.0, 0.1), ">What the fleet learned<"),
    ],
)
def test_page_says_better_only_where_the_interval_does(gain: Interval, heading: str) -> None:
    report = sample_report()
    page = render(replace(report, learning=replace(report.learning, gain=gain)))
    assert heading in page
    assert "not private at this size" in page
    assert "71.3 MB, then none" in page


def test_delta_is_written_as_people_write_it() -> None:
    assert words.power(1e-6) == "10⁻⁶"
    assert words.power(3e-12) == "3 · 10⁻¹²"
