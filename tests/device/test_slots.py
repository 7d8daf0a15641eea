"""Slots and verdicts: an atomic switch, a way back, and never a TV without a Bundle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from couchside.device.bundle import open_bundle
from couchside.device.errors import BundleError, RuntimeUnavailableError
from couchside.device.liveness import RunGuard, take_in_flight
from couchside.device.runtime.graph import check_golden
from couchside.device.slots import Slot, Slots, choose
from couchside.device.verdicts import REMEMBERED, UNFINISHED, Trial, Verdicts


@pytest.fixture
def own_slots(tmp_path):
    return Slots(tmp_path / "slots")


@pytest.fixture
def verdicts(tmp_path):
    return Verdicts(tmp_path / "verdicts.json")


@pytest.fixture
def three(own_slots, bundles):
    """Three Bundles one after another: the first is factory, the last is current."""
    placed = []
    for flavour in ("litert-float", "litert-int8", "onnx-int8"):
        placed.append(own_slots.place(bundles / flavour))
        own_slots.activate(placed[-1])
    return placed


def flip_a_byte(folder):
    victim = max(folder.glob("*.*"), key=lambda file: file.stat().st_size)
    raw = bytearray(victim.read_bytes())
    raw[len(raw) // 2] ^= 1
    victim.write_bytes(raw)


def fine(bundle):
    return None


def test_the_first_bundle_fills_factory_and_later_ones_leave_it_alone(own_slots, three):
    assert own_slots.path(Slot.FACTORY) == three[0].path
    assert own_slots.path(Slot.PREVIOUS) == three[1].path
    assert own_slots.path(Slot.CURRENT) == three[2].path


def test_what_no_slot_leads_to_is_deleted(own_slots, three, bundles):
    own_slots.activate(own_slots.place(bundles / "onnx-float"))
    assert not three[1].path.exists()
    assert three[0].path.exists()
    assert not list(own_slots.root.glob("*.part"))


def test_placing_alone_changes_no_slot(own_slots, three, bundles):
    own_slots.place(bundles / "onnx-float")
    assert own_slots.path(Slot.CURRENT) == three[2].path


def test_activating_the_current_bundle_again_keeps_previous(own_slots, three):
    own_slots.activate(three[2])
    assert own_slots.path(Slot.PREVIOUS) == three[1].path


def test_a_damaged_bundle_is_not_placed(own_slots, bundles, tmp_path):
    damaged = shutil.copytree(bundles / "litert-int8", tmp_path / "damaged")
    flip_a_byte(damaged)
    with pytest.raises(BundleError, match="SHA-256"):
        own_slots.place(damaged)
    assert not own_slots.root.exists()


def test_a_copy_that_rotted_is_placed_anew(own_slots, bundles):
    placed = own_slots.place(bundles / "litert-int8")
    flip_a_byte(placed.path)
    assert own_slots.place(bundles / "litert-int8").path == placed.path
    open_bundle(placed.path)


def test_what_was_not_placed_can_not_be_activated(own_slots, bundle):
    with pytest.raises(BundleError, match="place it first"):
        own_slots.activate(bundle)


INSTALL = """
import sys
from pathlib import Path
from couchside.device.slots import Slots
slots = Slots(Path(sys.argv[1]))
slots.activate(slots.place(Path(sys.argv[2])))
"""


@pytest.mark.parametrize(
    ("call", "nth"),
    [
        ("write", 2),
        ("fsync", 1),
        ("fsync", 6),
        ("rename", 1),
        ("rename", 2),
        ("rename", 3),
        ("symlink", 1),
        ("symlink", 2),
    ],
)
def test_killed_at_any_system_call_current_is_the_old_or_the_new(own_slots, bundles, call, nth):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    old = own_slots.place(bundles / "litert-float")
    own_slots.activate(old)
    calls = f"/^{call}(at)?$"
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}"]
    inject = ["-e", f"inject={calls}:signal=SIGKILL:when={nth}"]
    install = [sys.executable, "-c", INSTALL, str(own_slots.root), str(bundles / "litert-int8")]
    quiet = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([*strace, *inject, *install], check=False, env=quiet)
    assert done.returncode == -signal.SIGKILL
    new = open_bundle(bundles / "litert-int8")
    assert open_bundle(own_slots.path(Slot.CURRENT)).bundle_id in (old.bundle_id, new.bundle_id)
    own_slots.activate(own_slots.place(bundles / "litert-int8"))  # and it converges
    assert open_bundle(own_slots.path(Slot.CURRENT)).bundle_id == new.bundle_id
    assert not list(own_slots.root.glob("*.part"))


def test_the_current_bundle_is_chosen(own_slots, three, verdicts):
    choice = choose(own_slots, verdicts, check_golden)
    assert choice.slot is Slot.CURRENT
    assert choice.bundle.bundle_id == three[2].bundle_id
    assert choice.skipped == {}


def test_a_flipped_byte_makes_way_for_previous(own_slots, three, verdicts):
    flip_a_byte(three[2].path)
    choice = choose(own_slots, verdicts, check_golden)
    assert choice.slot is Slot.PREVIOUS
    assert "SHA-256" in choice.skipped["current"]


def test_a_wrong_golden_vector_is_condemned_and_stays_so(own_slots, three, verdicts):
    def check(bundle):
        if bundle.bundle_id == three[2].bundle_id:
            raise BundleError("computes another user than the lab")

    assert choose(own_slots, verdicts, check).slot is Slot.PREVIOUS
    again = choose(own_slots, Verdicts(verdicts._file), fine)
    assert again.slot is Slot.PREVIOUS
    assert "computes another" in again.skipped["current"]


def test_a_missing_runtime_is_no_verdict(own_slots, three, verdicts):
    def check(bundle):
        if bundle.runtime == "onnxruntime":
            raise RuntimeUnavailableError("pip install it")

    assert choose(own_slots, verdicts, check).slot is Slot.PREVIOUS
    assert choose(own_slots, verdicts, fine).slot is Slot.CURRENT


def test_all_condemned_means_the_factory_bundle_and_not_none(own_slots, three, verdicts):
    for bundle in three:
        verdicts.condemn(bundle.bundle_id, "it hung")
    choice = choose(own_slots, verdicts, fine)
    assert choice.slot is Slot.FACTORY
    assert set(choice.skipped) == {"current", "previous", "factory"}


def test_no_bundle_at_all_tells_what_to_do(own_slots, verdicts):
    with pytest.raises(BundleError, match="couchside-device install"):
        choose(own_slots, verdicts, fine)


def test_the_second_crash_condemns_and_health_forgives_the_first(verdicts):
    verdicts.crashed("b", "user_model")
    assert not verdicts.of("b").bad
    verdicts.commit("b")
    verdicts.crashed("b", "user_model")
    assert not verdicts.of("b").bad
    verdicts.crashed("b", "user_model")
    assert "died 2 times" in verdicts.of("b").bad


def test_a_trial_commits_after_enough_healthy_answers(verdicts):
    trial = Trial(verdicts, "b", healthy_rows=3, give_up=pytest.fail)
    trial.healthy()
    trial.healthy()
    assert not verdicts.of("b").good
    trial.healthy()
    assert Verdicts(verdicts._file).of("b").good
    assert Trial(verdicts, "b", healthy_rows=3, give_up=pytest.fail).left == 0


def test_a_trial_that_keeps_ending_without_a_word_is_over(own_slots, three, verdicts):
    for _ in range(UNFINISHED):
        choice = choose(own_slots, verdicts, fine)
        assert choice.slot is Slot.CURRENT
        Trial(verdicts, choice.bundle.bundle_id, healthy_rows=3, give_up=pytest.fail)
    choice = choose(own_slots, verdicts, fine)
    assert choice.slot is Slot.PREVIOUS
    assert "without a word" in choice.skipped["current"]


def test_proper_stops_say_nothing_against_a_bundle_on_trial(own_slots, three, verdicts):
    for _ in range(3 * UNFINISHED):
        bundle_id = choose(own_slots, verdicts, fine).bundle.bundle_id
        Trial(verdicts, bundle_id, healthy_rows=3, give_up=pytest.fail).stopped()
    assert choose(own_slots, verdicts, fine).slot is Slot.CURRENT


def test_a_failed_trial_condemns_and_gives_up(verdicts):
    said = []
    Trial(verdicts, "b", healthy_rows=3, give_up=said.append).failed("not finite")
    assert said == ["not finite"]
    assert Verdicts(verdicts._file).of("b").bad == "not finite"


@pytest.mark.parametrize("text", ["", "{", "[]", '[{"bundle_id": 3}]', '[{"surprise": 1}]'])
def test_damaged_verdicts_count_as_none(verdicts, text):
    verdicts._file.write_text(text, encoding="utf-8")
    assert not Verdicts(verdicts._file).of("b").bad


def test_verdicts_are_bounded(verdicts):
    for number in range(REMEMBERED + 10):
        verdicts.commit(f"b{number}")
    assert len(json.loads(verdicts._file.read_text(encoding="utf-8"))) == REMEMBERED


HANG = """
import sys, ctypes
from pathlib import Path
from couchside.device.liveness import RunGuard
guard = RunGuard(Path(sys.argv[1]), boot_id="boot", limit_s=0.3)
with guard.running("the-bundle", "user_model"):
    print("running", flush=True)
    # PyDLL keeps the interpreter's lock, as a runtime may: no Python thread can run now.
    ctypes.PyDLL(None).sleep(60)
"""


def test_a_run_that_hangs_with_the_interpreters_lock_ends_the_process(tmp_path):
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANG, str(tmp_path)], capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert time.monotonic() - started < 10.0
    left = take_in_flight(tmp_path, boot_id="boot")
    assert left is not None
    assert (left.bundle_id, left.what, left.hung) == ("the-bundle", "user_model", True)
    assert take_in_flight(tmp_path, boot_id="next boot") is None, "the lights may have gone out"
    RunGuard(tmp_path, boot_id="boot", limit_s=1.0).close()
    assert take_in_flight(tmp_path, boot_id="boot") is None, "it is told once"


def test_a_run_that_is_killed_is_a_crash_not_a_hang(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", HANG.replace("0.3", "60.0"), str(tmp_path)], stdout=subprocess.PIPE
    )
    assert child.stdout.readline() == b"running\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    left = take_in_flight(tmp_path, boot_id="boot")
    assert left is not None
    assert not left.hung


def test_a_run_that_ends_in_time_leaves_no_trace(tmp_path):
    guard = RunGuard(tmp_path, boot_id="boot", limit_s=30.0)
    with guard.running("b", "user_model"):
        assert take_in_flight(tmp_path, boot_id="boot") is not None
    with pytest.raises(ValueError, match="broke"), guard.running("b", "user_model"):
        raise ValueError("broke")
    guard.close()
    assert take_in_flight(tmp_path, boot_id="boot") is None


def test_a_half_written_marker_accuses_nobody(tmp_path):
    (tmp_path / "in-flight").write_text('{"bundle', encoding="utf-8")
    assert take_in_flight(tmp_path, boot_id="boot") is None
