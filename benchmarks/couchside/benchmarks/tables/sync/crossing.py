"""What crosses a TV's link, whatever carries it: counted on the link, of real processes.

Ours is couchside-sync with the installer that it starts, each time from a new connection, as after
standby: greeting, roots and head are in it. Beside it stands ``streams``, request and response over
the same broker with the same compressed files. What other ways would carry is computed from the
files alone.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from couchside.benchmarks.delivery.cloud import Cloud
from couchside.benchmarks.errors import InvalidRunError
from couchside.benchmarks.tables.sync.link import Link
from couchside.benchmarks.tables.sync.receiver import Receiver
from couchside.benchmarks.tables.sync.streams import BLOCK_BYTES, Device, Form, Server
from couchside.cloud_sync.blocks import encode
from couchside.cloud_sync.broker import local_broker
from couchside.device.bundle import FileRecord, write_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from couchside.cloud_sync.address import BrokerAddress
    from couchside.device.bundle import Bundle

HALF = 0.5
KILL_DELAY_S = 0.005
"""One way, while a kill is waited for: so near that it hardly takes time, but not in no time."""
UNDER_WAY = 1.5
"""Times the delay until the kill: what was asked for has left the broker and is not here yet."""
FORMS: tuple[Form, ...] = ("json", "cbor")
REMADE = ("golden.bin", "theta.bin")
"""Files that a Round changes from end to end, and the user model's graph."""


class Depot:
    """A cloud and a broker, and releases that wait there.

    Args:
        folder: empty and short-lived.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        self.broker = local_broker(folder / "broker")
        self.cloud = Cloud(folder / "cloud", self.broker.address)
        self.root = self.cloud.keys()

    def release(self, version: int, *bundles: Path) -> None:
        """Sign Bundles, one a flavour, as the next release, and publish it."""
        self.cloud.run("release", *map(str, bundles), "--as-version", str(version))
        self.cloud.publish()

    def tv(self, link: Link, flavour: str, **wishes: int) -> Receiver:
        """A new TV behind a link."""
        self._count += 1
        folder = self._folder / f"tv-{self._count}"
        return Receiver(folder, self.root, link, flavour, **wishes)


@contextmanager
def depot() -> Iterator[tuple[Depot, Path]]:
    """A depot whose broker runs, and a folder for what one makes."""
    with tempfile.TemporaryDirectory(prefix="couchside-") as name:
        made = Depot(Path(name))
        made.broker.start()
        try:
            yield made, Path(name)
        finally:
            made.broker.stop()


def releases(bundles: Mapping[str, Bundle], flavour: str, idle_s: float) -> dict[str, Any]:
    """First Bundle of every flavour; for one, the releases after it, and quiet.

    Returns:
        ``first`` by flavour, ``manifest``, ``popularity`` and ``quiet``, each as ``Crossed``.
    """
    with depot() as (here, folder), Link(here.broker.address) as link:
        here.release(1, *(bundle.path for bundle in bundles.values()))
        first = {name: asdict(here.tv(link, name).take()) for name in bundles if name != flavour}
        tv = here.tv(link, flavour)
        first[flavour] = asdict(tv.take())
        here.release(2, bundles[flavour].path)
        manifest = tv.take()
        popular = with_other_popularity(bundles[flavour], folder / "popular")
        here.release(3, popular)
        popularity = tv.take()
        quiet = tv.rest(idle_s)
    return {
        "first": first,
        "manifest": asdict(manifest),
        "popularity": asdict(popularity),
        "quiet": asdict(quiet),
    }


def distance(bundle: Bundle, delay_s: float, windows: tuple[int, ...]) -> dict[str, Any]:
    """Seconds of a first Bundle near the broker and far away, by how it is asked for."""
    took: dict[str, Any] = {}
    with depot() as (here, _):
        here.release(1, bundle.path)
        with Link(here.broker.address) as near, Link(here.broker.address, delay_s) as far:
            for window in windows:
                name = f"window {window}"
                took[name] = [
                    here.tv(link, bundle.flavour, window=window).take().seconds
                    for link in (near, far)
                ]
            for form in FORMS:
                took[form] = [_stream_s(here.broker.address, link, bundle, form)
                              for link in (near, far)]  # fmt: skip
    return took


def stream(bundle: Bundle, form: Form) -> dict[str, int]:
    """Bytes of the whole Bundle by request and response; blocks; requests."""
    with depot() as (here, _), Link(here.broker.address) as link:
        content = carried(bundle)
        with Server(here.broker.address, content, form):
            requests = _fetch(link, content, form, {})
        return {
            "received": link.received,
            "sent": link.sent,
            "blocks": -(-len(content) // BLOCK_BYTES[form]),
            "requests": requests,
        }


def killed(bundle: Bundle) -> dict[str, Any]:
    """Ours, killed when half of the blocks are on the disk: what came twice.

    Returns:
        ``again``: blocks asked for twice; ``received``: bytes of both runs together;
        ``undisturbed``: of one TV that was left alone.
    """
    with depot() as (here, _):
        here.release(1, bundle.path)
        with Link(here.broker.address, KILL_DELAY_S) as link:
            alone = here.tv(link, bundle.flavour).take()
        with Link(here.broker.address, KILL_DELAY_S) as link:
            tv = here.tv(link, bundle.flavour)
            held = tv.die_at(round(alone.blocks * HALF), KILL_DELAY_S * UNDER_WAY)
            after = tv.take()
            received = link.received
    return {
        "held": held,
        "blocks": alone.blocks,
        "again": held + after.blocks - alone.blocks,
        "received": received,
        "undisturbed": alone.received,
    }


def stream_killed(bundle: Bundle, form: Form) -> dict[str, int]:
    """The same by request and response: it resumes by the bitmap of what it has."""
    content = carried(bundle)
    with depot() as (here, _), Server(here.broker.address, content, form):
        with Link(here.broker.address, KILL_DELAY_S) as link:
            _fetch(link, content, form, {})
            undisturbed = link.received
        held: dict[int, bytes] = {}
        with Link(here.broker.address, KILL_DELAY_S) as link:
            device = Device(link.address, len(content), form, held)
            device.fetch(until=HALF)
            device.die(KILL_DELAY_S * UNDER_WAY)
            _fetch(link, content, form, held)
            received = link.received
    return {"received": received, "undisturbed": undisturbed}


def carried(bundle: Bundle) -> bytes:
    """The Bundle's files as they travel, compressed where that pays, one after the other."""
    return b"".join(
        block for name, content in contents(bundle).items() for block in encode(name, content)[1]
    )


def contents(bundle: Bundle) -> dict[str, bytes]:
    """The Bundle's files by name."""
    return {
        file.name: file.read_bytes() for file in sorted(bundle.path.iterdir()) if file.is_file()
    }


def after_round(bundle: Bundle) -> dict[str, int]:
    """Bytes and blocks of a release after a Round, computed from the files.

    Theta, golden vectors and the user model's graph change from end to end, projection and
    popularity within the item table; blocks that stay the same are not fetched.
    """
    old = contents(bundle)
    remade = {*REMADE, *(name for name in old if name.startswith("user_model."))}
    size = count = 0
    for name, content in old.items():
        before, blocks = encode(name, content)
        new = blocks
        kept: set[str] = set()
        if name == "items.bin":
            shaken = _shaken(_shaken(content, bundle, "projection"), bundle, "popularity")
            record, new = encode(name, shaken)
            kept = set(before.blocks) & set(record.blocks)
        elif name not in remade and name != "manifest.json":
            continue
        size += sum(map(len, new)) - sum(
            len(block) for block, known in zip(blocks, before.blocks, strict=True) if known in kept
        )
        count += len(new) - len(kept)
    return {"bytes": size, "blocks": count}


def with_other_popularity(bundle: Bundle, folder: Path) -> Path:
    """A copy of the Bundle in ``folder`` whose titles are as popular as other ones were."""
    shutil.copytree(bundle.path, folder)
    record = bundle.manifest.tensors["popularity"]
    content = _shaken((folder / record.file).read_bytes(), bundle, "popularity")
    (folder / record.file).write_bytes(content)
    files = dict(bundle.manifest.files)
    files[record.file] = FileRecord(len(content), hashlib.sha256(content).hexdigest())
    write_manifest(folder, replace(bundle.manifest, files=files))
    return folder


def _shaken(content: bytes, bundle: Bundle, tensor: str) -> bytes:
    """The file with each of a float tensor's values moved by up to a tenth."""
    record = bundle.manifest.tensors[tensor]
    values = np.asarray(bundle.tensor(tensor), dtype=np.float32)
    moved = values * np.random.default_rng(0).uniform(0.9, 1.1, values.shape)
    raw = moved.astype("<f4").tobytes()
    return content[: record.offset] + raw + content[record.offset + len(raw) :]


def _stream_s(broker: BrokerAddress, link: Link, bundle: Bundle, form: Form) -> float:
    content = carried(bundle)
    with Server(broker, content, form):
        began = time.monotonic()
        _fetch(link, content, form, {})
        return time.monotonic() - began


def _fetch(link: Link, content: bytes, form: Form, held: dict[int, bytes]) -> int:
    """Fetch the rest; the number of requests.

    Raises:
        InvalidRunError: something else arrived.
    """
    with ExitStack() as stack:
        device = Device(link.address, len(content), form, held)
        stack.callback(device.close)
        if device.fetch() != content:
            raise InvalidRunError("a stream brought another file than was sent")
        return device.requests
