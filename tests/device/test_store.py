"""history.db: durable, idempotent, ordered without a clock, and forgetful down to the bytes."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.titles import event

from couchside.device.errors import RequestError, StoreError
from couchside.device.household import schema
from couchside.device.household.store import (
    HOUSEHOLD,
    Acknowledgement,
    Consent,
    HistoryStore,
    Purpose,
)
from couchside.device.records import Profile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "history.db"


@pytest.fixture
def store(path):
    store = HistoryStore(path, boot_id="boot-1")
    yield store
    store.close()


def stored_titles(store):
    return [one.event.title_id for one in store.events()]


def reopened(store, **settings):
    store.close()
    return HistoryStore(store.path, boot_id="boot-2", **settings)


def test_an_event_sent_twice_counts_once(store):
    first = event("film", "start", event_id="e1")
    assert store.add(first)[1] is Acknowledgement.STORED
    assert store.add(first)[1] is Acknowledgement.DUPLICATE
    assert stored_titles(store) == ["film"]


@pytest.mark.parametrize("flush", [False, True])
def test_a_heartbeat_sent_twice_counts_once(store, flush):
    beat = event("film", "progress", 60.0, event_id="e1")
    assert store.add(beat)[1] is Acknowledgement.BUFFERED
    if flush:
        store.flush()
    assert store.add(beat)[1] is Acknowledgement.DUPLICATE
    assert stored_titles(store) == ["film"]


def test_heartbeats_go_out_together_when_enough_have_gathered(path):
    store = HistoryStore(path, boot_id="b", buffer_events=3)
    replies = [store.add(event("film", "progress", 60.0 * n))[1] for n in range(4)]
    assert replies == [
        Acknowledgement.BUFFERED,
        Acknowledgement.BUFFERED,
        Acknowledgement.STORED,
        Acknowledgement.BUFFERED,
    ]
    assert store.waiting == 1
    store.close()


def test_a_stop_takes_the_waiting_heartbeats_with_it(store):
    store.add(event("film", "progress", 60.0))
    store.add(event("film", "stop", 70.0))
    assert store.waiting == 0
    assert [one.event.kind.value for one in store.events()] == ["progress", "stop"]


def test_order_is_the_sequence_even_when_the_clock_stands_in_1970(store):
    store.add(event("later", "complete", at=1_790_000_000.0))
    store = reopened(store)
    store.add(event("in 1970", "complete", at=12.0))
    assert stored_titles(store) == ["later", "in 1970"]
    assert [one.boot_id for one in store.events()] == ["boot-1", "boot-2"]
    store.close()


def test_the_generation_grows_over_restarts_and_lost_heartbeats(store):
    seen = [store.generation]
    store.add(event("film", "start"))
    seen.append(store.generation)
    store.put_profile(Profile("kid", "Kid", 6))
    seen.append(store.generation)
    store.add(event("film", "progress", 60.0))
    seen.append(store.generation)
    killed = HistoryStore(store.path, boot_id="boot-2")  # as after a kill: nothing was flushed
    seen.append(killed.generation)
    killed.forget()
    seen.append(killed.generation)
    killed.close()
    assert seen == sorted(set(seen))


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from simulators.titles import event
from couchside.device.household.store import HistoryStore
store = HistoryStore(Path(sys.argv[1]), boot_id="b")
for number in range(100_000):
    kind = "progress" if number % 3 else "stop"
    _, status = store.add(event("film", kind, 60.0, event_id=f"e{{number}}"))
    print(f"e{{number}}", status.value, flush=True)
"""


def test_kill_9_during_an_event_loses_nothing_that_was_acknowledged_as_stored(path):
    tests = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(tests=tests), str(path)], stdout=subprocess.PIPE
    )
    time.sleep(0.2)
    while not path.exists():
        time.sleep(0.05)
    time.sleep(0.8)
    child.send_signal(signal.SIGKILL)
    output = child.communicate()[0].decode()
    lines = [line.split() for line in output.splitlines() if len(line.split()) == 2]
    promised = {event_id for event_id, status in lines if status == "stored"}
    assert len(promised) > 10, output
    store = HistoryStore(path, boot_id="b2")
    assert store.recovered is None
    assert promised <= {one.event.event_id for one in store.events()}
    store.close()


@settings(max_examples=15, deadline=None)
@given(
    watched=st.lists(st.sampled_from(["xylophonist", "zeppelinesque", "quokka-days"]), max_size=60),
    pages=st.integers(0, 3),
)
def test_forgetting_a_title_leaves_no_byte_of_it_in_any_file(tmp_path_factory, watched, pages):
    folder = tmp_path_factory.mktemp("forget")
    store = HistoryStore(folder / "history.db", boot_id="b", buffer_events=4)
    for number, title in enumerate(watched * (1 + 20 * pages)):
        store.add(event(title, "progress" if number % 2 else "stop", 60.0))
    erased = store.forget(title_id="zeppelinesque")
    raw = b"".join(file.read_bytes() for file in folder.iterdir())
    assert b"zeppelinesque" not in raw
    assert erased == watched.count("zeppelinesque") * (1 + 20 * pages)
    assert (b"quokka-days" in raw) == ("quokka-days" in watched)
    store.close()


def test_forgetting_everything_leaves_profiles_and_consent(store):
    store.put_profile(Profile("kid", "Kid", 6))
    store.set_consent(Consent(Purpose.LEARNING, granted=True, at=1.0))
    store.add(event("film", "like"))
    store.add(event("film", "progress", 60.0))
    assert store.forget() == 2
    assert store.events() == []
    assert [profile.profile_id for profile in store.profiles()] == [HOUSEHOLD, "kid"]
    assert store.consent()[0].granted


def test_forget_says_so_when_another_reader_keeps_the_old_bytes_alive(store):
    store.add(event("film", "like"))
    reader = sqlite3.connect(store.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM events").fetchall()
    store._db.execute("PRAGMA busy_timeout = 50")
    with pytest.raises(StoreError, match="another process is reading"):
        store.forget(title_id="film")
    reader.close()


def test_removing_a_profile_removes_what_it_did(store):
    store.put_profile(Profile("guest", "Guest"))
    store.add(event("secret-of-the-guest", "like", profile_id="guest"))
    store.remove_profile("guest")
    assert stored_titles(store) == []
    raw = b"".join(file.read_bytes() for file in store.path.parent.iterdir())
    assert b"secret-of-the-guest" not in raw


def test_the_household_itself_can_not_be_removed(store):
    with pytest.raises(RequestError, match="forget what it did"):
        store.remove_profile(HOUSEHOLD)


def test_nothing_is_consented_to_until_it_is(store):
    assert [consent.granted for consent in store.consent()] == [False] * len(Purpose)


@pytest.mark.parametrize("damage", ["garbage", "a torn page", "an empty file"])
def test_a_damaged_history_is_moved_aside_and_a_clean_one_begun(store, damage):
    for number in range(200):
        store.add(event(f"film-{number}", "complete"))
    store.close()
    if damage == "garbage":
        store.path.write_bytes(b"not a database" * 1000)
    elif damage == "a torn page":
        with store.path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 8192)
    else:
        store.path.write_bytes(b"")
    again = HistoryStore(store.path, boot_id="b")
    assert again.events() == []
    if damage == "an empty file":
        assert again.recovered is None  # indistinguishable from a new one
    else:
        assert again.recovered is not None
        assert again.recovered.exists()
    assert again.add(event("film", "start"))[1] is Acknowledgement.STORED
    again.forget()
    assert not list(store.path.parent.glob("*.damaged-*"))
    again.close()


def test_a_history_of_a_newer_couchside_is_left_alone(store):
    store.close()
    db = sqlite3.connect(store.path)
    db.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(StoreError, match="newer Couchside"):
        HistoryStore(store.path, boot_id="b")


def test_a_folder_that_can_not_be_written_is_a_clear_error(tmp_path):
    with pytest.raises(StoreError, match="check the state folder"):
        HistoryStore(tmp_path / "missing" / "history.db", boot_id="b")


def test_nobody_else_may_read_the_file(store):
    store.add(event("film", "start"))
    modes = {stat.S_IMODE(file.stat().st_mode) for file in store.path.parent.iterdir()}
    assert modes == {0o600}


def test_a_full_history_drops_overtaken_heartbeats_first(path):
    store = HistoryStore(path, boot_id="b", max_events=1000)
    store.add(event("liked-long-ago", "like"))
    for number in range(1200):
        store.add(event("film", "progress", float(number)))
    store = reopened(store, max_events=1000)
    kept = store.events()
    assert kept[0].event.title_id == "liked-long-ago"
    assert kept[-1].event.position_s == 1199.0
    assert len(kept) <= 1000
    store.close()


def test_a_full_history_then_drops_the_oldest(path):
    store = HistoryStore(path, boot_id="b", max_events=1000, buffer_events=1)
    store._db.execute("PRAGMA synchronous = OFF")
    for number in range(1100):
        store.add(event(f"film-{number}", "complete"))
    store = reopened(store, max_events=1000)
    kept = stored_titles(store)
    assert len(kept) == 1000
    assert kept[0] == "film-100"
    store.close()


def test_pages_of_the_history_are_complete_and_in_order(store, monkeypatch):
    monkeypatch.setattr("couchside.device.household.store.PAGE", 7)
    for number in range(30):
        store.add(event(f"film-{number}", "progress", 60.0))
    assert [one.event.title_id for one in store.history(HOUSEHOLD)] == [
        f"film-{number}" for number in range(30)
    ]
