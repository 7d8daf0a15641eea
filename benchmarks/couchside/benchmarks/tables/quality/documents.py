"""Results of other data sets: documents that ``python -m couchside.compression.study`` wrote.

They lie beside the tables' results as ``quality-NAME.json``. Each is a section of its own with its
own protocol, as figures of different splits or metrics can't be compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import couchside.benchmarks
from couchside.benchmarks.errors import UsageError
from couchside.benchmarks.tables.table import Cell, Column, Row, Section
from couchside.device import strict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from couchside.compression.study import measures, results

FOLDER = Path(couchside.benchmarks.__path__[0]).parents[1] / "results"
"""Of a checkout; an installed package has none, and so no such documents."""
KIND = "quality"
METRICS = {"ndcg@10": "NDCG@10", "hr@10": "HR@10", "mrr": "MRR", "coverage@10": "coverage@10"}
"""Shown of all that a document holds."""
OURS = "couchside"
COLUMNS = (
    *(Column(name, "", "more") for name in METRICS.values()),
    Column("over popularity", "%", "more"),
    Column("parameters", "thousand", "less"),
    Column("CPU of fitting", "s", "less"),
    Column("how"),
)


def read_documents(folder: Path) -> Iterator[results.Result]:
    """Every quality document in ``folder``, by name.

    Raises:
        UsageError: one is not as the study writes it.
    """
    for file in sorted(folder.glob(f"{KIND}-*.json")):
        # Late, as it brings torch.
        from couchside.compression.study.results import SCHEMA, Result  # noqa: PLC0415

        try:
            found = strict.from_json(Result, strict.loads(file.read_bytes()))
        except (OSError, strict.StrictError) as error:
            raise UsageError(f"{file}: {error}; run the study again, or remove it") from error
        if (found.schema, found.kind) != (SCHEMA, KIND):
            raise UsageError(f"{file}: {found.schema} {found.kind}, must be {SCHEMA} {KIND}")
        yield found


def section(found: results.Result) -> Section:
    """One document's rows with their protocol."""
    split = found.split
    return Section(
        title=f"{found.dataset}, split {split.name}",
        text=f"{split.targets:,} targets of {split.users:,} users among {split.items:,} titles, "
        f"{split.left_out:,} left out (split {split.sha256[:12]}); the whole catalogue is ranked "
        "but for what was seen. Brackets are 95 % intervals over users, of the gain paired ones. "
        f"`{found.command}`, {found.made_at}, {found.machine.cores} cores of "
        f"{found.machine.cpu}.",
        columns=COLUMNS,
        rows=tuple(map(_row, found.rows)),
        caveats=(
            "Over popularity means over the row of that name.",
            "CPU of fitting includes the choice of parameters, all threads.",
            "Not to be compared with figures of another split or of sampled metrics.",
        ),
        chart="NDCG@10",
    )


def _row(row: results.Row) -> Row:
    metrics = [row.metrics.get(name) for name in METRICS]
    gain = row.over_popularity
    cells = (
        *(Cell(m.value, m.low, m.high) if m else Cell() for m in metrics),
        _percent(gain) if gain else Cell(text="–"),
        Cell(row.parameters / 1000),
        Cell(row.cpu_s),
        Cell(text=row.note or "–"),
    )
    seed = "" if row.seed is None else f", seed {row.seed}"
    return Row(row.model + seed, cells, ours=row.model.startswith(OURS))


def _percent(gain: measures.Estimate) -> Cell:
    if gain.low is None or gain.high is None:
        return Cell(100 * gain.value)
    return Cell(100 * gain.value, 100 * gain.low, 100 * gain.high)
