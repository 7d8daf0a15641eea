"""What the commands of this package share: flags, and errors that become exit codes."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NoReturn

from couchside.benchmarks.errors import BenchmarkError, ExitCode
from couchside.device.errors import CouchsideError, RuntimeUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable


class Parser(argparse.ArgumentParser):
    """Wrong flags exit with 1: here 2 means that a promise was not kept."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and end."""
        self.print_usage(sys.stderr)
        self.exit(ExitCode.USAGE, f"{self.prog}: {message}\n")


def run_command(program: str, run: Callable[[], ExitCode]) -> ExitCode:
    """Run a command; an error goes to standard error and becomes its exit code."""
    try:
        return run()
    except BenchmarkError as error:
        return _failed(program, error, error.code)
    except RuntimeUnavailableError as error:
        return _failed(program, error, ExitCode.UNAVAILABLE)
    except _expected() as error:
        return _failed(program, error, ExitCode.USAGE)
    except KeyboardInterrupt:
        return _failed(program, "interrupted before there was a result", ExitCode.INVALID)


def _expected() -> tuple[type[Exception], ...]:
    """What is raised on purpose, the lab's if it is there: what was not loaded raises nothing."""
    lab = sys.modules.get("couchside.compression.errors")
    return (CouchsideError, OSError, *(() if lab is None else (lab.CompressionError,)))


def _failed(program: str, why: object, code: ExitCode) -> ExitCode:
    sys.stderr.write(f"{program}: {why}\n")
    return code
