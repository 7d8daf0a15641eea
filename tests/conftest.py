"""What every test may use: real, tiny Bundles made by the real pipeline, once a session."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BUNDLES = "COUCHSIDE_TEST_BUNDLES"
"""Name of an environment variable: a folder to keep the tiny Bundles in between sessions."""


@pytest.fixture(scope="session")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of ``couchside-compress tv-tiny``: bundles/, quality.json, work/."""
    kept = os.environ.get(BUNDLES)
    out = Path(kept) if kept else tmp_path_factory.mktemp("compressed")
    command = [sys.executable, "-m", "couchside.compression.cli", "tv-tiny", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture(scope="session")
def bundles(compressed: Path) -> Path:
    """Folder of the four flavours. Tests that damage a Bundle copy it first."""
    return compressed / "bundles"


@pytest.fixture(scope="session")
def tiny_bundle(bundles: Path) -> Path:
    """The flavour that most TVs would take."""
    return bundles / "litert-int8"
