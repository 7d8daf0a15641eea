from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import asdict
from importlib import resources

import pytest

from couchside.compression.cli import main
from couchside.compression.errors import RecipeError
from couchside.compression.recipe import builtin_recipes, load_recipe

TINY = (resources.files("couchside.compression") / "recipes" / "tv-tiny.toml").read_text()


@pytest.fixture
def changed(tmp_path):
    """Writes the tiny recipe with one line changed, and gives its path."""

    def write(old: str, new: str, *, count: int = 1) -> str:
        assert old in TINY
        path = tmp_path / "changed.toml"
        path.write_text(TINY.replace(old, new, count))
        return str(path)

    return write


@pytest.mark.parametrize("name", builtin_recipes())
def test_built_in_recipe_loads_by_its_name(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.flavours


def test_recipe_loads_by_path_as_it_does_by_name(changed):
    path = changed("seed = 1", "seed = 1")
    assert asdict(load_recipe(path)) == asdict(load_recipe("tv-tiny"))
    assert {"tv-tiny", "tv-small"} <= set(builtin_recipes())


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("version = 1", "version = 1\nlayers = 2", r"layers: is not a field"),
        ("[teacher_user]", "[teacher_user]\ndepth = 2", r"teacher_user\.depth: is not a field"),
        ("seed = 1", "", r"training\.seed: is missing"),
        ("[data]\nsource", "[wrong]\nsource", "wrong: is not a field"),
        ('name = "tv-tiny"', "name = 7", "name: must be a string, not a whole number"),
        ("version = 1", "version = 1.0", "version: must be a whole number, not a number"),
        ("version = 1", "version = true", "version: must be a whole number, not true or false"),
        ("d = 16", 'd = "16"', "d: must be a whole number, not a string"),
        ("dropout = 0.2", "dropout = nan", r"teacher_user\.dropout: must be a finite number"),
        ("dropout = 0.2", "dropout = inf", r"teacher_user\.dropout: must be a finite number"),
        ("dropout = 0.2", "dropout = 1979-05-27", r"teacher_user\.dropout: must be a number"),
        ('"litert-float"', '"litert"', r"flavours\[0\]: must be one of litert-float, litert-int8"),
        ("[0.0,", '["0",', r"training\.popularity_weights\[0\]: must be a number, not a string"),
        ("version = 1", "version = 0", r"version is 0, must be 1 …"),
        ("\nd = 16", "\nd = 7", r"\bd is 7, must be 8 … 1024"),
        ("heads = 2", "heads = 0", r"teacher_text\.heads is 0, must be 1 … 64"),
        ("dropout = 0.2", "dropout = 1.0", r"teacher_user\.dropout is 1\.0, must be 0 … 0\.9"),
        ("learning_rate = 4e-3", "learning_rate = 0", r"training\.learning_rate is 0\.0, must be"),
        ("max_users = 150", "max_users = -1", r"data\.max_users is -1, must be 0 …"),
        ("validation_quantile = 0.8", "validation_quantile = 0.95", "must lie before data.test"),
        ("validation_quantile = 0.8", "validation_quantile = 0.9", "must lie before data.test"),
        ("heads = 2", "heads = 3", r"teacher_text\.width must be a multiple of its heads"),
        ('["litert-float", "litert-int8", "onnx-float", "onnx-int8"]', "[]", "at least one"),
        ('"litert-int8"', '"litert-float"', "flavours names one twice"),
        ("[0.0, ", "[-1.0, ", "popularity_weights must not be negative"),
        ("[data]", "[data", "not TOML"),
        ("version = 1", "version = 1\nversion = 2", "not TOML"),
    ],
)
def test_wrong_recipe_is_refused_by_file_and_field(changed, old, new, words):
    path = changed(old, new)
    with pytest.raises(RecipeError, match=rf"recipe {re.escape(path)}: .*{words}"):
        load_recipe(path)


@pytest.mark.parametrize("kind", ["absent", "folder", "binary"])
def test_recipe_that_is_no_file_names_the_built_in_ones(tmp_path, kind):
    path = tmp_path / "mine.toml"
    if kind == "folder":
        path.mkdir()
    elif kind == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    words = r"no recipe '.*mine\.toml': built in are .*tv-small, tv-tiny; or give the path"
    with pytest.raises(RecipeError, match=words):
        load_recipe(str(path))


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("tv-huge", "no recipe 'tv-huge': built in are"),
        ("heads = 3", "teacher_text.width must be a multiple of its heads"),
    ],
)
def test_command_line_tells_a_wrong_recipe_in_one_line_before_torch_is_loaded(
    changed, tmp_path, recipe, words
):
    path = recipe if recipe.startswith("tv-") else changed("heads = 2", recipe)
    command = [sys.executable, "-X", "importtime", "-m", "couchside.compression.cli"]
    command += [path, "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 1
    assert len(said) == 1
    assert said[0].startswith("couchside-compress: ")
    assert words in said[0]
    assert done.stdout == ""
    imported = {line.rsplit("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "couchside.compression.recipe" in imported
    assert not {"torch", "numpy", "scipy", "onnx"} & imported
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required"),
        (["tv-tiny"], "the following arguments are required: --out"),
        (["tv-tiny", "--out", "x", "--threads", "0"], "--threads must be at least 1"),
        (["tv-tiny", "--out", "x", "--threads", "two"], "invalid int value: 'two'"),
        (["tv-tiny", "--out", "x", "--speed"], "unrecognized arguments: --speed"),
    ],
)
def test_wrong_command_line_is_told_with_the_usage(capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: couchside-compress")
    assert words in said


def test_help_names_the_built_in_recipes(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert all(name in said for name in builtin_recipes())


def test_data_that_is_not_there_is_told_in_one_line(changed, tmp_path, capsys):
    path = changed('source = "sample"', f'source = "{tmp_path}"')
    assert main([path, "--out", str(tmp_path / "out"), "--threads", "1"]) == 1
    said = capsys.readouterr().err
    assert said == f"couchside-compress: {tmp_path}: no ratings.csv or ratings.csv.gz there\n"


def test_out_that_is_a_file_is_told_in_one_line(changed, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    path = changed("max_users = 150", "max_users = 20")
    assert main([path, "--out", str(tmp_path / "out"), "--threads", "1"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"couchside-compress: .*out", said)
    assert (tmp_path / "out").read_text() == "mine"
