from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from couchside.device.errors import RoundRefusedError
from couchside.device.learning import privacy
from couchside.device.learning.round import (
    PURPOSE,
    Limits,
    Round,
    check_allowed,
    contradiction,
    read_round,
    write_round,
)
from couchside.device.learning.signed import sign

LIMITS = Limits(least_cohort=2, least_noise=0.3, most_epsilon=1000.0, most_updates=26)


def keys(trust):
    return [bytes.fromhex(key) for key in trust.bundle.manifest.learning.rounds_keys]


def test_signed_round_is_read(trust):
    asked = trust.round()
    assert read_round(trust.signed(asked), keys(trust)) == asked
    assert len(trust.signed(asked)) < 1500


def test_forged_round_is_refused(trust):
    raw = sign(Ed25519PrivateKey.generate(), PURPOSE, write_round(trust.round()))
    with pytest.raises(RoundRefusedError, match="not signed by a key that is trusted here"):
        read_round(raw, keys(trust))


def test_round_whose_every_byte_may_be_changed_is_refused(trust):
    raw = trust.signed(trust.round())
    for place in range(0, len(raw), 7):
        changed = bytearray(raw)
        changed[place] ^= 1
        with pytest.raises(RoundRefusedError):
            read_round(bytes(changed), keys(trust))


def test_signature_for_another_purpose_does_not_count(trust):
    raw = sign(trust.rounds_key, "answer", write_round(trust.round()))
    with pytest.raises(RoundRefusedError, match="not signed"):
        read_round(raw, keys(trust))


@pytest.mark.parametrize(
    ("words", "change"),
    {
        "format": {"format": "couchside-round/9"},
        "seed": {"seed": "zz"},
        "nothing would be hidden": {
            "coordinates": 0,
            "scale": 1e-6,
            "titles": 9,
            "title_weight": 0,
        },
        "weigh nothing": {"title_weight": 0},
        "a frame of": {"titles": 30_000},
        "named twice": {"parameters": ("projection", "projection")},
        "asks for nothing": {"coordinates": 0, "titles": 0, "parameters": ()},
        "closes before": {"closes_at": 1},
        "above": {"cohort_least": 101},
        "wrap 16 bits": {"value_cap": 4000},
        "title_weight .* wrap": {"title_weight": 330},
        "noise_multiplier is 0": {"noise_multiplier": 0.0},
        "clipping_bound is 50": {"clipping_bound": 50.0},
        "steps is 1000": {"steps": 1000},
        "rate is -1": {"rate": -1.0},
    }.items(),
)
def test_round_that_contradicts_itself_is_refused_with_the_reason(trust, words, change):
    with pytest.raises(RoundRefusedError, match=words):
        read_round(trust.signed(trust.round(**change)), keys(trust))


@pytest.mark.parametrize(
    ("words", "change", "limits"),
    [
        ("another Bundle", {"theta_sha256": "0" * 64}, LIMITS),
        ("another Bundle", {"titles_sha256": "0" * 64}, LIMITS),
        ("rows of the table", {"titles": 5}, LIMITS),
        ("cohort_least", {}, replace(LIMITS, least_cohort=500)),
        ("noise_multiplier", {"noise_multiplier": 0.5}, replace(LIMITS, least_noise=1.0)),
        ("ε of this year", {}, replace(LIMITS, most_epsilon=5.0)),
        ("Updates this year", {}, replace(LIMITS, most_updates=0)),
    ],
)
def test_round_beyond_the_limits_of_this_tv_is_refused(trust, words, change, limits):
    with pytest.raises(RoundRefusedError, match=words):
        check_allowed(trust.round(**change), trust.bundle.manifest, limits, (0, 0.0))


def test_budget_of_the_year_counts_what_was_spent(trust):
    asked, manifest = trust.round(), trust.bundle.manifest
    limits = replace(LIMITS, most_epsilon=7.0)
    check_allowed(asked, manifest, limits, (0, 0.0))
    with pytest.raises(RoundRefusedError, match="ε of this year"):
        check_allowed(asked, manifest, limits, (1, privacy.rho(1.0)))


def test_coordinates_are_the_same_for_everybody_and_lie_in_the_named_tensors(trust):
    layout = trust.bundle.manifest.parameters
    named = {record.name: record.places() for record in layout}
    asked = trust.round(coordinates=40, parameters=("projection", layout[1].name))
    places = asked.places(layout)
    assert len(set(places.tolist())) == 40
    assert set(places.tolist()) <= {*named["projection"].tolist(), *named[layout[1].name].tolist()}
    np.testing.assert_array_equal(places, asked.places(tuple(reversed(layout))))
    other = replace(asked, seed="6b" * 32).places(layout)
    assert not np.array_equal(places, other)


def test_round_that_names_what_the_bundle_has_not_is_refused(trust):
    layout = trust.bundle.manifest.parameters
    with pytest.raises(RoundRefusedError, match=r"no parameter .tower\.nowhere"):
        trust.round(parameters=("tower.nowhere",)).places(layout)
    with pytest.raises(RoundRefusedError, match="coordinates of"):
        trust.round(coordinates=10**5).places(layout)


def test_tvs_select_themselves_at_about_the_rate_and_nobody_else_can_tell(trust):
    asked = trust.round(sampling_rate=0.3)
    chosen = [asked.selects(n.to_bytes(32, "big")) for n in range(2000)]
    assert 0.25 < np.mean(chosen) < 0.35
    again = [replace(asked, round_id=2).selects(n.to_bytes(32, "big")) for n in range(2000)]
    assert 0.05 < np.mean(np.logical_and(chosen, again)) < 0.13  # independent: 0.09


def test_rounds_numbers_are_consistent(trust):
    asked = trust.round()
    assert isinstance(asked, Round)
    assert contradiction(asked) == ""
    theta = privacy.rounded_bound(0.5 * 200.0, asked.coordinates)
    assert asked.sensitivity == pytest.approx(np.hypot(theta, 20 * 2.0))
    assert asked.sigma == pytest.approx(asked.sensitivity)
    assert asked.rho == pytest.approx(0.5)
