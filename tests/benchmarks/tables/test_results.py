"""Results on disk: read back as they were, other documents left alone, two runs compared."""

import json

import pytest
from simulators.tables import promises, result

from couchside.benchmarks.bench import main
from couchside.benchmarks.errors import ExitCode, UsageError
from couchside.benchmarks.tables.page import page_text, write_page
from couchside.benchmarks.tables.quotes import MARK, Sources
from couchside.benchmarks.tables.results import read_promises_report, read_results, write_result


def test_result_is_read_back_as_it_was(tmp_path):
    write_result(tmp_path, result())
    write_result(tmp_path, promises(daemon_rss=(60.0, 61.0)))
    assert read_results(tmp_path) == {"speed": result()}
    assert read_promises_report(tmp_path) == promises(daemon_rss=(60.0, 61.0))


def test_document_of_another_kind_is_left_alone(tmp_path):
    (tmp_path / "quality-x.json").write_text('{"schema": "couchside.bench/1", "kind": "quality"}')
    assert read_results(tmp_path) == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not JSON"),
        ("[]", "not a result of this bench"),
        ('{"schema": "couchside.bench/1", "kind": "table", "tabel": 1}', "is not a field"),
    ],
)
def test_damaged_result_is_refused_with_its_name(tmp_path, text, why):
    (tmp_path / "speed.json").write_text(text)
    with pytest.raises(UsageError, match=rf"speed\.json: .*{why}"):
        read_results(tmp_path)


def test_missing_promises_are_none(tmp_path):
    assert read_promises_report(tmp_path) is None


def agree(first, second, tmp_path):
    for name, (ratio, rss) in (("a", first), ("b", second)):
        write_result(tmp_path / name, result(ratio=ratio))
        write_result(tmp_path / name, promises(daemon_rss=rss))
    return main(["agree", str(tmp_path / "a"), str(tmp_path / "b")])


def test_runs_that_say_the_same_agree(tmp_path):
    assert agree((2.0, (60.0,)), (2.25, (61.0,)), tmp_path) == ExitCode.OK


def test_ratio_further_apart_than_15_per_cent_is_told(tmp_path, capsys):
    assert agree((2.0, (60.0,)), (2.5, (60.0,)), tmp_path) == ExitCode.INVALID
    assert "speed / Speed / ours / ratio to peer: 2.00, then 2.50" in capsys.readouterr().err


def test_pass_and_then_miss_is_told(tmp_path, capsys):
    assert agree((2.0, (60.0,)), (2.0, (70.0,)), tmp_path) == ExitCode.INVALID
    assert "daemon_rss: pass, then miss" in capsys.readouterr().err


def test_unclear_contradicts_nobody(tmp_path):
    assert agree((2.0, (60.0,)), (2.0, (66.0,)), tmp_path) == ExitCode.OK


def test_quote_is_filled_from_promises_cells_budgets_and_constants():
    sources = Sources({"speed": result()}, promises(daemon_rss=(60.0, 61.6, 63.0)))
    text = (
        "<!--=promises/daemon_rss as {:.0f} MB-->old<!--/-->, "
        "<!--=promises/daemon_rss/high as {:.0f}-->old<!--/-->, "
        "<!--=speed/Speed/ours/ratio to peer as {:.1f} times-->old<!--/-->, "
        "<!--=speed/Speed/ours/CPU/low as {:.1f}-->old<!--/-->, "
        "<!--=budget/daemon_rss as {:.0f}-->old<!--/-->, "
        "<!--=code/couchside.benchmarks.tables.agree/MOST as {:.0%}-->old<!--/-->"
    )
    filled = sources.fill(text)
    shown = [mark["shown"] for mark in MARK.finditer(filled)]
    assert shown == ["62 MB", "63", "2.0 times", "0.9", "66", "15%"]
    assert sources.fill(filled) == filled


@pytest.mark.parametrize(
    "source",
    ["promises/nothing", "speed/Speed/ours/none", "nothing/a/b/c", "budget/x", "code/json/NOTHING"],
)
def test_quote_of_nothing_is_refused(source):
    with pytest.raises(UsageError, match="no such number"):
        Sources({"speed": result()}, promises(daemon_rss=(1.0,))).number(source)


def test_page_is_written_from_results_with_its_pictures(tmp_path):
    write_result(tmp_path / "results", promises(daemon_rss=(60.0,)))
    page = tmp_path / "README.md"
    write_page(tmp_path / "results", page)
    text = page.read_text()
    assert "This page is generated" in text
    assert "resident memory" in text
    assert text == page_text({}, promises(daemon_rss=(60.0,)), {})


def test_documents_are_whole_json_with_schema_and_kind(tmp_path):
    file = write_result(tmp_path, result())
    document = json.loads(file.read_text())
    assert (document["schema"], document["kind"]) == ("couchside.bench/1", "table")
