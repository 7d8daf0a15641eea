"""Results as JSON documents: one schema for every command, its version in the document."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from couchside.benchmarks.errors import UsageError
from couchside.device import strict

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = "couchside.bench/1"


def to_document(kind: str, report: Any) -> dict[str, Any]:
    """The JSON document of a report (a dataclass), with its schema and kind first."""
    return {"schema": SCHEMA, "kind": kind, **strict.to_json(report)}


def check_target(target: str | None, flag: str = "--json") -> None:
    """Find out before a run, not after it, that its result can't be written.

    Raises:
        UsageError: the folder is missing or not writable.
    """
    if target in (None, "-"):
        return
    path = Path(target)
    writable = os.access(path if path.exists() else path.parent, os.W_OK)
    if path.is_dir() or not writable:
        raise UsageError(f"{flag} {target}: not a file in a folder that can be written")


def write_document(document: Mapping[str, Any], target: str | None) -> None:
    """Write the document to a file, to standard output for ``-``, or not at all for None."""
    text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
    elif target is not None:
        Path(target).write_text(text, encoding="utf-8")
