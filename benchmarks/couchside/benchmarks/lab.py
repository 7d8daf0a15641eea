"""The lab as the demo uses it: ``couchside-compress`` as a child, and what it wrote as records."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from couchside.benchmarks.errors import BenchmarkError, UsageError
from couchside.benchmarks.page.report import Quality, Size
from couchside.compression.report import ENCODER, ITEM_TABLE, USER_MODEL, WHOLE, SizeRow
from couchside.device import strict
from couchside.device.quality import Interval  # noqa: TC001 - read at run time by strict

if TYPE_CHECKING:
    from pathlib import Path

STOP_LIMIT_S = 20.0
"""An interrupted pipeline ends its own children first."""


@dataclass(frozen=True, slots=True)
class QualityLine:
    """A line of the lab's quality table."""

    name: str
    ndcg_at_10: float
    hr_at_10: float
    over_popularity: Interval
    loss: Interval | None


@dataclass(frozen=True, slots=True)
class LabReport:
    """``quality.json``."""

    split_sha256: str
    test_from: float
    users: int
    targets: int
    cold_events_left_out: int
    popularity_weight: float
    rows: tuple[QualityLine, ...]
    sizes: tuple[SizeRow, ...]

    def qualities(self, flavour: str) -> tuple[Quality, ...]:
        """The lines of the page's table, with ``flavour`` marked as the one on the TV."""
        return tuple(
            Quality(
                line.name,
                line.ndcg_at_10,
                line.hr_at_10,
                line.over_popularity,
                line.loss,
                runs=line.name.split(",")[0] == flavour,
            )
            for line in self.rows
        )

    def gain(self, flavour: str) -> Interval:
        """Relative gain of the shown ranking of ``flavour`` over frozen popularity.

        Raises:
            BenchmarkError: that flavour was not measured.
        """
        for quality in self.qualities(flavour):
            if quality.runs:
                return quality.over_popularity
        raise BenchmarkError(f"the lab did not measure {flavour}; its recipe must make it")

    def forms(self, flavour: str) -> tuple[Size, ...]:
        """Teacher, student and flavours, with ``flavour`` marked as the one on the TV."""
        by_form: dict[str, dict[str, int]] = {}
        for row in self.sizes:
            by_form.setdefault(row.form, {})[row.part] = row.bytes
        return tuple(
            Size(
                form,
                parts[ENCODER],
                parts[USER_MODEL],
                parts[ITEM_TABLE],
                parts.get(WHOLE),
                runs=form == flavour,
            )
            for form, parts in by_form.items()
        )


def compress(recipe: str, out: Path) -> None:
    """Run the pipeline in sight of the person who waits; stages finished before are kept.

    Raises:
        UsageError: the pipeline refused or failed; it has said why.
    """
    command = [sys.executable, "-m", "couchside.compression.cli", recipe, "--out", str(out)]
    # Unbuffered, so that its lines and its progress bars arrive in their order.
    child = subprocess.Popen(command, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        status = child.wait()
    finally:
        _end(child)
    if status:
        raise UsageError(f"couchside-compress ended with status {status}; its message is above")


def _end(child: subprocess.Popen[bytes]) -> None:
    """Leave no pipeline behind, however the demo ends."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def read_lab_report(file: Path) -> LabReport:
    """Read what the pipeline measured.

    Raises:
        BenchmarkError: the file is missing or not as the pipeline writes it.
    """
    try:
        return strict.from_json(LabReport, strict.loads(file.read_bytes()))
    except (OSError, strict.StrictError) as error:
        raise BenchmarkError(f"{file}: {error}; remove its folder and run again") from error
