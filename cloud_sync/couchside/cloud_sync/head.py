"""The head of a channel: the three small TUF documents of a release as one MQTT message.

``zlib(JSON {file name: document})``. Roots are not in it: each lies on a topic of its own, because
a TV that was away for years needs all of them and the others none. On the TV the head and the
roots lie in one folder, as received; nothing in it is trusted.
"""

from __future__ import annotations

import json
import re
import zlib
from typing import TYPE_CHECKING, Any

from couchside.cloud_sync.errors import UntrustedError
from couchside.cloud_sync.topics import HEAD_BYTES, ROOT_BYTES, ROOTS
from couchside.device import strict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PACK = "pack"
"""Name of the file that holds the head in its folder on the TV."""
UNPACKED_BYTES = 256 * 1024
"""Most bytes that a head may unpack to: a small one must not fill the memory."""
_DOCUMENT = re.compile(r"(timestamp|[1-9][0-9]{0,8}\.(snapshot|targets))\.json")


def root_file(version: int) -> str:
    """Name of the file that holds a root in the folder of its head."""
    return f"{version}.root.json"


def pack(documents: Mapping[str, bytes]) -> bytes:
    """One message with all ``documents`` by file name.

    Raises:
        ValueError: it would not fit into one message.
    """
    text = json.dumps({name: raw.decode() for name, raw in documents.items()}, sort_keys=True)
    packed = zlib.compress(text.encode(), 9)
    if len(packed) > HEAD_BYTES or len(text) > UNPACKED_BYTES:
        raise ValueError(f"metadata packs to {len(packed)} bytes, the limit is {HEAD_BYTES}")
    return packed


def unpack(packed: bytes) -> dict[str, bytes]:
    """Documents by file name.

    Raises:
        UntrustedError: it is too large, or not a head at all.
    """
    if len(packed) > HEAD_BYTES:
        raise UntrustedError(f"head: more than {HEAD_BYTES} bytes; wait for another")
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(packed, UNPACKED_BYTES)
    except zlib.error as error:
        raise UntrustedError(f"head: not zlib: {error}; wait for another") from error
    if not inflate.eof or inflate.unused_data:
        raise UntrustedError("head: it is cut off, too large or has a tail; wait for another")
    try:
        documents: Any = strict.loads(text)
    except (strict.StrictError, UnicodeDecodeError) as error:
        raise UntrustedError(f"head: {error}; wait for another") from error
    if not isinstance(documents, dict):
        raise UntrustedError("head: not an object; wait for another")
    for name, document in documents.items():
        if not _DOCUMENT.fullmatch(name) or not isinstance(document, str):
            raise UntrustedError(f"head: {name!r} has no place in it; wait for another")
    return {name: document.encode(errors="replace") for name, document in documents.items()}


def read(file: Path) -> dict[str, bytes]:
    """The documents of the head in ``file`` and of the roots that lie beside it.

    Raises:
        UntrustedError: there is no head, or it is not one.
    """
    try:
        with file.open("rb") as stream:
            documents = unpack(stream.read(HEAD_BYTES + 1))
    except OSError as error:
        raise UntrustedError(f"{file}: {error.strerror}; fetch a head first") from error
    for version in range(1, ROOTS + 1):
        beside = file.with_name(root_file(version))
        if beside.is_file():
            with beside.open("rb") as stream:
                documents[beside.name] = stream.read(ROOT_BYTES)
    return documents
