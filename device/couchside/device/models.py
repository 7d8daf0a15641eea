"""The Bundle's models as the daemon runs them: one at a time, under a time limit, checked.

The text encoder is opened when a title or a query needs it and closed after a load: most evenings
need neither, and its memory is better spent on the picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from couchside.device.encoders import TextEncoder
from couchside.device.errors import BundleError
from couchside.device.ranker import UserModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from couchside.device.bundle import Bundle
    from couchside.device.liveness import RunGuard
    from couchside.device.records import Title
    from couchside.device.shelf.taste import Steps

BATCHES = 8
"""Runs of the text encoder in one guarded stretch; others may use a model in between."""


class Models:
    """User model and text encoder of one Bundle.

    Args:
        bundle: an opened Bundle.
        guard: ends the process where a run hangs.
        threads: of the inference runtime.

    Raises:
        BundleError: the runtime can't load the user model.
    """

    def __init__(self, bundle: Bundle, guard: RunGuard, *, threads: int = 1) -> None:
        self.bundle = bundle
        self._guard = guard
        self._threads = threads
        self._user_model = UserModel(bundle, threads=threads)
        self._encoder: TextEncoder | None = None

    @property
    def length(self) -> int:
        """Steps of history that the user model reads."""
        return self._user_model.length

    def user(
        self, steps: Steps, personal: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32] | None:
        """User vector float32 [d] of a history; None if it is empty.

        Args:
            steps: the history.
            personal: what was learned for the profile [p]; None for what was shipped.

        Raises:
            BundleError: the model gave something that is not a vector of finite numbers.
        """
        if not len(steps):
            return None
        with self._guard.running(self.bundle.bundle_id, "user_model"):
            vector = self._user_model.user(steps.vectors, steps.signals, steps.gaps, personal)
        return self._finite(vector, "user_model")

    def encode(self, titles: Sequence[Title]) -> NDArray[np.float32]:
        """Item vectors float32 [n, d] of titles that the Bundle has never seen.

        Raises:
            BundleError: the encoder can't be loaded, or gave something that is not finite.
        """
        stretch = BATCHES * self.bundle.model.text_batch
        parts = [
            self._encode_some(titles[start : start + stretch])
            for start in range(0, len(titles), stretch)
        ]
        if not parts:
            return np.zeros((0, self.bundle.model.d), dtype=np.float32)
        return self._finite(np.concatenate(parts), "text_encoder")

    def close_encoder(self) -> None:
        """Give back the text encoder's memory until it is needed again."""
        self._encoder = None

    def _encode_some(self, titles: Sequence[Title]) -> NDArray[np.float32]:
        with self._guard.running(self.bundle.bundle_id, "text_encoder"):
            encoder = self._encoder or TextEncoder(self.bundle, threads=self._threads)
            self._encoder = encoder
            return encoder.encode(titles)

    def _finite(self, values: NDArray[np.float32], what: str) -> NDArray[np.float32]:
        if not np.isfinite(values).all():
            raise BundleError(f"{self.bundle.path}: {what} computed something not finite")
        return values
