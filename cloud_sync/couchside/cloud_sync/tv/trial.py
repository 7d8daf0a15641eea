"""Start the golden child, keep the clock, and read its answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from couchside.cloud_sync.errors import RefusedError
from couchside.cloud_sync.tv.golden import NO_RUNTIME
from couchside.device import strict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PASSED_ON = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG")
"""All that the child learns of the environment."""
ERROR_BYTES = 2000


class NoRuntimeError(RefusedError):
    """The Bundle needs an inference runtime that is not installed: it may be, tomorrow."""


@dataclass(frozen=True, slots=True)
class Golden:
    """What the child saw."""

    bundle_id: str
    version: int
    flavour: str
    cosine: dict[str, Any]
    peak_rss_bytes: int


def run_golden(bundle: Path, *, timeout_s: float, data_bytes: int) -> Golden:
    """Open the Bundle in folder ``bundle`` and run its golden vectors in a confined child.

    Raises:
        RefusedError: it failed, crashed, hung or ate too much.
        NoRuntimeError: no runtime for it is installed.
    """
    command = [sys.executable, "-m", "couchside.cloud_sync.tv.golden", str(bundle)]
    command += ["--data-bytes", str(data_bytes), "--cpu-s", str(int(timeout_s) + 1)]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(os.environ),
        start_new_session=True,
    ) as child:
        try:
            out, err = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            os.killpg(child.pid, signal.SIGKILL)
            raise RefusedError(f"its golden vectors took more than {timeout_s:g} s") from error
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            raise
    words = err.decode(errors="replace").strip()[-ERROR_BYTES:]
    if child.returncode == NO_RUNTIME:
        raise NoRuntimeError(words)
    if child.returncode < 0:
        raise RefusedError(f"its models died of {signal.Signals(-child.returncode).name}")
    if child.returncode:
        raise RefusedError(words or f"its check ended with status {child.returncode}")
    return _read(out)


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    return {name: ours[name] for name in PASSED_ON if name in ours}


def _read(out: bytes) -> Golden:
    try:
        document = strict.loads(out)
        return Golden(**{name: document[name] for name in Golden.__slots__})
    except (strict.StrictError, KeyError, TypeError) as error:
        raise RefusedError(f"its check gave no answer: {error}") from error
