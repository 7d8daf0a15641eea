"""The Bundle's journey: signed in the cloud, carried by a broker, taken by TVs, defended there.

Nothing is told that did not happen: versions are those that made a shelf, bytes those that
couchside-sync counted, and the words of a refusal the TV's own.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Self

from couchside.benchmarks.delivery.cloud import CHANNEL, Cloud, Thief
from couchside.benchmarks.delivery.fleet import FleetTv
from couchside.benchmarks.errors import InvalidRunError
from couchside.benchmarks.learning.servers import Servers
from couchside.benchmarks.page.report import Arrival, Delivery, Refusal, Release
from couchside.cloud_sync import topics
from couchside.cloud_sync.broker import local_broker
from couchside.cloud_sync.mqtt import Session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from couchside.benchmarks.delivery.fleet import Change
    from couchside.cloud_sync.address import BrokerAddress
    from couchside.device.bundle import Bundle

TVS = 3
LIMIT_S = 60.0
"""Longest that a release, or a refusal, may take on all TVs."""
POLL_S = 0.05
REFUSED = frozenset({"refused", "failed"})


class Journey:
    """A cloud, a broker and TVs with nothing on them.

    Args:
        folder: empty and short-lived; its path is short, as sockets lie in it.
        bundle: what travels.
        tvs: how many TVs.
        least_cohort: TVs below which helper and TVs let no sum be unmasked.
    """

    def __init__(
        self, folder: Path, bundle: Bundle, tvs: int = TVS, *, least_cohort: int = 500
    ) -> None:
        self._bundle, self._folder, self.least_cohort = bundle, folder, least_cohort
        folder.mkdir(exist_ok=True)
        self._broker = local_broker(folder / "broker")
        self._cloud = Cloud(folder / "cloud", self._broker.address)
        self.servers = Servers(
            folder / "helper", self._cloud, self._broker.address, least_cohort=least_cohort
        )
        """Of learning together; not started yet."""
        self._thief = Thief(folder / "thief", self._broker.address)
        self._count, self._tvs = tvs, list[FleetTv]()
        self._first_head = b""
        self._version, self._cost = 0, dict[str, int]()
        self._releases: list[Release] = []
        self._refusals: list[Refusal] = []
        self._running = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.close()

    @property
    def broker(self) -> str:
        """Name of the broker, and the protocol that it speaks."""
        return f"{self._broker.name}, MQTT {self._broker.address.protocol}"

    @property
    def broker_pid(self) -> int:
        """Process of the broker."""
        return self._broker.pid

    @property
    def tvs(self) -> list[FleetTv]:
        """The TVs."""
        return self._tvs

    @property
    def address(self) -> BrokerAddress:
        """Where the broker is."""
        return self._broker.address

    @property
    def released(self) -> Path:
        """Folder of the newest release's Bundle, as it was signed."""
        return self._cloud.folder / "rewritten" / f"{self._version}-{self._bundle.flavour}"

    def round(self) -> bytes:
        """The signed Round that the broker retains."""
        session = Session(self._broker.address, "couchside-reader")
        session.subscribe(topics.round_of(CHANNEL))
        end = time.monotonic() + LIMIT_S
        try:
            while time.monotonic() < end:
                for message in session.poll(POLL_S):
                    return message.payload
        finally:
            session.close()
        raise InvalidRunError("the broker retains no Round")

    def begin(self) -> None:
        """Make the keys, start the broker, and switch TVs on that know nothing but the root."""
        root = self._cloud.keys()
        self.servers.introduce()  # before the first release: it tells TVs whom they learn with
        self._running.callback(self._broker.stop)
        self._broker.start()
        self._running.enter_context(self.servers)
        for number in range(1, self._count + 1):
            folder = self._folder / f"tv-{number}"
            tv = FleetTv(
                f"TV {number}",
                folder,
                root,
                self._broker.address,
                self._bundle.flavour,
                least_cohort=self.least_cohort,
            )
            self._tvs.append(self._running.enter_context(tv))
            tv.follow()

    def release(self, *, sign: bool = True, bundle: Path | None = None) -> Release:
        """Sign the Bundle under the next version, publish it, and wait until every shelf has it.

        Args:
            bundle: another one than the journey began with.
            sign: False where the next version was signed before, and only publishing is left.

        Raises:
            BenchmarkError: the cloud refuses.
            InvalidRunError: a TV has not taken it in time.
        """
        version = self._version + 1
        if sign:
            self._cost = self._cloud.sign(bundle or self._bundle.path, version)
        cost = self._cost
        marks = {tv.name: len(tv.changes) for tv in self._tvs}
        before = {tv.name: tv.version for tv in self._tvs}
        began = time.monotonic()
        self._cloud.publish()
        arrived: dict[str, float] = {}

        def everywhere() -> bool:
            for tv in self._tvs:
                if tv.name not in arrived and tv.version == version:
                    arrived[tv.name] = time.monotonic() - began
            # Its installer speaks last, when the daemon may be running already.
            return len(arrived) == len(self._tvs) and all(map(_installed(marks), self._tvs))

        self._wait(everywhere, f"version {version}")
        arrivals = tuple(
            _arrival(tv, marks[tv.name], before[tv.name], version, arrived[tv.name])
            for tv in self._tvs
        )
        head = self._cloud.head()
        self._version, self._first_head = version, self._first_head or head
        size, wire = cost["bundle_bytes"], cost["wire_bytes"]
        release = Release(version, size, wire, cost["blocks"], len(head), arrivals)
        self._releases.append(release)
        return release

    def load(self, films: Path) -> None:
        """Hand every TV an app's catalogue."""
        for tv in self._tvs:
            tv.load(films)

    def show_old_head(self) -> Refusal:
        """The thief shows what was good once: the head of the first release."""
        return self._attack(
            "An old head, genuine and signed, is shown again",
            "RollbackError",
            lambda: self._thief.show_head(self._first_head),
        )

    def show_forged_head(self) -> Refusal:
        """The thief signs a release with keys of his own."""
        head = self._thief.forge(self._bundle.path, self._version + 10)
        return self._attack(
            "A higher version, signed with the thief's own keys",
            "UntrustedError",
            lambda: self._thief.show_head(head),
        )

    def show_flipped_block(self) -> Refusal:
        """The cloud signs the next release; the thief flips one bit of a block on its way."""
        self._cost = self._cloud.sign(self._bundle.path, self._version + 1)
        name, block = self._cloud.list_block()
        head = self._cloud.head()
        return self._attack(
            "A true release, one bit of one of its blocks flipped",
            name,
            lambda: self._thief.show_flipped(name, block, head),
        )

    def told(self) -> Delivery:
        """Everything that happened."""
        return Delivery(self.broker, tuple(self._releases), tuple(self._refusals))

    def _attack(self, attack: str, reason: str, strike: Callable[[], None]) -> Refusal:
        """Strike, wait until every TV has refused for this very reason, and ask for its shelf."""
        marks = {tv.name: len(tv.changes) for tv in self._tvs}
        began = time.monotonic()
        strike()
        refused = partial(_refused, marks=marks, reason=reason)
        self._wait(lambda: all(map(refused, self._tvs)), f"the refusal of: {attack}")
        seconds = time.monotonic() - began
        shelves = [tv.shelf() for tv in self._tvs]
        if {version for version, _, _ in shelves} != {self._version}:
            raise InvalidRunError(f"{attack}: a TV took it; its shelves say {shelves}")
        words = refused(self._tvs[0])[0].why
        slowest = max(took for _, _, took in shelves)
        refusal = Refusal(attack, words, len(self._tvs), seconds, self._version, slowest)
        self._refusals.append(refusal)
        return refusal

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        """Be every TV's supervisor until something is so."""
        end = time.monotonic() + LIMIT_S
        while not condition():
            if time.monotonic() > end:
                said = "\n".join(
                    f"{tv.name}: {tv.changes[-1:]} {tv.sync_log()}" for tv in self._tvs
                )
                raise InvalidRunError(
                    f"{what} did not reach every TV within {LIMIT_S:g} s:\n{said}"
                )
            for tv in self._tvs:
                tv.look_after()
            time.sleep(POLL_S)


def _refused(tv: FleetTv, *, marks: dict[str, int], reason: str) -> list[Change]:
    """What a TV refused since its mark; it goes on refusing what was shown before, too."""
    since = tv.changes[marks[tv.name] :]
    return [change for change in since if change.state in REFUSED and reason in change.why]


def _installed(marks: dict[str, int]) -> Callable[[FleetTv], bool]:
    def has(tv: FleetTv) -> bool:
        return any(change.state == "installed" for change in tv.changes[marks[tv.name] :])

    return has


def _arrival(tv: FleetTv, mark: int, before: int, version: int, seconds: float) -> Arrival:
    """Count from what couchside-sync had told before to what it told with the installation."""
    since = tv.changes[mark:]
    done = next(change for change in since if change.state == "installed")
    earlier_in = tv.changes[mark - 1].bytes_in if mark else 0
    earlier_out = tv.changes[mark - 1].bytes_out if mark else 0
    return Arrival(
        tv=tv.name,
        before=before,
        after=version,
        seconds=seconds,
        bytes_in=done.bytes_in - earlier_in,
        bytes_out=done.bytes_out - earlier_out,
        fetched=_fetched(since),
    )


def _fetched(changes: list[Change]) -> int:
    """Blocks asked for by the attempt that led to the installation; those before it failed."""
    blocks = 0
    for change in changes:
        if change.state in REFUSED:
            blocks = 0
        elif change.state == "wanted":
            blocks += change.blocks
    return blocks
