from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from couchside.compression.cli import main as compress
from couchside.compression.study import cli
from couchside.compression.study.recipe import StudyRecipe, load_recipe
from couchside.compression.study.results import Result
from couchside.device import strict

README = Path(__file__).parents[3] / "compression" / "README.md"


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory, small):
    path = tmp_path_factory.mktemp("recipe") / "ring.toml"
    lines = (f"{f.name} = {json.dumps(getattr(small, f.name))}\n" for f in fields(StudyRecipe))
    path.write_text("".join(lines))
    return path


@pytest.fixture(autouse=True)
def _threads_stay(monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)


def run(ring_file, recipe_file, out, *more):
    words = [str(ring_file), "--recipe", str(recipe_file), "--out", str(out), *more]
    return compress(["study", *words])


def result_of(out):
    return strict.from_json(Result, json.loads((out / "result.json").read_text()))


def test_leave_one_out_ranks_our_model_above_popularity(ring_file, recipe_file, tmp_path, capsys):
    models = "popularity,item-knn,ease,couchside"
    assert (
        run(ring_file, recipe_file, tmp_path, "--models", models, "--seed", "0", "--seed", "3") == 0
    )
    result = result_of(tmp_path)
    assert [row.model for row in result.rows] == [*models.split(","), "couchside"]
    assert [row.seed for row in result.rows] == [None, None, None, 0, 3]
    assert (result.split.users, result.split.targets, result.split.items) == (60, 60, 15)
    ours = result.rows[-1]
    assert ours.over_popularity.low > 0
    assert ours.metrics["ndcg@10"].low <= ours.metrics["ndcg@10"].value
    assert "best of 12 epochs" in ours.note
    assert result.curve[-1].epoch == 12
    assert result.split.sha256[:12] in capsys.readouterr().out


def test_temporal_has_popularity_of_the_week_and_learns_again_up_to_the_cut(
    ring_file, recipe_file, tmp_path
):
    models = ("--models", "popularity,popularity-7d,couchside")
    assert run(ring_file, recipe_file, tmp_path, "--split", "temporal", *models) == 0
    result = result_of(tmp_path)
    assert [row.model for row in result.rows] == [
        *models[1].split(","),
        "couchside + popularity-7d",
    ]
    assert "learned again up to the cut" in result.rows[-1].note
    assert len(json.loads((tmp_path / "seed-0" / "refit" / "curve.json").read_text())) == (
        result.rows[-1].epochs
    )


def test_a_run_without_time_says_so_and_resume_goes_on(ring_file, recipe_file, tmp_path, capsys):
    ours = ("--models", "couchside")
    assert run(ring_file, recipe_file, tmp_path, *ours, "--minutes", "0") == 0
    assert "stopped by the clock after 1" in result_of(tmp_path).rows[0].note
    assert run(ring_file, recipe_file, tmp_path, *ours) == 1
    assert "go on with --resume" in capsys.readouterr().err
    assert run(ring_file, recipe_file, tmp_path, *ours, "--resume") == 0
    assert "stopped" not in result_of(tmp_path).rows[0].note


def test_kill_9_loses_the_epoch_and_not_the_run(ring_file, recipe_file, tmp_path):
    words = [str(ring_file), "--recipe", str(recipe_file), "--out", str(tmp_path)]
    command = [sys.executable, "-m", "couchside.compression.study", *words, "--models", "couchside"]
    paths = os.pathsep.join(filter(None, sys.path))
    process = subprocess.Popen(
        [*command, "--epochs", "9999"],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    curve = tmp_path / "seed-0" / "curve.json"
    try:
        for _ in range(600):
            if curve.exists() or process.poll() is not None:
                break
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = len(json.loads(curve.read_text()))
    assert run(ring_file, recipe_file, tmp_path, "--models", "couchside", "--resume") == 0
    points = json.loads(curve.read_text())
    assert [point["epoch"] for point in points] == list(range(1, len(points) + 1))
    assert len(points) >= kept


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--models", "bert"), "no bert"),
        (("--models", "popularity-7d"), "--split temporal"),
        (("--recipe", "none.toml"), "no recipe"),
        (("--titles", "nowhere.csv"), "nowhere.csv"),
    ],
)
def test_a_wrong_option_is_one_clear_line(ring_file, recipe_file, tmp_path, capsys, more, says):
    assert run(ring_file, recipe_file, tmp_path, *more) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.startswith("couchside-compress study: ")
    assert "Traceback" not in error


@pytest.mark.parametrize("more", [("--threads", "0"), ("--minutes", "nan"), ("--seed", "-1")])
def test_numbers_out_of_range_are_refused(ring_file, recipe_file, tmp_path, more):
    with pytest.raises(SystemExit, match="2"):
        run(ring_file, recipe_file, tmp_path, *more)


def test_recipes_out_of_range_are_refused(recipe_file, tmp_path):
    text = recipe_file.read_text()
    for old, new, says in (
        ("d = 16", "d = 15", "multiple of heads"),
        ("dropout = 0.1", "dropout = 1.5", "must be 0"),
        ('loss = "softmax"', 'loss = "hinge"', "loss"),
        ("epochs = 12", "epoch = 12", "epoch"),
    ):
        path = tmp_path / "wrong.toml"
        path.write_text(text.replace(old, new))
        with pytest.raises(cli.CompressionError, match=says):
            load_recipe(str(path))


def test_ctrl_c_says_how_to_go_on(ring_file, recipe_file, tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("couchside.compression.study.contest.hold", interrupted)
    assert run(ring_file, recipe_file, tmp_path) == 130
    assert "--resume" in capsys.readouterr().err


def test_readme_names_every_flag_and_recipe():
    text = README.read_text(encoding="utf-8")
    flags = [f for action in cli.parser()._actions for f in action.option_strings if f != "-h"]
    names = [*flags, *cli.builtin_recipes(), *cli.BASELINES]
    assert [name for name in names if f"`{name}" not in text and name != "--help"] == []
