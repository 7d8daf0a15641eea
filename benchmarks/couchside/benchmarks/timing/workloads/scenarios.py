"""A path and a choice → the workload."""

from __future__ import annotations

from typing import TYPE_CHECKING

from couchside.benchmarks.errors import UsageError
from couchside.benchmarks.timing.workloads.graph import BareFile, BundleGraph
from couchside.benchmarks.timing.workloads.household import EndToEnd
from couchside.benchmarks.timing.workloads.learn import Learn
from couchside.benchmarks.timing.workloads.rank import Rank
from couchside.benchmarks.timing.workloads.search import Search
from couchside.benchmarks.timing.workloads.text import EncodeText
from couchside.device.bundle import open_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from couchside.benchmarks.timing.choice import Choice, Scenario
    from couchside.benchmarks.timing.workload import Workload
    from couchside.device.bundle import Bundle

SCENARIO: dict[Scenario, Callable[[Bundle, Choice], Workload]] = {
    "graph": BundleGraph,
    "rank": Rank,
    "encode-text": EncodeText,
    "encode-image": BundleGraph,
    "encode-audio": BundleGraph,
    "encode-video": BundleGraph,
    "search": Search,
    "learn": Learn,
    "end-to-end": EndToEnd,
}
HAS_HISTORY: frozenset[Scenario] = frozenset(("rank", "learn", "end-to-end"))


def open_workload(path: Path, choice: Choice) -> Workload:
    """Prepare what ``choice`` asks of the Bundle folder or model file at ``path``.

    Raises:
        UsageError: there is nothing at the path, or the choice does not fit it.
        BundleError: the Bundle is damaged, or has no such graph or golden vectors for it.
    """
    if choice.scenario != "rank" and choice.candidates:
        raise UsageError(f"--candidates is for --scenario rank, not {choice.scenario}")
    if choice.scenario not in HAS_HISTORY and choice.history is not None:
        raise UsageError(f"--history: --scenario {choice.scenario} has none")
    if choice.scenario not in ("graph", "rank") and choice.graph is not None:
        raise UsageError(f"--graph is for --scenario graph, not {choice.scenario}")
    if choice.backend == "numpy" and choice.scenario != "rank":
        raise UsageError(
            "--backend numpy runs no graph: it scores and selects, so it takes --scenario rank only"
        )
    if path.is_dir():
        return SCENARIO[choice.scenario](open_bundle(path), choice)
    if not path.is_file():
        raise UsageError(f"{path}: no such file or folder; give a Bundle or a model file")
    return BareFile(path, choice)
