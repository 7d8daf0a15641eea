"""What was measured, as sections with their conditions and caveats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from couchside.benchmarks.tables.compression.judged import GRAPHS, TEXT_ENCODER, USER_MODEL
from couchside.benchmarks.tables.table import Cell, Column, Row, Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from couchside.benchmarks.lab import LabReport

FILES = (
    Column("user model", "kB", "less"),
    Column("text encoder", "kB", "less"),
    Column("float over both", "times", "more"),
    Column("cosine of users"),
    Column("cosine of titles"),
    Column("NDCG@10", "", "more"),
    Column("loss to float", "%", "less"),
)
SPEED = (
    Column("user model", "ms", "less"),
    Column("float over this", "times", "more"),
    Column("text encoder", "ms", "less"),
    Column("encoder, float over this", "times", "more"),
)
SIZES = (
    Column("text encoder", "kB", "less"),
    Column("user model", "kB", "less"),
    Column("item table", "kB", "less"),
    Column("whole Bundle", "kB", "less"),
)
CODECS = (
    Column("item table", "kB", "less"),
    Column("float32 over this", "times", "more"),
    Column("NDCG@10", "", "more"),
    Column("loss to float", "%", "less"),
)
SHIPPED = "int8 a row, content and delta apart"
KB = 1000


def files_section(made: Sequence[Mapping[str, Any]], where: str) -> Section:
    """Bytes, cosines and ranking of every contender."""
    return Section(
        title="The same float student, in int8 by each tool",
        text=f"NDCG@10 of the shown ranking on {where}. Each tool's text encoder makes the content "
        "part of every item vector and its user model reads every history; all else is the float "
        "student's. Brackets: of cosines the lowest and highest row; of the loss its paired 95 % "
        "interval, where negative is no loss. Tools that calibrate got the same 64 histories from "
        "before the test, or 64 titles.",
        columns=FILES,
        rows=tuple(map(_files_row, made)),
        caveats=(
            (
                "Defaults, as somebody gets them who does not tune, but for *matrix products*: "
                "static int8 wants a choice of operators that its defaults do not make."
            ),
            (
                "The arithmetic of ours is not ours: onnxruntime's dynamic int8 after its own "
                "pre-processing, which Olive does too, and AI Edge Quantizer's dynamic recipe as "
                "it is. Ours is that ranking chose them and golden vectors check them on the TV."
            ),
            (
                "A loss whose interval holds 0 can't be told from none on so many users, nor can "
                "two tools whose intervals overlap be told apart by it."
            ),
            (
                "AI Edge Quantizer's static graphs take and give int8; what they were asked with "
                "was converted for them."
            ),
        ),
        chart="user model",
    )


def _files_row(row: Mapping[str, Any]) -> Row:
    if "missing" in row:
        return _missing(row, FILES)
    low, mean, high = row["loss"]
    cells = (
        *(Cell(row["bytes"][graph] / KB) for graph in GRAPHS),
        Cell(row["smaller"]),
        *(_cosine_cell(row["cosine"][graph]) for graph in GRAPHS),
        Cell(row["ndcg"]),
        Cell(mean, low, high),
    )
    return Row(row["name"], cells, row["ours"])


def _cosine_cell(cosine: Sequence[float]) -> Cell:
    """With four digits: what matters of a cosine is how far it is from 1."""
    low, mean, high = cosine
    return Cell(text=f"{mean:.4f} [{low:.4f}, {high:.4f}]")


def speed_section(made: Sequence[Mapping[str, Any]], text_batch: int) -> Section:
    """CPU time of a run of each graph."""
    return Section(
        title="What a run of these files costs",
        text=f"The longest history of the test, and {text_batch} titles; one thread, all files of "
        "one runtime turn by turn in one process; brackets are the lowest and highest round but "
        "one.",
        columns=SPEED,
        rows=tuple(map(_speed_row, made)),
        caveats=(
            (
                "x86-64 with AVX-512 VNNI: on ARM the order may differ; measure with "
                "`benchmark_latency`."
            ),
            "Files that an older onnxruntime's tool made run on ours like all others.",
            "AI Edge Quantizer's static files pay for converting inputs and outputs in numpy.",
        ),
        chart="user model",
    )


def _speed_row(row: Mapping[str, Any]) -> Row:
    if not row["speed"]:
        return _missing(row, SPEED)
    cells: list[Cell] = []
    for graph in (USER_MODEL, TEXT_ENCODER):
        ms, low, ratio, high = row["speed"][graph]
        cells += [Cell(ms), Cell(ratio, low, high)]
    return Row(row["name"], tuple(cells), row["ours"])


def _missing(row: Mapping[str, Any], columns: Sequence[Column]) -> Row:
    blank = [Cell()] * (len(columns) - 1)
    return Row(row["name"], (Cell(text=row.get("missing", "–")), *blank), row["ours"])


def codecs_section(rows: Sequence[Sequence[Any]], where: str) -> Section:
    """Bytes of the item table against ranking."""
    full = rows[0][1]
    return Section(
        title="The item table after training: why int8?",
        text=f"The float student's item vectors through each codec, histories and user model in "
        f"float; {where}; the loss with its paired 95 % interval. The last row is what a Bundle "
        "holds: content and delta are kept apart, so that a TV that has learned another projection "
        "needs no new table.",
        columns=CODECS,
        rows=tuple(
            Row(
                name,
                (Cell(size / KB), Cell(full / size), Cell(ndcg), Cell(mean, low, high)),
                ours=name == SHIPPED,
            )
            for name, size, ndcg, low, mean, high in rows
        ),
        caveats=(
            "Product quantisation here is after the fact; trained in (RecJPQ) it loses less.",
            (
                "A loss whose interval holds 0 is one that these users can't show. Fewer bits may "
                "be free here and dear elsewhere: catalogues differ, and so do their vectors."
            ),
        ),
        chart="item table",
    )


def sizes_section(lab: LabReport, flavour: str) -> Section:
    """Bytes of each part of every form; ``flavour`` is what most TVs get."""
    return Section(
        title="What a Bundle weighs",
        text="Parameters of teacher and student in float32, and the files of each flavour; the "
        "whole Bundle has the training step, golden vectors and titles besides.",
        columns=SIZES,
        rows=tuple(
            Row(
                size.name,
                (
                    *(Cell(n / KB) for n in (size.encoder, size.user_model, size.item_table)),
                    Cell(text="–") if size.whole is None else Cell(size.whole / KB),
                ),
                ours=size.runs,
            )
            for size in lab.forms(flavour)
        ),
        chart="whole Bundle",
    )


def old_runtime_section(found: Mapping[str, Any]) -> Section:
    """The silent garbage, and who notices."""
    if "missing" in found:
        cells = (Cell(text=found["missing"]), Cell())
    else:
        cells = (_cosine_cell(found["cosine"]), Cell(text=found["refused"] or "accepted it"))
    return Section(
        title="Our LiteRT int8 file on tflite-runtime 2.14",
        text="It loads and runs without an error: cosine to float of its user vectors over 64 "
        "histories [lowest, highest], and what opening the Bundle says, which asks the golden "
        "vectors first. 32-bit TVs, which have no other runtime, take the float flavour.",
        columns=(Column("cosine of users"), Column("golden vectors")),
        rows=(Row("tflite-runtime", cells),),
    )
