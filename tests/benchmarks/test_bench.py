"""``make bench`` on tiny Bundles: a real TV's day, every promise with a verdict."""

import json
import shutil
import time

import pytest

from couchside.benchmarks.errors import ExitCode, InvalidRunError
from couchside.benchmarks.promises.bench import main
from couchside.benchmarks.promises.budgets import read_promises
from couchside.benchmarks.promises.daemon_run import make_stock
from couchside.benchmarks.promises.report import spread
from couchside.device.bundle import open_bundle


@pytest.mark.timeout(240)
def test_bench_prints_each_promise_beside_what_was_measured(bundles, tmp_path, capsys):
    out = tmp_path / "bench.json"
    code = main([str(bundles), "--runs", "1", "--without-peers", "--json", str(out)])
    printed = capsys.readouterr().out
    document = json.loads(out.read_text())
    assert (document["schema"], document["kind"]) == ("couchside.bench/1", "bench")
    assert document["bundle_id"] == open_bundle(bundles / "litert-int8").bundle_id
    lines = {line["budget"]["name"]: line for line in document["promises"]}
    wanted = {budget.name for budget in read_promises().budget if budget.recipe is None}
    assert lines.keys() == wanted
    missed = [name for name, line in lines.items() if line["verdict"] == "miss"]
    assert code == (ExitCode.MISSED if missed else ExitCode.OK)
    for line in lines.values():
        assert len(line["values"]) == 1
        assert line["budget"]["what"] in printed
    # What does not depend on how busy this machine is.
    for name in ("daemon_rss", "daemon_anonymous", "events_missed"):
        assert lines[name]["verdict"] == "pass", lines[name]
    assert "float student, shown ranking" in printed
    assert document["board"]["cores"] >= 1


def test_stock_has_exactly_as_many_titles_as_promised():
    stock = make_stock(1000, now=time.time())
    programmes = stock.guide.count("<programme ")
    assert programmes > 100
    assert len(stock.films) + programmes == 1000


def test_stock_beyond_the_sample_is_refused():
    with pytest.raises(InvalidRunError, match="10000000 titles can't be made"):
        make_stock(10_000_000, now=time.time())


def test_folder_without_bundles_is_refused(tmp_path, capsys):
    assert main([str(tmp_path)]) == ExitCode.USAGE
    assert "make some with couchside-compress" in capsys.readouterr().err


def test_folder_without_the_promised_flavour_is_refused(bundles, tmp_path, capsys):
    shutil.copytree(bundles / "onnx-int8", tmp_path / "onnx-int8")
    assert main([str(tmp_path)]) == ExitCode.USAGE
    assert "the promises are about litert-int8" in capsys.readouterr().err


def test_no_runs_are_refused(bundles, capsys):
    assert main([str(bundles), "--runs", "0"]) == ExitCode.USAGE
    assert "--runs" in capsys.readouterr().err


def test_spread_shows_the_runs_that_disagree():
    assert spread((1.0, 2.0, 30.0)) == "2.00 [1.00, 30.0]"
    assert spread((5.0,)) == "5.00"
    assert spread(()) == "–"
