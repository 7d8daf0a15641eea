"""Steps of SGD with the Bundle's training step, and what they give: an Update, or personal values.

Pure but for the graph's runs: histories, orders and chance in, vectors out. Which parameters may
move is decided here and not by the graph, which is handed to us: after each step everything else is
put back.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from couchside.device.errors import RoundRefusedError
from couchside.device.learning import masking, privacy
from couchside.device.learning.examples import ExampleMaker, History
from couchside.device.learning.round import check_allowed, read_round
from couchside.device.learning.spool import ID_BYTES
from couchside.device.learning.update import Update, seal_context, write_update
from couchside.device.runtime.graph import open_graph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from couchside.device.bundle import Bundle, LearningRecord
    from couchside.device.learning.lesson import UpdateOrder
    from couchside.device.learning.round import Round

HELD_OUT = 0.2
"""Share of a history's newest steps by which personal values are judged, never taught."""
LEAST_STEPS = 10
"""Steps worth predicting below which a history is too short to say what is personal."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What steps of SGD did."""

    theta: NDArray[np.float32]
    loss_before: float
    loss_after: float


@dataclass(frozen=True, slots=True)
class Sealed:
    """An Update that is ready to leave."""

    frame: bytes
    update_id: str
    learned: Learned


class Student:
    """The Bundle's training step and its weights.

    Args:
        bundle: the installed one.
        threads: of the inference runtime.

    Raises:
        BundleError: it has no training step, or the runtime can't load it.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        self.theta = np.array(bundle.tensor("theta"), dtype=np.float32)
        self._graph = open_graph(bundle, "training_step", threads=threads)

    def learn(
        self,
        batches: Sequence[dict[str, NDArray[Any]]],
        *,
        steps: int,
        rate: float,
        places: NDArray[np.int64],
    ) -> Learned:
        """Go ``steps`` times over the batches; only ``theta[places]`` moves.

        Raises:
            BundleError: the graph computes something that is not finite.
        """
        theta, losses = self.theta.copy(), []
        for _ in range(steps):
            total = 0.0
            for batch in batches:
                loss, after = self._step(theta, rate, batch)
                theta[places] = after[places]
                total += loss
            losses.append(total / len(batches))
        return Learned(theta, losses[0] if losses else 0.0, losses[-1] if losses else 0.0)

    def loss(self, batches: Sequence[dict[str, NDArray[Any]]], theta: NDArray[np.float32]) -> float:
        """Mean loss over the batches with other weights."""
        return float(np.mean([self._step(theta, 0.0, batch)[0] for batch in batches]))

    def _step(
        self, theta: NDArray[np.float32], rate: float, batch: dict[str, NDArray[Any]]
    ) -> tuple[float, NDArray[np.float32]]:
        feeds = {"theta": theta, "rate": np.array([rate], np.float32), **batch}
        results = self._graph.run(feeds)
        return float(results["loss"]), results["theta_after"]


def open_order(
    order: UpdateOrder, bundle: Bundle
) -> tuple[Round, NDArray[np.int64], LearningRecord]:
    """Verify the Round of an order against the Bundle and this TV's limits.

    Returns:
        The Round, where in theta its coordinates lie, and whom the Bundle trusts.

    Raises:
        RoundRefusedError: it must not be taken part in.
    """
    trusted = bundle.manifest.learning
    if trusted is None:
        raise RoundRefusedError("the installed Bundle names nobody to learn together with")
    keys = [bytes.fromhex(key) for key in trusted.rounds_keys]
    asked = read_round(bytes.fromhex(order.round), keys)
    if asked.round_id < order.last_round:
        raise RoundRefusedError(f"round {asked.round_id}: {order.last_round} was before it")
    spent = (order.spent_updates, order.spent_rho)
    check_allowed(asked, bundle.manifest, order.limits, spent)
    return asked, asked.places(bundle.manifest.parameters), trusted


def abstention(asked: Round, order: UpdateOrder) -> str:
    """Why this TV sits a Round out though it is good; empty if it takes part."""
    if asked.round_id == order.last_round:
        return "this TV has taken part"
    if order.now >= asked.closes_at:
        return "it is over"
    if not asked.selects(bytes.fromhex(order.device_key)):
        return "not selected"
    if sum(order.new_steps) < asked.new_events:
        return f"{sum(order.new_steps)} new steps of {asked.new_events}"
    return ""


def make_update(
    asked: Round,
    order: UpdateOrder,
    bundle: Bundle,
    histories: Sequence[History],
    places: NDArray[np.int64],
    helper_key: bytes,
    *,
    student: Student | None = None,
) -> Sealed:
    """Learn, clip, round, mask and seal.

    Args:
        asked: the Round, verified.
        order: with the household's consents.
        bundle: the installed one.
        histories: of the profiles that take part.
        places: where in theta the Round's coordinates lie.
        helper_key: for whom the seed is sealed; 32 bytes.
        student: an opened one of this Bundle, where many TVs are simulated.

    Raises:
        UpdateError: the change is not finite.
        LearningError: the helper's key is none.
    """
    rng = np.random.default_rng(list(os.urandom(32)))
    learned = Learned(np.array(bundle.tensor("theta"), np.float32), 0.0, 0.0)
    change = np.zeros(len(places), np.float64)
    if order.learn and asked.steps and len(places):
        learned = _learn(asked, order, student or Student(bundle), bundle, histories, rng)
        change = (learned.theta - np.asarray(bundle.tensor("theta")))[places].astype(np.float64)
    units = np.concatenate([
        _units(asked, change, rng),
        count_titles(asked, histories, order.new_steps) if order.count else _none(asked.titles),
    ])  # fmt: skip
    seed, update_id = os.urandom(masking.SEED_BYTES), os.urandom(ID_BYTES)
    sealed = masking.seal(seed, helper_key, seal_context(asked.round_id, update_id))
    masked = masking.masked(units, seed)
    update = Update(asked.round_id, asked.bundle_version, update_id, asked.scale, sealed, masked)
    return Sealed(write_update(update), update_id.hex(), learned)


def _learn(
    asked: Round,
    order: UpdateOrder,
    student: Student,
    bundle: Bundle,
    histories: Sequence[History],
    rng: np.random.Generator,
) -> Learned:
    chosen = [_last(history, new) for history, new in zip(histories, order.new_steps, strict=True)]
    batches = ExampleMaker(bundle, rng).batches(histories, chosen)
    if not batches:
        return Learned(student.theta, 0.0, 0.0)
    layout = {record.name: record for record in bundle.manifest.parameters}
    moving = [layout[name].places() for name in asked.parameters]
    return student.learn(batches, steps=asked.steps, rate=asked.rate, places=np.concatenate(moving))


def _units(
    asked: Round, change: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """The change in whole units, clipped and rounded: int64 [coordinates]."""
    exact = privacy.clip(change, asked.clipping_bound) * asked.scale
    bound = privacy.rounded_bound(asked.clipping_bound * asked.scale, len(exact))
    units = privacy.round_randomly(exact, bound, rng)
    return np.clip(units, -asked.value_cap, asked.value_cap)


def count_titles(
    asked: Round, histories: Sequence[History], new_steps: Sequence[int]
) -> NDArray[np.int64]:
    """What this TV adds to the count of each title: int64 [titles], in units.

    The newest titles that were watched since the last Update, each once, no more than the cap; the
    profiles take turns, so that no member's titles crowd out another's.
    """
    units = _none(asked.titles)
    newest_first = [
        history.rows[_last(history, new) & history.watched][::-1].tolist()
        for history, new in zip(histories, new_steps, strict=True)
    ]
    turns = chain.from_iterable(zip_longest(*newest_first, fillvalue=asked.titles))
    watched = dict.fromkeys(row for row in turns if row < asked.titles)
    units[list(watched)[: asked.title_cap]] = asked.title_weight
    return units


def make_personal(
    bundle: Bundle, histories: Sequence[History], *, steps: int, rate: float
) -> list[NDArray[np.float32]]:
    """Personal values [p] for each history; an empty array where the shipped ones are better.

    The newest steps are held out: values that predict them no better than the shipped ones are
    dropped, so a short or erratic history changes nothing.
    """
    rng = np.random.default_rng(list(os.urandom(32)))
    student, maker = Student(bundle), ExampleMaker(bundle, rng)
    places = bundle.manifest.personal_places()
    return [
        _personal(student, maker, history, places, steps=steps, rate=rate) for history in histories
    ]


def _personal(
    student: Student,
    maker: ExampleMaker,
    history: History,
    places: NDArray[np.int64],
    *,
    steps: int,
    rate: float,
) -> NDArray[np.float32]:
    nothing = np.zeros(0, np.float32)
    wanted = int(history.wanted.sum())
    if wanted < LEAST_STEPS:
        return nothing
    held_out = np.zeros(len(history), np.bool_)
    held_out[np.flatnonzero(history.wanted)[-max(1, round(HELD_OUT * wanted)) :]] = True
    taught = maker.batches([history], [~held_out])
    judged = maker.batches([history], [held_out])
    learned = student.learn(taught, steps=steps, rate=rate, places=places)
    before, after = (student.loss(judged, theta) for theta in (student.theta, learned.theta))
    return learned.theta[places] if after < before else nothing


def _last(history: History, count: int) -> NDArray[np.bool_]:
    """The last ``count`` steps: [h]."""
    return np.arange(len(history)) >= len(history) - count


def _none(n: int) -> NDArray[np.int64]:
    return np.zeros(n, np.int64)
