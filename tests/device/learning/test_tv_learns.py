"""A real daemon, a real child, and whoever disturbs them."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from simulators.rounds import LAB

from couchside.device.errors import RpcError
from couchside.device.learning.receipt import Receipt, Verdict, write_receipt
from couchside.device.learning.update import read_update

PATIENCE_S = 40.0


def until(condition, what="it"):
    end = time.monotonic() + PATIENCE_S
    while not (seen := condition()):
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.02)
    return seen


def status(tv):
    return tv.client.call("learning.status")


def watch(tv, films, count, profile="household", first=0):
    lines = films.read_text(encoding="utf-8").splitlines()
    ids = [json.loads(line)["title_id"] for line in lines]
    for number, title in enumerate(ids[first : first + count]):
        tv.client.call(
            "event",
            event_id=f"{profile}-{first + number}",
            title_id=title,
            kind="complete",
            profile_id=profile,
        )


def allow(tv, *purposes, granted=True):
    for purpose in purposes:
        tv.client.call("consent.set", purpose=purpose, granted=granted)


def sleep(tv, unmetered=True):
    tv.client.call("device.state", standby=True, unmetered=unmetered)


def queue_an_update(tv, trust, spool, films, **changes):
    watch(tv, films, 3)
    allow(tv, "learning", "popularity")
    spool.put_round(trust.signed(trust.round(**changes)))
    sleep(tv)
    return until(spool.queued, "an Update")[0]


def test_idle_tv_with_consent_makes_one_update_of_a_round(tv, trust, spool, films):
    asked = trust.round()
    name = queue_an_update(tv, trust, spool, films)
    frame = spool.read_update(name)
    update = read_update(frame)
    assert (update.round_id, update.update_id.hex()) == (1, name)
    plain = trust.unmasked(frame)
    assert np.linalg.norm(plain) <= asked.sensitivity
    assert (plain[asked.coordinates :] > 0).sum() == 3
    told = until(lambda: (s := status(tv))["updates_this_year"] and s)
    assert told["epsilon_this_year"] == pytest.approx(5.222, abs=0.01)
    assert (told["last_round"], told["last_verdict"]) == (1, "queued")
    sleep(tv)
    until(lambda: not status(tv)["busy"])
    assert spool.queued() == [name]  # one Round, one Update


def test_update_leaves_the_spool_with_its_receipt_and_stays_in_the_ledger(tv, trust, spool, films):
    name = queue_an_update(tv, trust, spool, films)
    other = Receipt(1, "f" * 32, Verdict.FOLDED)
    spool.put_receipt(other.update_id, write_receipt(other))
    spool.put_receipt(name, write_receipt(Receipt(1, name, Verdict.FOLDED)))
    until(lambda: not spool.queued(), "the end of the Update")
    told = until(lambda: (s := status(tv))["last_verdict"] == "folded" and s)
    assert told["updates_this_year"] == 1
    spool.drop_receipts()
    assert list(spool.rounds.glob("*.receipt")) == []


def test_nothing_is_made_without_consent_or_while_the_tv_is_used_or_metered(
    tv, trust, spool, films
):
    watch(tv, films, 3)
    spool.put_round(trust.signed(trust.round()))
    sleep(tv)
    assert status(tv)["why_not"] == "no consent"
    allow(tv, "learning")
    until(spool.queued)  # the consent alone was missing
    tv.client.call("device.state", standby=False)
    spool.put_round(trust.signed(trust.round(round_id=2)))
    watch(tv, films, 2, first=3)
    assert status(tv)["why_not"] == "the TV is not idle"
    sleep(tv, unmetered=False)
    told = status(tv)
    assert (told["why_not"], told["busy"]) == ("the network is metered", False)
    assert len(spool.queued()) == 1


def test_forged_round_is_refused_and_said(tv, trust, spool, films):
    raw = bytearray(trust.signed(trust.round()))
    raw[70] ^= 1
    watch(tv, films, 3)
    allow(tv, "learning")
    spool.put_round(bytes(raw))
    sleep(tv)
    told = until(lambda: (s := status(tv))["last_outcome"] == "refused" and s)
    assert "not signed by a key that is trusted here" in told["last_why"]
    assert told["updates_this_year"] == 0
    assert spool.queued() == []
    # A good one is taken all the same.
    spool.put_round(trust.signed(trust.round()))
    until(spool.queued)


def test_tv_as_it_ships_refuses_a_small_cohort(start_tv, load_films, trust, spool, films):
    tv = start_tv(settings="")
    load_films(tv)
    watch(tv, films, 3)
    allow(tv, "learning")
    spool.put_round(trust.signed(trust.round()))
    sleep(tv)
    told = until(lambda: (s := status(tv))["last_outcome"] == "refused" and s)
    assert "cohort_least would break this TV's limit of 500" in told["last_why"]


def test_budget_of_the_year_stops_learning_hard(start_tv, load_films, trust, spool, films):
    tv = start_tv(settings=LAB.replace("1000.0", "6.0"))
    load_films(tv)
    queue_an_update(tv, trust, spool, films)
    watch(tv, films, 3, first=3)
    spool.put_round(trust.signed(trust.round(round_id=2)))
    told = until(lambda: (s := status(tv))["last_outcome"] == "refused" and s)
    assert "ε of this year would break" in told["last_why"]
    tv.client.call("forget", everything=True)  # refills no budget
    assert status(tv)["updates_this_year"] == 1


def test_consent_withdrawn_while_queued_takes_the_update_back(tv, trust, spool, films):
    queue_an_update(tv, trust, spool, films)
    allow(tv, "popularity", granted=False)
    assert spool.queued() == []
    told = status(tv)
    assert (told["last_verdict"], told["updates_this_year"]) == ("withdrawn", 1)


def test_forget_takes_a_waiting_update_back(tv, trust, spool, films):
    queue_an_update(tv, trust, spool, films)
    with pytest.raises(RpcError, match="no profile 'nobody'"):
        tv.client.call("forget", profile_id="nobody")
    assert len(spool.queued()) == 1  # nothing was forgotten
    tv.client.call("forget", title_id="imdb:tt0000000", profile_id="household")
    assert spool.queued() == []


def test_profile_that_gets_a_fence_takes_its_update_back(tv, trust, spool, films):
    tv.client.call("profiles.add", profile_id="mila", name="Mila")
    watch(tv, films, 3, profile="mila")
    queue_an_update(tv, trust, spool, films)
    tv.client.call("profiles.add", profile_id="mila", name="Mila", max_maturity=7)
    assert spool.queued() == []
    assert status(tv)["last_verdict"] == "withdrawn"


def test_receipt_that_is_here_counts_though_the_consent_is_withdrawn_next(
    start_tv, load_films, trust, spool, films
):
    tv = start_tv()
    load_films(tv)
    name = queue_an_update(tv, trust, spool, films)
    tv.client.call("device.state", standby=False)
    spool.put_receipt(name, write_receipt(Receipt(1, name, Verdict.FOLDED)))
    allow(tv, "learning", granted=False)
    assert status(tv)["last_verdict"] == "folded"


def test_network_that_becomes_metered_ends_a_lesson_that_would_be_sent(tv, trust, spool, films):
    watch(tv, films, 3)
    allow(tv, "learning")
    spool.put_round(slow_round(trust))
    sleep(tv)
    child = catch_child(tv)
    sleep(tv, unmetered=False)
    until(lambda: not alive(child), "the child's end")
    assert (status(tv)["updates_this_year"], spool.queued()) == (0, [])


def test_round_that_closed_while_the_tv_was_off_costs_no_budget(tv, trust, spool, films):
    watch(tv, films, 3)
    allow(tv, "learning")
    now = int(time.time())
    spool.put_round(trust.signed(trust.round(opens_at=now - 100, closes_at=now - 50)))
    sleep(tv)
    told = until(lambda: (s := status(tv))["last_outcome"] == "sits_out" and s)
    assert (told["last_why"], told["updates_this_year"]) == ("it is over", 0)


def test_folder_of_updates_that_is_a_file_ends_no_daemon(tv, trust, spool, films):
    spool.updates.write_text("in the way")
    watch(tv, films, 3)
    allow(tv, "learning")
    spool.put_round(trust.signed(trust.round()))
    sleep(tv)
    until(lambda: "can't be kept" in tv.logged(), "a word in the log")
    assert tv.client.call("rows")["rows"]


def test_what_a_kill_left_in_the_spool_is_dropped_at_the_start(start_tv, spool):
    spool.updates.mkdir()
    (spool.updates / f"{'a' * 32}.update.part").write_bytes(b"half")
    start_tv()
    assert list(spool.updates.iterdir()) == []


def test_queued_frame_may_be_read_by_its_group_whatever_the_umask(tv, trust, spool, films):
    name = queue_an_update(tv, trust, spool, films)
    assert (spool.updates / f"{name}.update").stat().st_mode & 0o777 == 0o640


def test_child_ends_well(tv, trust, spool, films):
    queue_an_update(tv, trust, spool, films)
    until(lambda: not status(tv)["busy"])
    assert "Fatal Python error" not in tv.logged()
    assert "ended with" not in tv.logged()


def test_childs_profile_never_takes_part(tv, trust, spool, films):
    tv.client.call("profiles.add", profile_id="kid", name="Kid", max_maturity=6)
    watch(tv, films, 6, profile="kid")
    watch(tv, films, 2, first=6)
    allow(tv, "popularity")
    spool.put_round(trust.signed(trust.round()))
    sleep(tv)
    name = until(spool.queued)[0]
    counts = trust.unmasked(spool.read_update(name))[trust.round().coordinates :]
    assert np.flatnonzero(counts).tolist() == [6, 7]


def slow_round(trust, **changes):
    return trust.signed(trust.round(steps=64, **changes))


def catch_child(tv):
    return until(lambda: status(tv)["child_pid"], "a child")


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_child_killed_at_work_leaves_no_trace_and_is_started_again(tv, trust, spool, films):
    watch(tv, films, 3)
    allow(tv, "learning")
    spool.put_round(slow_round(trust))
    sleep(tv)
    os.kill(catch_child(tv), signal.SIGKILL)
    name = until(spool.queued, "another try")[0]
    until(lambda: not status(tv)["busy"])
    assert (spool.queued(), status(tv)["updates_this_year"]) == ([name], 1)


def test_learning_ends_at_once_when_the_household_is_back(tv, trust, spool, films):
    watch(tv, films, 3)
    allow(tv, "learning")
    spool.put_round(slow_round(trust))
    sleep(tv)
    child = catch_child(tv)
    tv.client.call("device.state", standby=False)
    until(lambda: not alive(child), "the child's end")
    told = status(tv)
    assert (told["busy"], told["updates_this_year"], spool.queued()) == (False, 0, [])


def test_consent_withdrawn_while_learning_ends_it(tv, trust, spool, films):
    watch(tv, films, 3)
    allow(tv, "learning")
    spool.put_round(slow_round(trust))
    sleep(tv)
    child = catch_child(tv)
    allow(tv, "learning", granted=False)
    until(lambda: not alive(child), "the child's end")
    assert (status(tv)["updates_this_year"], spool.queued()) == (0, [])


def test_child_ends_with_a_daemon_that_was_killed(tv, trust, spool, films):
    watch(tv, films, 3)
    allow(tv, "learning")
    spool.put_round(slow_round(trust))
    sleep(tv)
    child = catch_child(tv)
    tv.kill()
    until(lambda: not alive(child), "the child's end")
    assert spool.queued() == []


def test_child_has_the_lowest_priority_and_no_socket(tv, trust, spool, films):
    watch(tv, films, 3)
    allow(tv, "learning")
    spool.put_round(slow_round(trust))
    sleep(tv)
    child = catch_child(tv)
    until(lambda: os.sched_getscheduler(child) == os.SCHED_IDLE, "SCHED_IDLE")
    assert os.getpriority(os.PRIO_PROCESS, child) == 19
    links = Path(f"/proc/{child}/fd").iterdir()
    opened = {str(link.readlink()) for link in links if link.is_symlink()}
    assert not [name for name in opened if name.startswith("socket:") or "history.db" in name]
    tv.client.call("device.state", standby=False)


def test_shelf_is_answered_while_a_child_learns(tv, trust, spool, films):
    watch(tv, films, 3)
    allow(tv, "learning")
    spool.put_round(slow_round(trust))
    sleep(tv)
    catch_child(tv)
    assert tv.client.call("rows")["rows"]
    watch(tv, films, 1, first=3)


def test_personal_values_survive_a_restart_and_go_with_forget(start_tv, load_films, trust, films):
    tv = start_tv(settings=LAB + "personal = true\npersonal_steps = 40\npersonal_rate = 1.0\n")
    load_films(tv)
    watch(tv, films, 12)
    sleep(tv)
    until(lambda: status(tv)["last_outcome"] == "personal")
    learned = status(tv)["personal"]
    assert learned == ["household"]
    shelf = tv.client.call("rows")["rows"]
    tv.kill()
    tv.start()
    assert status(tv)["personal"] == learned
    assert tv.client.call("rows")["rows"] == shelf
    tv.client.call("forget", everything=True)
    assert status(tv)["personal"] == []


def test_nothing_personal_is_learned_as_it_ships(tv, films):
    watch(tv, films, 12)
    sleep(tv)
    assert not status(tv)["busy"]
    assert status(tv)["last_outcome"] == ""


def test_power_manager_must_say_what_it_means(tv):
    with pytest.raises(RpcError, match="standby"):
        tv.client.call("device.state")
    with pytest.raises(RpcError, match="standby: must be"):
        tv.client.call("device.state", standby="yes")


def test_garbage_in_the_spool_is_passed_over(tv, trust, spool, films):
    (spool.rounds / "round").write_bytes(bytes(100_000))
    (spool.rounds / ("0" * 32 + ".receipt")).write_bytes(b"\xff" * 50)
    (spool.rounds / "surprise").mkdir()
    name = queue_an_update(tv, trust, spool, films)
    spool.put_receipt(name, b"{}")
    sleep(tv)
    assert spool.queued() == [name]
