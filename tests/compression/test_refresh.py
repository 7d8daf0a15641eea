from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from couchside.compression import data
from couchside.compression.cli import main, parser, refresh_parser
from couchside.compression.errors import CompressionError, GateError, LineageError
from couchside.compression.evaluate import PerUser, bundle_scores
from couchside.compression.homes.cli import parser as homes_parser
from couchside.compression.refresh import remake
from couchside.compression.refresh.gate import MOST_LOSS, judge
from couchside.compression.refresh.lineage import open_base
from couchside.compression.refresh.popularity import Popularity, freshen
from couchside.compression.refresh.remake import refresh
from couchside.compression.study.cli import parser as study_parser
from couchside.device.bundle import open_bundle
from couchside.device.errors import LearningError
from couchside.device.features import DAY
from couchside.device.learning.result import FORMAT, RoundResult, write_result
from couchside.device.runtime.graph import check_golden

README = Path(__file__).parents[2] / "compression" / "README.md"
NONE = np.zeros(0, np.float32)
TIMEOUT_S = 120.0


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def any_bundle(base):
    return open_bundle(next(iter(sorted((base / "bundles").iterdir()))))


def close_round(base, folder, *, theta=None, counts=NONE, **said):
    """What ``couchside-cloud round close`` writes after a Round of 100 TVs."""
    bundle = any_bundle(base)
    theta = np.array(bundle.tensor("theta")) if theta is None else theta
    result = RoundResult(
        format=FORMAT,
        round_id=7,
        base_version=bundle.version,
        base_theta_sha256=sha256((bundle.path / "theta.bin").read_bytes()),
        base_titles_sha256=sha256((bundle.path / "titles.jsonl").read_bytes()),
        theta_sha256=sha256(theta.astype("<f4").tobytes()),
        counts_sha256=sha256(counts.astype("<f4").tobytes()),
        folded=100,
        opened_at=int(bundle.manifest.popularity_as_of),
        closed_at=int(bundle.manifest.popularity_as_of + 2 * DAY),
        noise_multiplier=1.0,
        epsilon=5.0,
        epsilon_amplified=1.0,
        delta=1e-5,
        change_norm=0.5,
        count_sigma=2.0,
    )
    write_result(folder, replace(result, **said), theta, counts)
    return folder


def moved(base, far):
    theta = np.array(any_bundle(base).tensor("theta"))
    step = np.random.default_rng(3).normal(size=theta.size)
    return (theta + far * step / np.linalg.norm(step)).astype(np.float32)


@pytest.fixture(scope="module")
def same(compressed, tmp_path_factory):
    """A refresh by a Round that changed nothing."""
    folder = tmp_path_factory.mktemp("same")
    params = close_round(compressed, folder / "params")
    refresh(compressed, params, folder / "new", flavours=["onnx-float", "litert-int8"])
    return folder / "new"


@pytest.fixture(scope="module")
def counts(compressed):
    values = np.full(any_bundle(compressed).tensor("popularity").size, 5.9, np.float32)
    values[3], values[8], values[9] = 40.0, 6.1, -7.0
    return values


@pytest.fixture(scope="module")
def learned(same, counts, tmp_path_factory):
    """A second refresh, on the first one: theta moved a little, titles 3 and 8 were counted.

    By the command, over what an earlier refresh made there.
    """
    folder = tmp_path_factory.mktemp("learned")
    params = close_round(same, folder / "params", theta=moved(same, 0.05), counts=counts)
    shutil.copytree(same, folder / "new")
    words = ["refresh", str(same), "--params", str(params), "--out", str(folder / "new")]
    assert main([*words, "--flavour", "onnx-float", "--version", "9", "--threads", "1"]) == 0
    return folder / "new"


def test_round_that_changed_nothing_gives_the_same_rankings(compressed, same, interactions, tiny):
    wanted = data.targets(interactions, data.split(interactions, tiny.data).test_from, np.inf)[::9]
    for flavour in ("onnx-float", "litert-int8"):
        old, new = (open_bundle(folder / "bundles" / flavour) for folder in (compressed, same))
        assert (old.version, new.version) == (1, 2)
        before, after = (bundle_scores(bundle, interactions, wanted) for bundle in (old, new))
        np.testing.assert_array_equal(before, after)
        for name in ("items.bin", "theta.bin", "titles.jsonl"):
            assert new.manifest.files[name] == old.manifest.files[name]
        assert new.manifest.popularity_as_of == old.manifest.popularity_as_of
        assert new.manifest.popularity_weight == old.manifest.popularity_weight
        assert new.manifest.quality == pytest.approx(old.manifest.quality)


def test_refreshed_folder_has_the_wanted_flavours_and_says_what_was_measured(same):
    assert {path.name for path in same.iterdir()} == {"bundles", "refresh.json", "work"}
    assert {path.name for path in (same / "bundles").iterdir()} == {"onnx-float", "litert-int8"}
    report = json.loads((same / "refresh.json").read_text())
    assert [verdict["flavour"] for verdict in report["gate"]] == ["litert-int8", "onnx-float"]
    assert all(v["change"] == {"low": 0.0, "mean": 0.0, "high": 0.0} for v in report["gate"])
    assert (report["round_id"], report["base_version"], report["version"]) == (7, 1, 2)
    assert report["titles_counted"] == 0
    assert report["parity"].keys() == {"litert-int8", "onnx-float"}
    assert report["seconds"].keys() == {"read", "graphs", "pack", "gate"}


def test_second_round_on_a_refreshed_folder_brings_what_was_learned(same, learned, interactions):
    old, new = (open_bundle(folder / "bundles" / "onnx-float") for folder in (same, learned))
    theta = moved(same, 0.05)
    np.testing.assert_array_equal(new.tensor("theta"), theta)
    record = next(r for r in new.manifest.parameters if r.name == "projection")
    values = theta[record.offset : record.offset + new.projection.size]
    np.testing.assert_array_equal(new.projection.ravel(), values)
    wanted = [data.Target(0, 0, interactions.by_user[0][:5])]
    before, after = (bundle_scores(bundle, interactions, wanted) for bundle in (old, new))
    assert 1e-5 < np.abs(before - after).max() < 0.5
    assert new.version == 9
    assert [path.name for path in (learned / "bundles").iterdir()] == ["onnx-float"]
    assert {path.name for path in learned.parent.iterdir()} == {"new", "params"}
    assert new.manifest.quality is not None
    assert open_base(learned).recipe.flavours == ("onnx-float",)  # and so is a base in its turn


def test_golden_vectors_are_of_the_new_weights(same, learned, tmp_path):
    bundle = open_bundle(learned / "bundles" / "onnx-float")
    assert check_golden(bundle).keys() == {"text_encoder", "user_model", "training_step"}
    golden = bundle.tensor("golden/training_step/in/theta")
    np.testing.assert_array_equal(golden, bundle.tensor("theta"))
    old = open_bundle(same / "bundles" / "onnx-float")
    name = "golden/user_model/out/user"
    assert not np.array_equal(bundle.tensor(name), old.tensor(name))
    for graph in ("text_encoder.onnx", "training_step.onnx"):
        assert bundle.manifest.files[graph] == old.manifest.files[graph]


def test_only_counts_above_their_noise_change_popularity(same, learned):
    old, new = (open_bundle(folder / "bundles" / "onnx-float") for folder in (same, learned))
    watchers = np.expm1(old.tensor("popularity").astype(np.float64)) / 2  # two days: a half-life
    watchers[3] += 40.0
    watchers[8] += 6.1
    np.testing.assert_allclose(new.tensor("popularity"), np.log1p(watchers), rtol=1e-5)
    assert new.manifest.popularity_as_of == int(old.manifest.popularity_as_of + 2 * DAY)
    assert json.loads((learned / "refresh.json").read_text())["titles_counted"] == 2


# What is refused before anything is made


def refused(capsys, base, params, out, *flags):
    words = ["refresh", str(base), "--params", str(params), "--out", str(out), "--threads", "1"]
    assert main([*words, *flags]) == 1
    assert not out.exists()
    assert not out.with_name(f"{out.name}.part").exists()
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "said",
    [{"base_theta_sha256": "0" * 64}, {"base_titles_sha256": "0" * 64}],
)
def test_round_of_another_bundle_is_refused(capsys, compressed, tmp_path, said):
    params = close_round(compressed, tmp_path / "params", **said)
    assert "started from another Bundle" in refused(capsys, compressed, params, tmp_path / "new")


def test_round_that_was_folded_on_the_base_of_a_refresh_is_refused(capsys, compressed, learned):
    params = close_round(compressed, learned.parent / "old")
    said = refused(capsys, learned, params, learned.parent / "newer")
    assert "(version 1) than those in" in said


def test_theta_or_counts_of_another_length_are_refused(capsys, compressed, tmp_path, counts):
    short = moved(compressed, 1.0)[:-1]
    params = close_round(compressed, tmp_path / "theta", theta=short)
    assert f"{len(short)} parameters" in refused(capsys, compressed, params, tmp_path / "new")
    params = close_round(compressed, tmp_path / "counts", counts=counts[:-1])
    assert "close the Round again" in refused(capsys, compressed, params, tmp_path / "new")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(capsys, compressed, tmp_path, counts, value):
    theta, odd = moved(compressed, 1.0), counts.copy()
    theta[5] = odd[5] = value
    params = close_round(compressed, tmp_path / "theta", theta=theta)
    assert "not finite" in refused(capsys, compressed, params, tmp_path / "new")
    params = close_round(compressed, tmp_path / "counts", counts=odd)
    assert "not finite" in refused(capsys, compressed, params, tmp_path / "new")


@pytest.mark.parametrize("name", ["theta.bin", "counts.bin", "result.json"])
def test_damaged_or_missing_file_of_the_result_is_refused(compressed, tmp_path, counts, name):
    params = close_round(compressed, tmp_path / "params", counts=counts)
    whole = (params / name).read_bytes()
    (params / name).write_bytes(whole[:-4] + b"\x00\x01\x02\x03")
    with pytest.raises(LearningError, match=name):
        refresh(compressed, params, tmp_path / "new")
    (params / name).unlink()
    with pytest.raises(LearningError, match="couchside-cloud round close"):
        refresh(compressed, params, tmp_path / "new")


def test_damaged_base_is_refused(capsys, same, tmp_path):
    params = close_round(same, tmp_path / "params")
    assert "recipe.json" in refused(capsys, tmp_path / "nowhere", params, tmp_path / "new")
    base = tmp_path / "base"
    shutil.copytree(same, base)
    models = base / "work" / "student" / "models.npz"
    models.write_bytes(models.read_bytes()[:-100])
    assert "no checkpoint" in refused(capsys, base, params, tmp_path / "new")


def test_checkpoint_that_the_bundles_were_not_made_of_is_refused(same, learned, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(same, base)
    models = Path("work") / "student" / "models.npz"
    shutil.copyfile(learned / models, base / models)
    with pytest.raises(LineageError, match="the Bundles were made of another"):
        refresh(base, close_round(base, tmp_path / "params"), tmp_path / "new")


def test_flavour_version_and_folder_must_make_sense(capsys, same, tmp_path):
    params, new = close_round(same, tmp_path / "params"), tmp_path / "new"
    assert "it has litert-int8" in refused(capsys, same, params, new, "--flavour", "onnx-int8")
    assert "more than 2, which" in refused(capsys, same, params, new, "--version", "2")
    other = close_round(same, tmp_path / "other", base_version=6)  # released as another version
    assert "more than 6, which" in refused(capsys, same, other, new, "--version", "6")
    for taken in (same, same.parent, params, tmp_path):
        with pytest.raises(LineageError, match=r"another folder|a new folder"):
            refresh(same, params, taken)
    assert any_bundle(same).version == 2


# The gate


def per_user(ndcg) -> PerUser:
    return PerUser(np.asarray(ndcg, np.float64), np.asarray(ndcg, np.float64))


def test_gate_refuses_a_loss_that_is_sure_or_large():
    base = np.random.default_rng(0).uniform(0.1, 0.3, 400)
    noise = np.random.default_rng(1).normal(0.0, 0.02, 400)
    noise -= noise.mean()
    assert judge("onnx-int8", per_user(base), per_user(base)).change.mean == 0.0
    assert judge("onnx-int8", per_user(base * 0.999 + noise), per_user(base)).change.low < 0
    assert judge("onnx-int8", per_user(base * 1.1), per_user(base)).ndcg_at_10 > base.mean()
    with pytest.raises(GateError, match=r"onnx-int8: NDCG@10 .* -0\.1%"):
        judge("onnx-int8", per_user(base * 0.999), per_user(base))
    wild = np.random.default_rng(2).normal(0.0, 0.4, 400)  # nothing is sure, but too much to bet on
    wild -= wild.mean()
    with pytest.raises(GateError, match="2%"):
        judge("onnx-int8", per_user(base * (1 - 1.1 * MOST_LOSS) + wild), per_user(base))
    with pytest.raises(GateError):
        judge("onnx-int8", per_user(base * np.nan), per_user(base))


def test_theta_of_noise_does_not_pass_the_gate(capsys, same, tmp_path):
    noise = np.random.default_rng(5).normal(0.0, 3.0, len(moved(same, 1.0))).astype(np.float32)
    params = close_round(same, tmp_path / "params", theta=noise)
    said = refused(capsys, same, params, tmp_path / "new", "--flavour", "onnx-float")
    assert "keep the base, run another Round" in said


def test_theta_beyond_all_bounds_is_refused_before_it_is_packed(capsys, same, tmp_path):
    params = close_round(same, tmp_path / "params", theta=moved(same, 1e30))
    said = refused(capsys, same, params, tmp_path / "new", "--flavour", "onnx-float")
    assert "not finite" in said


# Popularity alone

OLD = Popularity(np.log1p(np.array([0.0, 8.0, 100.0], np.float32)), as_of=1e9)


def fresh(counts, *, days=2.0, folded=100, sigma=2.0):
    values = np.array(counts, np.float32)
    return freshen(
        OLD, values, closed_at=OLD.as_of + days * DAY, folded=folded, sigma=sigma, half_life_days=2
    )


@pytest.mark.parametrize("counts", [[], [0, 0, 0], [5.9, -3, 5.9]])
def test_popularity_stays_when_nothing_was_surely_counted(counts):
    result = fresh(counts)
    np.testing.assert_array_equal(result.values, OLD.values)
    assert (result.as_of, result.counted) == (OLD.as_of, 0)


def test_popularity_fades_and_grows_by_what_was_counted():
    result = fresh([20, 0, 5])
    np.testing.assert_allclose(np.expm1(result.values), [20, 4, 50], rtol=1e-5)
    assert (result.as_of, result.counted) == (OLD.as_of + 2 * DAY, 1)
    years_later = fresh([20, 0, 0], days=4000.0)
    np.testing.assert_allclose(np.expm1(years_later.values), [20, 0, 0], rtol=1e-5)


def test_round_that_closed_before_the_bundle_fades_nothing():
    result = fresh([20, 0, 0], days=-30.0)
    np.testing.assert_allclose(np.expm1(result.values), [20, 8, 100], rtol=1e-5)
    assert result.as_of == OLD.as_of


def test_half_a_watcher_is_nobody_even_without_noise():
    assert fresh([0.4, 0, 0], sigma=0.0).counted == 0
    assert fresh([1.0, 0, 0], sigma=0.0).counted == 1


@pytest.mark.parametrize("count", [112.6, -12.6])
def test_count_that_so_many_tvs_cannot_give_is_refused(count):
    with pytest.raises(GateError, match=f"title 1 was counted {count} times by 100 TVs"):
        fresh([0, count, 0])


@given(
    st.lists(st.floats(-12, 112, width=32), min_size=3, max_size=3),
    st.floats(-1e4, 1e4),
    st.floats(0, 2),
)
def test_popularity_is_finite_and_no_title_gets_more_than_its_count(counts, days, sigma):
    try:
        result = fresh(counts, days=days, sigma=sigma)
    except GateError:
        return
    assert result.values.dtype == np.float32
    assert (result.values >= 0).all()
    limit = np.expm1(OLD.values) + np.maximum(counts, 0)
    assert (np.expm1(result.values) <= limit * (1 + 1e-5) + 1e-5).all()


# The command


def start(base, params, out):
    command = [sys.executable, "-m", "couchside.compression.cli", "refresh", str(base)]
    command += ["--params", str(params), "--out", str(out), "--flavour", "onnx-float"]
    return subprocess.Popen(
        [*command, "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )


def wait_for_exporter(run, part):
    while not (line := run.stdout.readline()).startswith("[2/4]"):
        assert line, run.stderr.read()
    deadline = time.monotonic() + TIMEOUT_S
    while not (part / "work" / "graphs" / "onnx.log").exists():
        assert time.monotonic() < deadline, "the exporter never started"
        time.sleep(0.02)


def test_refresh_that_is_killed_or_interrupted_leaves_no_folder(same, tmp_path):
    params, out, part = (
        close_round(same, tmp_path / "params"),
        tmp_path / "new",
        tmp_path / "new.part",
    )
    for how, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        run = start(same, params, out)
        try:
            wait_for_exporter(run, part)
            with pytest.raises(CompressionError, match="another run is at work there"):
                refresh(same, params, out)
            run.send_signal(how)
        finally:
            _, errors = run.communicate(timeout=TIMEOUT_S)
        assert run.returncode == status
        assert "Traceback" not in errors
        assert not out.exists()
    assert errors.endswith("interrupted; nothing was written, run again\n")
    assert not part.exists()  # nor what the killed one had left


def test_refresh_that_starts_when_another_is_done_keeps_its_folder(tmp_path, monkeypatch):
    out, part = tmp_path / "new", tmp_path / "new.part"

    def publish(*folders):
        whole(*folders)
        part.mkdir()
        (part / "begun").touch()

    whole = remake._publish
    report = remake.Report(7, 100, 1, 2, (), 0, 0.0, {}, {})
    monkeypatch.setattr(remake, "_read", lambda *_: None)
    monkeypatch.setattr(remake, "_make", lambda *_: report)
    monkeypatch.setattr(remake, "_publish", publish)
    refresh(tmp_path / "base", tmp_path / "params", out)
    assert [path.name for path in out.iterdir()] == ["refresh.json"]
    assert [path.name for path in part.iterdir()] == ["begun"]


def test_every_flag_is_told():
    told = README.read_text(encoding="utf-8")
    flags = {
        flag
        for command in (parser(), refresh_parser(), study_parser(), homes_parser())
        for action in command._actions
        for flag in action.option_strings
    }
    for flag in flags - {"-h", "--help"}:
        assert f"`{flag}" in told, flag
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", told)) <= flags
