"""What other ways would carry of the same files: as they are, as one archive, as a difference.

Bodies alone: no greeting, no headers, no signatures, which flatters them. The tools of
``differences`` run in an environment of their own.
"""

from __future__ import annotations

import io
import lzma
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from couchside.benchmarks.tables import peers
from couchside.benchmarks.tables.peers import Peer, PeerMissingError
from couchside.benchmarks.tables.sync.crossing import contents, with_other_popularity

if TYPE_CHECKING:
    from couchside.benchmarks.tables.bench import Bench
    from couchside.device.bundle import Bundle

DELTAS = Peer("deltas", ("zstandard==0.25.0", "bsdiff4==1.3.2"))


def other_ways(bundle: Bundle) -> dict[str, int]:
    """Bytes of a Bundle's files as they are, and as one compressed archive."""
    files = contents(bundle)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in files:
            tar.add(bundle.path / name, name)
    return {
        "plain": sum(map(len, files.values())),
        "archive": len(lzma.compress(archive.getvalue())),
    }


def differences(bench: Bench, bundle: Bundle) -> dict[str, Any]:
    """Bytes of a release with a new popularity as a difference to the Bundle before it.

    Returns:
        ``whole`` (tar.zst), ``zstd`` (--patch-from), ``bsdiff``; or ``missing``, why there is none.
    """
    with tempfile.TemporaryDirectory() as name:
        new = with_other_popularity(bundle, Path(name) / "new")
        request = {"old": str(bundle.path), "new": str(new)}
        try:
            answer: dict[str, Any] = peers.install(bench, DELTAS).ask("deltas.py", request)
        except PeerMissingError as error:
            return {"missing": str(error)}
    return answer
