from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from couchside.device.errors import UpdateError
from couchside.device.learning import masking
from couchside.device.learning.spool import FRAME_BYTES, round_id_of
from couchside.device.learning.update import (
    HEADER,
    Update,
    check_belongs,
    frame_bytes,
    read_update,
    write_update,
)

UPDATE = Update(
    7, 3, bytes(range(16)), 200.0, b"s" * masking.SEALED_BYTES, np.arange(9, dtype="u2")
)


def test_frame_comes_back_as_it_was():
    frame = write_update(UPDATE)
    back = read_update(frame)
    np.testing.assert_array_equal(back.values, UPDATE.values)
    assert replace(back, values=UPDATE.values) == UPDATE
    assert len(frame) == frame_bytes(9) == 64 + 80 + 18
    assert round_id_of(frame) == 7


@given(st.integers(0, frame_bytes(9) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(place, change):
    frame = bytearray(write_update(UPDATE))
    frame[place] ^= change
    with pytest.raises(UpdateError):
        read_update(bytes(frame))


@pytest.mark.parametrize("cut", [0, 1, 63, 64, 100, frame_bytes(9) - 1])
def test_cut_off_frame_is_refused(cut):
    with pytest.raises(UpdateError):
        read_update(write_update(UPDATE)[:cut])


def test_oversize_frame_is_neither_written_nor_read():
    most = (FRAME_BYTES - HEADER.size - masking.SEALED_BYTES) // 2
    assert len(write_update(replace(UPDATE, values=np.zeros(most, "u2")))) <= FRAME_BYTES
    with pytest.raises(UpdateError, match="not 48000"):
        write_update(replace(UPDATE, values=np.zeros(most + 1, "u2")))
    with pytest.raises(UpdateError, match="no frame"):
        read_update(write_update(UPDATE) + bytes(FRAME_BYTES))


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 0.0, -1.0])
def test_scale_that_is_no_scale_is_refused_though_the_hash_is_right(scale):
    with pytest.raises(UpdateError, match="scale"):
        read_update(write_update(replace(UPDATE, scale=scale)))


def test_update_must_answer_exactly_what_was_asked(trust):
    asked = trust.round()
    good = replace(
        UPDATE,
        round_id=asked.round_id,
        bundle_version=asked.bundle_version,
        scale=asked.scale,
        values=np.zeros(asked.values, "u2"),
    )
    check_belongs(good, asked)
    for words, change in {
        "of round 9": {"round_id": 9},
        "stale": {"bundle_version": asked.bundle_version + 1},
        "values": {"values": np.zeros(asked.values - 1, "u2")},
        "scale": {"scale": 2 * asked.scale},
    }.items():
        with pytest.raises(UpdateError, match=words):
            check_belongs(replace(good, **change), asked)
