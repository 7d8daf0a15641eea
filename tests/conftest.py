"""What every test may use: real, tiny Bundles made by the real pipeline, once a session."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("couchside", settings(), deadline=None)  # shared machines stall
settings.load_profile("couchside")

BUNDLES = "COUCHSIDE_TEST_BUNDLES"
"""Name of an environment variable: a folder to keep the tiny Bundles in between sessions."""


@pytest.fixture(scope="session")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of ``couchside-compress tv-tiny``: bundles/, quality.json, work/."""
    kept = os.environ.get(BUNDLES)
    out = Path(kept) if kept else _of_all_workers(tmp_path_factory) / "compressed"
    command = [sys.executable, "-m", "couchside.compression.cli", "tv-tiny", "--out", str(out)]
    out.parent.mkdir(parents=True, exist_ok=True)
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    with out.with_name(f"{out.name}.made").open("a+") as made:
        fcntl.flock(made, fcntl.LOCK_EX)
        made.seek(0)
        # Once a session: publishing them again would take them from under the other worker's feet.
        if made.read() != session:
            done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
            assert done.returncode == 0, done.stderr[-3000:]
            made.truncate(0)
            made.write(session)
    return out


def _of_all_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this session that every pytest-xdist worker sees."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own


@pytest.fixture(scope="session")
def bundles(compressed: Path) -> Path:
    """Folder of the four flavours. Tests that damage a Bundle copy it first."""
    return compressed / "bundles"


@pytest.fixture(scope="session")
def tiny_bundle(bundles: Path) -> Path:
    """The flavour that most TVs would take."""
    return bundles / "litert-int8"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """CI allows no skips: a test that can't run there has not passed."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped and os.environ.get("COUCHSIDE_NO_SKIPS"):
        terminalreporter.write_line(f"{len(skipped)} skipped, and this run allows none", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run when something was skipped and nothing may be."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if skipped and os.environ.get("COUCHSIDE_NO_SKIPS") and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
