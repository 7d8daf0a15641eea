"""Files and numbers → a Bundle: one folder a flavour, with its manifest and golden vectors."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from couchside.compression.export import QUANTIZED, SUFFIX, exportables, graph_record
from couchside.compression.parity import check_parity
from couchside.compression.student import personal_names
from couchside.compression.training_step import training_step
from couchside.device.bundle import (
    FORMAT,
    FileRecord,
    GoldenRecord,
    Manifest,
    ModelShape,
    ParameterRecord,
    QualityRecord,
    TensorRecord,
    open_bundle,
    quantize_rows,
    write_manifest,
)
from couchside.device.guide.jsonl import write_jsonl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from couchside.compression.export import Exportable, Family
    from couchside.compression.parity import Parity
    from couchside.compression.recipe import Flavour, Recipe
    from couchside.compression.student import Models
    from couchside.device.bundle import RuntimeName
    from couchside.device.records import Title

GOLDEN_COSINE = {"float32": 0.9999, "int8": 0.999}
"""To the lab's own runtime: kernels of another CPU round differently, garbage is near 0."""
GOLDEN_ERROR = {"float32": 0.005, "int8": 0.05}

FAMILY: dict[Flavour, tuple[Family, RuntimeName, bool]] = {
    "litert-float": ("tflite", "litert", False),
    "litert-int8": ("tflite", "litert", True),
    "onnx-float": ("onnx", "onnxruntime", False),
    "onnx-int8": ("onnx", "onnxruntime", True),
}
"""File family, runtime and whether the weights are int8, of each flavour."""


def families(recipe: Recipe) -> list[Family]:
    """The file families that a recipe's flavours need."""
    return sorted({FAMILY[flavour][0] for flavour in recipe.flavours})


@dataclass(frozen=True)
class Contents:
    """What every flavour of a release shares."""

    recipe: Recipe
    models: Models
    titles: Sequence[Title]
    popularity: NDArray[np.float32]
    popularity_weight: float
    popularity_as_of: float


class TensorFile:
    """Raw tensors one after another, with the records of where each lies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, TensorRecord] = {}
        self._chunks: list[bytes] = []
        self._size = 0

    def add(self, name: str, values: NDArray[Any]) -> None:
        """Append ``values`` (int8, int32 or float32) under ``name``."""
        dtype = values.dtype.name
        raw = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()
        self.records[name] = TensorRecord(self.path.name, self._size, dtype, values.shape)  # type: ignore[arg-type]
        padding = -len(raw) % 16  # every tensor starts aligned, so it can be mapped
        self._chunks.append(raw + bytes(padding))
        self._size += len(raw) + padding

    def write(self) -> dict[str, TensorRecord]:
        """Write the file and return its records."""
        self.path.write_bytes(b"".join(self._chunks))
        return self.records


def pack_all(
    folder: Path, contents: Contents, exported: Path
) -> dict[str, dict[str, dict[str, float]]]:
    """Parity of every graph under ``exported``, then a Bundle a flavour in ``folder``.

    Returns:
        Of each flavour and graph, cosine and relative error to torch.

    Raises:
        ParityError: a file computes something else than torch.
    """
    items = exportables(contents.recipe, contents.models)
    report: dict[str, dict[str, dict[str, float]]] = {}
    for flavour in tqdm(contents.recipe.flavours, desc="parity and pack", unit="Bundle"):
        family, _, quantized = FAMILY[flavour]
        graphs = []
        for item in items:
            kind = "int8" if quantized and item.name in QUANTIZED else "float"
            path = exported / family / kind / (item.name + SUFFIX[family])
            graphs.append((item, path, check_parity(item, path, family, quantized=quantized)))
        pack(folder / flavour, flavour, contents, graphs)
        report[flavour] = {
            parity.graph: {"cosine": parity.cosine, "relative_error": parity.relative_error}
            for _, _, parity in graphs
        }
    return report


def pack(
    folder: Path,
    flavour: Flavour,
    contents: Contents,
    graphs: Sequence[tuple[Exportable, Path, Parity]],
) -> None:
    """Write the Bundle of one flavour into the new folder ``folder``, not yet measured."""
    family, runtime, quantized = FAMILY[flavour]
    folder.mkdir(parents=True)
    for item, source, _ in graphs:
        shutil.copyfile(source, folder / (item.name + SUFFIX[family]))
    lines = "".join(write_jsonl(contents.titles))
    (folder / "titles.jsonl").write_text(lines, encoding="utf-8")
    tensors = _write_items(folder, contents) | _write_parameters(folder, contents)
    golden_tensors, golden = _write_golden(folder, graphs, quantized=quantized)
    recipe, step = contents.recipe, training_step(contents.recipe, contents.models.ranker)
    offsets = np.cumsum([0, *step.layout.sizes()]).tolist()
    layout = zip(step.layout.names, offsets, step.layout.shapes, strict=False)
    manifest = Manifest(
        format=FORMAT,
        version=recipe.version,
        recipe=recipe.name,
        flavour=flavour,
        runtime=runtime,
        model=ModelShape(
            d=recipe.d,
            content_d=recipe.content_d,
            history_length=recipe.history_length,
            text_tokens=recipe.text_tokens,
            text_buckets=recipe.student_text.buckets,
            text_batch=recipe.text_batch,
        ),
        popularity_weight=contents.popularity_weight,
        popularity_as_of=contents.popularity_as_of,
        quality=None,
        titles="titles.jsonl",
        files=_file_records(folder),
        graphs={item.name: graph_record(item, family, quantized=quantized) for item, *_ in graphs},
        tensors=tensors | golden_tensors,
        parameters=tuple(ParameterRecord(*entry) for entry in layout),
        personal=tuple(f"tower.{name}" for name in personal_names(contents.models.ranker.tower)),
        learning=None,
        golden=golden,
    )
    write_manifest(folder, manifest)


def record_quality(folder: Path, quality: QualityRecord) -> None:
    """Write what was measured into the Bundle's manifest, and open it once more as a TV would."""
    bundle = open_bundle(folder)
    write_manifest(folder, replace(bundle.manifest, quality=quality))
    open_bundle(folder)


def _write_items(folder: Path, contents: Contents) -> dict[str, TensorRecord]:
    table = contents.models.ranker.table
    items = TensorFile(folder / "items.bin")
    rows = {"content": table.content, "delta": table.bounded_delta()}
    for name, values in rows.items():
        quantized, scale = quantize_rows(values.detach().numpy())  # type: ignore[operator]
        items.add(name, quantized)
        items.add(f"{name}_scale", scale)
    items.add("projection", table.projection.detach().numpy())
    items.add("popularity", contents.popularity)
    return items.write()


def _write_parameters(folder: Path, contents: Contents) -> dict[str, TensorRecord]:
    """The global weights that every Update of a Round starts from."""
    parameters = TensorFile(folder / "theta.bin")
    step = training_step(contents.recipe, contents.models.ranker)
    parameters.add("theta", step.initial_theta().numpy())
    return parameters.write()


def _write_golden(
    folder: Path, graphs: Sequence[tuple[Exportable, Path, Parity]], *, quantized: bool
) -> tuple[dict[str, TensorRecord], tuple[GoldenRecord, ...]]:
    tensors = TensorFile(folder / "golden.bin")
    records = []
    for item, _, parity in graphs:
        weights = "int8" if quantized and item.name in QUANTIZED else "float32"
        inputs = {name: value.numpy() for name, value in item.inputs.items()}
        names: list[Mapping[str, str]] = []
        for side, values in (("in", inputs), ("out", parity.answers)):
            named = {name: f"golden/{item.name}/{side}/{name}" for name in values}
            for name, value in values.items():
                tensors.add(named[name], np.asarray(value))
            names.append(named)
        records.append(
            GoldenRecord(
                graph=item.name,
                inputs=names[0],
                outputs=names[1],
                min_cosine=GOLDEN_COSINE[weights],
                max_relative_error=GOLDEN_ERROR[weights],
            )
        )
    return tensors.write(), tuple(records)


def _file_records(folder: Path) -> dict[str, FileRecord]:
    return {
        path.name: FileRecord(path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.iterdir())
    }
