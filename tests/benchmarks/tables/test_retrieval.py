"""Retrieval: everybody's answers are compared with the exact ones; who is not there is said so."""

import json
import subprocess
import sys
from importlib import resources

import pytest

from couchside.benchmarks.tables import peers, retrieval
from couchside.benchmarks.tables.bench import Bench

OURS = "Couchside, as the TV does it"
NUMPY = "numpy, product and argpartition"
SCRIPTS = resources.files("couchside.benchmarks.tables") / "peer_scripts"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


def run(command, request, **more):
    done = subprocess.run(
        command, input=json.dumps(request), capture_output=True, text=True, check=True,
        env={**peers._environment(), **more},
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def ask(what, work, **more):
    """The script as the peers' environment runs it, in this one, which has few of the peers."""
    request = {
        "what": what, "n": 2000, "d": 16, "seed": 1, "rounds": 3, "turn": 200_000, "masks": True,
        "work": str(work), "k": 10, "weight": 0.3,
    }  # fmt: skip
    return run([sys.executable, str(SCRIPTS / "retrieval.py")], request, **more)


@pytest.fixture(scope="module")
def answer(work):
    return ask("retrieval", work)


def test_ours_finds_what_numpy_finds(answer):
    rows = {row["name"]: row for row in answer["rows"]}
    for name in (NUMPY, OURS):
        assert rows[name]["recall"] == 1.0
        assert rows[name]["hot"] > 0
        assert rows[name]["cold"] > 0
    assert rows["LiteRT, int8, and our top_k"]["recall"] > 0.9


def test_limits_find_int8s_answer_and_nothing(answer):
    rows = {row["name"]: row for row in answer["rows"]}
    limit, loop = "limit: reading the int8 bytes", "plain C loop over int8"
    if loop in answer["missing"]:
        pytest.skip("no C compiler here")
    assert rows[limit]["recall"] is None
    assert rows[limit]["bytes"] == 2000 * 16
    assert rows[loop]["recall"] > 0.9


def test_mask_costs_ours_nothing_of_its_recall(answer):
    masked = {row["name"]: row for row in answer["masked"]}
    assert masked[OURS]["recall"] == {"random": 1.0, "clusters": 1.0}
    assert masked[OURS]["how"] == "mask"
    assert not any(name.startswith(("limit", "plain")) for name in masked)


def test_library_or_compiler_that_is_not_there_is_a_reason(work, answer):
    assert "ModuleNotFoundError" in answer["missing"]["faiss, flat float32"]
    without_compiler = ask("retrieval", work, PATH="")
    assert "cc" in without_compiler["missing"]["plain C loop over int8"]


def test_who_has_no_filter_keeps_what_is_available_of_twice_as_many():
    probe = f"""if True:
        import json, sys
        import numpy as np
        sys.path.insert(0, {str(SCRIPTS)!r})
        source = open({str(SCRIPTS / "retrieval.py")!r}).read().removesuffix("main()\\n")
        names = {{}}
        exec(source, names)
        engine = names["makers"]("")[{NUMPY!r}](np.arange(10, dtype=np.float32)[:, None])
        mask = np.array(json.load(sys.stdin))
        print(json.dumps(names["_kept"](engine, mask)(np.ones(1, np.float32), 3).tolist()))"""
    # Of 9 8 7 6 5 4 two are available: one of the best three among them is lost.
    mask = [title in (0, 1, 5, 8) for title in range(10)]
    assert run([sys.executable, "-c", probe], mask) == [8, 5]


def test_table_shows_everybody_with_reasons_last(answer):
    section = retrieval._section(2000, answer)
    assert section.rows[0].name == NUMPY
    assert [row.name for row in section.rows if row.ours] == [OURS]
    assert {row.name for row in section.rows} >= {"hnswlib, HNSW float32", "sqlite-vec, float32"}
    masked = retrieval._masked(2000, answer)
    assert masked.rows[0].cells[0].text == "mask"
    assert [row.name for row in masked.rows if row.ours] == [OURS]


def test_numbers_are_microseconds_and_kilobytes():
    row = {"name": OURS, "hot": 0.05, "cold": 0.2, "ratio": [1.5, 1.0, 2.0], "recall": None,
           "bytes": 6_400_000, "build": 0.5}  # fmt: skip
    hot, cold, ratio, recall, index, build = retrieval._row(row).cells
    assert (hot.value, cold.value, index.value, build.value) == (50.0, 200.0, 6400.0, 0.5)
    assert (ratio.low, ratio.value, ratio.high) == (1.0, 1.5, 2.0)
    assert recall.value is None


def test_diversity_without_pyversity_says_so(work):
    section = retrieval._diversity(ask("diversity", work))
    assert "pyversity" in section.rows[0].cells[0].text


def test_table_without_peers_says_so(tmp_path):
    body = retrieval.TABLE.run(Bench("quick", tmp_path, tmp_path, "test", peers=False))
    for section in body.sections:
        assert [row.cells[0].text for row in section.rows] == ["left out by --without-peers"]


@pytest.mark.parametrize("refused", [(), ("scann==1",)])
def test_optional_requirement_that_does_not_install_leaves_the_others(
    monkeypatch, tmp_path, refused
):
    asked = []

    def pip(_, requirements):
        asked.append(requirements)
        if set(refused) & set(requirements):
            raise subprocess.CalledProcessError(1, "pip", stderr="no wheel")

    monkeypatch.setattr(peers, "_pip", pip)
    monkeypatch.setattr(peers.venv, "create", lambda folder, **_: folder.mkdir(parents=True))
    bench = Bench("quick", tmp_path, tmp_path, "test")
    peers.install(bench, peers.Peer("some", ("numpy==2",), optional=("scann==1", "apsw==3")))
    assert asked[0] == ("numpy==2", "scann==1", "apsw==3")
    assert asked[-1] == (("numpy==2", "apsw==3") if refused else asked[0])
