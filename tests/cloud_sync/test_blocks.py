"""Files to blocks and back, and the bookkeeping of their transfer."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from couchside.cloud_sync import topics
from couchside.cloud_sync.blocks import BlockStore, encode, join
from couchside.cloud_sync.errors import DamagedBlockError, UntrustedError
from couchside.cloud_sync.tv.transfer import TRIES, Transfer

if TYPE_CHECKING:
    from pathlib import Path

same_folder = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def stored(store: BlockStore, name: str, content: bytes):
    record, blocks = encode(name, content)
    for sha256, block in zip(record.blocks, blocks, strict=True):
        assert len(block) <= topics.BLOCK_BYTES
        store.put(sha256, block)
    return record


@same_folder
@given(
    seed=st.binary(max_size=64),
    repeat=st.integers(0, 6000),
    noise=st.integers(0, 200_000),
)
def test_file_comes_back_from_its_blocks(tmp_path: Path, seed: bytes, repeat: int, noise: int):
    content = seed * repeat + hashlib.shake_128(seed).digest(noise)
    store = BlockStore(tmp_path / "blocks")
    record = stored(store, "x", content)
    pieces = list(join(record, store))
    assert b"".join(pieces) == content
    assert all(len(piece) <= topics.BLOCK_BYTES for piece in pieces)


def test_compression_bomb_in_a_block_stops_at_the_signed_size(tmp_path: Path) -> None:
    store = BlockStore(tmp_path)
    record = replace(stored(store, "x", b"\0" * 40_000_000), bytes=100_000)
    got: list[bytes] = []
    with pytest.raises(UntrustedError, match="more than 100000 bytes"):
        got.extend(join(record, store))
    assert sum(map(len, got)) <= 100_000


def test_block_under_another_name_is_not_kept(tmp_path: Path) -> None:
    store = BlockStore(tmp_path / "blocks")
    with pytest.raises(DamagedBlockError):
        store.put(hashlib.sha256(b"a").hexdigest(), b"b")
    assert store.missing([hashlib.sha256(b"a").hexdigest()])


def test_block_damaged_on_the_disk_is_found_when_read(tmp_path: Path) -> None:
    store = BlockStore(tmp_path)
    record = stored(store, "x", hashlib.shake_128(b"x").digest(100_000))
    (tmp_path / record.blocks[1]).write_bytes(b"torn")
    with pytest.raises(DamagedBlockError) as caught:
        list(join(record, store))
    assert caught.value.block == record.blocks[1]


@same_folder
@given(st.data())
def test_transfer_ends_whatever_the_order_of_arrival(data: st.DataObject) -> None:
    names = [f"{n:064x}" for n in range(data.draw(st.integers(1, 20)))]
    transfer = Transfer(names, window=4, now=0.0)
    asked: list[str] = []
    damaged = 0
    while not transfer.done:
        asked += transfer.next()
        assert len(transfer.under_way) <= 4
        name = data.draw(st.sampled_from(sorted(transfer.under_way)))
        if damaged < TRIES - 1 and data.draw(st.booleans()):
            damaged += 1
            transfer.refused(name)
            assert not transfer.hopeless
        else:
            transfer.took(name, 1.0)
    assert set(asked) == set(names)
    assert len(asked) == len(names) + damaged


def test_transfer_gives_a_block_up_after_three_damaged_copies() -> None:
    transfer = Transfer(["a" * 64], window=1, now=0.0)
    for _ in range(TRIES):
        (name,) = transfer.next()
        transfer.refused(name)
    assert transfer.hopeless == "a" * 64


def test_topics_name_what_they_carry() -> None:
    sha256 = hashlib.sha256(b"").hexdigest()
    assert topics.block_name(topics.block(sha256)) == sha256
    assert topics.root_version(topics.root(12)) == 12
    for stranger in ("", "couchside/1/b/../x", topics.block("x"), "couchside/1/h/root/0"):
        assert topics.block_name(stranger) is None
        assert topics.root_version(stranger) is None
    assert not topics.is_name("root")
    assert not topics.is_name("a/b")
