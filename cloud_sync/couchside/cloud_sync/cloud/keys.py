"""The signing keys of a repository: Ed25519, one PEM file each.

``offline/`` holds the keys of root (2 of 3 sign) and targets (2 of 2): move each file to the
machine or token of the person who owns it; a release needs the two of targets. ``online/`` holds
those of snapshot and timestamp: whoever steals them can hold releases back for 14 days, and
install nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from couchside.cloud_sync.errors import SigningError
from couchside.device.durable import sync_folder

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class RolePlan:
    """How many keys a role has, how many must sign, how long a signature lasts."""

    keys: int
    threshold: int
    days: int
    """Until it expires; see the README's table for why."""
    online: bool


ROLES = {
    "root": RolePlan(keys=3, threshold=2, days=5 * 365, online=False),
    "targets": RolePlan(keys=2, threshold=2, days=365, online=False),
    "snapshot": RolePlan(keys=1, threshold=1, days=30, online=True),
    "timestamp": RolePlan(keys=1, threshold=1, days=14, online=True),
}


def key_file(folder: Path, role: str, number: int) -> Path:
    """Where the private key ``number`` (from 1) of ``role`` lies."""
    return folder / ("online" if ROLES[role].online else "offline") / f"{role}-{number}.pem"


def make_keys(folder: Path, role: str) -> list[CryptoSigner]:
    """Make and write all keys of ``role``; never overwrites one.

    Raises:
        SigningError: a key is there already, or the folder can't be written.
    """
    signers = []
    for number in range(1, ROLES[role].keys + 1):
        file, signer = key_file(folder, role, number), CryptoSigner.generate_ed25519()
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as writer:
                writer.write(signer.private_bytes)
                writer.flush()
                os.fsync(writer.fileno())
            sync_folder(file.parent)
        except FileExistsError as error:
            raise SigningError(f"{file}: there is a key already; move it away first") from error
        except OSError as error:
            raise SigningError(f"{file}: {error.strerror}") from error
        signers.append(signer)
    return signers


def load_keys(folder: Path, role: str) -> list[CryptoSigner]:
    """The keys of ``role`` that are here; offline keys may be elsewhere.

    Raises:
        SigningError: fewer than must sign are here, or one can't be read.
    """
    plan = ROLES[role]
    files = [key_file(folder, role, number) for number in range(1, plan.keys + 1)]
    here = [_load(file) for file in files if file.exists()]
    if len(here) < plan.threshold:
        raise SigningError(
            f"{files[0].parent}: {len(here)} keys of {role}, {plan.threshold} must sign; "
            "bring them here, or make new ones with: couchside-cloud keys"
        )
    return here


def _load(file: Path) -> CryptoSigner:
    try:
        return CryptoSigner(load_pem_private_key(file.read_bytes(), None))
    except (OSError, ValueError, TypeError) as error:
        raise SigningError(f"{file}: not a private key: {error}") from error
