"""Other people's software, each in an environment of its own, asked to do the same work.

Peers pin versions that exclude each other and ours, so they are never installed beside us. A peer
that does not install here is a row that says so, not a failure of the bench. A script in
``peer_scripts/`` runs inside the environment: one JSON request on standard input, one JSON answer
as the last line of standard output.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import couchside

if TYPE_CHECKING:
    from couchside.benchmarks.tables.bench import Bench

INSTALL_S = 1200.0
"""An environment with torch takes minutes; a registry that hangs must not hold the bench."""
RUN_S = 1800.0
TORCH = "torch==2.13.0"
"""What a peer that needs torch gets: the lab's version, so that both have the same kernels."""


class PeerMissingError(Exception):
    """A peer can't be asked here; the message is what its row says."""


@dataclass(frozen=True, slots=True)
class Peer:
    """An environment, and what to install into it."""

    name: str
    requirements: tuple[str, ...]
    """As pip takes them, exactly pinned: a ratio is to one version."""
    python: str | None = None
    """Such as ``python3.12``, for a peer that does not run on ours; None is ours."""
    optional: tuple[str, ...] = ()
    """Installed with the requirements, or each by itself if that fails; the script sees which."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A peer's environment, ready."""

    peer: Peer
    executable: Path
    """Its Python."""
    folder: Path

    def ask(self, script: str, request: Any, *, timeout_s: float = RUN_S) -> Any:
        """Run ``peer_scripts/SCRIPT`` in the environment.

        The script can import our packages, as far as the environment has what they import. One
        thread for numpy, as everywhere in the bench.

        Raises:
            PeerMissingError: it failed or took too long; with the end of what it said.
        """
        file = resources.files("couchside.benchmarks.tables") / "peer_scripts" / script
        try:
            done = subprocess.run(
                [self.executable, str(file)],
                input=json.dumps(request),
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
                env=_environment(),
            )
        except subprocess.TimeoutExpired as error:
            raise PeerMissingError(f"no answer within {timeout_s:g} s") from error
        if done.returncode:
            raise PeerMissingError(f"failed: {_last_line(done.stderr)}")
        return json.loads(done.stdout.strip().splitlines()[-1])

    def command(self, script: str, *arguments: str) -> list[str]:
        """A command that runs ``peer_scripts/SCRIPT`` in the environment, for one that serves.

        As ``ask``, but with arguments instead of a request; whoever starts it ends it.
        """
        file = resources.files("couchside.benchmarks.tables") / "peer_scripts" / script
        settings = [f"{name}={value}" for name, value in _settings().items()]
        return ["/usr/bin/env", *settings, str(self.executable), str(file), *arguments]


def install(bench: Bench, peer: Peer) -> Installed:
    """The peer's environment, made on first use and kept in the bench's folder.

    Raises:
        PeerMissingError: it does not install here, or the bench was told to leave peers out.
    """
    if not bench.peers:
        raise PeerMissingError("left out by --without-peers")
    wanted = json.dumps([peer.python or sys.version, *peer.requirements, *peer.optional])
    key = hashlib.sha256(wanted.encode()).hexdigest()[:12]
    folder = (bench.work / "peers" / f"{peer.name}-{key}").absolute()
    executable, ready = folder / "bin" / "python", folder / ".ready"
    if not ready.exists():
        bench.tell(f"installing {peer.name} into an environment of its own …")
        _make(peer, folder, executable)
        ready.touch()
    return Installed(peer, executable, folder)


def installed_bytes(installed: Installed) -> int:
    """Size on disk of what the environment's packages need, without pip."""
    packages = next(installed.folder.glob("lib/python*/site-packages"))
    return sum(
        file.stat().st_size
        for entry in packages.iterdir()
        if not entry.name.startswith(("pip", "setuptools"))
        for file in (entry.rglob("*") if entry.is_dir() else [entry])
        if file.is_file()
    )


def _make(peer: Peer, folder: Path, executable: Path) -> None:
    try:
        if peer.python is None:
            venv.create(folder, with_pip=True, clear=True)
        else:
            subprocess.run([peer.python, "-m", "venv", "--clear", folder], check=True, timeout=120)
        if not peer.optional:
            _pip(executable, peer.requirements)
            return
        try:
            _pip(executable, (*peer.requirements, *peer.optional))
        except subprocess.CalledProcessError:
            _pip(executable, peer.requirements)
            for requirement in peer.optional:
                with contextlib.suppress(subprocess.CalledProcessError):
                    _pip(executable, (*peer.requirements, requirement))
    except subprocess.TimeoutExpired as error:
        raise PeerMissingError(f"not installed within {INSTALL_S:g} s") from error
    except subprocess.CalledProcessError as error:
        raise PeerMissingError(f"does not install here: {_last_line(error.stderr)}") from error
    except OSError as error:
        raise PeerMissingError(f"does not install here: {error.strerror}") from error


def _pip(executable: Path, requirements: tuple[str, ...]) -> None:
    command = [str(executable), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*command, *requirements], check=True, capture_output=True, text=True, timeout=INSTALL_S
    )


def _environment() -> dict[str, str]:
    return {**os.environ, **_settings()}


def _settings() -> dict[str, str]:
    portions = sorted(str(Path(portion).parent) for portion in couchside.__path__)
    return {
        "PYTHONPATH": os.pathsep.join(portions),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _last_line(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"
