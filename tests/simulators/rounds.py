"""A cloud that signs Rounds and a helper that unseals them, for one Bundle; no network.

trust = Trust(tiny_bundle, tmp_path / "trusted")
raw = trust.signed(trust.round(noise_multiplier=1.0))
values = trust.unmasked(frame)      # as only the helper and the aggregator together could
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from couchside.device.bundle import LearningRecord, open_bundle, write_manifest
from couchside.device.learning import masking
from couchside.device.learning.round import FORMAT, PURPOSE, Round, write_round
from couchside.device.learning.signed import sign
from couchside.device.learning.update import read_update, seal_context

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LAB = "[learning]\nleast_cohort = 2\nleast_noise = 0.3\nmost_epsilon = 1000.0\n"
"""Settings of a TV that lets a Round of few TVs be unmasked."""


class Trust:
    """Keys, and a copy of a Bundle that pins them.

    Args:
        source: folder of a Bundle.
        folder: where the copy goes; must not exist.
    """

    def __init__(self, source: Path, folder: Path) -> None:
        self.rounds_key, self.helper_key = (
            Ed25519PrivateKey.generate(),
            X25519PrivateKey.generate(),
        )
        shutil.copytree(source, folder)
        manifest = open_bundle(folder).manifest
        record = LearningRecord(
            (self.rounds_key.public_key().public_bytes_raw().hex(),),
            self.helper_key.public_key().public_bytes_raw().hex(),
        )
        write_manifest(folder, replace(manifest, learning=record))
        self.bundle = open_bundle(folder)

    def round(self, **changes: Any) -> Round:
        """A Round that fits the Bundle, with small numbers."""
        manifest = self.bundle.manifest
        projection = manifest.tensors["projection"].shape
        now = int(time.time())
        asked = Round(
            format=FORMAT,
            round_id=1,
            bundle_version=manifest.version,
            theta_sha256=manifest.files["theta.bin"].sha256,
            titles_sha256=manifest.files[manifest.titles].sha256,
            parameters=("projection",),
            coordinates=projection[0] * projection[1],
            titles=manifest.tensors["content"].shape[0],
            seed="5a" * 32,
            clipping_bound=0.5,
            scale=200.0,
            value_cap=40,
            title_weight=20,
            title_cap=4,
            noise_multiplier=1.0,
            steps=2,
            rate=1.0,
            sampling_rate=1.0,
            new_events=1,
            cohort_least=2,
            cohort_most=100,
            opens_at=now - 60,
            closes_at=now + 3600,
            spread_s=0.0,
        )
        return replace(asked, **changes)

    def signed(self, asked: Round) -> bytes:
        """As it is retained at the broker."""
        return sign(self.rounds_key, PURPOSE, write_round(asked))

    def unmasked(self, frame: bytes) -> NDArray[np.int64]:
        """What a frame hides."""
        update = read_update(frame)
        context = seal_context(update.round_id, update.update_id)
        seed = masking.unseal(update.sealed, self.helper_key, context)
        assert seed is not None, "the seed does not open"
        plain = update.values - masking.mask(seed, len(update.values))
        return plain.astype(np.int16).astype(np.int64)
