"""Child processes that export, one a file family, side by side.

The exporters are slow, single-threaded, noisy, and keep hundreds of megabytes: none of that belongs
into the process that trains and measures, which may do something else while they work.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tqdm import tqdm

from couchside.compression.errors import CompressionError
from couchside.compression.export import GRAPHS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from couchside.compression.export import Family

TIMEOUT_S = 1800.0
POLL_S = 0.2


@dataclass(frozen=True)
class _Child:
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def exporting(
    recipe_file: Path,
    models_file: Path,
    folder: Path,
    families: Sequence[Family],
    graphs: Sequence[str] = GRAPHS,
) -> Iterator[Callable[[], None]]:
    """Export ``graphs`` to ``folder/FAMILY`` inside the block, which gets a function that waits.

    No child is left when the block ends. The function raises CompressionError with the end of a
    child's log when one fails or none comes to an end.
    """
    command = [sys.executable, "-m", "couchside.compression.export", str(recipe_file)]
    command.append(str(models_file))
    children: list[_Child] = []
    try:
        for family in families:
            log = folder / f"{family}.log"
            own = [*command, str(folder / family), family, *graphs]
            children.append(_Child(_start(own, log), log))
        yield lambda: _wait(children, folder)
    finally:
        for child in children:
            if child.process.poll() is None:
                child.process.terminate()
            child.process.communicate()


def _start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as stream:
        # The pipe closes when this process ends, however it ends, and the child with it.
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=stream, stderr=subprocess.STDOUT
        )


def _wait(children: Sequence[_Child], folder: Path) -> None:
    start = time.monotonic()
    form = "{desc}: {n:.0f} s"
    with tqdm(desc="export and quantise", bar_format=form, mininterval=1.0) as progress:
        while any(child.process.poll() is None for child in children):
            time.sleep(POLL_S)
            waited = time.monotonic() - start
            if waited > TIMEOUT_S:
                raise CompressionError(f"no end of the export after {TIMEOUT_S} s; see {folder}")
            progress.update(waited - progress.n)
    for child in children:
        if child.process.returncode:
            tail = "\n".join(child.log.read_text(errors="replace").splitlines()[-15:])
            status = child.process.returncode
            raise CompressionError(f"exporter ended with {status}; {child.log}:\n{tail}")
