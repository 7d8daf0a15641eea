"""What a Round gave: two files in a folder, by which the cloud hands it to the lab.

``result.json`` says what was summed and how private it is, ``theta.bin`` holds the new parameters
(float32, little-endian, in the manifest's layout) and ``counts.bin`` the noised number of TVs that
watched each title (float32 [titles]). The lab makes a Bundle of it, or refuses to.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from couchside.device import strict
from couchside.device.durable import write_bytes_durably, write_durably
from couchside.device.errors import LearningError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FORMAT = "couchside-round-result/1"
RESULT_FILE, THETA_FILE, COUNTS_FILE = "result.json", "theta.bin", "counts.bin"
RESULT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class RoundResult:
    """``result.json``."""

    format: str
    round_id: int
    base_version: int
    base_theta_sha256: str
    base_titles_sha256: str
    theta_sha256: str
    counts_sha256: str
    folded: int
    """TVs in the sum."""
    opened_at: int
    """POSIX seconds; the counts are of what was watched before ``closed_at``."""
    closed_at: int
    noise_multiplier: float
    epsilon: float
    """Of one TV's taking part, at ``delta``, against somebody who knows that it did."""
    epsilon_amplified: float
    """The same against somebody who does not know which TVs selected themselves."""
    delta: float
    change_norm: float
    """L2 norm of the applied change of the parameters."""
    count_sigma: float
    """Standard deviation of the noise on each count, in TVs."""


def write_result(
    folder: Path, result: RoundResult, theta: NDArray[np.float32], counts: NDArray[np.float32]
) -> None:
    """Write the three files into the new folder ``folder``; ``result.json`` comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes_durably(folder / THETA_FILE, theta.astype("<f4").tobytes())
    write_bytes_durably(folder / COUNTS_FILE, counts.astype("<f4").tobytes())
    text = json.dumps(strict.to_json(result), indent=1, sort_keys=True, allow_nan=False)
    write_durably(folder / RESULT_FILE, text + "\n")


def read_result(folder: Path) -> tuple[RoundResult, NDArray[np.float32], NDArray[np.float32]]:
    """Read and check what ``write_result`` wrote: the result, theta, counts.

    Raises:
        LearningError: a file is missing, damaged, or holds numbers that are not finite.
    """
    try:
        raw = (folder / RESULT_FILE).read_bytes()
        blobs = [(folder / name).read_bytes() for name in (THETA_FILE, COUNTS_FILE)]
    except OSError as error:
        raise LearningError(
            f"{folder}: {error.strerror}; a Round's result is made by: couchside-cloud round close"
        ) from error
    if len(raw) > RESULT_BYTES:
        raise LearningError(f"{folder / RESULT_FILE}: {len(raw)} bytes are too many for a result")
    try:
        result = strict.from_json(RoundResult, strict.loads(raw))
    except strict.StrictError as error:
        raise LearningError(f"{folder / RESULT_FILE}: {error}") from error
    if result.format != FORMAT:
        raise LearningError(f"{folder / RESULT_FILE}: format {result.format!r} is not {FORMAT!r}")
    hashes = (result.theta_sha256, result.counts_sha256)
    arrays = []
    for name, blob, sha256 in zip((THETA_FILE, COUNTS_FILE), blobs, hashes, strict=True):
        if hashlib.sha256(blob).hexdigest() != sha256 or len(blob) % 4:
            raise LearningError(
                f"{folder / name}: not what {RESULT_FILE} says; close the Round again"
            )
        values = np.frombuffer(blob, dtype="<f4").astype(np.float32)
        if not np.isfinite(values).all():
            raise LearningError(f"{folder / name}: holds numbers that are not finite")
        arrays.append(values)
    return result, arrays[0], arrays[1]
