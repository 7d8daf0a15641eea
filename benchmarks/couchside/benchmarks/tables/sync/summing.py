"""Updates through the cloud: the real aggregator and helper, and the fold alone beside Flower's.

The crowd is simulated, its frames are not: masked vectors of the size that a Round asks for,
sealed seeds, the real topics, a receipt for each. Cost is CPU time of each server's process while
all of it arrives, read from the kernel.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from couchside.benchmarks.delivery.journey import Journey
from couchside.benchmarks.errors import InvalidRunError
from couchside.benchmarks.learning.crowd import deliver
from couchside.cloud_sync.learning.summing.aggregate import Accumulator
from couchside.device.bundle import open_bundle
from couchside.device.learning import masking
from couchside.device.learning.round import read_round
from couchside.device.learning.update import Update, seal_context, write_update
from couchside.device.process import memory

if TYPE_CHECKING:
    from couchside.device.bundle import Bundle
    from couchside.device.learning.round import Round

MB = 1e6
FOLDS = 200
TICKS = os.sysconf("SC_CLK_TCK")


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
        asked = servers.open_round(journey.released, *wish)
        trusted = open_bundle(journey.released).manifest.learning
        if trusted is None:
            raise InvalidRunError("the released Bundle names nobody to learn together with")
        round_ = read_round(journey.round(), map(bytes.fromhex, trusted.rounds_keys))
        frames = [_frame(round_, number, trusted.helper_key) for number in range(tvs)]
        before = {name: _cpu_s(pid) for name, pid in servers.pids().items()}
        resident = _resident(servers.pids())
        began = time.monotonic()
        verdicts, _ = deliver(frames, int(asked["round_id"]), journey.address)
        took = time.monotonic() - began
        after = {name: _cpu_s(pid) for name, pid in servers.pids().items()}
        if verdicts != {"folded": tvs}:
            raise InvalidRunError(f"of {tvs} Updates became {verdicts}")
        grown = _resident(servers.pids())
    return {
        "values": round_.coordinates + round_.titles,
        "frame": len(frames[0][2]),
        "seconds": took,
        "cpu": {name: after[name] - before[name] for name in after},
        "resident": resident,
        "grown": grown,
    }


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
    """CPU milliseconds of adding one masked vector of ``values`` to the sum, of many at once."""
    rng = np.random.default_rng(0)
    vectors = [rng.integers(0, 2**16, values, dtype=np.uint16) for _ in range(FOLDS)]
    began = time.process_time()
    Accumulator.empty(values).with_all(vectors)
    return 1000 * (time.process_time() - began) / FOLDS


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _resident(pids: dict[str, int]) -> dict[str, float]:
    return {
        name: memory(Path(f"/proc/{pid}/status"))["rss_bytes"] / MB for name, pid in pids.items()
    }
