"""The wire's names and limits: what is published where, and how large it may be.

Everything fits MQTT 3.1.1 as well as 5. 60 KiB is the largest payload that the brokers and clouds
we know accept without configuration (Alibaba's limit of 64 KiB is the tightest).
"""

from __future__ import annotations

import re

PREFIX = "couchside/1"
BLOCK_BYTES = 60 * 1024
"""Most bytes of one block, hence of one message."""
HEAD_BYTES = 16 * 1024
"""Most bytes of a channel's head: timestamp, snapshot and targets metadata, compressed."""
ROOT_BYTES = 16 * 1024
"""Most bytes of one root's metadata; ours, with three keys, are 2 KiB."""
ROOTS = 64
"""Most roots that a TV takes; it walks at most this many key rotations in its life."""
PACKET_BYTES = 64 * 1024
"""Most bytes of one MQTT packet that a TV reads: a block, its topic and some properties."""

ANY_ROOT = f"{PREFIX}/h/root/+"
SHARD = "0"
"""There is one aggregator a channel for now; more would each take a shard of the TVs."""
ANY_UPDATE = f"{PREFIX}/u/{SHARD}/+/+"
ASK = f"{PREFIX}/k/ask"
"""Where aggregators ask the unmasking helper; signed letters."""
ANSWER = f"{PREFIX}/k/answer"
"""Where the helper answers; signed letters."""
LETTER_BYTES = BLOCK_BYTES
"""Most bytes of one letter."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_name(name: str) -> bool:
    """Whether ``name`` can name a channel or a flavour: it becomes part of topics and paths."""
    return _NAME.fullmatch(name) is not None and name != "root"


def is_sha256(text: str) -> bool:
    """Whether ``text`` is a SHA-256 as we spell it, and so safe as a file name."""
    return _SHA256.fullmatch(text) is not None


def head(channel: str) -> str:
    """Where a channel's newest metadata is retained."""
    return f"{PREFIX}/h/{channel}"


def root(version: int) -> str:
    """Where the root metadata of one version is retained, for ever."""
    return f"{PREFIX}/h/root/{version}"


def root_version(topic: str) -> int | None:
    """The version that a root's topic names; None if it is no such topic."""
    found = re.fullmatch(rf"{PREFIX}/h/root/([1-9][0-9]{{0,5}})", topic)
    return int(found[1]) if found else None


def block(sha256: str) -> str:
    """Where the block with this SHA-256 is retained."""
    return f"{PREFIX}/b/{sha256}"


def block_name(topic: str) -> str | None:
    """The SHA-256 that a block's topic names; None if it is no such topic."""
    name = topic.removeprefix(f"{PREFIX}/b/")
    return name if name != topic and is_sha256(name) else None


def round_of(channel: str) -> str:
    """Where a channel's open Round is retained."""
    return f"{PREFIX}/r/{channel}"


def update(round_id: int, device: str) -> str:
    """Where a TV sends its Update; it may write only what ends in its own name."""
    return f"{PREFIX}/u/{SHARD}/{round_id}/{device}"


def update_of(topic: str) -> tuple[int, str] | None:
    """Round and device that an Update's topic names; None if it is no such topic."""
    found = re.fullmatch(rf"{PREFIX}/u/{SHARD}/([1-9][0-9]{{0,9}})/([^/]+)", topic)
    return (int(found[1]), found[2]) if found and is_name(found[2]) else None


def receipt(device: str) -> str:
    """Where a TV hears what became of its Updates; only it may read there."""
    return f"{PREFIX}/a/{device}"
