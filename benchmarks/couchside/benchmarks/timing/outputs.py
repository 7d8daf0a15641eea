"""Results as files: the document, the time of every run, lines for a spreadsheet, a table."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from couchside.benchmarks.document import SCHEMA, check_target, to_document, write_document
from couchside.benchmarks.errors import UsageError
from couchside.benchmarks.timing.line import board_facts
from couchside.benchmarks.timing.report import TOTAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from couchside.benchmarks.timing.choice import Outputs
    from couchside.benchmarks.timing.report import CaseReport, LatencyReport
    from couchside.benchmarks.timing.stopwatch import Samples

Times = dict[str, list[list["Samples"]]]
"""By case: of each repeated measurement, of each stream."""


def check_outputs(outputs: Outputs) -> None:
    """Find out before the run what can't be written after it.

    Raises:
        UsageError: a folder is missing or not writable, or two results go to one place.
    """
    targets = outputs.by_flag
    for flag, target in targets.items():
        check_target(target, flag)
    seen: dict[str, str] = {}
    for flag, target in targets.items():
        place = target if target == "-" else str(Path(target).resolve())
        if place in seen:
            raise UsageError(f"{seen[place]} and {flag} both go to {target}: choose another")
        seen[place] = flag


def write_outputs(outputs: Outputs, report: LatencyReport, times: Times) -> None:
    """Write what was asked for."""
    write_document(to_document("latency", report), outputs.json)
    if outputs.times is not None:
        # Without indents: a number a line would be as long as the run.
        text = json.dumps(_times(report, times), separators=(",", ":")) + "\n"
        _put(text, outputs.times)
    for target, make in ((outputs.csv, to_csv), (outputs.markdown, to_markdown)):
        if target is not None:
            _put(make(report), target)


def _put(text: str, target: str) -> None:
    if target == "-":
        sys.stdout.write(text)
    else:
        Path(target).write_text(text, encoding="utf-8")


def _times(report: LatencyReport, times: Times) -> dict[str, Any]:
    """Nanoseconds of every run, in order."""
    return {
        "schema": SCHEMA,
        "kind": "latency-times",
        "artefact_sha256": report.artefact.sha256,
        "partial": report.validity.partial,
        "cases": [
            {
                "name": name,
                "repeats": [[_stream(samples) for samples in streams] for streams in each],
            }
            for name, each in times.items()
        ],
    }


def _stream(samples: Samples) -> dict[str, Any]:
    cpu = list(samples.cpu)
    return {
        "total_ns": list(samples.wall),
        "cpu_ns": None if -1 in cpu[:1] else cpu,
        "stages_ns": {name: list(samples.stage(name)) for name in samples.stages},
    }


def to_csv(report: LatencyReport) -> str:
    """One line for each case and stage; milliseconds."""
    percentiles = _percentiles(report)
    head = ["scenario", "case", "stage", "backend", "titles", "n", "mean", "std", "cv", "min"]
    head += [*percentiles, "max", "outliers", "drift", "queries_per_second", "rss_bytes", "verdict"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for case in report.cases:
        for stage, summary in case.latency_ms.items():
            tail = [summary.percentiles[name] for name in percentiles]
            writer.writerow([
                report.config.scenario, case.name, stage, report.config.backend, case.titles,
                summary.n, summary.mean, summary.std, summary.cv, summary.min, *tail, summary.max,
                summary.outliers, summary.drift, case.queries_per_second, report.rss_bytes,
                report.validity.verdict,
            ])  # fmt: skip
    return text.getvalue()


def to_markdown(report: LatencyReport) -> str:
    """A table, one row for each case and stage, and below it what it was measured on."""
    names = _percentiles(report)
    head = ["case", "stage", "n", "mean ms", *(f"{name} ms" for name in names), "max ms"]
    lines = [_row(head), _row(["---", "---", *["---:"] * (len(head) - 2)])]
    lines += [line for case in report.cases for line in _case_rows(case, names)]
    artefact, validity = report.artefact, report.validity
    about = f"{artefact.kind} {artefact.flavour or ''} `{artefact.sha256[:12]}`".replace("  ", " ")
    lines += ["", f"{board_facts(report)}; {about}; {report.config.backend}."]
    why = "; ".join((*validity.reasons, *validity.doubts))
    lines.append(f"Verdict: {validity.verdict}{f' ({why})' if why else ''}.")
    return "\n".join(lines) + "\n"


def _case_rows(case: CaseReport, names: Sequence[str]) -> list[str]:
    rows = []
    for stage, summary in case.latency_ms.items():
        values = [summary.mean, *(summary.percentiles[name] for name in names), summary.max]
        cells = ["" if value is None else f"{value:.3f}" for value in values]
        shown = case.name if stage == TOTAL else ""
        rows.append(_row([shown, stage, f"{summary.n:,}", *cells]))
    return rows


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _percentiles(report: LatencyReport) -> list[str]:
    totals = [case.latency_ms[TOTAL] for case in report.cases if TOTAL in case.latency_ms]
    return list(totals[0].percentiles) if totals else []
