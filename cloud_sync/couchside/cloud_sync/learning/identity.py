"""Who signs Rounds, and which helper is trusted: keys and public identities as files.

``online/rounds-1.pem`` of the cloud signs Rounds and what is asked of the helper. It is no TUF
role: whoever steals it can open Rounds within the limits of each TV, and install nothing. The
helper has two keys of its own, one that seeds are sealed for and one that signs its answers; the
cloud holds their public halves in ``helper.json``.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from couchside.cloud_sync.errors import SigningError
from couchside.device import strict
from couchside.device.bundle import LearningRecord
from couchside.device.durable import sync_folder, write_durably

if TYPE_CHECKING:
    from collections.abc import Callable

K = TypeVar("K", Ed25519PrivateKey, X25519PrivateKey)

HELPER_FILE = "helper.json"
ROUNDS_PUBLIC_FILE = "rounds.pub"
KEY_BYTES = 32
_IDENTITY_BYTES = 1024


@dataclass(frozen=True, slots=True)
class HelperIdentity:
    """The public half of a helper, as ``couchside-cloud helper --show`` prints it."""

    seal: str
    """X25519, hexadecimal: seeds are sealed for it."""
    sign: str
    """Ed25519, hexadecimal: it signs the answers."""


@dataclass(frozen=True, slots=True)
class HelperKeys:
    """The private half."""

    seal: X25519PrivateKey
    sign: Ed25519PrivateKey

    @property
    def identity(self) -> HelperIdentity:
        """The public half."""
        return HelperIdentity(public(self.seal).hex(), public(self.sign).hex())


@dataclass(frozen=True, slots=True)
class AskingKeys:
    """What the cloud needs to talk to its helper."""

    key: Ed25519PrivateKey
    """Signs Rounds and asks."""
    helper_sign: bytes
    """Public key of the answers."""

    @property
    def rounds_public(self) -> bytes:
        """The public half of ``key``."""
        return public(self.key)


def public(key: Ed25519PrivateKey | X25519PrivateKey) -> bytes:
    """The public half of a key: 32 bytes."""
    return key.public_key().public_bytes_raw()


def rounds_key_file(keys: Path) -> Path:
    """Where the key that signs Rounds lies."""
    return keys / "online" / "rounds-1.pem"


def rounds_key(keys: Path, repository: Path) -> tuple[Ed25519PrivateKey, bool]:
    """The key that signs Rounds, and whether it was made just now.

    Its public half is left in the repository as ``rounds.pub``, for the helper.

    Raises:
        SigningError: it can't be read or written.
    """
    key, made = _loaded_or_made(rounds_key_file(keys), Ed25519PrivateKey.generate)
    file = repository / ROUNDS_PUBLIC_FILE
    if made or not file.exists():
        own = file.with_name(f"{file.name}.{secrets.token_hex(8)}")  # others may write it just now
        write_durably(own, public(key).hex() + "\n")
        own.replace(file)
        sync_folder(repository)
    return key, made


def helper_keys(state: Path) -> HelperKeys:
    """The helper's keys in its state folder, made at the first use.

    Raises:
        SigningError: one can't be read or written.
    """
    seal, _ = _loaded_or_made(state / "seal.pem", X25519PrivateKey.generate)
    sign, _ = _loaded_or_made(state / "sign.pem", Ed25519PrivateKey.generate)
    return HelperKeys(seal, sign)


def public_key(text: str) -> bytes:
    """A public key given as 64 hexadecimal digits, or as a file that holds them.

    Raises:
        SigningError: it is neither.
    """
    digits = text
    if Path(text).is_file():
        with Path(text).open("rb") as stream:
            digits = stream.read(_IDENTITY_BYTES).decode(errors="replace").strip()
    key = _from_hex(digits)
    if key is None:
        raise SigningError(f"{text!r} is no public key: {2 * KEY_BYTES} hexadecimal digits")
    return key


def read_helper(file: Path) -> HelperIdentity:
    """A helper's identity from a file.

    Raises:
        SigningError: there is none; the message says how to come by one.
    """
    try:
        with file.open("rb") as stream:
            identity = strict.from_json(HelperIdentity, strict.loads(stream.read(_IDENTITY_BYTES)))
    except OSError as error:
        raise SigningError(
            f"{file}: {error.strerror}; couchside-cloud helper --show prints one, "
            "couchside-cloud round trust FILE takes it"
        ) from error
    except strict.StrictError as error:
        raise SigningError(f"{file}: {error}") from error
    if _from_hex(identity.seal) is None or _from_hex(identity.sign) is None:
        raise SigningError(f"{file}: not two keys of {2 * KEY_BYTES} hexadecimal digits")
    return identity


def trust_helper(repository: Path, file: Path) -> HelperIdentity:
    """Let Rounds of this repository be unmasked by the helper whose identity ``file`` holds.

    Raises:
        SigningError: see ``read_helper``.
    """
    identity = read_helper(file)
    text = json.dumps(strict.to_json(identity), indent=1, sort_keys=True)
    write_durably(repository / HELPER_FILE, text + "\n")
    return identity


def asking_keys(repository: Path, keys: Path) -> AskingKeys:
    """The keys of this repository's Rounds and of its helper.

    Raises:
        SigningError: one is missing.
    """
    key, _ = rounds_key(keys, repository)
    return AskingKeys(key, bytes.fromhex(read_helper(repository / HELPER_FILE).sign))


def learning_record(repository: Path, keys: Path) -> LearningRecord | None:
    """Whom TVs of a release learn with; None where no helper is trusted.

    Raises:
        SigningError: a key or the identity can't be read.
    """
    if not (repository / HELPER_FILE).exists():
        return None
    key, _ = rounds_key(keys, repository)
    return LearningRecord((public(key).hex(),), read_helper(repository / HELPER_FILE).seal)


def _loaded_or_made(file: Path, generate: Callable[[], K]) -> tuple[K, bool]:
    """The key in ``file``, made if there is none, and whether it was made."""
    fresh = generate()
    made = not file.exists() and _write_new(file, fresh)
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise SigningError(f"{file}: not a private key: {error}") from error
    if not isinstance(key, type(fresh)):
        raise SigningError(f"{file}: a key of another kind; move it away to have one made")
    return key, made


def _write_new(file: Path, key: Ed25519PrivateKey | X25519PrivateKey) -> bool:
    """Write a key durably, readable by its owner only; False where another process was faster."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    part = file.with_name(f"{file.name}.{secrets.token_hex(8)}.part")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            writing = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(writing, "wb") as writer:
                writer.write(pem)
                writer.flush()
                os.fsync(writer.fileno())
            made = _linked(part, file)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(file.parent)
    except OSError as error:
        raise SigningError(f"{file}: {error.strerror}") from error
    return made


def _linked(part: Path, file: Path) -> bool:
    """Give ``part`` the name ``file`` too, unless there is one: a rename would replace it."""
    try:
        os.link(part, file)
    except FileExistsError:
        return False
    return True


def _from_hex(text: str) -> bytes | None:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        return None
    return key if len(key) == KEY_BYTES and key.hex() == text else None
