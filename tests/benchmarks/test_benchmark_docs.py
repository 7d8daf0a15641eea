"""The pages of the benchmarks tell every flag, exit code, scenario, backend and promise."""

from pathlib import Path

import pytest

from couchside.benchmarks import bench, latency
from couchside.benchmarks.errors import ExitCode
from couchside.benchmarks.promises.budgets import read_promises
from couchside.benchmarks.timing.choice import BACKENDS, SCENARIOS
from couchside.benchmarks.timing.slo import KEYS

DOCS = Path(__file__).parents[2] / "docs"
LATENCY = (DOCS / "benchmark_latency.md").read_text(encoding="utf-8")
BENCH = (DOCS / "benchmarks.md").read_text(encoding="utf-8")


def flags(parser):
    """Of a command and of each of its subcommands."""
    for action in parser._actions:
        yield from action.option_strings
        if action.option_strings == [] and isinstance(action.choices, dict):
            for subcommand in action.choices.values():
                yield from flags(subcommand)


@pytest.mark.parametrize(("command", "page"), [(latency, LATENCY), (bench, BENCH)])
def test_every_flag_is_told(command, page):
    told = set(flags(command._parser())) - {"-h", "--help"}
    assert len(told) > 4
    assert [flag for flag in sorted(told) if f"`{flag}" not in page] == []


@pytest.mark.parametrize("page", [LATENCY, BENCH])
def test_every_exit_code_is_told(page):
    for code in ExitCode:
        assert f"| {code.value} |" in page


@pytest.mark.parametrize("name", [*SCENARIOS, *BACKENDS, *KEYS])
def test_every_scenario_backend_and_limit_is_told(name):
    assert f"`{name}`" in LATENCY


def test_every_promise_is_told():
    for budget in read_promises().budget:
        assert f"`{budget.name}`" in BENCH
