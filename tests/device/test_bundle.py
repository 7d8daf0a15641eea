from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from couchside.device.bundle import (
    MANIFEST,
    MANIFEST_LIMIT,
    dequantize,
    open_bundle,
    project,
    quantize_rows,
    unit,
    write_manifest,
)
from couchside.device.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def copied(tiny_bundle, tmp_path) -> Path:
    """A Bundle of its own, to be damaged."""
    return shutil.copytree(tiny_bundle, tmp_path / "copied")


def manifest_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / MANIFEST).read_bytes())


def rewrite(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / MANIFEST).write_text(json.dumps(manifest))


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """Change a file and own up to it in the manifest."""
    (folder / name).write_bytes(content)
    manifest = manifest_of(folder)
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"][name] = {"bytes": len(content), "sha256": digest}
    rewrite(folder, manifest)


def test_bundle_opens_and_gives_what_its_manifest_says(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    said = manifest_of(tiny_bundle)
    assert (bundle.version, bundle.flavour, bundle.runtime) == (1, "litert-int8", "litert")
    assert bundle.bundle_id == hashlib.sha256((tiny_bundle / MANIFEST).read_bytes()).hexdigest()
    assert bundle.popularity_weight == said["popularity_weight"]
    assert bundle.graph("user_model").inputs["mask"].shape == (1, bundle.model.history_length)
    assert bundle.file("items.bin").stat().st_size == said["files"]["items.bin"]["bytes"]
    for name, record in said["tensors"].items():
        tensor = bundle.tensor(name)
        assert tensor.shape == tuple(record["shape"])
        assert tensor.dtype == np.dtype(record["dtype"])
        with pytest.raises(ValueError, match="read-only"):
            tensor[...] = 0


def test_bundle_asked_for_what_it_lacks_says_what_it_has(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    with pytest.raises(BundleError, match=r"no graph 'video'; it has .*user_model"):
        bundle.graph("video")
    with pytest.raises(BundleError, match="no tensor 'weights'"):
        bundle.tensor("weights")
    with pytest.raises(BundleError, match=r"lists no file 'notes\.txt'"):
        bundle.file("notes.txt")


def test_manifest_written_again_is_the_same_bytes(copied):
    before = (copied / MANIFEST).read_bytes()
    write_manifest(copied, open_bundle(copied).manifest)
    assert (copied / MANIFEST).read_bytes() == before


@pytest.mark.parametrize("flavour", ["litert-float", "litert-int8", "onnx-float", "onnx-int8"])
def test_every_flavour_lists_every_file_in_its_folder(bundles, flavour):
    listed = set(open_bundle(bundles / flavour).manifest.files)
    assert {path.name for path in (bundles / flavour).iterdir()} == listed | {MANIFEST}


def test_flipped_byte_in_any_file_is_refused_by_name(copied):
    for name in manifest_of(copied)["files"]:
        file = copied / name
        good = file.read_bytes()
        for place in (0, len(good) // 2, len(good) - 1):
            bad = bytearray(good)
            bad[place] ^= 0x10
            file.write_bytes(bad)
            with pytest.raises(BundleError, match=rf"{name}: its SHA-256 .* fetch"):
                open_bundle(copied)
        file.write_bytes(good)
    open_bundle(copied)


@pytest.mark.parametrize("change", ["shorter", "longer", "empty", "gone", "folder", "fifo", "link"])
def test_file_that_is_not_a_plain_file_of_its_size_is_refused_by_name(copied, change):
    file = copied / "items.bin"
    content = file.read_bytes()
    file.unlink()
    if change == "folder":
        file.mkdir()
    elif change == "fifo":
        os.mkfifo(file)
        manifest = manifest_of(copied)
        manifest["files"]["items.bin"]["bytes"] = 0  # what stat says of a FIFO
        rewrite(copied, manifest)
    elif change == "link":
        (copied.parent / "elsewhere").write_bytes(content)
        file.symlink_to(copied.parent / "elsewhere")
    elif change != "gone":
        made = {"shorter": content[:-1], "longer": content + b"\0", "empty": b""}[change]
        file.write_bytes(made)
    with pytest.raises(BundleError, match=r"items\.bin: .*fetch"):
        open_bundle(copied)


@pytest.mark.parametrize("change", ["gone", "empty", "truncated", "huge", "latin-1", "folder"])
def test_manifest_that_cannot_be_read_is_refused_with_what_to_do(copied, change):
    file = copied / MANIFEST
    content = file.read_bytes()
    file.unlink()
    made = {
        "empty": b"",
        "truncated": content[:-3],
        "huge": content + b" " * MANIFEST_LIMIT,
        "latin-1": content.replace(b"tv-tiny", b"tv-t\xefny"),
    }
    words = "a Bundle is a folder with a manifest.json in it"
    if change in made:
        file.write_bytes(made[change])
        words = "more than 65536 bytes" if change == "huge" else "fetch the Bundle again"
    elif change == "folder":
        file.mkdir()
        words = "not a plain file"
    with pytest.raises(BundleError, match=f"{MANIFEST}.*{words}"):
        open_bundle(copied)


def test_path_that_is_no_folder_is_refused_with_words(tiny_bundle, tmp_path):
    for path in (tmp_path / "nowhere", tiny_bundle / "items.bin"):
        with pytest.raises(BundleError, match=f"{path.name}.*a Bundle is a folder"):
            open_bundle(path)


def test_manifest_with_a_key_twice_is_refused(copied):
    text = (copied / MANIFEST).read_text()
    (copied / MANIFEST).write_text(text.replace('"version": 1', '"version": 1, "version": 9'))
    with pytest.raises(BundleError, match="version: appears twice"):
        open_bundle(copied)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_manifest_with_a_number_that_is_none_is_refused(copied, constant):
    manifest = manifest_of(copied)
    text = json.dumps(manifest | {"popularity_weight": "HERE"})
    (copied / MANIFEST).write_text(text.replace('"HERE"', constant))
    with pytest.raises(BundleError, match="number"):
        open_bundle(copied)


def _set(value: object, *path: str | int):
    """A change that puts ``value`` at ``path`` of the manifest."""

    def change(manifest: dict[str, Any]) -> None:
        inner: Any = manifest
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return change


def _drop(*path: str):
    def change(manifest: dict[str, Any]) -> None:
        inner: Any = manifest
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]

    return change


def _tensor(**fields: object):
    record = {"file": "items.bin", "offset": 0, "dtype": "int8", "shape": [1]}
    return _set(record | fields, "tensors", "extra")


LIES = {
    "unknown field": (_set(1, "colour"), "colour: is not a field"),
    "unknown field deep down": (_set(1, "model", "depth"), r"model\.depth: is not a field"),
    "missing field": (_drop("golden"), "golden: is missing"),
    "missing field deep down": (_drop("files", "items.bin", "sha256"), "sha256: is missing"),
    "text for a number": (_set("1", "version"), "version: must be a whole number"),
    "true for a number": (_set(True, "model", "d"), r"model\.d: must be"),  # noqa: FBT003
    "another format": (_set("couchside-bundle/1", "format"), "this software reads"),
    "unknown runtime": (_set("pytorch", "runtime"), "runtime: must be one of litert"),
    "unknown dtype": (_tensor(dtype="float64"), r"tensors\.extra\.dtype: must be one of int8"),
    "tensor beyond its file": (_tensor(shape=[10**6]), r"'extra' ends beyond items\.bin"),
    "tensor beyond its file by one": (
        lambda m: _tensor(offset=m["files"]["items.bin"]["bytes"])(m),
        "'extra' ends beyond",
    ),
    "tensor whose size wraps around": (_tensor(shape=[2**32, 2**32]), "'extra' ends beyond"),
    "tensor of an absurd size": (_tensor(shape=[2**70]), "'extra' ends beyond"),
    "tensor before its file": (_tensor(offset=-1), "'extra' has no place to lie"),
    "tensor of negative size": (_tensor(shape=[-1]), "'extra' has no place to lie"),
    "tensor in no file": (_tensor(file="other.bin"), "'extra' has no place to lie"),
    "no item table": (_drop("tensors", "content"), "no tensor 'content'"),
    "no popularity": (_drop("tensors", "popularity"), "no tensor 'popularity'"),
    "item table without shape": (
        _set([], "tensors", "content", "shape"),
        r"'content' is int8 \(\)",
    ),
    "narrow item table": (_set(8, "model", "content_d"), "'content' is .* expected"),
    "scale for fewer titles": (_set([3], "tensors", "delta_scale", "shape"), "'delta_scale' is"),
    "whole scales": (_set("int32", "tensors", "delta_scale", "dtype"), "'delta_scale' is int32"),
    "titles in no file": (_set("films.jsonl", "titles"), r"'films\.jsonl' is not among the files"),
    "graph in no file": (
        _set("none.tflite", "graphs", "user_model", "file"),
        r"'none\.tflite' is not among the files",
    ),
    "weights of another length": (
        lambda m: _set([m["tensors"]["theta"]["shape"][0] - 1], "tensors", "theta", "shape")(m),
        "'theta' is float32",
    ),
    "parameter in the wrong place": (
        _set(1, "parameters", 0, "offset"),
        "parameter '.*' has no place to lie",
    ),
    "personal parameter that is none": (
        _set(["tower.nowhere"], "personal"),
        r"no parameter 'tower\.nowhere'",
    ),
    "golden vectors for no graph": (_set("video", "golden", 0, "graph"), "no graph: 'video'"),
    "golden vectors of no tensor": (
        _set({"tokens": "nothing"}, "golden", 0, "inputs"),
        "no tensor: 'nothing'",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_manifest_that_does_not_fit_is_refused_with_the_field(copied, lie):
    change, words = LIES[lie]
    manifest = manifest_of(copied)
    change(manifest)
    rewrite(copied, manifest)
    with pytest.raises(BundleError, match=f"{MANIFEST}: .*{words}"):
        open_bundle(copied)


@pytest.mark.parametrize(
    "name",
    [
        "../outside.bin",
        "/etc/hostname",
        "a/../../outside.bin",
        "..",
        ".hidden",
        "..\\outside.bin",
        "",
        " items.bin",
        "items.bin\n",
        "nul\0byte",
        "half\ud800",
        "x" * 300,
    ],
)
def test_file_name_that_leads_elsewhere_is_refused_before_it_is_opened(copied, name):
    (copied.parent / "outside.bin").write_bytes(b"x")
    manifest = manifest_of(copied)
    digest = hashlib.sha256(b"x").hexdigest()
    manifest["files"] = {name: {"bytes": 1, "sha256": digest}} | manifest["files"]
    rewrite(copied, manifest)
    with pytest.raises(BundleError, match=r"plain name|plain file|too long|half a character"):
        open_bundle(copied)


def _places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(item, (*path, key))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@settings(
    max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.data())
def test_manifest_with_any_value_anywhere_opens_or_is_a_bundle_error(copied, tiny_bundle, data):
    manifest = copy.deepcopy(manifest_of(tiny_bundle))
    places = [place for place in _places(manifest) if place]
    _set(data.draw(json_values), *data.draw(st.sampled_from(places)))(manifest)
    rewrite(copied, manifest)
    with suppress(BundleError):
        bundle = open_bundle(copied)
        assert len(bundle.item_vectors()) == len(bundle.tensor("popularity"))
        for name in bundle.manifest.tensors:
            bundle.tensor(name)


def test_item_vectors_are_unit_content_plus_a_bounded_delta(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    content = dequantize(bundle.tensor("content"), bundle.tensor("content_scale"))
    delta = dequantize(bundle.tensor("delta"), bundle.tensor("delta_scale"))
    vectors = bundle.item_vectors()
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(content), bundle.model.d)
    np.testing.assert_allclose(np.linalg.norm(vectors - delta, axis=1), 1.0, atol=1e-5)
    assert np.linalg.norm(delta, axis=1).max() <= 0.5 + 0.01  # the recipe's bound, and rounding
    for row in (0, len(content) // 2):
        by_hand = content[row].astype(np.float64) @ bundle.projection.astype(np.float64)
        by_hand = by_hand / np.linalg.norm(by_hand) + delta[row]
        np.testing.assert_allclose(vectors[row], by_hand, atol=1e-5)


def test_title_rows_know_every_title_by_every_name_it_goes_by(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    titles, rows = list(bundle.titles()), bundle.title_rows()
    assert len(titles) == len(bundle.tensor("content"))
    for row, title in enumerate(titles):
        assert rows[title.title_id] == row
        assert all(rows[f"{scheme}:{value}"] == row for scheme, value in title.external_ids)
    assert any(title.external_ids for title in titles)


def test_titles_with_a_wrong_line_are_refused_with_its_number(copied):
    lines = (copied / "titles.jsonl").read_bytes().splitlines(keepends=True)
    lines[4] = b'{"title_id": "x", "kind": "musical", "name": "Cats"}\n'
    replace_file(copied, "titles.jsonl", b"".join(lines))
    bundle = open_bundle(copied)
    with pytest.raises(BundleError, match=r"titles\.jsonl.*line 5.*kind: must be one of"):
        list(bundle.titles())


@pytest.mark.parametrize("change", ["one fewer", "one more"])
def test_titles_that_are_not_one_a_row_are_refused(copied, change):
    lines = (copied / "titles.jsonl").read_bytes().splitlines(keepends=True)
    extra = b'{"title_id": "x", "kind": "movie", "name": "Cats"}\n'
    lines = lines[:-1] if change == "one fewer" else [*lines, extra]
    replace_file(copied, "titles.jsonl", b"".join(lines))
    bundle = open_bundle(copied)
    with pytest.raises(BundleError, match=r"titles\.jsonl.*one title a row"):
        bundle.title_rows()


rows_of_floats = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
    elements=st.floats(-1e6, 1e6, width=32).filter(lambda x: x == 0 or abs(x) > 1e-30),
)


@given(rows_of_floats)
def test_quantized_rows_come_back_within_half_a_step(rows):
    quantized, scale = quantize_rows(rows)
    assert quantized.dtype == np.int8
    assert scale.dtype == np.float32
    assert quantized.min() >= -127
    error = np.abs(dequantize(quantized, scale).astype(np.float64) - rows)
    assert (error <= scale[:, None] * (0.5 + 1e-4)).all()


@given(rows_of_floats)
def test_quantized_row_keeps_its_sign_and_its_extreme(rows):
    quantized, scale = quantize_rows(rows)
    back = dequantize(quantized, scale)
    extreme = np.abs(rows).max(axis=1)
    np.testing.assert_allclose(np.abs(back).max(axis=1), extreme, rtol=1e-5)
    assert (back * rows >= 0).all()
    assert (np.abs(quantized).max(axis=1) == np.where(extreme > 0, 127, 0)).all()


def test_zero_row_stays_zero_when_quantized():
    quantized, scale = quantize_rows(np.zeros((2, 5), np.float32))
    assert not quantized.any()
    assert not scale.any()
    assert not dequantize(quantized, scale).any()


@given(rows_of_floats)
def test_unit_rows_have_length_one_or_stay_zero(rows):
    scaled = unit(rows)
    norms = np.linalg.norm(scaled.astype(np.float64), axis=1)
    large = np.linalg.norm(rows.astype(np.float64), axis=1) > 1e-10
    np.testing.assert_allclose(norms[large], 1.0, atol=1e-5)
    assert (norms[~large] <= 1.0 + 1e-5).all()


def test_projection_of_content_is_a_unit_vector_a_row():
    content = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    turned = project(content, np.array([[0.0, 2.0], [2.0, 0.0]], np.float32))
    np.testing.assert_allclose(turned, [[0.8, 0.6], [0.0, 0.0]], atol=1e-6)
