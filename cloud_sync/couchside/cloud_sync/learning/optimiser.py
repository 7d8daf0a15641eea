"""From a noised sum to new parameters: federated averaging (McMahan et al., AISTATS 2017).

The server rate multiplies the mean change, which makes it SGD over Rounds; momentum and Adam of
Reddi et al. ("Adaptive Federated Optimization", ICLR 2021) would keep a state beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from couchside.cloud_sync.errors import RoundError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from couchside.device.learning.round import Round


def mean_change(units: NDArray[np.int64], asked: Round, folded: int) -> NDArray[np.float64]:
    """Mean change of the parameters at the Round's coordinates: float64 [coordinates].

    Args:
        units: the unmasked, noised sum [values].
        asked: the Round.
        folded: TVs in it.
    """
    return units[: asked.coordinates] / (asked.scale * folded)


def title_counts(units: NDArray[np.int64], asked: Round) -> NDArray[np.float32]:
    """Noised number of TVs that watched each title: float32 [titles], below 0 by noise only."""
    weight = max(asked.title_weight, 1)
    return np.asarray(units[asked.coordinates :] / weight, dtype=np.float32)


def stepped(
    theta: NDArray[np.float32],
    places: NDArray[np.int64],
    change: NDArray[np.float64],
    server_rate: float,
) -> NDArray[np.float32]:
    """``theta`` [p] moved by ``server_rate`` times ``change`` at ``places``: float32 [p].

    Raises:
        RoundError: the result would not be finite.
    """
    after = theta.astype(np.float64)
    after[places] += server_rate * change
    if not (np.abs(after) < np.finfo(np.float32).max).all():
        raise RoundError(f"--server-rate {server_rate} leads to parameters that are not finite")
    return after.astype(np.float32)
