from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from couchside.compression import data
from couchside.compression.pipeline import Run, _do_stage, _fingerprint
from couchside.device.bundle import open_bundle
from couchside.device.runtime.graph import check_golden

if TYPE_CHECKING:
    from collections.abc import Iterator

STAGES = ("validation", "teacher", "student", "graphs", "drafts", "quality")
SHORTER = {"flavours": '["onnx-float"]', "max_users": "60", "layers": "0"}
TIMEOUT_S = 120.0


class Compress:
    """A run of couchside-compress in a process group of its own."""

    def __init__(self, recipe: Path | str, out: Path) -> None:
        command = [sys.executable, "-m", "couchside.compression.cli", str(recipe)]
        self.process = subprocess.Popen(
            [*command, "--out", str(out), "--threads", "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        self.said: list[str] = []

    def listen_for(self, start: str) -> None:
        """Read what it says until a line that starts so."""
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))
            if line.startswith(start):
                return
        pytest.fail(f"never said {start!r}: {self.said}; {self.process.stderr.read()}")

    def end(self) -> tuple[int, str]:
        """Exit status and standard error."""
        said, errors = self.process.communicate(timeout=TIMEOUT_S)
        self.said += said.splitlines()
        return self.process.returncode, errors

    def is_gone(self, within_s: float) -> bool:
        """Whether the process and all its children ended."""
        deadline = time.monotonic() + within_s
        while _living(self.process.pid):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def kill_all(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate(timeout=10)


def _living(group: int) -> list[str]:
    """Processes of a group that have not ended; nobody may have asked after the dead yet."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, member_of = path.read_text().rpartition(")")[2].split()[:3]
            if int(member_of) == group and state not in "ZX":
                found.append(path.parent.name)
    return found


@pytest.fixture
def compress() -> Iterator:
    """Starts runs, and ends what is left of them."""
    runs = []

    def start(recipe: Path | str, out: Path) -> Compress:
        runs.append(Compress(recipe, out))
        return runs[-1]

    yield start
    for run in runs:
        run.kill_all()


def short_recipe(folder: Path) -> Path:
    """The tiny recipe with one flavour, fewer users and no transformer layers: faster still."""
    text = (resources.files("couchside.compression") / "recipes" / "tv-tiny.toml").read_text()
    lines = []
    for line in text.splitlines():
        key = line.partition(" = ")[0]
        lines.append(f"{key} = {SHORTER[key]}" if key in SHORTER else line)
    path = folder / "short.toml"
    path.write_text("\n".join(lines))
    return path


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.05)


def finished(out: Path) -> list[str]:
    return [stage for stage in STAGES if (out / "work" / stage / "done").exists()]


def test_run_that_is_interrupted_or_killed_goes_on_where_it_stopped(compress, tmp_path):
    recipe, out = short_recipe(tmp_path), tmp_path / "out"

    # Ctrl-C in the middle of the export
    run = compress(recipe, out)
    run.listen_for("[4/6] graphs")
    wait_for(out / "work" / "graphs" / "onnx.log")
    run.process.send_signal(signal.SIGINT)
    status, errors = run.end()
    assert status == 130
    assert errors.endswith("interrupted; finished stages are kept, run again to go on\n")
    assert "Traceback" not in errors
    assert run.is_gone(within_s=1.0)
    assert finished(out) == ["validation", "teacher", "student"]

    # a power cut, when the first of three graphs lies there
    run = compress(recipe, out)
    run.listen_for("[4/6] graphs")
    assert [line for line in run.said if "done before" in line] == [
        f"[{number}/6] {stage}: done before" for number, stage in enumerate(STAGES[:3], start=1)
    ]
    wait_for(out / "work" / "graphs" / "onnx" / "float" / "text_encoder.onnx")
    run.process.kill()
    run.end()
    assert run.is_gone(within_s=15.0)  # no exporter is left to write into the next run's folder
    assert finished(out) == ["validation", "teacher", "student"]
    assert not (out / "bundles").exists()

    # the next run redoes the half stage and completes
    (out / "work" / "graphs" / "onnx" / "float" / "text_encoder.onnx").write_bytes(b"half a file")
    run = compress(recipe, out)
    status, errors = run.end()
    assert status == 0, errors
    assert run.said[-1] == f"Bundles: {out / 'bundles'}"
    again = [line for line in run.said if line.startswith("[") and "done before" not in line]
    assert [line.split()[1].rstrip(":") for line in again[::2]] == ["graphs", "drafts", "quality"]
    assert any(line.startswith("onnx-float, shown ranking") for line in run.said)
    bundle = open_bundle(out / "bundles" / "onnx-float")
    assert check_golden(bundle).keys() == {"text_encoder", "user_model", "training_step"}
    assert [path.name for path in (out / "bundles").iterdir()] == ["onnx-float"]


def test_stage_is_redone_for_another_fingerprint_and_trusted_only_when_it_ended(this, capsys):
    folder, runs = this.work / "toy", []

    def stage(_, given):
        assert list(given.iterdir()) == []  # nothing of an earlier run
        (given / "result").write_text("half")
        runs.append(given)
        if len(runs) == 2:
            raise KeyboardInterrupt
        (given / "result").write_text("whole")

    def do(fingerprint):
        _do_stage(this, "[1/1] toy", "toy", stage, fingerprint)
        return capsys.readouterr().out

    assert "[1/1] toy\n" in do("one recipe")
    assert do("one recipe") == "[1/1] toy: done before\n"
    with pytest.raises(KeyboardInterrupt):
        do("another recipe")
    assert (folder / "result").read_text() == "half"
    capsys.readouterr()
    for fingerprint in ("one recipe", "another recipe"):  # neither trusts the half result
        assert "done before" not in do(fingerprint)
        assert (folder / "result").read_text() == "whole"
    assert len(runs) == 4


def test_finished_stages_are_not_done_again(compress, compressed):
    before = {path: path.stat().st_mtime_ns for path in (compressed / "work").rglob("*.npz")}
    manifests = {path: path.read_bytes() for path in compressed.glob("bundles/*/manifest.json")}
    run = compress("tv-tiny", compressed)
    status, errors = run.end()
    assert status == 0, errors
    assert [line for line in run.said if line.startswith("[")] == [
        f"[{number}/6] {stage}: done before" for number, stage in enumerate(STAGES, start=1)
    ]
    assert "export and quantise" not in errors
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(before) == 2
    assert {path: path.read_bytes() for path in manifests} == manifests
    assert not (compressed / "bundles.part").exists()


@pytest.fixture(scope="module")
def this(tiny, interactions, tmp_path_factory):
    split = data.split(interactions, tiny.data)
    return Run(tiny, tmp_path_factory.mktemp("out"), interactions, split)


def test_fingerprint_stays_wherever_the_run_writes(this, tmp_path):
    assert _fingerprint(replace(this, out=tmp_path)) == _fingerprint(this)


def test_fingerprint_changes_with_anything_that_decides_the_bundle(this, interactions, tiny):
    film = interactions.titles[5]
    titles = list(interactions.titles)
    titles[5] = replace(film, genres=(*film.genres, "Noir"))
    ratings = interactions.ratings.copy()
    ratings[7] = (ratings[7] + 1) % 11
    rerated = replace(interactions, ratings=ratings)
    changed = [
        replace(this, interactions=replace(interactions, titles=tuple(titles))),
        replace(this, interactions=rerated, split=data.split(rerated, tiny.data)),
        replace(this, recipe=replace(tiny, version=2)),
        replace(this, recipe=replace(tiny, training=replace(tiny.training, seed=2))),
    ]
    prints = [_fingerprint(run) for run in (this, *changed)]
    assert len(set(prints)) == len(prints)


@pytest.fixture(scope="module")
def quality(compressed):
    return json.loads((compressed / "quality.json").read_text())


def test_quality_table_has_every_baseline_and_every_flavour(quality, tiny):
    names = [row["name"] for row in quality["rows"]]
    assert names[:8] == [
        "popularity-7d, frozen",
        "popularity-7d, rolling (needs a network)",
        "popularity of the Bundle, frozen",
        "ItemKNN",
        "teacher, user model alone",
        "teacher, shown ranking",
        "float student, user model alone",
        "float student, shown ranking",
    ]
    assert names[8:] == [f"{flavour}, shown ranking" for flavour in tiny.flavours]
    for row in quality["rows"]:
        assert 0.0 <= row["ndcg_at_10"] <= row["hr_at_10"] <= 1.0
        gain = row["over_popularity"]
        assert gain["low"] <= gain["mean"] <= gain["high"]
        assert (row["loss"] is not None) == (row["name"].partition(",")[0] in tiny.flavours)


def test_quality_table_says_on_what_it_was_measured(quality, interactions, tiny, this):
    cut = this.split.test_from
    wanted = data.targets(interactions, cut, np.inf)
    assert quality["split_sha256"] == this.split.sha256
    assert quality["test_from"] == cut
    assert quality["targets"] == len(wanted)
    assert quality["users"] == len({target.user for target in wanted})
    left_out = int((interactions.times >= cut).sum()) - len(wanted)
    assert quality["cold_events_left_out"] == left_out
    assert quality["popularity_weight"] in tiny.training.popularity_weights


def test_float_flavours_lose_nothing_and_int8_little(quality):
    losses = {row["name"].partition(",")[0]: row["loss"] for row in quality["rows"] if row["loss"]}
    for flavour, loss in losses.items():
        assert abs(loss["mean"]) < (0.05 if flavour.endswith("int8") else 0.01)


def test_every_bundle_carries_what_was_measured_of_it(quality, bundles, tiny):
    rows = {row["name"].partition(",")[0]: row for row in quality["rows"]}
    assert sorted(path.name for path in bundles.iterdir()) == sorted(tiny.flavours)
    for flavour in tiny.flavours:
        bundle = open_bundle(bundles / flavour)
        said, row = bundle.manifest.quality, rows[flavour]
        assert bundle.flavour == flavour
        assert (said.split_sha256, said.ndcg_at_10) == (quality["split_sha256"], row["ndcg_at_10"])
        loss = row["loss"]
        assert (said.ndcg_loss_low, said.ndcg_loss, said.ndcg_loss_high) == (
            loss["low"],
            loss["mean"],
            loss["high"],
        )
        assert bundle.popularity_weight == quality["popularity_weight"]
        assert bundle.manifest.popularity_as_of == quality["test_from"]


def test_sizes_are_those_of_the_files(quality, bundles, student, tiny):
    sizes = {(size["part"], size["form"]): size["bytes"] for size in quality["sizes"]}
    for flavour in tiny.flavours:
        folder = bundles / flavour
        files = {path.name.partition(".")[0]: path.stat().st_size for path in folder.iterdir()}
        assert sizes["encoder", flavour] == files["text_encoder"]
        assert sizes["user model", flavour] == files["user_model"]
        assert sizes["item table", flavour] == files["items"]
        assert sizes["whole Bundle", flavour] == sum(files.values())
    for part, size in student.parameter_bytes().items():
        assert sizes[part, "float student"] == size
    assert len(sizes) == len(quality["sizes"]) == 3 + 3 + 4 * len(tiny.flavours)


def test_flavours_share_their_titles_and_item_tables(bundles, tiny):
    opened = [open_bundle(bundles / flavour) for flavour in tiny.flavours]
    for name in ("titles.jsonl", "items.bin", "theta.bin"):
        assert len({bundle.manifest.files[name].sha256 for bundle in opened}) == 1
    assert len({bundle.bundle_id for bundle in opened}) == len(opened)


def test_bundle_holds_the_popularity_of_the_cut(bundles, interactions, tiny, this):
    bundle = open_bundle(bundles / "onnx-float")
    expected = interactions.popularity(this.split.test_from, tiny.data.popularity_half_life_days)
    np.testing.assert_array_equal(bundle.tensor("popularity"), expected)
    assert [title.title_id for title in bundle.titles()] == [
        title.title_id for title in interactions.titles
    ]


def test_item_table_is_the_students_within_int8_error(bundles, student):
    bundle = open_bundle(bundles / "litert-int8")
    expected = student.ranker.table().detach().numpy()
    np.testing.assert_allclose(bundle.item_vectors(), expected, atol=0.02)
    for name in ("content_scale", "delta_scale"):
        assert (np.asarray(bundle.tensor(name)) >= 0).all()


def test_second_run_in_the_same_folder_is_refused(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    with (work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, errors = Compress("tv-tiny", tmp_path).end()
    assert status == 1
    assert "another run is at work there" in errors
    assert "Traceback" not in errors
