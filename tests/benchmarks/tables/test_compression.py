"""Codecs with known answers; every tool's file judged by the ranking that a viewer sees."""

import json
import shutil
from functools import partial

import numpy as np
import pytest

from couchside.benchmarks.errors import UsageError
from couchside.benchmarks.tables.bench import Bench
from couchside.benchmarks.tables.compression import report, table, tools
from couchside.benchmarks.tables.compression.codecs import codecs, integers, product
from couchside.benchmarks.tables.compression.judged import TEXT_ENCODER, read_lab, yardstick
from couchside.benchmarks.tables.contest import contest
from couchside.device.bundle import open_bundle
from couchside.device.errors import BundleError
from couchside.device.runtime.graph import open_graph


def test_integers_keep_what_they_can_hold():
    row = np.array([[-127.0, 0.0, 64.0, 127.0]], dtype=np.float32)
    assert np.array_equal(integers(row, bits=8, group=4), row)
    four = np.array([[-7.0, 1.0, 3.0, 7.0]], dtype=np.float32)
    assert np.allclose(integers(four, bits=4, group=2), four, atol=1e-3)


def test_error_of_integers_is_at_most_half_a_step():
    vectors = np.random.default_rng(0).standard_normal((50, 32)).astype(np.float32)
    step = np.abs(vectors).max(axis=1, keepdims=True) / 127
    assert (np.abs(integers(vectors, bits=8, group=32) - vectors) <= step / 2 + 1e-6).all()


def test_rows_of_zeros_stay_zeros():
    zeros = np.zeros((3, 16), dtype=np.float32)
    assert np.array_equal(integers(zeros, bits=4, group=16), zeros)


def test_product_quantisation_finds_clusters_again():
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((40, 8)).astype(np.float32)
    vectors = centres[rng.integers(0, 40, 2000)]
    assert np.abs(product(vectors, 1) - vectors).max() < 1e-4


def test_codecs_tell_their_bytes():
    vectors = np.random.default_rng(0).standard_normal((300, 64)).astype(np.float32)
    sizes = {name: size for name, size, _ in codecs(vectors)}
    assert sizes["float32"] == 300 * 64 * 4
    assert sizes["int8 a row"] == 300 * 68
    assert sizes["int4, groups of 16"] == 300 * (32 + 8)
    assert sizes["PQ, 8 bytes a row"] == 300 * 8 + 256 * 64 * 4


def test_int8_border_converts_there_and_back():
    detail = {"quantization": (0.5, 3), "dtype": np.int8}
    values = np.array([-100.0, 0.0, 1.25, 62.5], dtype=np.float32)
    quantised = tools._to_int8(values, detail)
    assert quantised.dtype == np.int8
    assert quantised.tolist() == [-128, 3, 5, 127]  # numpy rounds 2.5 to even; ends are clipped
    assert tools._to_float(quantised, detail).tolist() == [-65.5, 0.0, 1.0, 62.0]
    ids = np.array([7], dtype=np.int32)
    plain = {"quantization": (0.0, 0), "dtype": np.int32}
    assert tools._to_int8(ids, plain) is ids
    assert tools._to_float(ids, plain) is ids


def test_yardstick_gives_the_students_own_item_vectors(bundles):
    bundle = open_bundle(bundles / "litert-float")
    stick = yardstick(read_lab(bundles), bundle, 20)
    vectors = stick.item_vectors(stick.content(open_graph(bundle, TEXT_ENCODER)))
    assert np.abs(vectors - stick.vectors).max() < 1e-5
    samples = stick.samples()
    assert len(samples["user_model"]) == 64
    assert {feeds["tokens"].shape for feeds in samples[TEXT_ENCODER]} == {(16, 16)}
    assert len(samples[TEXT_ENCODER]) == 4
    cut = stick.lab.split.test_from
    events = stick.lab.interactions.times
    assert all(events[target.history].max() < cut for target in stick.calibration)


@pytest.mark.timeout(240)
def test_table_without_peers_judges_ours_and_the_runtimes_tools(bundles, tmp_path, monkeypatch):
    monkeypatch.setattr(table, "contest", partial(contest, turn_ns=500_000))
    bench = Bench("quick", bundles, tmp_path, "test", peers=False)
    body = table.TABLE.run(bench)
    files, speed, tables, sizes, old = body.sections
    rows = {row.name: row for row in files.rows}
    for name in ("float, onnxruntime", "Couchside onnx-int8", "float, LiteRT",
                 "Couchside litert-int8", "onnxruntime quantize_dynamic",
                 "AI Edge Quantizer, static"):  # fmt: skip
        user_model, encoder, smaller, *_, ndcg, loss = rows[name].cells
        assert user_model.value > 1
        assert encoder.value > 1
        assert smaller.value >= 1
        assert 0 <= ndcg.value <= 1
        assert loss.low <= loss.value <= loss.high
    assert rows["float, onnxruntime"].cells[-1].value == 0
    assert rows["Couchside litert-int8"].ours
    for name in ("Olive, dynamic", "ModelOpt, int8 (entropy)"):
        assert rows[name].cells[0].text == "user_model: left out by --without-peers"
    times = {row.name: row.cells for row in speed.rows}
    assert times["float, LiteRT"][1].value == times["float, onnxruntime"][3].value == 1.0
    assert times["Couchside onnx-int8"][0].value > 0
    assert tables.rows[0].cells[3].value == 0
    assert tables.rows[1].cells[1].value == pytest.approx(2.0)
    assert [row.name for row in tables.rows if row.ours] == [report.SHIPPED]
    assert [row.name for row in sizes.rows if row.ours] == ["litert-int8"]
    assert body.versions["olive-ai"] == "0.13.0"
    assert old.rows[0].cells[0].text == "left out by --without-peers"
    assert len(body.promised["int8_loss_upper"]) == 1


def test_tool_that_failed_is_a_row_with_its_reason(bundles, tmp_path):
    bench = Bench("quick", bundles, tmp_path, "test", peers=False)

    def refuse(graph, out):
        raise RuntimeError("no kernel for Foo")

    made = tools._made(bench, "Some tool", "onnx-float", tmp_path, refuse)
    assert made.missing == "user_model: no kernel for Foo"
    with pytest.raises(BundleError, match="no kernel"):
        tools.load(made, bench.bundles())
    row = report._missing({"name": "Some tool", "missing": made.missing, "ours": False},
                          report.FILES)  # fmt: skip
    assert row.cells[0].text.endswith("no kernel for Foo")


def test_file_that_is_no_model_is_refused_by_its_runtime(bundles, tmp_path):
    file = tmp_path / "garbage.onnx"
    file.write_bytes(b"no model")
    contender = tools.Contender("x", "onnx-float", {"user_model": file})
    bundle = open_bundle(bundles / "onnx-float")
    with pytest.raises(BundleError, match="can't load it"):
        tools.load(contender, {"onnx-float": bundle})


def test_bundles_outside_of_their_lab_are_refused(bundles, tmp_path):
    shutil.copytree(bundles, tmp_path / "bundles")
    with pytest.raises(UsageError, match="couchside-compress made them in"):
        read_lab(tmp_path / "bundles")


def test_bundles_without_a_float_flavour_are_refused(bundles, tmp_path):
    shutil.copytree(bundles / "litert-int8", tmp_path / "bundles" / "litert-int8")
    with pytest.raises(UsageError, match="needs a float flavour"):
        table.TABLE.run(Bench("quick", tmp_path / "bundles", tmp_path, "test", peers=False))


def test_lab_of_other_ratings_is_refused(compressed, tmp_path):
    for part in ("work/graphs", "work/student"):
        shutil.copytree(compressed / part, tmp_path / part)
    quality = json.loads((compressed / "quality.json").read_text())
    (tmp_path / "quality.json").write_text(json.dumps(quality | {"split_sha256": "0" * 64}))
    with pytest.raises(UsageError, match="run couchside-compress again"):
        read_lab(tmp_path / "bundles")
