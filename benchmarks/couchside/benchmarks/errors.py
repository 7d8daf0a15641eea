"""How a benchmark ends: the exit codes, and the errors that carry them."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The same for every command of this package."""

    OK = 0
    USAGE = 1
    """A flag or an artefact is wrong; nothing was measured."""
    MISSED = 2
    """A promise was measured and is not kept."""
    INVALID = 3
    """Something was measured, but it must not be quoted: interrupted or throttled."""
    UNAVAILABLE = 4
    """The backend that was asked for does not run here."""


class BenchmarkError(Exception):
    """Ends a benchmark with its message and ``code``."""

    code = ExitCode.USAGE


class UsageError(BenchmarkError):
    """A flag or an artefact is wrong."""


class InvalidRunError(BenchmarkError):
    """The run gave nothing that may be quoted."""

    code = ExitCode.INVALID


class BackendUnavailableError(BenchmarkError):
    """The backend that was asked for does not run here."""

    code = ExitCode.UNAVAILABLE
