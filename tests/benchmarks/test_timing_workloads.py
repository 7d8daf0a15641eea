"""What is timed in stages is what the TV does; and the check before it finds what is wrong."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from couchside.benchmarks.timing.choice import Choice
from couchside.benchmarks.timing.workloads.rank import (
    Rank,
    choose_rows,
    invent_history,
    top_overlap,
)
from couchside.benchmarks.timing.workloads.scenarios import open_workload
from couchside.benchmarks.timing.workloads.search import Search, say
from couchside.benchmarks.timing.workloads.text import encoding
from couchside.device.bundle import open_bundle, write_manifest
from couchside.device.encoders import TextEncoder
from couchside.device.errors import BundleError
from couchside.device.ranker import UserModel, score, top_k
from couchside.device.runtime.graph import open_graph


def ask(query):
    """The answer of a query, which a benchmark throws away."""
    value = None
    for stage in query.stages:
        value = stage.call(value)
    return value


@pytest.fixture
def bundle(tiny_bundle):
    return open_bundle(tiny_bundle)


@pytest.mark.parametrize("history", [None, 3, 90])
def test_ranking_in_stages_is_the_ranking_of_the_tv(bundle, history):
    workload = Rank(bundle, Choice(scenario="rank", k=10, seed=4, history=history))
    (case,) = workload.load()
    steps = history or bundle.model.history_length
    table = bundle.item_vectors()
    user = UserModel(bundle).user(*invent_history(table, steps, 4))
    scores = score(user, table, bundle.tensor("popularity"), bundle.popularity_weight)
    assert ask(case.query).tolist() == top_k(scores, 10).tolist()
    assert [stage.name for stage in case.query.stages] == ["pre", "model", "post"]


def test_numpy_alone_scores_for_the_labs_user_vector(bundle):
    workload = Rank(bundle, Choice(scenario="rank", k=10, backend="numpy"))
    (case,) = workload.load()
    user = bundle.tensor("golden/user_model/out/user")[0]
    table = bundle.item_vectors()
    scores = score(user, table, bundle.tensor("popularity"), bundle.popularity_weight)
    assert ask(case.query).tolist() == top_k(scores, 10).tolist()
    assert workload.backend == "numpy"
    assert workload.check().cosine is None


@pytest.mark.parametrize("count", [1, 15, 16, 17, 40])
def test_encoding_in_stages_is_the_encoding_of_the_tv(bundle, count):
    titles = list(bundle.titles())[:count]
    value = titles
    for stage in encoding(bundle, open_graph(bundle, "text_encoder")):
        value = stage.call(value)
    np.testing.assert_array_equal(value, TextEncoder(bundle).encode(titles))


def test_search_finds_the_title_that_was_said(bundle):
    workload = Search(bundle, Choice(scenario="search"))
    try:
        (case,) = workload.load()
        names = [title.name for title in bundle.titles()]
        for text in say(tuple(bundle.titles()), seed=0):
            found = ask(case.query)
            assert any(names[row].startswith(text) for row in found[:5]), text
    finally:
        workload.close()


@pytest.mark.parametrize(
    ("count", "made"),
    [(100, "the whole table"), (40, "a part of the table"), (250, "the table repeated")],
)
def test_candidates_are_the_table_a_part_of_it_or_repeated(count, made):
    rows, said = choose_rows(100, count, seed=0)
    assert (len(rows), said) == (count, made)
    assert len(np.unique(rows)) == min(count, 100)


class TestOverlap:
    """The reference's ten best titles against ours."""

    rng = np.random.default_rng(0)
    table = rng.standard_normal((500, 16)).astype(np.float32)
    popularity = rng.standard_normal(500).astype(np.float32)
    user = rng.standard_normal(16).astype(np.float32)

    def overlap(self, got):
        return top_overlap(self.user, got, self.table, self.popularity, 0.1)

    def test_same_vector_picks_the_same_ten(self):
        assert self.overlap(self.user) == 1.0

    def test_rounding_is_no_error(self):
        assert self.overlap(self.user + np.float32(1e-3)) == 1.0

    def test_broken_selection_is_one(self, monkeypatch):
        worst_first = "couchside.benchmarks.timing.workloads.rank.top_k"
        monkeypatch.setattr(worst_first, lambda scores, k: np.argsort(scores)[:k])
        assert self.overlap(self.user) == 0.0

    def test_broken_scores_are_one(self, monkeypatch):
        module = "couchside.benchmarks.timing.workloads.rank.score"
        monkeypatch.setattr(module, lambda _user, _vectors, popularity, _weight: popularity)
        assert self.overlap(self.user) < 0.5

    def test_table_of_less_than_ten_titles(self):
        few = self.table[:3]
        assert top_overlap(self.user, self.user, few, self.popularity[:3], 0.1) == 1.0


def test_ranking_that_picks_other_titles_is_not_timed(bundle, monkeypatch):
    worst_first = "couchside.benchmarks.timing.workloads.rank.top_k"
    monkeypatch.setattr(worst_first, lambda scores, k: np.argsort(scores)[:k])
    with pytest.raises(BundleError, match="of the reference's ten best titles litert picks 0%"):
        Rank(bundle, Choice(scenario="rank")).check()


@pytest.fixture
def sighted(tiny_bundle, tmp_path):
    """A Bundle with an image encoder, which is its text encoder under another name."""
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    manifest = open_bundle(folder).manifest
    graphs = {**manifest.graphs, "image_encoder": manifest.graphs["text_encoder"]}
    golden = next(one for one in manifest.golden if one.graph == "text_encoder")
    more = (*manifest.golden, replace(golden, graph="image_encoder"))
    write_manifest(folder, replace(manifest, graphs=graphs, golden=more))
    return folder


def test_image_encoder_is_timed_once_a_bundle_has_one(sighted):
    workload = open_workload(sighted, Choice(scenario="encode-image"))
    (case,) = workload.load()
    assert workload.check().cosine > 0.99
    assert [stage.name for stage in case.query.stages] == ["model", "post"]
    model = open_bundle(sighted).model
    assert ask(case.query).shape == (model.text_batch, model.d)
