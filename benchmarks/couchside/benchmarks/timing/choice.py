"""What is asked for on the command line; no numpy here, so that its threads can be set first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from couchside.benchmarks.machine.power import Source

GraphName = Literal["user_model", "text_encoder", "training_step"]
Scenario = Literal[
    "graph",
    "rank",
    "encode-text",
    "encode-image",
    "encode-audio",
    "encode-video",
    "search",
    "learn",
    "end-to-end",
]
BackendChoice = Literal["auto", "numpy", "onnxruntime", "litert", "tflite", "tensorrt"]
Mode = Literal["single-stream"]
GRAPHS: tuple[GraphName, ...] = get_args(GraphName)
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)
BACKENDS: tuple[BackendChoice, ...] = get_args(BackendChoice)
MODES: tuple[Mode, ...] = get_args(Mode)
SENSES: dict[Scenario, str] = {
    "encode-image": "image_encoder",
    "encode-audio": "audio_encoder",
    "encode-video": "video_encoder",
}
"""Scenarios whose graph a Bundle may have one day, by the name that it must have then."""
MLPERF_QUERIES, MLPERF_S, MLPERF_PERCENT = 1024, 60.0, 90.0
"""MLPerf Inference, Edge, SingleStream: the fewest queries, the shortest run, and the metric."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to run, and on what."""

    scenario: Scenario = "graph"
    graph: GraphName | None = None
    """None is ``user_model`` of a Bundle, and the only graph of a bare file."""
    backend: BackendChoice = "auto"
    threads: int = 1
    """Of the inference runtime."""
    batch: int = 1
    """Things in one query, where a scenario takes more than one."""
    streams: int = 1
    """Independent callers, each with one query in flight and a model of its own."""
    candidates: tuple[int, ...] = ()
    """Titles that ``rank`` scores; empty is the Bundle's whole table."""
    history: int | None = None
    """Steps of the invented history; None is as many as the user model reads."""
    k: int = 100
    """Titles that the scenario ``rank`` picks."""
    seed: int = 0
    """Of random inputs and of the invented history."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to run; the timed runs end when both minimums are met, as with trtexec."""

    warmup_ms: float = 200.0
    warmup_iters: int = 20
    """Both are minimums, too."""
    iterations: int = 1000
    """Fewest timed runs."""
    duration_s: float = 3.0
    """Shortest time for the timed runs together."""
    percentiles: tuple[float, ...] = (50.0, 90.0, 95.0, 99.0)
    idle_ms: float = 0.0
    """Rest before each timed run."""
    spin_wait: bool = False
    """Rest by looking at the clock, so that the core does not fall asleep."""
    repeat: int = 1
    """Times that everything is timed, to see how far one measurement is from the next."""
    mlperf: bool = False
    """MLPerf's rules for the length of a run, and its metric."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the machine must be like for the run to count, and what is watched meanwhile."""

    cores: frozenset[int] | None = None
    """The only ones to run on; None leaves it to the system."""
    settle_s: float = 0.0
    """Rest between loading and timing."""
    cooldown_c: float | None = None
    """Wait before each measurement until the hottest zone is at most this warm."""
    mode: str | None = None
    """Power mode that must be on, by number or name."""
    locked_clocks: bool = False
    fail_on_throttle: bool = False
    """Anything but clean makes the run invalid, not only throttling that was seen."""
    most_waiting: float | None = None
    """Share of the timed wall time that may go by waiting for a core, or the run is invalid."""
    power: Source = "auto"
    power_hz: float = 10.0
    baseline_idle_s: float = 5.0
    """How long the machine's power at rest is measured before the run."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where results go: files, ``-`` for standard output, None for nowhere."""

    json: str | None = None
    times: str | None = None
    csv: str | None = None
    markdown: str | None = None

    @property
    def by_flag(self) -> dict[str, str]:
        """Targets by the flag that named them."""
        flags = ("--json", "--export-times", "--csv", "--markdown")
        targets = (self.json, self.times, self.csv, self.markdown)
        return {f: target for f, target in zip(flags, targets, strict=True) if target is not None}
