"""New viewers, new titles and documents of other data sets, with known answers where there are."""

import json

import numpy as np
import pytest

from couchside.benchmarks.errors import UsageError
from couchside.benchmarks.tables.bench import Bench
from couchside.benchmarks.tables.compression.judged import read_lab
from couchside.benchmarks.tables.quality import cold, documents, table, widths
from couchside.device.records import Title, TitleKind


def title(name, *genres, year=None):
    return Title(title_id=f"x:{name}", kind=TitleKind.MOVIE, name=name, genres=genres, year=year)


def test_chance_is_the_mean_gain_over_all_places():
    assert cold.chance(1) == 1.0
    assert cold.chance(2) == pytest.approx((1 + 1 / np.log2(3)) / 2)
    assert cold.chance(100) == pytest.approx(sum(1 / np.log2(r + 1) for r in range(1, 11)) / 100)
    assert cold.chance(0) == 0.0


def test_tfidf_rows_are_unit_and_rare_words_tell_more():
    rows = cold.tfidf([title("Alien", "Horror"), title("Aliens", "Horror"), title("Alien Nation"),
                       title("Up", "Animation")]).toarray()  # fmt: skip
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0)
    near = rows @ rows.T
    assert near[0, 1] > 0  # a genre
    assert near[0, 2] > 0  # a word
    assert near[0, 3] == 0
    assert np.allclose(cold.tfidf([title("The")]).toarray(), 0)  # only a stop word: no direction


def test_last_events_are_the_known_ones():
    history = np.arange(5)
    assert cold._last(history, 2).tolist() == [3, 4]
    assert cold._last(history, 9).tolist() == [0, 1, 2, 3, 4]
    assert cold._last(history, 0).tolist() == []
    assert cold._last(history, None) is history


def test_new_titles_are_those_without_an_event_before_the_cut(bundles):
    lab = read_lab(bundles)
    cut = lab.split.test_from
    new = lab.interactions.counts(-np.inf, cut) == 0
    wanted = cold.new_title_targets(lab.interactions, cut, new)
    assert wanted
    for target in wanted:
        assert new[target.item]
        assert len(target.history)
    found = cold.new_titles(lab)
    assert found["titles"] == new.sum()
    assert found["targets"] == len(wanted)
    first, *others = found["rows"]
    assert first["name"] == "TF-IDF kNN"
    assert first["gain"] == [0.0, 0.0, 0.0]
    for row in (first, *others):
        low, mean, high = row["among"]
        assert 0 <= low <= mean <= high <= 1
        assert row["every"] <= mean  # more rivals can't help


def test_viewer_without_events_sees_the_bundles_popularity(bundles):
    lab = read_lab(bundles)
    rows = {row["known"]: row for row in cold.new_viewers(lab, 60)}
    assert rows.keys() == {0, 1, 2, 5, 10, None}
    assert rows[0]["alone"] == rows[0]["item_knn"] == 0.0
    assert len({row["popularity"] for row in rows.values()}) == 1
    for row in rows.values():
        low, mean, high = row["gain"]
        assert low <= mean <= high


@pytest.mark.timeout(120)
def test_narrow_model_is_trained_and_judged_beside_the_shipped_one(bundles):
    rivals = widths.Rivals(read_lab(bundles))
    shipped, narrow = rivals.shipped(), rivals.train(8)
    assert shipped["loss"] == [0.0, 0.0, 0.0]
    assert narrow["bytes"] < shipped["bytes"]
    low, mean, high = narrow["loss"]
    assert low <= mean <= high


def test_quick_table_has_its_sections_and_its_promise(bundles, tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "FOLDER", tmp_path)
    (tmp_path / "quality-ml.json").write_text(json.dumps(DOCUMENT))
    body = table.TABLE.run(Bench("quick", bundles, tmp_path, "test", peers=False))
    report, viewers, titles, other = body.sections
    names = [row.name for row in report.rows]
    assert names[0] == "popularity-7d, frozen"
    assert "litert-int8, shown ranking" in names
    assert [row.name for row in viewers.rows][:3] == ["0 events", "1 event", "2 events"]
    assert len(titles.rows) == 3
    assert other.title == "ml-1m, split temporal"
    promised = dict(zip(names, report.rows, strict=True))["litert-int8, shown ranking"]
    assert body.promised["gain_over_popularity"] == (promised.cells[3].low,)


DOCUMENT = {
    "schema": "couchside.bench/1",
    "kind": "quality",
    "dataset": "ml-1m",
    "split": {"name": "temporal", "sha256": "ab" * 32, "users": 2, "targets": 3, "items": 9,
              "left_out": 1},
    "rows": [
        {"model": "popularity", "seed": None,
         "metrics": {"ndcg@10": {"value": 0.1, "low": 0.05, "high": 0.2}},
         "over_popularity": None, "cpu_s": 0.5, "parameters": 9, "epochs": None, "note": ""},
        {"model": "couchside", "seed": 0,
         "metrics": {"ndcg@10": {"value": 0.2, "low": 0.1, "high": 0.3},
                     "coverage@10": {"value": 0.5, "low": None, "high": None}},
         "over_popularity": {"value": 1.0, "low": 0.5, "high": 1.5}, "cpu_s": 60.0,
         "parameters": 4000, "epochs": 3, "note": "d = 128"},
    ],
    "curve": [{"epoch": 1, "loss": 7.0, "cpu_s": 20.0, "val_ndcg": 0.1, "val_hr": None}],
    "command": "couchside-study ml-1m", "made_at": "2026-01-01T00:00:00+00:00",
    "machine": {"cpu": "some", "cores": 2},
}  # fmt: skip


def test_document_becomes_a_section_with_its_protocol(tmp_path):
    (tmp_path / "quality-ml.json").write_text(json.dumps(DOCUMENT))
    (tmp_path / "quality.json").write_text("{}")  # the table's own result is no document of these
    (found,) = documents.read_documents(tmp_path)
    section = documents.section(found)
    assert "3 targets of 2 users among 9 titles" in section.text
    popularity, ours = section.rows
    assert not popularity.ours
    assert (ours.name, ours.ours) == ("couchside, seed 0", True)
    shown = dict(zip((column.name for column in section.columns), ours.cells, strict=True))
    assert (shown["NDCG@10"].value, shown["NDCG@10"].high) == (0.2, 0.3)
    assert (shown["over popularity"].value, shown["over popularity"].low) == (100.0, 50.0)
    assert shown["MRR"].value is None
    assert shown["parameters"].value == 4.0


@pytest.mark.parametrize(
    "damage",
    [{"kind": "table"}, {"schema": "other/1"}, {"rows": "none"}, {"surprise": 1}],
    ids=lambda damage: next(iter(damage)),
)
def test_document_of_another_form_is_refused(tmp_path, damage):
    file = tmp_path / "quality-ml.json"
    file.write_text(json.dumps(DOCUMENT | damage))
    with pytest.raises(UsageError, match=r"quality-ml\.json"):
        list(documents.read_documents(tmp_path))
