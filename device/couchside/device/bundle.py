"""The Bundle: a folder of plain files and one strict manifest, opened with nothing taken on trust.

No archive, no pickle, no code: raw little-endian tensors, model graphs, JSON lines and
``manifest.json``. A file is hashed before anything parses it. Item vectors are kept as int8
content rows and int8 deltas (a float scale each) and rebuilt as ``unit(content @ P) + delta``,
so that a TV that learns a better P needs no new table.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping  # noqa: TC003 - strict.from_json reads annotations
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from couchside.device import strict
from couchside.device.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from couchside.device.records import Title

MANIFEST = "manifest.json"
FORMAT = "couchside-bundle/2"
MANIFEST_LIMIT = 64 * 1024
"""Bytes; ours are about 8 KiB, and a parser should not be handed more than it needs."""
DTYPES = {"int8": 1, "int32": 4, "float32": 4}

RuntimeName = Literal["litert", "onnxruntime", "tensorrt"]
Backing = Literal["float32", "int8"]


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a file of the Bundle must be."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """A raw little-endian, C-ordered array inside a file."""

    file: str
    offset: int
    dtype: Literal["int8", "int32", "float32"]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PortRecord:
    """An input or output of a graph: our name for it is the key, ``tensor`` is the file's."""

    tensor: str
    dtype: Literal["int32", "float32"]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GraphRecord:
    """A model graph and the names at its border."""

    file: str
    weights: Backing
    inputs: Mapping[str, PortRecord]
    outputs: Mapping[str, PortRecord]


@dataclass(frozen=True, slots=True)
class GoldenRecord:
    """One known answer: feeds and expected outputs as names of tensors."""

    graph: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    min_cosine: float
    """Each row of each output must reach this cosine similarity."""
    max_relative_error: float
    """‖got - expected‖ / ‖expected‖ of each output: a cosine alone is blind to scale."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes that the TV must agree on with the lab."""

    d: int
    """Width of user and item vectors."""
    content_d: int
    """Width of the text encoder's content vector."""
    history_length: int
    """L, the number of last events that the user model reads."""
    text_tokens: int
    text_buckets: int
    """Size of the hashed vocabulary."""
    text_batch: int
    """Titles per run of the text encoder's graph."""


@dataclass(frozen=True, slots=True)
class QualityRecord:
    """What the lab measured for exactly this flavour, so that speed is never quoted alone."""

    split_sha256: str
    ndcg_at_10: float
    """Of the shown ranking (user model and popularity) on the full catalogue."""
    ndcg_loss_low: float
    ndcg_loss: float
    ndcg_loss_high: float
    """Relative loss against the float student with its paired 95 % bootstrap interval."""


@dataclass(frozen=True, slots=True)
class ParameterRecord:
    """Where one trainable tensor lies in the flat parameter vector ``theta``."""

    name: str
    offset: int
    shape: tuple[int, ...]

    def places(self) -> NDArray[np.int64]:
        """Its places in ``theta``."""
        return np.arange(self.offset, self.offset + math.prod(self.shape))


@dataclass(frozen=True, slots=True)
class LearningRecord:
    """Whom TVs with this Bundle learn with; signed into it by the release."""

    rounds_keys: tuple[str, ...]
    """Ed25519 public keys in hexadecimal; each of them may sign a Round."""
    helper_key: str
    """X25519 public key in hexadecimal of the unmasking helper, for which seeds are sealed."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """``manifest.json``; unknown, missing or mistyped fields are refused."""

    format: str
    version: int
    """Grows with every release; a TV never goes back by itself below its floor."""
    recipe: str
    flavour: str
    runtime: RuntimeName
    model: ModelShape
    popularity_weight: float
    """Chosen on validation; score = user · item + weight × popularity."""
    popularity_as_of: float
    """POSIX seconds of the cut-off at which the popularity was frozen."""
    quality: QualityRecord | None
    """None in a draft that the lab has not measured yet."""
    titles: str
    """JSON lines, one a row of the item table, in order."""
    files: Mapping[str, FileRecord]
    graphs: Mapping[str, GraphRecord]
    tensors: Mapping[str, TensorRecord]
    parameters: tuple[ParameterRecord, ...]
    """Layout of the training step's ``theta``: user model and content projection."""
    personal: tuple[str, ...]
    """Names of the parameters that a TV may make its own, in the order in which the user model's
    input ``personal`` takes them, flat: gains and biases of the layer norms."""
    learning: LearningRecord | None
    """None: no Round is for this Bundle, and no TV with it learns together with others."""
    golden: tuple[GoldenRecord, ...]

    def personal_places(self) -> NDArray[np.int64]:
        """Where in ``theta`` the values of ``personal`` lie, in their order: int64 [p]."""
        records = {record.name: record for record in self.parameters}
        spans = [records[name].places() for name in self.personal]
        return np.concatenate([np.zeros(0, dtype=np.int64), *spans])


@dataclass(frozen=True)
class Bundle:
    """An opened Bundle whose every byte matched its manifest."""

    path: Path
    manifest: Manifest
    bundle_id: str
    """SHA-256 of the manifest, which names the SHA-256 of everything else."""

    @property
    def version(self) -> int:
        """Release number."""
        return self.manifest.version

    @property
    def flavour(self) -> str:
        """For example ``litert-int8``."""
        return self.manifest.flavour

    @property
    def runtime(self) -> RuntimeName:
        """The inference runtime that this flavour was made and tested for."""
        return self.manifest.runtime

    @property
    def model(self) -> ModelShape:
        """Sizes of the models."""
        return self.manifest.model

    @property
    def popularity_weight(self) -> float:
        """Weight of popularity in the shown score."""
        return self.manifest.popularity_weight

    def file(self, name: str) -> Path:
        """Path of a file that the manifest lists.

        Raises:
            BundleError: the manifest lists no such file.
        """
        if name not in self.manifest.files:
            raise BundleError(f"{self.path}: the manifest lists no file {name!r}")
        return self.path / name

    def graph(self, name: str) -> GraphRecord:
        """Record of the graph called ``name``.

        Raises:
            BundleError: this Bundle has no such graph.
        """
        try:
            return self.manifest.graphs[name]
        except KeyError:
            have = ", ".join(sorted(self.manifest.graphs))
            raise BundleError(f"{self.path}: no graph {name!r}; it has {have}") from None

    def tensor(self, name: str) -> NDArray[Any]:
        """A read-only memory map of the tensor called ``name``.

        Raises:
            BundleError: this Bundle has no such tensor.
        """
        try:
            record = self.manifest.tensors[name]
        except KeyError:
            raise BundleError(f"{self.path}: no tensor {name!r}") from None
        return np.memmap(
            self.path / record.file,
            dtype=np.dtype(record.dtype).newbyteorder("<"),
            mode="r",
            offset=record.offset,
            shape=record.shape,
        )

    def item_vectors(self) -> NDArray[np.float32]:
        """Item vectors ``unit(content @ P) + delta``: float32 [N, d]."""
        content = dequantize(self.tensor("content"), self.tensor("content_scale"))
        delta = dequantize(self.tensor("delta"), self.tensor("delta_scale"))
        return project(content, self.projection) + delta

    @cached_property
    def projection(self) -> NDArray[np.float32]:
        """The content projection P: float32 [content_d, d]."""
        return np.array(self.tensor("projection"), dtype=np.float32)

    @cached_property
    def shipped_personal(self) -> NDArray[np.float32]:
        """What the user model's input ``personal`` is before a TV has learned: float32 [p]."""
        theta = self.tensor("theta")
        return np.array(theta[self.manifest.personal_places()], dtype=np.float32)

    def titles(self) -> Iterator[Title]:
        """The titles behind the item rows, in row order.

        Raises:
            BundleError: a line is not a title, or there are more or fewer of them than rows.
        """
        # Imported late: most callers never read the titles, and the reader brings its own parts.
        from couchside.device.guide.jsonl import read_jsonl  # noqa: PLC0415

        def refuse(problem: object) -> None:
            raise BundleError(f"{self.path}/{self.manifest.titles}: {problem}")

        rows = range(self.manifest.tensors["content"].shape[0])
        try:
            titles = read_jsonl(self.file(self.manifest.titles), report=refuse)
            for _, title in zip(rows, titles, strict=True):
                yield title
        except ValueError as error:
            refuse(f"must hold one title a row, {len(rows)} in all: {error}")

    def title_rows(self) -> dict[str, int]:
        """Item row of every identifier a title goes by: its title_id and ``scheme:id`` pairs."""
        rows: dict[str, int] = {}
        for row, title in enumerate(self.titles()):
            rows[title.title_id] = row
            for scheme, value in title.external_ids:
                rows[f"{scheme}:{value}"] = row
        return rows


def dequantize(rows: NDArray[np.int8], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Float rows of an int8 table: [N, k] int8 times [N] float32 → [N, k] float32."""
    scales = np.asarray(scale, dtype=np.float32)[:, None]
    return np.asarray(rows.astype(np.float32) * scales, dtype=np.float32)


def quantize_rows(rows: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 rows with one float scale each; a zero row keeps scale 0.

    Args:
        rows: [N, k] float32.

    Returns:
        ([N, k] int8 in [-127, 127], [N] float32) with ``rows ≈ int8 * scale``.
    """
    scale = np.asarray(np.abs(rows).max(axis=1) / 127.0, dtype=np.float32)
    safe = np.where(scale > 0, scale, 1.0)[:, None]
    return np.rint(rows / safe).clip(-127, 127).astype(np.int8), scale


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1; a zero row stays zero."""
    norm = np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
    return np.asarray(rows / norm, dtype=np.float32)


def project(content: NDArray[np.float32], projection: NDArray[np.float32]) -> NDArray[np.float32]:
    """The content part of item vectors: ``unit(content @ P)``, [n, content_d] → [n, d]."""
    return unit(content @ projection)


def open_bundle(path: Path) -> Bundle:
    """Open the Bundle in folder ``path`` after checking every byte of it.

    Raises:
        BundleError: a file is missing, of another size or hash, or the manifest is not as
            specified. The message names the file and the field.
    """
    raw = _read_manifest(path / MANIFEST)
    try:
        manifest = strict.from_json(Manifest, strict.loads(raw))
    except strict.StrictError as error:
        raise BundleError(f"{path / MANIFEST}: {error}; fetch the Bundle again") from error
    if manifest.format != FORMAT:
        raise BundleError(
            f"{path / MANIFEST}: format is {manifest.format!r}, this software reads {FORMAT!r}"
        )
    for name, record in manifest.files.items():
        _check_file(path, name, record)
    _check_references(path, manifest)
    return Bundle(path, manifest, hashlib.sha256(raw).hexdigest())


def _read_manifest(file: Path) -> bytes:
    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise BundleError(f"{file}: not a plain file; fetch the Bundle again")
    try:
        with file.open("rb") as stream:
            raw = stream.read(MANIFEST_LIMIT + 1)
    except OSError as error:
        raise BundleError(
            f"{file}: {error.strerror}; a Bundle is a folder with a {MANIFEST} in it"
        ) from error
    if len(raw) > MANIFEST_LIMIT:
        raise BundleError(f"{file}: more than {MANIFEST_LIMIT} bytes, which no manifest needs")
    return raw


def _check_file(path: Path, name: str, record: FileRecord) -> None:
    plain = name == name.strip() and name.isprintable() and not name.startswith(".")
    if not plain or "/" in name or "\\" in name:
        raise BundleError(f"{path}: file name {name!r} must be a plain name inside the Bundle")
    file = path / name
    digest = hashlib.sha256()
    try:
        if file.is_symlink() or not file.is_file() or file.stat().st_size != record.bytes:
            raise BundleError(f"{file}: not a plain file of {record.bytes} bytes; fetch it again")
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise BundleError(f"{file}: {error.strerror}; fetch the Bundle again") from error
    if digest.hexdigest() != record.sha256:
        raise BundleError(f"{file}: its SHA-256 is not the manifest's; fetch the Bundle again")


def _check_references(path: Path, manifest: Manifest) -> None:
    """Every name in the manifest must lead somewhere, and every tensor must fit its file."""
    files = manifest.files
    named = {manifest.titles, *(graph.file for graph in manifest.graphs.values())}
    for missing in sorted(named - set(files)):
        raise BundleError(f"{path / MANIFEST}: {missing!r} is not among the files")
    for name, tensor in manifest.tensors.items():
        size = DTYPES[tensor.dtype] * math.prod(tensor.shape)
        if tensor.file not in files or min((tensor.offset, *tensor.shape)) < 0:
            raise BundleError(f"{path / MANIFEST}: tensor {name!r} has no place to lie")
        if tensor.offset + size > files[tensor.file].bytes:
            raise BundleError(f"{path / MANIFEST}: tensor {name!r} ends beyond {tensor.file}")
    for golden in manifest.golden:
        if golden.graph not in manifest.graphs:
            raise BundleError(f"{path / MANIFEST}: golden vectors for no graph: {golden.graph!r}")
        if golden.outputs.keys() != manifest.graphs[golden.graph].outputs.keys():
            raise BundleError(f"{path / MANIFEST}: golden vectors miss outputs of {golden.graph!r}")
        for name in (*golden.inputs.values(), *golden.outputs.values()):
            if name not in manifest.tensors:
                raise BundleError(f"{path / MANIFEST}: golden vectors name no tensor: {name!r}")
    _check_model_tensors(path, manifest)


def _check_model_tensors(path: Path, manifest: Manifest) -> None:
    """The item table must have the types and shapes that the model's sizes imply."""
    model, tensors = manifest.model, manifest.tensors
    rows = tensors["content"].shape if "content" in tensors else ()
    n = next(iter(rows), 0)
    expected = {
        "content": ("int8", (n, model.content_d)),
        "content_scale": ("float32", (n,)),
        "delta": ("int8", (n, model.d)),
        "delta_scale": ("float32", (n,)),
        "projection": ("float32", (model.content_d, model.d)),
        "popularity": ("float32", (n,)),
        "theta": ("float32", (_laid_out(path, manifest),)),
    }
    for name, (dtype, shape) in expected.items():
        if name not in tensors:
            raise BundleError(f"{path / MANIFEST}: no tensor {name!r}")
        have = tensors[name]
        if (have.dtype, have.shape) != (dtype, shape):
            raise BundleError(
                f"{path / MANIFEST}: tensor {name!r} is {have.dtype} {have.shape}, "
                f"expected {dtype} {shape}"
            )


def _laid_out(path: Path, manifest: Manifest) -> int:
    """Length of ``theta``: its parameters must lie one after another, and the personal be among."""
    end = 0
    for record in manifest.parameters:
        if record.offset != end or min(record.shape, default=1) < 1:
            raise BundleError(f"{path / MANIFEST}: parameter {record.name!r} has no place to lie")
        end += math.prod(record.shape)
    names = [record.name for record in manifest.parameters]
    for name in manifest.personal:
        if name not in names:
            raise BundleError(f"{path / MANIFEST}: no parameter {name!r} that could be personal")
    if len(set(names)) != len(names) or len(set(manifest.personal)) != len(manifest.personal):
        raise BundleError(f"{path / MANIFEST}: a parameter is named twice")
    return end


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write ``manifest`` as the ``manifest.json`` of folder ``path``, sorted and readable."""
    text = json.dumps(strict.to_json(manifest), indent=1, sort_keys=True, allow_nan=False)
    (path / MANIFEST).write_text(text + "\n", encoding="utf-8")
