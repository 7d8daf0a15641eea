"""The table ``compression``: what int8 costs in ranking, by tool; what the item table's bytes buy.

Cosines and bytes are not what a viewer sees: every row ends with the loss in NDCG@10 of the shown
ranking, paired with the float student over the users of the lab's own test targets. What the table
does not say: how good each tool is in an expert's hands, or what int8 costs on an ARM board.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from couchside.benchmarks.errors import UsageError
from couchside.benchmarks.lab import read_lab_report
from couchside.benchmarks.tables import peers
from couchside.benchmarks.tables.compression.codecs import codecs
from couchside.benchmarks.tables.compression.judged import (
    CALIBRATION,
    GRAPHS,
    TEXT_ENCODER,
    USER_MODEL,
    Yardstick,
    loss_percent,
    read_lab,
    yardstick,
)
from couchside.benchmarks.tables.compression.report import (
    codecs_section,
    files_section,
    old_runtime_section,
    sizes_section,
    speed_section,
)
from couchside.benchmarks.tables.compression.tools import (
    MODELOPT,
    OLIVE,
    contenders,
    load,
    write_samples,
)
from couchside.benchmarks.tables.contest import contest
from couchside.benchmarks.tables.peers import PeerMissingError
from couchside.benchmarks.tables.runtimes import TFLITE
from couchside.benchmarks.tables.table import Body, Table
from couchside.device.bundle import unit
from couchside.device.errors import BundleError
from couchside.device.runtime.graph import open_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from couchside.benchmarks.tables.bench import Bench
    from couchside.benchmarks.tables.compression.tools import Contender
    from couchside.compression.evaluate import PerUser
    from couchside.device.bundle import Bundle
    from couchside.device.runtime.graph import Graph

QUICK_TARGETS = 1500
PROMISED = "litert-int8"
"""What most TVs get."""


def _run(bench: Bench) -> Body:
    bundles = bench.bundles()
    source = next((b for b in bundles.values() if b.flavour.endswith("-float")), None)
    if source is None:
        raise UsageError(f"{bench.bundles_folder}: needs a float flavour to compare with")
    lab = read_lab(bench.bundles_folder)
    stick = yardstick(lab, source, bench.quick_or_full(QUICK_TARGETS, None))
    folder = (bench.work / "compression").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    made = bench.unit("compression/tools", lambda: _tools(bench, bundles, stick, folder))
    tables = bench.unit("compression/codecs", lambda: _codecs(bundles, stick))
    old = bench.unit("compression/old", lambda: _old_runtime(bench, bundles, stick, folder))
    best = [row["loss"][2] for row in made if row["ours"] and "loss" in row]
    split = stick.lab.split.sha256[:12]
    where = f"{len(stick.wanted):,} targets of {stick.judge.users:,} users (split {split})"
    return Body(
        (
            files_section(made, where),
            speed_section(made, stick.bundle.model.text_batch),
            codecs_section(tables, where),
            sizes_section(read_lab_report(lab.folder / "quality.json"), PROMISED),
            old_runtime_section(old),
        ),
        versions=_versions(),
        promised={"int8_loss_upper": (min(best),)} if best else {},
    )  # fmt: skip


def _versions() -> dict[str, str]:
    """Of every tool, where it is installed."""
    pinned = (peer.requirements[0].partition("==") for peer in (OLIVE, MODELOPT, TFLITE))
    ours = ("onnxruntime", "ai-edge-quantizer")
    return {name: version for name, _, version in pinned} | {n: metadata.version(n) for n in ours}


TABLE = Table(
    "compression",
    "Compression",
    "What does int8 cost in ranking, with our recipes and with other tools' defaults?",
    _run,
)


def _tools(
    bench: Bench, bundles: Mapping[str, Bundle], stick: Yardstick, folder: Path
) -> list[dict[str, Any]]:
    """A record a contender: what it measured, or why it did not."""
    everybody = contenders(bench, bundles, stick.samples(), folder)
    graphs: dict[str, dict[str, Graph]] = {}
    judge = _Judging(stick)
    found = []
    for contender in everybody:
        bench.tell(f"compression: ranking with {contender.name}")
        record: dict[str, Any] = {"name": contender.name, "ours": contender.ours}
        try:
            loaded = load(contender, bundles)
            record |= judge(loaded) | _bytes(contender, everybody)
            graphs[contender.name] = loaded
        except BundleError as error:
            record["missing"] = str(error)[:200]
        found.append(record)
    speeds = _speeds(bench, stick, everybody, graphs)
    return [record | {"speed": speeds.get(record["name"], {})} for record in found]


def _bytes(contender: Contender, everybody: Sequence[Contender]) -> dict[str, Any]:
    """Of each file, and how many times smaller both are than the float files they came from."""
    source = next(other for other in everybody if other.flavour == contender.flavour)
    return {
        "bytes": contender.bytes,
        "smaller": sum(source.bytes.values()) / sum(contender.bytes.values()),
    }


class _Judging:
    """Compares everybody with the first, which is float."""

    def __init__(self, stick: Yardstick) -> None:
        self._stick = stick
        self._first: tuple[NDArray[np.float32], NDArray[np.float32], PerUser] | None = None

    def __call__(self, graphs: Mapping[str, Graph]) -> dict[str, Any]:
        content = self._stick.content(graphs[TEXT_ENCODER])
        vectors = self._stick.item_vectors(content)
        users = self._stick.users(graphs[USER_MODEL], vectors)
        metrics = self._stick.per_user(users, vectors)
        if self._first is None:
            self._first = content, users, metrics
        exact_content, exact_users, reference = self._first
        loss = loss_percent(metrics, reference)
        return {
            "cosine": {
                USER_MODEL: _cosine(users, exact_users),
                TEXT_ENCODER: _cosine(content, exact_content),
            },
            "ndcg": float(metrics.ndcg.mean()),
            "loss": [loss.low, loss.mean, loss.high],
        }


def _cosine(rows: NDArray[np.float32], exact: NDArray[np.float32]) -> list[float]:
    """Lowest, mean and highest over the rows."""
    each = (unit(rows) * unit(exact)).sum(axis=1, dtype=np.float64)
    return [float(each.min()), float(each.mean()), float(each.max())]


def _speeds(
    bench: Bench,
    stick: Yardstick,
    everybody: list[Contender],
    graphs: Mapping[str, Mapping[str, Graph]],
) -> dict[str, dict[str, list[float]]]:
    """By contender and graph: CPU ms, and the ratio to the same runtime's float file."""
    feeds: dict[str, Any] = {
        USER_MODEL: stick.history(max(stick.wanted, key=lambda t: len(t.history)), stick.vectors),
        TEXT_ENCODER: {"tokens": stick.batches[0]},
    }
    found: dict[str, dict[str, list[float]]] = {}
    for flavour in sorted({contender.flavour for contender in everybody}):
        runners = [c.name for c in everybody if c.flavour == flavour and c.name in graphs]
        for graph in GRAPHS:
            bench.tell(f"compression: {graph} turn by turn, {flavour}")
            runs = {name: _once(graphs[name][graph], feeds[graph]) for name in runners}
            for s in contest(runs, rounds=bench.quick_or_full(9, 21)):
                ratio = [s.ratio_low, s.ratio, s.ratio_high]
                found.setdefault(s.contender, {})[graph] = [s.cpu_ms, *ratio]
    return found


def _once(graph: Graph, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], object]:
    return lambda: graph.run(feeds)


def _codecs(bundles: Mapping[str, Bundle], stick: Yardstick) -> list[list[Any]]:
    """Name, bytes, NDCG@10 and loss of each codec, the user model as it is in float."""
    users = stick.users(open_graph(stick.bundle, USER_MODEL), stick.vectors)
    reference = stick.per_user(users, stick.vectors)
    shipped = next(iter(bundles.values()))
    tensors = ("content", "content_scale", "delta", "delta_scale")
    size = sum(shipped.tensor(name).nbytes for name in tensors)
    rows: list[list[Any]] = []
    for name, count, decoded in (
        *codecs(stick.vectors),
        ("int8 a row, content and delta apart", size, shipped.item_vectors()),
    ):
        metrics = stick.per_user(users, decoded)
        loss = loss_percent(metrics, reference)
        ndcg = float(metrics.ndcg.mean())
        rows.append([name, count, ndcg, loss.low, loss.mean, loss.high])
    return rows


def _old_runtime(
    bench: Bench, bundles: Mapping[str, Bundle], stick: Yardstick, folder: Path
) -> dict[str, Any]:
    """Cosines of our LiteRT int8 user model on tflite-runtime 2.14, and what golden vectors say."""
    bundle = bundles.get("litert-int8")
    if bundle is None:
        return {"missing": "no litert-int8 Bundle here"}
    record = bundle.graph(USER_MODEL)
    samples = folder / "histories.npz"
    write_samples(stick.samples()[USER_MODEL], samples)
    request = {
        "bundle": str(bundle.path.resolve()),
        "file": str(bundle.file(record.file).resolve()),
        "samples": str(samples),
        "tensors": {name: port.tensor for name, port in record.inputs.items()},
    }
    try:
        answer = peers.install(bench, TFLITE).ask("golden_check.py", request)
    except PeerMissingError as error:
        return {"missing": str(error)}
    graph = open_graph(stick.bundle, USER_MODEL)
    exact = stick.users(graph, stick.vectors, stick.calibration[:CALIBRATION])
    got = np.array(answer["users"], dtype=np.float32)
    return {"cosine": _cosine(got, exact), "refused": answer["refused"]}
