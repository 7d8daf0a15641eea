"""A Bundle's way to one TV: what really crossed, beside what other ways would have carried.

The first two releases and the kill are real: a cloud, a broker, couchside-sync and
couchside-install as processes, bytes as couchside-sync counts them above TCP. The other ways are
computed from the same files; how is said in the row's column.
"""

from __future__ import annotations

import io
import lzma
import math
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from couchside.benchmarks.delivery.journey import Journey
from couchside.benchmarks.errors import InvalidRunError

if TYPE_CHECKING:
    from couchside.benchmarks.delivery.fleet import FleetTv
    from couchside.device.bundle import Bundle

STREAM_BLOCK = 60 * 1024
"""Bytes that a request asks for: AWS IoT's streams take 0.25 to 128 KiB; ours is between."""
STREAM_REQUEST, STREAM_ANSWER = 120, 140
"""Bytes of JSON around a request and around a block, topics included, rounded down."""
POLL_S = 0.001
LIMIT_S = 60.0


def deliver(bundle: Bundle) -> dict[str, Any]:
    """Bytes in and out and blocks: of the first installation, then of one with a new manifest."""
    with _folder() as name, Journey(Path(name), bundle, tvs=1) as journey:
        journey.begin()
        releases = [journey.release(), journey.release()]
    first, next_ = (
        {
            "in": release.arrivals[0].bytes_in,
            "out": release.arrivals[0].bytes_out,
            "blocks": release.arrivals[0].fetched,
        }
        for release in releases
    )
    return {"first": first, "next": next_, "head": releases[0].head_bytes}


def other_ways(bundle: Bundle) -> dict[str, dict[str, float]]:
    """Bytes of the same files: plain, as one compressed archive, and asked for by blocks."""
    files = [file for file in sorted(bundle.path.iterdir()) if file.is_file()]
    plain = sum(file.stat().st_size for file in files)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for file in files:
            tar.add(file, file.name)
    blocks = sum(math.ceil(file.stat().st_size / STREAM_BLOCK) for file in files)
    base64 = sum(4 * math.ceil(file.stat().st_size / 3) for file in files)
    return {
        "plain": {"in": plain, "out": 0, "trips": len(files)},
        "archive": {"in": len(lzma.compress(archive.getvalue())), "out": 0, "trips": 1},
        "asked": {"in": base64 + STREAM_ANSWER * blocks, "out": STREAM_REQUEST * blocks,
                  "trips": blocks},
    }  # fmt: skip


def killed(bundle: Bundle) -> dict[str, Any]:
    """Blocks on the disk at ``kill -9`` of couchside-sync half way, and those asked for later.

    Raises:
        InvalidRunError: it did not arrive in time, or was faster than the kill.
    """
    with _folder() as name, Journey(Path(name), bundle, tvs=1) as journey:
        journey.begin()
        tv = journey.tvs[0]
        held = _kill_half_way(journey, tv)
        mark = len(tv.changes)
        tv.follow()
        end = time.monotonic() + LIMIT_S
        while not any(change.state == "installed" for change in tv.changes[mark:]):
            if time.monotonic() > end:
                raise InvalidRunError(f"no Bundle after the kill:\n{tv.sync_log()}")
            tv.look_after()
            time.sleep(POLL_S)
        wanted = max((c.blocks for c in tv.changes[mark:] if c.state == "wanted"), default=0)
    return {"held": len(held), "wanted": wanted}


def _kill_half_way(journey: Journey, tv: FleetTv) -> set[str]:
    """The blocks on its disk when it was killed."""
    half = journey.publish_next() // 2
    end = time.monotonic() + LIMIT_S
    while len(_held(tv)) < half:
        if time.monotonic() > end:
            raise InvalidRunError(f"no blocks arrived:\n{tv.sync_log()}")
        time.sleep(POLL_S)
    tv.kill_sync()
    return _held(tv)


def _held(tv: FleetTv) -> set[str]:
    folder = tv.folder / "spool" / "blocks"
    files = folder.iterdir() if folder.is_dir() else ()
    return {file.name for file in files if len(file.name) == 64}


def _folder() -> tempfile.TemporaryDirectory[str]:
    """Short, as sockets lie in it."""
    return tempfile.TemporaryDirectory(prefix="couchside-")
