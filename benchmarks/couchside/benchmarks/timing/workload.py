"""What can be timed: something that is loaded, checked, and then asked again and again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from couchside.benchmarks.timing.stopwatch import Clocks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from couchside.benchmarks.timing.artefact import Artefact, Parity
    from couchside.benchmarks.timing.choice import Scenario
    from couchside.benchmarks.timing.stopwatch import Query
    from couchside.device.bundle import QualityRecord

Made = Literal["the whole table", "a part of the table", "the table repeated"]


@dataclass(frozen=True, slots=True)
class Size:
    """How much work one query of a case is."""

    name: str
    """For people, such as "rank of 2,000 titles"."""
    items: int = 1
    """Things answered by one query."""
    titles: int | None = None
    """Titles that are looked through; None where none are."""
    made: Made | None = None
    """Where those titles come from."""


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of query, ready to be asked."""

    size: Size
    query: Query


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured."""

    artefact: Artefact
    scenario: Scenario
    graph: str
    """The graph that answers; "none" where numpy does alone."""
    quality: QualityRecord | None = None
    """What the lab measured for this very flavour."""
    history: int | None = None
    """Steps of the history; None where there is none."""
    notes: tuple[str, ...] = ()
    """What a reader must know before quoting the numbers."""


@dataclass(frozen=True, slots=True)
class Server:
    """The process that answers, where it is not this one."""

    memory: Callable[[], Mapping[str, int]]
    cpu_ns: Callable[[], int]
    facts: Callable[[], Mapping[str, float]]
    """What it tells about itself after the run; names end in their unit."""


class Workload(ABC):
    """A Bundle or model file in one scenario."""

    subject: Subject

    @property
    @abstractmethod
    def backend(self) -> str:
        """What computes; certain only after loading."""

    @abstractmethod
    def load(self) -> tuple[Case, ...]:
        """Open what answers, for one caller more; the cases in the order asked for.

        Raises:
            BundleError: the runtime can't load it.
            RuntimeUnavailableError: the backend does not run here.
        """

    @abstractmethod
    def check(self) -> Parity:
        """Compare answers with the lab's.

        Raises:
            BundleError: they are others.
        """

    @property
    def server(self) -> Server | None:
        """The process that answers, if it is another one."""
        return None

    def clocks(self, streams: int) -> Clocks:
        """Clocks for one of so many callers."""
        server = self.server
        if server is not None:
            cpu = server.cpu_ns if streams == 1 else None
            # Waiting is the caller's alone: the daemon's background competes with its answers.
            return Clocks(cpu=cpu)
        return Clocks() if streams == 1 else Clocks(cpu=None)

    def close(self) -> None:  # noqa: B027 - most have nothing to end
        """End what was started."""
