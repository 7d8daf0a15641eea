"""The helper alone: what it costs to hold the seeds of a Round and to unmask its sum.

    python -m couchside.benchmarks.tables.sync.unmasking BUNDLE SEEDS

A process of its own, so that its memory is the helper's: the real store, the real letter's content,
the real noise; without the broker. One line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from couchside.benchmarks.errors import InvalidRunError
from couchside.cloud_sync.learning.identity import helper_keys, public
from couchside.cloud_sync.learning.letters import Unmask
from couchside.cloud_sync.learning.plan import ALL, Wish, plan_round
from couchside.cloud_sync.learning.unmasking.helper import Policy, judge
from couchside.cloud_sync.learning.unmasking.seeds import SeedStore
from couchside.device.bundle import open_bundle
from couchside.device.learning.round import PURPOSE, write_round
from couchside.device.learning.signed import sign
from couchside.device.process import memory

if TYPE_CHECKING:
    from couchside.device.bundle import Bundle

LIMIT_S = 300.0
LEAST = 10
STATUS = Path("/proc/self/status")


def unmask_apart(bundle: Bundle, seeds: int) -> dict[str, Any]:
    """What ``unmask`` finds, in a process of its own.

    Raises:
        InvalidRunError: it fails; the message is the end of what it said.
    """
    command = [sys.executable, "-m", __name__, str(bundle.path), str(seeds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode:
        raise InvalidRunError(f"the helper alone failed: {done.stderr[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def unmask(bundle: Bundle, seeds: int, folder: Path, *, least: int = LEAST) -> dict[str, Any]:
    """CPU milliseconds of unmasking a sum of so many, and the process's memory in MB.

    Raises:
        InvalidRunError: the helper refuses.
    """
    key = Ed25519PrivateKey.generate()
    wish = Wish(learn=(ALL,), goal=seeds, least=LEAST)
    asked = plan_round(wish, bundle.manifest, 1, int(time.time()), os.urandom(32))
    signed = sign(key, PURPOSE, write_round(asked))
    updates = [(os.urandom(16), f"tv-{n}", os.urandom(32)) for n in range(seeds)]
    before = memory(STATUS)["rss_bytes"]
    store = SeedStore(folder / "helper.db")
    try:
        store.keep(asked, signed, updates)
        ask = Unmask(signed, tuple(sorted(update_id for update_id, _, _ in updates)))
        began = time.process_time()
        answer = judge(ask, Policy((public(key),), least), helper_keys(folder), store)
        took = time.process_time() - began
    finally:
        store.close()
    if answer.refused:
        raise InvalidRunError(f"the helper refuses: {answer.refused}")
    peak = memory(STATUS)["peak_rss_bytes"]
    return {"ms": 1000 * took, "values": asked.values, "before": before / 1e6, "peak": peak / 1e6}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        found = unmask(open_bundle(Path(sys.argv[1])), int(sys.argv[2]), Path(name))
    sys.stdout.write(json.dumps(found))
