"""Updates through the cloud: the real aggregator and helper, and the fold alone beside Flower's.

The crowd is simulated, its frames are not: masked vectors of the size that a Round asks for,
sealed seeds, the real topics, a receipt for each. Cost is CPU time of each server's process while
all of it arrives, read from the kernel.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from couchside.benchmarks.delivery.journey import Journey
from couchside.benchmarks.errors import InvalidRunError
from couchside.benchmarks.learning.crowd import deliver
from couchside.cloud_sync.learning.plan import PROJECTION
from couchside.cloud_sync.learning.summing.aggregate import Accumulator
from couchside.device.bundle import open_bundle
from couchside.device.learning import masking
from couchside.device.learning.receipt import Receipt, Verdict, write_receipt
from couchside.device.learning.round import read_round
from couchside.device.learning.spool import SEALED_BYTES, frame_bytes
from couchside.device.learning.update import Update, read_update, seal_context, write_update
from couchside.device.process import memory

if TYPE_CHECKING:
    from couchside.device.bundle import Bundle
    from couchside.device.learning.round import Round

MB = 1e6
FOLDS = 200


def gather(bundle: Bundle, tvs: int) -> dict[str, Any]:
    """Let ``tvs`` simulated TVs deliver an Update each, and close the Round.

    Raises:
        InvalidRunError: an Update got no receipt, or was not folded.
    """
    with (
        tempfile.TemporaryDirectory(prefix="couchside-") as name,
        Journey(Path(name), bundle, tvs=1, least_cohort=10) as journey,
    ):
        journey.begin()
        journey.release()
        servers = journey.servers
        servers.start()
        wish = ("--goal", str(tvs), "--least", "10", "--noise", "1.0", "--learn", "all",
                "--spread-s", "0")  # fmt: skip
        servers.open_round(journey.released, *wish)
        trusted = open_bundle(journey.released).manifest.learning
        if trusted is None:
            raise InvalidRunError("the released Bundle names nobody to learn together with")
        round_ = read_round(journey.round(), map(bytes.fromhex, trusted.rounds_keys))
        frames = [_frame(round_, number, trusted.helper_key) for number in range(tvs)]
        pids = {**servers.pids(), "broker": journey.broker_pid}
        before, resident = _cpu_s(pids), _resident(pids)
        began = time.monotonic()
        halves = [deliver(frames[: tvs // 2], round_.round_id, journey.address)]
        between = _resident(pids)
        halves.append(deliver(frames[tvs // 2 :], round_.round_id, journey.address))
        took = time.monotonic() - began
        after, grown = _cpu_s(pids), _resident(pids)
    lost = tvs - sum(verdicts.get("folded", 0) for verdicts, _ in halves)
    if lost:
        raise InvalidRunError(f"of {tvs} Updates became {[verdicts for verdicts, _ in halves]}")
    return {
        "values": round_.values,
        "frame": len(frames[0][2]),
        "projection": frame_bytes(_projection(bundle) + round_.titles),
        "receipt": len(write_receipt(Receipt(round_.round_id, frames[0][1], Verdict.FOLDED))),
        "seconds": took,
        "lost": lost,
        "sent": sum(size for _, size in halves),
        "cpu": {name: after[name] - before[name] for name in after},
        "resident": resident,
        "half": between,
        "grown": grown,
    }


def _projection(bundle: Bundle) -> int:
    """Values of the projection alone, which is what a Round asks for by default."""
    (shape,) = (p.shape for p in bundle.manifest.parameters if p.name == PROJECTION)
    return math.prod(shape)


def _frame(asked: Round, number: int, helper_key: str) -> tuple[str, str, bytes]:
    """Device, identifier and frame of a TV whose change is zero under its mask."""
    seed, update_id = os.urandom(32), os.urandom(16)
    zeros = np.zeros(asked.coordinates + asked.titles, dtype=np.int64)
    update = Update(
        round_id=asked.round_id,
        bundle_version=asked.bundle_version,
        update_id=update_id,
        scale=asked.scale,
        sealed=masking.seal(
            seed, bytes.fromhex(helper_key), seal_context(asked.round_id, update_id)
        ),
        values=masking.masked(zeros, seed),
    )
    return f"tv-{number}", update_id.hex(), write_update(update)


def fold_ms(values: int) -> float:
    """CPU milliseconds of reading a frame of ``values`` and adding it to the sum, of many."""
    rng = np.random.default_rng(0)
    vectors = (rng.integers(0, 2**16, values, dtype=np.uint16) for _ in range(FOLDS))
    frames = [
        write_update(Update(1, 1, os.urandom(16), 1.0, bytes(SEALED_BYTES), vector))
        for vector in vectors
    ]
    began = time.process_time()
    Accumulator.empty(values).with_all(read_update(frame).values for frame in frames)
    return 1000 * (time.process_time() - began) / FOLDS


def _cpu_s(pids: dict[str, int]) -> dict[str, float]:
    """CPU seconds of each process until now, all its threads."""
    return {
        name: sum(
            int((task / "schedstat").read_text().split()[0])
            for task in Path(f"/proc/{pid}/task").iterdir()
        )
        / 1e9
        for name, pid in pids.items()
    }


def _resident(pids: dict[str, int]) -> dict[str, float]:
    return {
        name: memory(Path(f"/proc/{pid}/status"))["rss_bytes"] / MB for name, pid in pids.items()
    }
