"""``make bench`` on tiny Bundles: a real TV's day, every promise with a verdict."""

import shutil
import time

import pytest

from couchside.benchmarks.bench import main
from couchside.benchmarks.errors import ExitCode, InvalidRunError
from couchside.benchmarks.promises.budgets import Verdict, read_promises
from couchside.benchmarks.promises.daemon_run import make_stock
from couchside.benchmarks.tables.results import read_promises_report
from couchside.device.bundle import open_bundle


@pytest.mark.timeout(240)
def test_bench_prints_each_promise_beside_what_was_measured(bundles, tmp_path, capsys):
    out = tmp_path / "results"
    work = ["--out", str(out), "--work", str(tmp_path / "work")]
    code = main(["run", str(bundles), "promises", "--runs", "1", *work])
    printed = capsys.readouterr().out
    report = read_promises_report(out)
    assert report.bundle_id == open_bundle(bundles / "litert-int8").bundle_id
    lines = {line.budget.name: line for line in report.promises}
    tables = {"gain_over_popularity"}  # measured by tables, or promised by tv-small only
    wanted = {budget.name for budget in read_promises().budget if budget.recipe is None}
    assert lines.keys() == wanted - tables
    missed = [name for name, line in lines.items() if line.verdict is Verdict.MISS]
    assert code == (ExitCode.MISSED if missed else ExitCode.OK)
    for line in lines.values():
        assert line.budget.what in printed
    # What does not depend on how busy this machine is.
    for name in ("daemon_rss", "events_missed", "sync_peak", "installer_peak"):
        assert lines[name].verdict is Verdict.PASS, lines[name]
        assert len(lines[name].values) == 1
    assert report.board.cores >= 1
    # What was measured is remembered.
    main(["run", str(bundles), "promises", "--runs", "1", *work])
    assert "measured before" in capsys.readouterr().err
    assert read_promises_report(out).measured == report.measured


def test_stock_has_exactly_as_many_titles_as_promised():
    stock = make_stock(1000, now=time.time())
    programmes = stock.guide.count("<programme ")
    assert programmes > 100
    assert len(stock.films) + programmes == 1000


def test_stock_beyond_the_sample_is_refused():
    with pytest.raises(InvalidRunError, match="10000000 titles can't be made"):
        make_stock(10_000_000, now=time.time())


def test_folder_without_bundles_is_refused(tmp_path, capsys):
    assert main(["run", str(tmp_path)]) == ExitCode.USAGE
    assert "make some with couchside-compress" in capsys.readouterr().err


def test_folder_without_the_promised_flavour_is_refused(bundles, tmp_path, capsys):
    shutil.copytree(bundles / "onnx-int8", tmp_path / "onnx-int8")
    assert main(["run", str(tmp_path), "promises", "--out", str(tmp_path)]) == ExitCode.USAGE
    assert "the promises are about litert-int8" in capsys.readouterr().err


def test_no_runs_are_refused(bundles, capsys):
    assert main(["run", str(bundles), "--runs", "0"]) == ExitCode.USAGE
    assert "--runs" in capsys.readouterr().err


def test_table_that_is_not_there_is_refused(bundles, capsys):
    assert main(["run", str(bundles), "retreival"]) == ExitCode.USAGE
    assert "no table 'retreival'" in capsys.readouterr().err
