"""From opening a Round to its result, in a repository: ``rounds.db`` and ``rounds/N/``.

Opening copies what closing needs, so the Bundle may be gone by then. Closing seals, has the helper
unmask, steps the parameters and writes the result; killed anywhere, it is run again and comes to
the same result, because the helper gives the same set the same answer.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from couchside.cloud_sync.errors import RoundError
from couchside.cloud_sync.learning.accounting import amplified_epsilon
from couchside.cloud_sync.learning.identity import (
    HELPER_FILE,
    AskingKeys,
    asking_keys,
    read_helper,
    rounds_key,
)
from couchside.cloud_sync.learning.journal import Journal, Kept
from couchside.cloud_sync.learning.optimiser import mean_change, stepped, title_counts
from couchside.cloud_sync.learning.plan import Wish, plan_round
from couchside.cloud_sync.learning.rounds import State, end_of
from couchside.cloud_sync.learning.summing.aggregate import unmasked
from couchside.device import strict
from couchside.device.bundle import ParameterRecord, open_bundle
from couchside.device.durable import write_bytes_durably, write_durably
from couchside.device.learning import privacy, result
from couchside.device.learning.round import PURPOSE, Round, read_round, write_round
from couchside.device.learning.signed import sign

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from couchside.cloud_sync.learning.letters import Answer

JOURNAL_FILE = "rounds.db"
BASE_THETA, BASE_LAYOUT = "base-theta.bin", "base-layout.json"


@dataclass(frozen=True, slots=True)
class _Layout:
    """``base-layout.json``."""

    parameters: tuple[ParameterRecord, ...]


class Rounds:
    """The Rounds of a repository.

    Args:
        repository: its folder.
        keys: folder of the private keys.
    """

    def __init__(self, repository: Path, keys: Path) -> None:
        self._repository, self._keys = repository, keys
        self.journal = Journal(repository / JOURNAL_FILE)

    def close(self) -> None:
        """Close the journal."""
        self.journal.close()

    def folder(self, round_id: int) -> Path:
        """Where a Round's files lie."""
        return self._repository / "rounds" / str(round_id)

    def asking_keys(self) -> AskingKeys:
        """The keys of the aggregator.

        Raises:
            SigningError: one is missing.
        """
        return asking_keys(self._repository, self._keys)

    def open_round(self, channel: str, bundle: Path, wish: Wish, now: int, seed: bytes) -> Round:
        """Plan, sign and journal a Round; publishing is another matter.

        Args:
            channel: whose TVs.
            bundle: folder of the Bundle that they have.
            wish: what is asked for.
            now: POSIX seconds.
            seed: 32 random bytes.

        Raises:
            RoundError: it can't be granted, or the channel has a Round that is not over.
            SigningError: no helper is trusted.
            BundleError: the Bundle is not good.
        """
        read_helper(self._repository / HELPER_FILE)
        key, _ = rounds_key(self._keys, self._repository)
        opened = open_bundle(bundle)
        round_id = self.journal.next_id()
        asked = plan_round(wish, opened.manifest, round_id, now, seed)
        theta = np.array(opened.tensor("theta"), dtype="<f4")
        folder = self.folder(round_id)
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes_durably(folder / BASE_THETA, theta.tobytes())
        layout = strict.to_json(_Layout(opened.manifest.parameters))
        write_durably(folder / BASE_LAYOUT, json.dumps(layout) + "\n")
        signed = sign(key, PURPOSE, write_round(asked))
        self.journal.open(round_id, channel, signed, asked.values)
        return asked

    def round_of(self, kept: Kept) -> Round:
        """The Round behind a record of the journal.

        Raises:
            RoundRefusedError: it is not signed by this repository's key.
        """
        key, _ = rounds_key(self._keys, self._repository)
        return read_round(kept.signed, (key.public_key().public_bytes_raw(),))

    def seal(self, channel: str, now: int) -> Kept:
        """Let the channel's Round take no more Updates; it may be sealed already.

        Raises:
            RoundError: no Round of the channel is open or sealed.
        """
        live = self.journal.live(channel)
        if live is None:
            raise RoundError(f"channel {channel} has no Round to close; see: round status")
        if live.state == State.OPEN:
            self.journal.move(live.round_id, State.SEALED, now)
        sealed = self.journal.get(live.round_id)
        if sealed is None:
            raise RoundError(f"round {live.round_id} is gone from {JOURNAL_FILE}")
        return sealed

    def void(self, kept: Kept, now: int) -> None:
        """End a sealed Round without a result."""
        self.journal.move(kept.round_id, State.VOID, now)

    def is_enough(self, kept: Kept) -> bool:
        """Whether a sealed Round has enough TVs for a result."""
        return end_of(self.round_of(kept), kept.folded) == State.CLOSED

    def finish(
        self, kept: Kept, answer: Answer, out: Path, server_rate: float, now: int
    ) -> result.RoundResult:
        """Write the result of a sealed Round from the helper's answer, and close it.

        Args:
            kept: the sealed Round.
            answer: what the helper said to ``Unmask``.
            out: folder of the result.
            server_rate: times the mean change.
            now: POSIX seconds.

        Raises:
            RoundError: the answer does not fit, or the result would not be finite.
        """
        asked = self.round_of(kept)
        total = self.journal.total(kept.round_id)
        units = unmasked(total.total, answer.values())
        base = self._base(kept.round_id)
        layout = strict.from_json(_Layout, strict.loads(self._read(kept.round_id, BASE_LAYOUT)))
        change = mean_change(units, asked, total.folded)
        theta = stepped(base, asked.places(layout.parameters), change, server_rate)
        counts = title_counts(units, asked)
        norm = float(np.linalg.norm(server_rate * change))
        written = _result(asked, kept, theta, counts, norm)
        result.write_result(out, written, theta, counts)
        self.journal.move(kept.round_id, State.CLOSED, now)
        return written

    def _base(self, round_id: int) -> NDArray[np.float32]:
        return np.frombuffer(self._read(round_id, BASE_THETA), dtype="<f4").astype(np.float32)

    def _read(self, round_id: int, name: str) -> bytes:
        file = self.folder(round_id) / name
        try:
            return file.read_bytes()
        except OSError as error:
            raise RoundError(
                f"{file}: {error.strerror}; without it the Round has to be void"
            ) from error

    def status(self, now: float) -> dict[str, dict[str, Any]]:
        """Each Round in words and numbers, newest first."""
        return {
            f"{kept.channel}/{kept.round_id}": self._described(kept, now)
            for kept in self.journal.all()
        }

    def _described(self, kept: Kept, now: float) -> dict[str, Any]:
        asked = self.round_of(kept)
        left = asked.closes_at - now if kept.state == State.OPEN else 0
        return {
            "state": str(kept.state),
            "folded": kept.folded,
            "least": asked.cohort_least,
            "goal": asked.cohort_most,
            "refused": self.journal.refused(kept.round_id),
            "seconds_left": max(0, math.ceil(left)),
            "bundle_version": asked.bundle_version,
            "values": asked.values,
            "sigma": round(asked.sigma, 2),
            "value_cap": asked.value_cap,
            **epsilons(asked),
        }


def epsilons(asked: Round) -> dict[str, float]:
    """ε of taking part in one Round, against who knows that a TV did and who does not."""
    return {
        "epsilon": round(privacy.epsilon(asked.rho), 4),
        "epsilon_amplified": round(
            amplified_epsilon(asked.noise_multiplier, asked.sampling_rate, 1), 4
        ),
        "delta": privacy.DELTA,
    }


def _result(
    asked: Round,
    kept: Kept,
    theta: NDArray[np.float32],
    counts: NDArray[np.float32],
    change_norm: float,
) -> result.RoundResult:
    epsilon = epsilons(asked)
    return result.RoundResult(
        format=result.FORMAT,
        round_id=kept.round_id,
        base_version=asked.bundle_version,
        base_theta_sha256=asked.theta_sha256,
        base_titles_sha256=asked.titles_sha256,
        theta_sha256=_sha256(theta),
        counts_sha256=_sha256(counts),
        folded=kept.folded,
        opened_at=asked.opens_at,
        closed_at=kept.sealed_at,
        noise_multiplier=asked.noise_multiplier,
        epsilon=epsilon["epsilon"],
        epsilon_amplified=epsilon["epsilon_amplified"],
        delta=privacy.DELTA,
        change_norm=change_norm,
        count_sigma=asked.sigma / max(asked.title_weight, 1),
    )


def _sha256(values: NDArray[np.float32]) -> str:
    return hashlib.sha256(values.astype("<f4").tobytes()).hexdigest()
