"""What is asked for on the command line; no numpy here, so that its threads can be set first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

GraphName = Literal["user_model", "text_encoder", "training_step"]
Scenario = Literal["graph", "rank"]
BackendChoice = Literal["auto", "litert", "onnxruntime", "tensorrt"]
GRAPHS: tuple[GraphName, ...] = get_args(GraphName)
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)
BACKENDS: tuple[BackendChoice, ...] = get_args(BackendChoice)


@dataclass(frozen=True, slots=True)
class Choice:
    """What to run, and on what."""

    scenario: Scenario = "graph"
    graph: GraphName | None = None
    """None is ``user_model`` of a Bundle, and the only graph of a bare file."""
    backend: BackendChoice = "auto"
    threads: int = 1
    """Of the inference runtime."""
    k: int = 100
    """Titles that the scenario ``rank`` picks."""
    seed: int = 0
    """Of random inputs and of the invented history."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to run; the timed runs end when both minimums are met, as with trtexec."""

    warmup_ms: float = 200.0
    iterations: int = 1000
    """Fewest timed runs."""
    duration_s: float = 3.0
    """Shortest time for the timed runs together."""
    percentiles: tuple[float, ...] = (50.0, 90.0, 95.0, 99.0)
