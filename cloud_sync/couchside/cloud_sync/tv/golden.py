"""The child in which a new Bundle first meets a runtime: little memory, no network, no files.

A model file is a program: one changed byte can hang a runtime, and a signed mistake is still a
mistake. This process limits itself, opens the Bundle, runs its golden vectors and ends; whoever
started it keeps the clock. Exit status: 0 good, 1 bad Bundle, 4 no runtime for it on this TV.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from couchside.device import process
from couchside.device.errors import BundleError, RuntimeUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

GOOD, BAD, NO_RUNTIME = 0, 1, 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Check one Bundle; prints what it is as JSON; the exit status."""
    parser = argparse.ArgumentParser(prog="couchside-golden")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data-bytes", type=int, required=True)
    parser.add_argument("--cpu-s", type=int, required=True)
    options = parser.parse_args(arguments)
    _confine(options.data_bytes, options.cpu_s)
    process.limit_blas_threads()
    from couchside.device.bundle import open_bundle  # noqa: PLC0415 - after the threads' limit
    from couchside.device.runtime.graph import check_golden  # noqa: PLC0415

    try:
        bundle = open_bundle(options.bundle)
        cosine = check_golden(bundle)
    except RuntimeUnavailableError as error:
        return _fail(NO_RUNTIME, str(error))
    except (BundleError, MemoryError) as error:
        return _fail(BAD, str(error) or "it needs more memory than it may have")
    peak = process.memory(Path("/proc/self/status"))["peak_rss_bytes"]
    sys.stdout.write(
        json.dumps(
            {
                "bundle_id": bundle.bundle_id,
                "version": bundle.version,
                "flavour": bundle.flavour,
                "cosine": cosine,
                "peak_rss_bytes": peak,
            }
        )
    )
    return GOOD


def _confine(data_bytes: int, cpu_s: int) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    process.refuse_networks()


def _fail(status: int, message: str) -> int:
    sys.stderr.write(message + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
