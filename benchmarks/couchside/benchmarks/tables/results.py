"""Results as files: one JSON a table, and what may be said about two runs of the same bench."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from couchside.benchmarks.document import SCHEMA, to_document
from couchside.benchmarks.errors import UsageError
from couchside.benchmarks.promises.report import PromisesReport
from couchside.benchmarks.tables.table import Result
from couchside.device import strict
from couchside.device.durable import write_bytes_durably

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")
TABLE, PROMISES = "table", "promises"
"""Kinds of documents here; the folder may hold others, which are left alone."""


def write_result(folder: Path, result: Result | PromisesReport) -> Path:
    """Write ``NAME.json``, whole or not at all."""
    kind, name = (
        (PROMISES, PROMISES) if isinstance(result, PromisesReport) else (TABLE, result.table)
    )
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    text = json.dumps(to_document(kind, result), indent=1, allow_nan=False, ensure_ascii=False)
    write_bytes_durably(file, (text + "\n").encode())
    return file


def read_results(folder: Path) -> dict[str, Result]:
    """Every table's result in ``folder``, by the table's name.

    Raises:
        UsageError: a file is not what the bench writes.
    """
    found = {}
    for file in sorted(folder.glob("*.json")):
        value = _read(file, TABLE)
        if value is not None:
            found[file.stem] = _as(Result, value, file)
    return found


def read_promises_report(folder: Path) -> PromisesReport | None:
    """The promises in ``folder``; None if they were not measured.

    Raises:
        UsageError: the file is not what the bench writes.
    """
    file = folder / f"{PROMISES}.json"
    value = _read(file, PROMISES) if file.exists() else None
    return None if value is None else _as(PromisesReport, value, file)


def _read(file: Path, kind: str) -> dict[str, Any] | None:
    """The document without its head; None if it is of another kind."""
    try:
        value = strict.loads(file.read_bytes())
    except (OSError, strict.StrictError) as error:
        raise UsageError(f"{file}: {error}; remove it and measure again") from error
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise UsageError(f"{file}: not a result of this bench (schema {SCHEMA})")
    if value.get("kind") != kind:
        return None
    return {key: item for key, item in value.items() if key not in ("schema", "kind")}


def _as(record: type[T], value: Any, file: Path) -> T:
    try:
        return strict.from_json(record, value)
    except strict.StrictError as error:
        raise UsageError(f"{file}: {error}; measure again") from error
