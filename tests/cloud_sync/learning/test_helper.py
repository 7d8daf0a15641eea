"""The helper's judgement: what it grants, once, and what it never does."""

from __future__ import annotations

import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from couchside.cloud_sync.learning.identity import helper_keys, public, rounds_key
from couchside.cloud_sync.learning.letters import Answer, Check, Sealed, Unmask
from couchside.cloud_sync.learning.unmasking.helper import Policy, judge
from couchside.cloud_sync.learning.unmasking.seeds import KEPT_S, SeedStore
from couchside.device.learning import masking
from couchside.device.learning.round import FORMAT, PURPOSE, Round, write_round
from couchside.device.learning.signed import sign
from couchside.device.learning.update import seal_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLOUD = Ed25519PrivateKey.generate()
POLICY = Policy((CLOUD.public_key().public_bytes_raw(),), least_cohort=4)
ASKED = Round(
    format=FORMAT,
    round_id=5,
    bundle_version=1,
    theta_sha256="a" * 64,
    titles_sha256="b" * 64,
    parameters=("projection",),
    coordinates=400,
    titles=0,
    seed="00" * 32,
    clipping_bound=0.5,
    scale=300.0,
    value_cap=30,
    title_weight=0,
    title_cap=0,
    noise_multiplier=0.8,
    steps=1,
    rate=0.1,
    sampling_rate=1.0,
    new_events=0,
    cohort_least=3,
    cohort_most=9,
    opens_at=1,
    closes_at=int(time.time()),
    spread_s=0.0,
)
SIGNED = sign(CLOUD, PURPOSE, write_round(ASKED))


class Desk:
    """A helper without a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.keys = helper_keys(folder)
        self.store = SeedStore(folder / "helper.db")
        self.seeds = {n.to_bytes(16, "big"): os.urandom(32) for n in range(1, 13)}

    def restart(self) -> None:
        self.store.close()
        self.store = SeedStore(self.folder / "helper.db")

    def sealed(self, update_id: bytes, device: str = "", seed: bytes = b"") -> Sealed:
        key = bytes.fromhex(self.keys.identity.seal)
        context = seal_context(ASKED.round_id, update_id)
        sealed = masking.seal(seed or self.seeds[update_id], key, context)
        return Sealed(update_id, device or f"tv-{update_id[-1]}", sealed)

    def check(self, *updates: Sealed, signed: bytes = SIGNED) -> Answer:
        return judge(Check(signed, updates), POLICY, self.keys, self.store)

    def unmask(self, ids, signed: bytes = SIGNED, policy: Policy = POLICY) -> Answer:
        return judge(Unmask(signed, tuple(sorted(ids))), policy, self.keys, self.store)

    @property
    def ids(self) -> list[bytes]:
        return list(self.seeds)

    def masks(self, ids) -> np.ndarray:
        total = np.zeros(ASKED.values, dtype=np.uint16)
        for update_id in ids:
            total += masking.mask(self.seeds[update_id], ASKED.values)
        return total

    def on_the_disk(self) -> bytes:
        return b"".join(file.read_bytes() for file in self.folder.glob("helper.db*"))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "helper")
    assert desk.check(*map(desk.sealed, desk.ids[:8])).verdicts == ("",) * 8
    yield desk
    desk.store.close()


def test_answer_is_the_sum_of_masks_less_noise(desk: Desk) -> None:
    answer = desk.unmask(desk.ids[:6])
    noise = (desk.masks(desk.ids[:6]) - answer.values()).view(np.int16).astype(int)
    assert np.abs(noise).max() < 8 * ASKED.sigma
    assert noise.std() == pytest.approx(ASKED.sigma, rel=0.2)
    assert (noise != 0).mean() > 0.9  # on every value


def test_same_set_has_the_same_answer_after_a_restart(desk: Desk) -> None:
    first = desk.unmask(desk.ids[:6])
    desk.restart()
    assert desk.unmask(desk.ids[:6]) == first
    assert first.refused == ""


@pytest.mark.parametrize("other", ["smaller", "larger", "shifted"])
def test_second_set_of_a_round_is_refused_for_ever(desk: Desk, other: str) -> None:
    """Two answers, subtracted, would be the mask of one TV."""
    first = desk.unmask(desk.ids[:6])
    ids = {"smaller": desk.ids[:5], "larger": desk.ids[:7], "shifted": desk.ids[1:7]}[other]
    assert "had its one answer" in desk.unmask(ids).refused
    desk.restart()
    assert "had its one answer" in desk.unmask(ids).refused
    assert desk.unmask(desk.ids[:6]) == first


def test_set_below_the_helpers_own_least_is_refused(desk: Desk) -> None:
    answer = desk.unmask(desk.ids[:3])  # the Round's own least is 3
    assert (answer.masks, answer.refused) == (
        b"",
        "round 5: 3 Updates; this helper unmasks from 4 to 9",
    )
    assert desk.unmask(desk.ids[:4]).refused == ""  # a refusal costs nothing


def test_set_below_the_rounds_least_is_refused(desk: Desk) -> None:
    policy = replace(POLICY, least_cohort=2)
    assert "from 3 to 9" in desk.unmask(desk.ids[:2], policy=policy).refused


def test_set_above_the_rounds_goal_is_refused(desk: Desk) -> None:
    assert desk.check(*map(desk.sealed, desk.ids[8:])).refused == ""
    assert "from 4 to 9" in desk.unmask(desk.ids[:10]).refused


def test_set_with_an_update_that_was_never_checked_is_refused(desk: Desk) -> None:
    assert "is not here" in desk.unmask([*desk.ids[:5], b"x" * 16]).refused
    assert desk.unmask(desk.ids[:5]).refused == ""


def test_tv_counts_once_whatever_names_its_updates_have(desk: Desk) -> None:
    first, second = desk.ids[0], desk.ids[9]
    answer = desk.check(
        desk.sealed(second, device="tv-1"),
        desk.sealed(first),
        desk.sealed(first, seed=os.urandom(32)),
        desk.sealed(first, device="tv-99"),
    )
    another = "this TV or this Update has another seed in the Round"
    assert answer.verdicts == (another, "", another, another)


def test_seed_of_another_round_update_or_helper_does_not_open(desk: Desk, tmp_path: Path) -> None:
    update_id = desk.ids[9]
    stranger = Desk(tmp_path / "stranger")
    stranger.seeds = desk.seeds
    borrowed = replace(desk.sealed(desk.ids[10]), update_id=update_id)
    other = masking.seal(
        desk.seeds[update_id], bytes.fromhex(desk.keys.identity.seal), seal_context(6, update_id)
    )
    answer = desk.check(
        stranger.sealed(update_id),
        borrowed,
        Sealed(update_id, "tv-10", other),
        Sealed(update_id, "tv-10", bytes(80)),
        Sealed(update_id, "tv-10", os.urandom(80)),
    )
    assert set(answer.verdicts) == {"its seed does not open"}
    assert desk.check(desk.sealed(update_id)).verdicts == ("",)
    stranger.store.close()


def test_round_signed_by_somebody_else_is_refused(desk: Desk) -> None:
    forged = sign(Ed25519PrivateKey.generate(), PURPOSE, write_round(ASKED))
    assert "not signed by a key" in desk.unmask(desk.ids[:6], signed=forged).refused
    assert "not signed by a key" in desk.check(desk.sealed(desk.ids[9]), signed=forged).refused


def test_second_round_under_the_same_number_is_refused(desk: Desk) -> None:
    """The cloud's own key could ask for the same seeds with less noise."""
    quiet = sign(CLOUD, PURPOSE, write_round(replace(ASKED, noise_multiplier=0.3)))
    assert "was another Round before" in desk.unmask(desk.ids[:6], signed=quiet).refused


def test_round_without_noise_is_refused(desk: Desk) -> None:
    quiet = replace(ASKED, round_id=6, noise_multiplier=0.0)
    signed = sign(CLOUD, PURPOSE, write_round(quiet))
    assert "noise_multiplier is 0.0" in desk.unmask(desk.ids[:6], signed=signed).refused


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"coordinates": 200_000, "value_cap": 2, "scale": 1.0}, "is more than 48000"),
        ({"coordinates": 0, "titles": 9, "scale": 1e-6}, "nothing would be hidden"),
    ],
)
def test_round_that_no_helper_can_serve_is_refused(desk: Desk, change: dict, words: str) -> None:
    """Signed and consistent, yet it would end the process, or take its memory."""
    odd = sign(CLOUD, PURPOSE, write_round(replace(ASKED, round_id=6, **change)))
    assert words in desk.check(desk.sealed(desk.ids[0]), signed=odd).refused
    assert words in desk.unmask(desk.ids[:6], signed=odd).refused


def test_seeds_are_gone_from_the_disk_with_the_answer(desk: Desk) -> None:
    assert any(seed in desk.on_the_disk() for seed in desk.seeds.values())
    desk.unmask(desk.ids[:6])
    assert desk.store.seeds() == 0
    assert not any(seed in desk.on_the_disk() for seed in desk.seeds.values())


def test_seeds_that_a_kill_left_on_the_disk_are_gone_when_the_helper_is_back(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the answer's commit: the files as they are at that moment."""
    with monkeypatch.context() as killed:
        killed.setattr(SeedStore, "_scrub", lambda _: None)
        first = desk.unmask(desk.ids[:6])
        shutil.copytree(desk.folder, tmp_path / "back")
    desk.folder = tmp_path / "back"
    assert any(seed in desk.on_the_disk() for seed in desk.seeds.values())
    desk.restart()
    assert not any(seed in desk.on_the_disk() for seed in desk.seeds.values())
    assert desk.unmask(desk.ids[:6]) == first


def test_answered_round_keeps_no_more_seeds(desk: Desk) -> None:
    desk.unmask(desk.ids[:6])
    assert "round 5 is over here" in desk.check(desk.sealed(desk.ids[9])).refused


def test_old_rounds_are_forgotten_but_not_that_they_were(desk: Desk) -> None:
    desk.store.forget(ASKED.closes_at + KEPT_S - 5)
    assert desk.store.seeds() == 8
    desk.store.forget(ASKED.closes_at + KEPT_S + 5)
    assert desk.store.seeds() == 0
    assert not any(seed in desk.on_the_disk() for seed in desk.seeds.values())
    assert "had its one answer" in desk.unmask(desk.ids[:6]).refused
    assert "is over here" in desk.check(desk.sealed(desk.ids[0])).refused


def test_old_answer_is_forgotten_too(desk: Desk) -> None:
    first = desk.unmask(desk.ids[:6])
    desk.store.forget(ASKED.closes_at + KEPT_S + 5)
    assert first.masks[:64] not in desk.on_the_disk()
    assert "had its one answer" in desk.unmask(desk.ids[:6]).refused


def test_keys_are_made_once_and_readable_by_their_owner_only(desk: Desk) -> None:
    assert helper_keys(desk.folder).identity == desk.keys.identity
    for name in ("seal.pem", "sign.pem", "helper.db"):
        assert (desk.folder / name).stat().st_mode & 0o777 == 0o600


def test_key_that_many_make_at_once_is_the_one_of_the_fastest(tmp_path: Path) -> None:
    several = 8
    for name in map(str, range(5)):
        folder, start = tmp_path / name, threading.Barrier(several)
        folder.mkdir()

        def make(folder: Path = folder, start: threading.Barrier = start) -> tuple[bytes, bool]:
            start.wait()
            key, made = rounds_key(folder / "keys", folder)
            return public(key), made

        with ThreadPoolExecutor(several) as pool:
            done = [each.result() for each in [pool.submit(make) for _ in range(several)]]
        assert len({key for key, _ in done}) == 1
        assert sum(made for _, made in done) == 1
        assert (folder / "rounds.pub").read_text() == done[0][0].hex() + "\n"
        files = {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()}
        assert files == {"keys/online/rounds-1.pem", "rounds.pub"}
