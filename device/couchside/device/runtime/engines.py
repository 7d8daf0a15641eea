"""Engines that TensorRT built, kept on the board so that the next start need not build them again.

An engine fits one model, one TensorRT, one GPU and one driver. All of that is in the key, so an
engine of yesterday's driver is never opened; it is deleted when its turn comes. Each key has a
folder of its own, and a folder counts only once it carries the seal: the SHA-256 of every file in
it, written last. TensorRT executes what an engine says and may crash on a damaged one, so nothing
without a whole seal is ever given to it, and one that was being opened when the process ended is
built anew. The folder belongs to one user (0700): whoever can write there can run code.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from couchside.device.durable import sync_folder, write_durably

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SEAL = "seal.json"
TRIED = "tried"
"""There while an engine is being opened; found at the next start, it ended the process."""
LOCK = "lock"
KEPT = 8
"""Keys that stay: three graphs of two Bundles, as an update keeps the last, and two to spare."""
KEY_DIGITS = 32


@dataclass(frozen=True, slots=True)
class EngineKey:
    """What an engine was built for; in each field, another value means another engine."""

    model_sha256: str
    """Of the ONNX file's bytes."""
    tensorrt: str
    """Version of the library that builds and runs it."""
    compute_capability: str
    """Of the GPU, such as 8.7 (Orin)."""
    driver: str
    """Of the kernel module, or the release of Jetson Linux that it is part of."""
    onnxruntime: str
    """It cuts the graph into the parts that become engines."""

    def name(self) -> str:
        """Name of the folder."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where engines are kept: systemd's CacheDirectory=, else XDG_CACHE_HOME, else ~/.cache.

    Args:
        environment: of this process. systemd may name several folders; the first is taken.
    """
    of_unit = environment.get("CACHE_DIRECTORY", "").split(":")[0]
    if of_unit:
        return Path(of_unit) / "engines"
    home = Path(environment.get("HOME") or "/tmp")  # noqa: S108 - made 0700 below
    base = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "couchside" / "engines"


class EngineCache:
    """Folders of engines by key.

    Args:
        folder: made if it is not there; only its owner may read or write it.
        kept: keys that stay; of more, those longest unused go.

    Raises:
        OSError: the folder can't be made, or belongs to somebody else.
    """

    def __init__(self, folder: Path, kept: int = KEPT) -> None:
        self._folder, self._kept = folder, kept
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_uid != os.getuid():
            raise PermissionError(f"{folder} belongs to another user, who could run code as you")
        folder.chmod(0o700)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other process builds: two builds at once need the memory twice."""
        with (self._folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def find(self, key: EngineKey) -> tuple[Path, bool]:
        """The key's folder, and whether whole engines are in it; otherwise it is empty.

        Call :meth:`opened` once they are open.
        """
        place = self._folder / key.name()
        whole = place.is_dir() and not (place / TRIED).exists() and _is_whole(place)
        if whole:
            (place / TRIED).touch()  # which makes it the last one used, too
        else:
            self.forget(key)
            place.mkdir(mode=0o700)
        return place, whole

    def opened(self, key: EngineKey) -> int:
        """Say that a key's engines work.

        Returns:
            Their bytes.
        """
        place = self._folder / key.name()
        (place / TRIED).unlink(missing_ok=True)
        return sum(file.stat().st_size for file in _files(place))

    def seal(self, key: EngineKey) -> int:
        """Own up to what was built for a key, then delete keys beyond the limit.

        Returns:
            Bytes of its engines; 0 if there is none, and then there is no seal.
        """
        place = self._folder / key.name()
        files = {file.name: _sha256(file) for file in _files(place)}
        size = self.opened(key)
        if size:
            for name in files:
                _sync(place / name)
            seal = {"key": asdict(key), "files": files}
            write_durably(place / SEAL, json.dumps(seal, indent=1, sort_keys=True) + "\n")
            sync_folder(self._folder)
        self._trim(place)
        return size

    def forget(self, key: EngineKey) -> None:
        """Delete a key's engines."""
        shutil.rmtree(self._folder / key.name(), ignore_errors=True)

    def _trim(self, newest: Path) -> None:
        # The newest by name: a TV that boots in 1970 would take it for the oldest.
        places = [place for place in self._folder.iterdir() if place.is_dir() and place != newest]
        places.sort(key=lambda place: place.stat().st_mtime_ns, reverse=True)
        for place in places[self._kept - 1 :]:
            shutil.rmtree(place, ignore_errors=True)


def _files(place: Path) -> list[Path]:
    return sorted(
        file for file in place.iterdir() if file.is_file() and file.name not in {SEAL, TRIED}
    )


def _is_whole(place: Path) -> bool:
    try:
        sealed = json.loads((place / SEAL).read_bytes())["files"]
        return bool(sealed) and {file.name: _sha256(file) for file in _files(place)} == sealed
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
