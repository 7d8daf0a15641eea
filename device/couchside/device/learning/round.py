"""A Round: what the cloud asks TVs to compute, signed; and what this TV allows it to ask.

A Round travels through an untrusted process and broker, so the learning child verifies its
signature against keys that the installed Bundle pins, and holds it against limits of its own. A
training graph or a Round from the cloud decides nothing about privacy: clip, rounding and mask are
device code, and the limits are the TV's.

An Update has two sections, each only with its own consent, else zeros: the change of some trainable
parameters at coordinates that all TVs share, and how often titles of the item table were watched.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from couchside.device import strict
from couchside.device.errors import RoundRefusedError
from couchside.device.learning import privacy
from couchside.device.learning.signed import verified
from couchside.device.learning.spool import FRAME_BYTES, ROUND_BYTES, frame_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from couchside.device.bundle import Manifest, ParameterRecord

FORMAT = "couchside-round/1"
PURPOSE = "round"
CLIP_MOST = 4.0
"""No Round may ask for a change of the parameters longer than this."""
NOISE_LEAST = 0.3
"""No Round may add less noise than this multiple of what one TV can change in the sum."""
SIGMA_LEAST = 0.5
"""Units: below it discrete noise is mostly zero, whatever its multiplier."""
STEPS_MOST = 64
THETA_FILE = "theta.bin"


@dataclass(frozen=True, slots=True)
class Round:
    """One invitation to learn together. "Units" are the whole numbers that are summed."""

    format: str
    round_id: int
    """Grows with each Round of a channel."""
    bundle_version: int
    theta_sha256: str
    """Of ``theta.bin``, from which everybody starts."""
    titles_sha256: str
    """Of the list of titles, so that everybody counts in the same rows."""
    parameters: tuple[str, ...]
    """Names of the trainable tensors that take part."""
    coordinates: int
    """How many of their values an Update carries; drawn from ``seed``, the same for all TVs."""
    titles: int
    """Rows of the item table that are counted; 0: none."""
    seed: str
    """32 bytes in hexadecimal: of the coordinates, and salt of the self-selection."""
    clipping_bound: float
    """Most L2 norm of the change of the parameters at the coordinates."""
    scale: float
    """Units that a change of 1 becomes."""
    value_cap: int
    """Most units of one value, either way: sums must not wrap."""
    title_weight: int
    """Units that one watched title counts."""
    title_cap: int
    """Most titles that one TV counts."""
    noise_multiplier: float
    """σ of the helper's noise over the most that one TV can change in the sum."""
    steps: int
    """Steps of SGD on the TV."""
    rate: float
    """Their learning rate."""
    sampling_rate: float
    """Chance that a TV selects itself."""
    new_events: int
    """Steps of taste that a TV must have gained since its last Update."""
    cohort_least: int
    """The helper unmasks no sum of fewer TVs."""
    cohort_most: int
    """No more are folded."""
    opens_at: int
    """POSIX seconds."""
    closes_at: int
    """POSIX seconds; what comes later is late."""
    spread_s: float
    """A TV sends at a random moment within so many seconds of being ready."""

    @property
    def values(self) -> int:
        """n, the length of an Update's vector."""
        return self.coordinates + self.titles

    @property
    def sensitivity(self) -> float:
        """Most L2 norm, in units, by which one TV changes the sum."""
        theta = privacy.rounded_bound(self.clipping_bound * self.scale, self.coordinates)
        return math.hypot(theta, self.title_weight * math.sqrt(self.title_cap))

    @property
    def sigma(self) -> float:
        """Standard deviation of the helper's noise, in units, on every value of the sum."""
        return self.noise_multiplier * self.sensitivity

    @property
    def rho(self) -> float:
        """ρ-zCDP that taking part costs."""
        return privacy.rho(self.noise_multiplier)

    def places(self, layout: Iterable[ParameterRecord]) -> NDArray[np.int64]:
        """Where in ``theta`` the Update's coordinates lie: sorted int64 [coordinates].

        Raises:
            RoundRefusedError: the Round names a tensor that the Bundle has not, or asks for more
                values than its tensors have.
        """
        records = {record.name: record for record in layout}
        unknown = sorted(set(self.parameters) - records.keys())
        if unknown:
            raise RoundRefusedError(f"round {self.round_id}: no parameter {unknown[0]!r} here")
        spans = [records[name].places() for name in self.parameters]
        every = np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *spans]))
        if self.coordinates > len(every):
            raise RoundRefusedError(
                f"round {self.round_id}: {self.coordinates} coordinates of {len(every)} values"
            )
        # A keyed order instead of a generator's: the same in every version of every library.
        stream = hashlib.shake_128(b"couchside/1 coordinates\0" + bytes.fromhex(self.seed))
        keys = np.frombuffer(stream.digest(8 * len(every)), dtype="<u8")
        return np.sort(every[np.argsort(keys, kind="stable")[: self.coordinates]])

    def selects(self, device_key: bytes) -> bool:
        """Whether this TV takes part: by a keyed hash, so nobody else can tell or choose."""
        salt = f"{self.seed} {self.round_id}".encode()
        drawn = hmac.digest(device_key, salt, "sha256")[:8]
        return int.from_bytes(drawn, "big") < self.sampling_rate * 2**64


@dataclass(frozen=True, slots=True)
class Limits:
    """What this TV allows, whatever a Round asks for."""

    least_cohort: int
    least_noise: float
    most_epsilon: float
    """Of all Updates of the last 365 days, at ``privacy.DELTA``."""
    most_updates: int
    """In 365 days."""


def write_round(value: Round) -> bytes:
    """The bytes that are signed."""
    text = json.dumps(strict.to_json(value), sort_keys=True, allow_nan=False)
    return text.encode()


def read_round(raw: bytes, keys: Iterable[bytes]) -> Round:
    """A Round that one of ``keys`` signed and that makes sense in itself.

    Raises:
        RoundRefusedError: it is forged, malformed, or its numbers contradict each other.
        LearningError: ``cryptography`` is not installed.
    """
    if len(raw) > ROUND_BYTES:
        raise RoundRefusedError(f"round: {len(raw)} bytes, the limit is {ROUND_BYTES}")
    content = verified(keys, PURPOSE, raw)
    try:
        value = strict.from_json(Round, strict.loads(content))
    except strict.StrictError as error:
        raise RoundRefusedError(f"round: {error}") from error
    wrong = contradiction(value)
    if wrong:
        raise RoundRefusedError(f"round {value.round_id}: {wrong}")
    return value


_RANGES: dict[str, tuple[float, float]] = {
    "round_id": (1, 2**32 - 1),
    "bundle_version": (1, 2**31 - 1),
    "coordinates": (0, 1 << 20),
    "titles": (0, 1 << 20),
    "clipping_bound": (1e-9, CLIP_MOST),
    "scale": (1e-6, 1e12),
    "value_cap": (1, privacy.LANE - 1),
    "title_weight": (0, privacy.LANE - 1),
    "title_cap": (0, 1000),
    "noise_multiplier": (NOISE_LEAST, 1000.0),
    "steps": (0, STEPS_MOST),
    "rate": (0.0, 100.0),
    "sampling_rate": (0.0, 1.0),
    "new_events": (0, 10_000),
    "cohort_least": (2, 1 << 24),
    "cohort_most": (2, 1 << 24),
    "opens_at": (0, 2**34),
    "closes_at": (0, 2**34),
    "spread_s": (0.0, 86_400.0),
}


def contradiction(value: Round) -> str:
    """What is wrong with a Round's numbers, in words; empty if nothing."""
    for name, (low, high) in _RANGES.items():
        number = getattr(value, name)
        if not low <= number <= high:
            return f"{name} is {number}, must be from {low:g} to {high:g}"
    room = privacy.LANE - privacy.TAIL * value.sigma
    sums = {"value_cap": value.value_cap, "title_weight": value.title_weight}
    for name, most in sums.items():
        if value.cohort_most * most > room:
            return f"{value.cohort_most} TVs of {name} {most} and the noise would wrap 16 bits"
    frame = frame_bytes(value.values)
    facts = {
        f"a frame of {frame} bytes is more than {FRAME_BYTES}": frame <= FRAME_BYTES,
        f"σ is {value.sigma:.3g} units, so that nothing would be hidden": value.sigma
        >= SIGMA_LEAST,
        "titles are counted that weigh nothing": not value.titles
        or min(value.title_weight, value.title_cap) > 0,
        "format is unknown": value.format == FORMAT,
        "seed is not 32 bytes": len(value.seed) == 64 and _is_hex(value.seed),
        "a parameter is named twice": len(set(value.parameters)) == len(value.parameters),
        "it asks for nothing": value.values > 0,
        "it closes before it opens": value.opens_at < value.closes_at,
        "cohort_least is above cohort_most": value.cohort_least <= value.cohort_most,
    }
    return next((words for words, good in facts.items() if not good), "")


def check_allowed(
    value: Round, manifest: Manifest, limits: Limits, spent: tuple[int, float]
) -> None:
    """Hold a verified Round against the installed Bundle and this TV's own limits.

    Args:
        value: the Round.
        manifest: of the installed Bundle.
        limits: this TV's.
        spent: number and ρ of the Updates of the last 365 days.

    Raises:
        RoundRefusedError: with the first thing that is wrong.
    """
    have = {
        THETA_FILE: value.theta_sha256,
        manifest.titles: value.titles_sha256,
    }
    for name, sha256 in have.items():
        record = manifest.files.get(name)
        if record is None or record.sha256 != sha256:
            raise RoundRefusedError(
                f"round {value.round_id}: for another Bundle (version {value.bundle_version}, "
                f"here is {manifest.version}); the next one may fit"
            )
    if value.titles not in (0, manifest.tensors["content"].shape[0]):
        raise RoundRefusedError(f"round {value.round_id}: counts {value.titles} rows of the table")
    updates, total = spent
    epsilon = privacy.epsilon(total + value.rho)
    asked = (
        ("cohort_least", value.cohort_least < limits.least_cohort, limits.least_cohort),
        ("noise_multiplier", value.noise_multiplier < limits.least_noise, limits.least_noise),
        ("ε of this year", epsilon > limits.most_epsilon, limits.most_epsilon),
        ("Updates this year", updates + 1 > limits.most_updates, limits.most_updates),
    )
    for what, broken, limit in asked:
        if broken:
            raise RoundRefusedError(
                f"round {value.round_id}: {what} would break this TV's limit of {limit:g}"
            )


def _is_hex(text: str) -> bool:
    try:
        return bytes.fromhex(text).hex() == text
    except ValueError:
        return False
