"""The Jetson page: its flags exist, its files are there, and what it says of the code is so."""

import re
from pathlib import Path

import pytest

from couchside.benchmarks.timing import flags
from couchside.device.runtime.engines import KEPT

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs/jetson.md"
WORDS = {6: "six", 8: "eight", 10: "ten"}
OTHERS = {"--python", "--onnx", "--rm", "--runtime", "--store", "--restore", "--use_tensorrt"}
"""Flags of uv, trtexec, docker, jetson_clocks and onnxruntime's build."""
OTHERS |= {"--system-site-packages"}


@pytest.fixture(scope="module")
def page():
    return PAGE.read_text(encoding="utf-8")


def test_every_flag_exists(page):
    ours = {flag for action in flags.parser("x")._actions for flag in action.option_strings}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z_-]+", page)) - OTHERS <= ours


def test_every_file_and_link_is_there(page):
    named = re.findall(r"`((?:benchmarks|tests|docs)/[^`\s]+)`", page)
    linked = [f"docs/{link}" for link in re.findall(r"\]\((?!http)([^)]+)\)", page)]
    assert len(named) >= 4
    for name in (*named, *linked):
        assert (REPOSITORY / name).is_file(), name


def test_it_tells_how_many_engines_stay(page):
    assert f"the {WORDS[KEPT]} keys used last stay" in page


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.jetson"])
def test_image_gets_what_the_wheel_is_made_of_and_nothing_else(name):
    lines = (REPOSITORY / f"benchmarks/oci/{name}.dockerignore").read_text().split()
    assert lines[0] == "*"
    let_in = [line[1:] for line in lines if line.startswith("!")]
    assert {"pyproject.toml", "README.md", "LICENSE"} <= set(let_in)
    assert all((REPOSITORY / entry).exists() for entry in let_in)
    assert not {".git", ".venv", "build", "tests"} & set(let_in)
