"""What a run prints for a person: sizes and quality, the caveat beside the number."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from couchside.compression.evaluate import QualityTable
    from couchside.compression.student import Models
    from couchside.device.quality import Interval

ENCODER, USER_MODEL, ITEM_TABLE, WHOLE = "encoder", "user model", "item table", "whole Bundle"


@dataclass(frozen=True, slots=True)
class SizeRow:
    """Bytes of one part in its forms; None where that form does not exist."""

    part: str
    form: str
    bytes: int


def size_rows(
    teacher: Models, student: Models, bundles: Path, flavours: Sequence[str]
) -> tuple[SizeRow, ...]:
    """Bytes of encoder, user model and item table: teacher, float student, each flavour."""
    rows = [SizeRow(part, "teacher", size) for part, size in teacher.parameter_bytes().items()]
    rows += [SizeRow(p, "float student", size) for p, size in student.parameter_bytes().items()]
    for flavour in flavours:
        folder = bundles / flavour
        for part, stem in ((ENCODER, "text_encoder"), (USER_MODEL, "user_model")):
            size = sum(path.stat().st_size for path in folder.glob(f"{stem}.*"))
            rows.append(SizeRow(part, flavour, size))
        rows.append(SizeRow(ITEM_TABLE, flavour, (folder / "items.bin").stat().st_size))
        whole = sum(path.stat().st_size for path in folder.iterdir())
        rows.append(SizeRow(WHOLE, flavour, whole))
    return tuple(rows)


def print_quality(table: QualityTable, sizes: Sequence[SizeRow]) -> None:
    """Write both tables to standard output."""
    write = sys.stdout.write
    write(
        f"\nQuality on {table.targets} targets of {table.users} users after the cut "
        f"(split {table.split_sha256[:12]}, {table.cold_events_left_out} events of unseen titles "
        f"or new users left out, popularity weight {table.popularity_weight:g})\n"
    )
    write(f"{'':44} NDCG@10   HR@10   over popularity-7d      loss to float student\n")
    for row in table.rows:
        gain, loss = _interval(row.over_popularity), _interval(row.loss) if row.loss else ""
        write(f"{row.name:44} {row.ndcg_at_10:.4f}  {row.hr_at_10:.4f}   {gain:22} {loss}\n")
    write("\nBytes\n")
    for size in sizes:
        write(f"{size.part:14} {size.form:14} {size.bytes:>10,}\n")


def _interval(value: Interval) -> str:
    return f"{value.mean:+6.1%} [{value.low:+.1%}, {value.high:+.1%}]"
