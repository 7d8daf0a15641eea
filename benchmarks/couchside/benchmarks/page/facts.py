"""What ran where: the facts without which the page's figures would be rumours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from couchside.benchmarks.page import words

if TYPE_CHECKING:
    from couchside.benchmarks.lab import LabReport
    from couchside.benchmarks.machine.board import Board
    from couchside.device.bundle import Bundle


def run_facts(board: Board, bundle: Bundle, report: LabReport) -> tuple[tuple[str, str], ...]:
    """Names and values for the end of the page."""
    runtimes = ", ".join(f"{name} {version}" for name, version in board.runtimes.items())
    return (
        ("Processor", f"{board.cpu or board.model or 'unknown'}, {board.cores} cores"),
        ("Memory", words.size(board.memory_bytes) if board.memory_bytes else "unknown"),
        ("Kernel", board.kernel or "unknown"),
        ("Python", board.python),
        ("Runtimes", runtimes),
        ("Recipe", bundle.manifest.recipe),
        ("Bundle", f"{bundle.flavour}, version {bundle.version}, {bundle.bundle_id[:12]}"),
        ("Weight of popularity", f"{report.popularity_weight:g}"),
        ("Split", report.split_sha256[:12]),
    )
