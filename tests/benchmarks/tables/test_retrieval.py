"""Retrieval: everybody's answers are compared with the exact ones; who is not there is said so."""

import json
import subprocess
import sys
from importlib import resources

import pytest

from couchside.benchmarks.tables import peers, retrieval
from couchside.benchmarks.tables.bench import Bench


@pytest.fixture(scope="module")
def answer(tmp_path_factory):
    """The script as the peers' environment runs it, in this one, which has numpy alone."""
    request = {
        "n": 2000, "d": 16, "seed": 1, "rounds": 3, "turn": 200_000,
        "work": str(tmp_path_factory.mktemp("work")),
    }  # fmt: skip
    script = resources.files("couchside.benchmarks.tables") / "peer_scripts" / "retrieval.py"
    done = subprocess.run(
        [sys.executable, str(script)], input=json.dumps(request), capture_output=True,
        text=True, check=True, env=peers._environment(),
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def test_ours_finds_what_numpy_finds(answer):
    rows = {row["name"]: row for row in answer["rows"]}
    for name in ("numpy, product and argpartition", "Couchside, as the TV does it"):
        assert rows[name]["recall"] == 1.0
        assert rows[name]["hot"] > 0
        assert rows[name]["cold"] > 0
    assert rows["limit: reading the int8 bytes"]["recall"] is None
    assert rows["plain C loop over int8"]["recall"] > 0.9


def test_mask_costs_ours_nothing_of_its_recall(answer):
    masked = {name: recall for name, _, recall in answer["masked"]}
    assert masked["Couchside, as the TV does it"] == 1.0


def test_library_that_is_not_there_is_a_reason(answer):
    assert "ModuleNotFoundError" in answer["missing"]["faiss, flat float32"]


def test_table_shows_everybody(answer):
    section = retrieval._section(2000, answer)
    names = [row.name for row in section.rows]
    assert names[0] == "numpy, product and argpartition"
    assert "hnswlib, HNSW float32" in names
    assert [row.name for row in section.rows if row.ours] == ["Couchside, as the TV does it"]


def test_table_without_peers_says_so(bundles, tmp_path):
    body = retrieval.TABLE.run(Bench("quick", bundles, tmp_path, "test", peers=False))
    assert body.sections[0].rows[0].cells[0].text == "left out by --without-peers"
