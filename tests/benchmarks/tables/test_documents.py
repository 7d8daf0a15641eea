"""What the documents say was measured: no number without a mark, no mark without a number."""

import re
from pathlib import Path

import pytest

from couchside.benchmarks.bench import PAGE, RESULTS
from couchside.benchmarks.promises.budgets import read_promises
from couchside.benchmarks.tables.page import page_text
from couchside.benchmarks.tables.quotes import DOCUMENTS, MARK, Sources
from couchside.benchmarks.tables.results import read_promises_report, read_results

ROOT = Path(__file__).parents[3]
MEASURED = re.compile(
    r"\d[\d,.]*\s?(?:[MGkK]i?B\b|bytes\b|ms\b|µs\b|s\b|%|×|seconds?\b|minutes?\b)|\b0\.\d{3,}"
)
"""What looks like a measurement."""
DEFINED = {
    "device/README.md": (
        "3 % or 2 minutes", "episode after 2 minutes", "or 3 minutes before the end",
        "at most 64 KiB a request", "a look every 15 s at most",
    ),
    "compression/README.md": ("95 % interval", "a mean loss of more than 2 %"),
    "cloud_sync/README.md": (
        "window × 60 KiB", "256 MiB", "8 MiB", "60 s,", "At most 60 KiB", "at most 16 KiB",
        "48,000 bytes", "(60 s for the helper)",
    ),
}  # fmt: skip
"""Numbers that are decided and not measured, in their words."""


@pytest.fixture(scope="module")
def sources():
    return Sources(read_results(ROOT / RESULTS), read_promises_report(ROOT / RESULTS))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_marked_numbers_are_those_of_the_results(name, sources):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert sources.fill(text) == text, "run: python -m couchside.benchmarks.bench page"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_measured_number_stands_without_a_mark(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    text = MARK.sub("", text)
    text = re.sub(r"```.*?```|^    .*?$|`[^`]*`", "", text, flags=re.DOTALL | re.MULTILINE)
    text = " ".join(text.split())
    for phrase in DEFINED.get(name, ()):
        text = text.replace(phrase, "")
    assert MEASURED.findall(text) == []


def test_page_is_the_one_that_the_results_make():
    results = read_results(ROOT / RESULTS)
    pictures = {
        name: [
            f"results/{name}-{place + 1}.svg"
            if (ROOT / RESULTS / f"{name}-{place + 1}.svg").exists()
            else ""
            for place in range(len(result.body.sections))
        ]
        for name, result in results.items()
    }
    wanted = page_text(results, read_promises_report(ROOT / RESULTS), pictures)
    assert (ROOT / PAGE).read_text(encoding="utf-8") == wanted


def test_every_promise_was_measured_and_none_is_missed():
    report = read_promises_report(ROOT / RESULTS)
    assert report is not None
    assert [line.budget for line in report.promises] == list(read_promises().budget)
    verdicts = {line.budget.name: str(line.verdict) for line in report.promises}
    assert set(verdicts.values()) <= {"pass", "unclear"}, verdicts


def test_pictures_of_the_page_are_there():
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
        assert (ROOT / PAGE.parent / path).is_file(), path
