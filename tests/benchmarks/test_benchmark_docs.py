"""The pages of the benchmarks tell every flag, exit code and promise."""

from pathlib import Path

import pytest

from couchside.benchmarks import latency
from couchside.benchmarks.errors import ExitCode
from couchside.benchmarks.promises import bench
from couchside.benchmarks.promises.budgets import read_promises

README = (Path(__file__).parents[2] / "benchmarks" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", [latency, bench])
def test_every_flag_is_told(command):
    for action in command._parser()._actions:
        for flag in action.option_strings:
            if flag not in ("-h", "--help"):
                assert f"`{flag}" in README, flag


def test_every_exit_code_is_told():
    for code in ExitCode:
        assert f"| {code.value} |" in README


def test_every_promise_is_told():
    for budget in read_promises().budget:
        assert f"`{budget.name}`" in README
