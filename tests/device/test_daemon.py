"""The whole daemon, as a process behind a real socket: what a launcher and a player rely on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from simulators.daemon import DaemonProcess

from couchside.device.daemon import RENEW, TICK_S
from couchside.device.errors import RpcError, UnreachableError
from couchside.device.guide.jsonl import write_jsonl
from couchside.device.process import boot_id
from couchside.device.records import Title, TitleKind
from couchside.device.rpc import Client, wire
from couchside.device.slots import Slot, Slots
from couchside.device.verdicts import Verdicts

MB = 2**20


def codes(answer):
    return [row["code"] for row in answer["rows"]]


def cards(answer, code):
    return next((row["cards"] for row in answer["rows"] if row["code"] == code), [])


def watch(daemon, title_id, kind="complete", **fields):
    number = watch.count = getattr(watch, "count", 0) + 1
    return daemon.client.call(
        "event", event_id=f"w{number}", title_id=title_id, kind=kind, **fields
    )


def some_ids(films, count=8):
    lines = films.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["title_id"] for line in lines[100 : 100 + count]]


def wait_until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def live_an_evening(daemon, films, load_films):
    """Load, watch, see it, ask why, forget; every promise on the way."""
    call = daemon.client.call
    assert call("rows")["rows"] == []
    assert load_films(daemon)["known"] > 1000
    assert codes(call("rows")) == ["popular"]
    seen = some_ids(films)
    for title_id in seen[:-1]:
        assert watch(daemon, title_id)["status"] == "stored"
    watch(daemon, seen[-1], "stop", position_s=3000.0, duration_s=6000.0)
    shelf = call("rows")
    assert codes(shelf)[:2] == ["continue_watching", "for_you"]
    assert [card["title_id"] for card in cards(shelf, "continue_watching")] == [seen[-1]]
    assert not {card["title_id"] for row in shelf["rows"][1:] for card in row["cards"]} & set(seen)
    wait_until(lambda: any(card["reason"] for card in cards(call("rows"), "for_you")))
    reasoned = next(card for card in cards(call("rows"), "for_you") if card["reason"])
    why = call("explain", title_id=reasoned["title_id"])
    assert why["row"] == "for_you"
    assert set(why["reason"]["evidence"]) <= set(seen)
    assert all(title_id in why["names"] for title_id in why["reason"]["evidence"])
    name = call("title", title_id=seen[0])["title"]["name"]
    assert call("search", text=name)["cards"]
    assert call("similar", title_id=seen[0])["cards"]
    call("dismiss", event_id="d", title_id=seen[-1])
    assert not cards(call("rows"), "continue_watching")
    assert call("forget", everything=True)["events"] == len(seen) + 1
    assert codes(call("rows")) == ["popular"]
    assert call("health")["errors"] == 0


def test_an_evening(daemon, films, load_films):
    live_an_evening(daemon, films, load_films)
    assert daemon.stop() == 0


@pytest.mark.parametrize("flavour", ["litert-float", "onnx-int8", "onnx-float"])
def test_an_evening_on_the_other_flavours(
    start_daemon, bundles, tmp_path, films, load_films, flavour
):
    own = Slots(tmp_path / "own")
    own.activate(own.place(bundles / flavour))
    live_an_evening(start_daemon(slots=own.root), films, load_films)


def test_an_evening_without_any_network_interface(start_daemon, films, load_films):
    wrapper = ["unshare", "--net"] if os.getuid() == 0 else ["unshare", "--net", "--map-root-user"]
    probe = subprocess.run([*wrapper, "true"], check=False, capture_output=True)
    if probe.returncode:
        pytest.skip("this system allows no network namespaces")
    daemon = start_daemon(wrapper=wrapper)
    live_an_evening(daemon, films, load_films)


def test_an_evening_opens_unix_sockets_only(start_daemon, films, load_films, tmp_path):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    wrapper = ["strace", "-f", "-qq", "-o", str(trace), "-e", "trace=socket,connect,bind,execve"]
    daemon = start_daemon(wrapper=wrapper)
    live_an_evening(daemon, films, load_films)
    daemon.client.close()
    pid = int((daemon.state / "lock").read_text(encoding="ascii"))
    os.kill(pid, signal.SIGTERM)
    daemon.process.wait(10)
    calls = trace.read_text(encoding="utf-8")
    assert "socket(AF_UNIX" in calls
    assert set(re.findall(r"\b(?:AF|PF)_\w+", calls)) == {"AF_UNIX"}
    assert calls.count("execve(") == 1, "it starts no other program"


def test_python_code_in_the_daemon_can_not_open_a_network_socket():
    code = """
import socket
from couchside.device.process import refuse_networks
refuse_networks()
socket.socketpair()
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK):
    try:
        socket.socket(family, socket.SOCK_DGRAM)
    except PermissionError:
        continue
    raise SystemExit(f"{family} was opened")
try:
    socket.getaddrinfo("localhost", 80)
except PermissionError:
    raise SystemExit(0)
raise SystemExit("a name was looked up")
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_event_shows_in_the_very_next_rows(daemon, films, load_films):
    load_films(daemon)
    for title_id in some_ids(films, 20):
        watch(daemon, title_id, "stop", position_s=1000.0, duration_s=6000.0)
        shown = cards(daemon.client.call("rows"), "continue_watching")
        assert shown[0]["title_id"] == title_id


def test_kill_9_keeps_what_was_stored_and_says_what_was_not(daemon, films, load_films):
    load_films(daemon)
    first, second = some_ids(films, 2)
    watch(daemon, first, "stop", position_s=1000.0, duration_s=6000.0)
    reply = watch(daemon, second, "progress", position_s=2000.0, duration_s=6000.0)
    assert reply["status"] == "buffered"
    before = daemon.client.call("rows")
    assert len(cards(before, "continue_watching")) == 2
    daemon.kill()
    daemon.start()
    after = daemon.client.call("rows")
    assert [card["title_id"] for card in cards(after, "continue_watching")] == [first]
    assert after["generation"] > before["generation"], "equal generations show equal history"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_soon_with_heartbeats_written(daemon, films, load_films, number):
    load_films(daemon)
    title_id = some_ids(films, 1)[0]
    watch(daemon, title_id, "progress", position_s=2000.0, duration_s=6000.0)
    started = time.monotonic()
    assert daemon.stop(number) == 0
    assert time.monotonic() - started < 2.0
    assert not daemon.socket.exists()
    daemon.start()
    assert cards(daemon.client.call("rows"), "continue_watching")[0]["title_id"] == title_id


def test_heartbeats_are_written_after_a_while(start_daemon):
    daemon = start_daemon(settings="[history]\nbuffer_s = 0.2\n")
    watch(daemon, "x", "progress", position_s=1.0)
    wait_until(lambda: daemon.client.call("health")["events_waiting"] == 0)


def test_standby_writes_heartbeats(daemon):
    watch(daemon, "x", "progress", position_s=1.0)
    assert daemon.client.call("standby") == {"written": 1}


def test_a_second_daemon_is_refused_and_the_first_goes_on(shared_daemon):
    second = subprocess.run(
        shared_daemon.command, check=False, capture_output=True, text=True, timeout=30
    )
    assert second.returncode == 2
    assert f"process {shared_daemon.process.pid}" in second.stderr
    assert shared_daemon.client.call("health")["errors"] == 0


def test_systemd_hears_that_it_is_ready_alive_and_stopping(start_daemon, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(10.0)
        daemon = start_daemon(
            environment={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        )
        assert listener.recv(100) == b"READY=1"
        assert listener.recv(100) == b"WATCHDOG=1"
        assert daemon.stop() == 0
        said = {listener.recv(100)}
        while b"STOPPING=1" not in said:
            said.add(listener.recv(100))


def raw(daemon, payload):
    """Send bytes on a connection of its own; the connection and the first reply."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    one.settimeout(60.0)
    one.connect(str(daemon.socket))
    for part in payload:
        one.sendall(part)
    return one, json.loads(wire.Lines(one, 10**6).next())


def test_a_malformed_line_gets_an_error_and_the_connection_goes_on(shared_daemon):
    one, reply = raw(shared_daemon, [b"{not json}\n"])
    assert reply["error"]["code"] == wire.PARSE_ERROR
    one.sendall(b'{"jsonrpc":"2.0","id":7,"method":"health"}\n')
    assert json.loads(wire.Lines(one, 10**6).next())["id"] == 7
    one.close()


def test_a_line_of_100_mb_costs_no_memory_and_the_connection_goes_on(daemon):
    daemon.client.call("rows")
    before = daemon.memory()
    chunk = b"x" * MB
    one, reply = raw(daemon, [*([chunk] * 100), b"\n"])
    assert reply["error"]["data"]["limit"] == wire.LINE_LIMIT
    assert daemon.memory()["peak_rss_bytes"] - before["peak_rss_bytes"] < 2 * MB
    one.sendall(b'{"jsonrpc":"2.0","id":8,"method":"health"}\n')
    assert json.loads(wire.Lines(one, 10**6).next())["id"] == 8
    one.close()


@pytest.mark.parametrize(
    ("method", "params", "field"),
    [
        ("rows", {"surprise": 1}, "surprise"),
        ("rows", {"cards": "12"}, "cards"),
        ("rows", {"cards": 0}, "cards"),
        ("rows", {"profile_id": "nobody"}, "profile_id"),
        ("event", {"event_id": "e", "kind": "stop"}, "title_id"),
        ("event", {"event_id": "", "title_id": "t", "kind": "stop"}, "event_id"),
        ("event", {"event_id": "e", "title_id": "t", "kind": "ended"}, "kind"),
        (
            "event",
            {"event_id": "e", "title_id": "t", "kind": "stop", "position_s": -1},
            "position_s",
        ),
        ("event", {"event_id": "e", "title_id": "a\nb", "kind": "stop"}, "title_id"),
        ("event", {"event_id": "e", "title_id": "\ud800", "kind": "stop"}, "title_id"),
        ("feedback", {"event_id": "e", "title_id": "t"}, "opinion"),
        ("similar", {"title_id": "unknown"}, "title_id"),
        ("forget", {}, "everything"),
        ("forget", {"title_id": "t", "everything": True}, "everything"),
        ("profiles.add", {"profile_id": "p", "name": "P", "max_maturity": 99}, "max_maturity"),
        ("profiles.remove", {"profile_id": "household"}, "profile_id"),
        ("catalogue.load", {"source": "s", "path": "relative.xml"}, "path"),
        ("catalogue.remove", {"source": "unknown"}, "source"),
        ("consent.set", {"purpose": "everything", "granted": True}, "purpose"),
        ("consent.set", {"purpose": "learning", "granted": 1}, "granted"),
        ("search", {"text": " "}, "text"),
    ],
)
def test_a_wrong_parameter_is_named(shared_daemon, method, params, field):
    with pytest.raises(RpcError) as caught:
        shared_daemon.client.call(method, **params)
    assert caught.value.code == wire.INVALID_PARAMS
    assert caught.value.data == {"field": field}


def test_an_unknown_method_is_told_which_there_are(shared_daemon):
    with pytest.raises(RpcError, match=r"methods are event, rows") as caught:
        shared_daemon.client.call("reboot")
    assert caught.value.code == wire.METHOD_NOT_FOUND


@pytest.mark.parametrize("path", ["/nonexistent", "/dev/zero", "/"])
def test_a_catalogue_that_is_no_file_is_an_error(shared_daemon, path):
    with pytest.raises(RpcError) as caught:
        shared_daemon.client.call("catalogue.load", source="s", path=path)
    assert caught.value.code == wire.CATALOGUE_ERROR


def test_a_notification_is_not_answered(shared_daemon):
    one, reply = raw(
        shared_daemon,
        [
            b'{"jsonrpc":"2.0","method":"health"}\n',
            b'{"jsonrpc":"2.0","method":"nonsense"}\n',
            b'{"jsonrpc":"2.0","id":"x","method":"health"}\n',
        ],
    )
    assert reply["id"] == "x"
    one.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_another_user_may_see_the_shelf_but_not_the_history(daemon):
    daemon.socket.chmod(0o666)
    daemon.state.parent.chmod(0o755)
    daemon.state.chmod(0o755)
    for parent in daemon.state.parents[1:4]:
        parent.chmod(parent.stat().st_mode | 0o055)
    code = """
import json, os, socket, sys
os.setuid(65534)
one = socket.socket(socket.AF_UNIX); one.connect(sys.argv[1])
for method in ("rows", "health", "export", "forget", "explain", "catalogue.status", "consent.get"):
    one.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method}).encode() + b"\\n")
    reply = json.loads(one.makefile().readline())
    print(method, reply.get("error", {}).get("code"))
try:
    open(os.path.dirname(sys.argv[1]) + "/history.db")
except PermissionError:
    print("history.db refused")
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(daemon.socket)],
        check=False,
        capture_output=True,
        text=True,
    )
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert said["rows"] == said["health"] == "None", done.stderr
    refused = {said[name] for name in said if name not in ("rows", "health", "history.db")}
    assert refused == {str(wire.NOT_ALLOWED)}
    assert said["history.db"] == "refused"


def test_a_kid_sees_nothing_beyond_the_fence_in_any_answer(daemon, tmp_path):
    call = daemon.client.call
    shop = [
        Title(f"adult-{n}", TitleKind.MOVIE, f"Blood {n}", maturity=18, genres=("Horror",))
        for n in range(20)
    ]
    shop += [
        Title(f"unrated-{n}", TitleKind.MOVIE, f"Blood story {n}", genres=("Horror",))
        for n in range(20)
    ]
    shop += [
        Title(f"kids-{n}", TitleKind.MOVIE, f"Bear {n}", maturity=0, genres=("Family",))
        for n in range(20)
    ]
    file = tmp_path / "shop.jsonl"
    file.write_text("".join(write_jsonl(shop)), encoding="utf-8")
    call("catalogue.load", source="shop", path=str(file))
    call("profiles.add", profile_id="kid", name="Kid", max_maturity=6)
    for number in range(4):
        for title_id in (f"adult-{number}", f"kids-{number}"):
            call(
                "event",
                event_id=f"{title_id}",
                title_id=title_id,
                kind="complete",
                profile_id="kid",
            )
    answers = [call("rows", profile_id="kid")]
    wait_until(lambda: daemon.client.call("health")["rows"] >= 1)
    time.sleep(0.5)  # reasons, too, must not name what the fence hides
    answers.append(call("rows", profile_id="kid"))
    answers.append(call("search", profile_id="kid", text="blood horror"))
    answers.append(call("similar", profile_id="kid", title_id="kids-5"))
    answers.append(call("explain", profile_id="kid", title_id="kids-5"))
    said = json.dumps(answers)
    assert "kids-" in said
    assert "adult-" not in said
    assert "unrated-" not in said
    for method in ("similar", "explain", "title"):
        with pytest.raises(RpcError, match="no title"):
            call(method, profile_id="kid", title_id="adult-5")


def test_forget_leaves_no_byte_in_any_file_and_no_trace_in_any_answer(daemon, tmp_path):
    call = daemon.client.call
    secret = Title("secret-id-zq", TitleKind.MOVIE, "Zeppelinesque", genres=("Drama",))
    other = [Title(f"o{n}", TitleKind.MOVIE, f"Other {n}", genres=("Drama",)) for n in range(10)]
    file = tmp_path / "shop.jsonl"
    file.write_text("".join(write_jsonl([secret, *other])), encoding="utf-8")
    call("catalogue.load", source="shop", path=str(file))
    for number in range(5):
        watch(daemon, secret.title_id, "progress", position_s=100.0 * number, duration_s=6000.0)
    watch(daemon, secret.title_id)
    watch(daemon, "o1")
    call("rows")
    file.write_text("".join(write_jsonl(other)), encoding="utf-8")
    call("catalogue.load", source="shop", path=str(file))  # only the history keeps it now
    assert call("title", title_id=secret.title_id)
    assert call("forget", title_id=secret.title_id)["events"] == 6
    raw_bytes = b"".join(one.read_bytes() for one in daemon.state.rglob("*") if one.is_file())
    assert b"secret-id-zq" not in raw_bytes
    assert b"eppelinesque" not in raw_bytes
    said = json.dumps([call("rows"), call("export"), call("search", text="zeppelinesque")])
    assert "secret-id-zq" not in said
    with pytest.raises(RpcError, match="no title"):
        call("title", title_id=secret.title_id)


def test_the_log_names_no_title_and_no_query(daemon, films, load_films):
    load_films(daemon)
    for title_id in some_ids(films, 3):
        watch(daemon, title_id)
    daemon.client.call("search", text="zeppelinesque")
    with pytest.raises(RpcError):
        daemon.client.call("similar", title_id="zeppelinesque")
    daemon.stop()
    log = daemon.logged()
    assert "serving" in log
    assert "zeppelinesque" not in log
    assert not any(title_id in log for title_id in some_ids(films, 3))


def test_export_gives_everything_page_by_page(daemon):
    call = daemon.client.call
    call("consent.set", purpose="learning", granted=True)
    for number in range(23):
        watch(daemon, f"t{number}", "progress", position_s=1.0)
    page, found = call("export", limit=10), []
    while True:
        found += [event["title_id"] for event in page["events"]]
        if page["next"] is None:
            break
        page = call("export", limit=10, after=page["next"])
    assert found == [f"t{number}" for number in range(23)]
    assert page["consent"][0] == {
        "purpose": "learning",
        "granted": True,
        "at": page["consent"][0]["at"],
    }


def test_a_damaged_history_is_reported_and_the_shelf_goes_on(daemon, films, load_films):
    load_films(daemon)
    watch(daemon, some_ids(films, 1)[0])
    daemon.stop()
    (daemon.state / "history.db").write_bytes(b"garbage" * 1000)
    (daemon.state / "cache.db").write_bytes(b"garbage" * 1000)
    daemon.start()
    assert daemon.client.call("health")["history_recovered"] is True
    assert load_films(daemon)["titles"] > 1000
    assert codes(daemon.client.call("rows")) == ["popular"]


def test_the_shelf_answers_while_a_guide_is_loading(daemon, films, load_films, tmp_path):
    load_films(daemon)
    now = time.time()
    guide = [
        Title(
            f"p{n}",
            TitleKind.PROGRAMME,
            f"Programme number {n}",
            genres=("News",),
            channel_id=f"c{n % 50}",
            starts_at=now - 60,
            ends_at=now + 3600,
        )
        for n in range(5000)
    ]
    file = tmp_path / "guide.jsonl"
    file.write_text("".join(write_jsonl(guide)), encoding="utf-8")
    daemon.client.call("rows")
    before, waits, done = daemon.memory(), [], threading.Event()

    def load():
        with daemon.new_client() as client:
            client.call("catalogue.load", source="guide", path=str(file))
        done.set()

    thread = threading.Thread(target=load)
    thread.start()
    while not done.is_set():
        started = time.monotonic()
        daemon.client.call("rows")
        waits.append(time.monotonic() - started)
    thread.join()
    assert len(waits) > 5
    assert sorted(waits)[len(waits) // 2] < 0.2
    assert cards(daemon.client.call("rows"), "live_now")
    assert daemon.memory()["rss_bytes"] - before["rss_bytes"] < 12 * MB


def test_a_stop_during_a_load_leaves_the_old_titles(daemon, films, load_films, tmp_path):
    load_films(daemon)
    many = (Title(f"x{n}", TitleKind.MOVIE, f"Something {n}") for n in range(30_000))
    file = tmp_path / "many.jsonl"
    file.write_text("".join(write_jsonl(many)), encoding="utf-8")

    def load():
        with Client(daemon.socket) as client, pytest.raises(UnreachableError):
            client.call("catalogue.load", source="films", path=str(file))

    thread = threading.Thread(target=load)
    thread.start()
    time.sleep(0.7)
    started = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - started < 2.0
    thread.join()
    daemon.start()
    assert daemon.client.call("catalogue.status")["sources"]["films"] < 5000


def test_a_new_bundle_is_taken_at_the_next_start_and_committed(
    start_daemon, bundles, tmp_path, films
):
    own = Slots(tmp_path / "own")
    own.activate(own.place(bundles / "litert-int8"))
    daemon = start_daemon(slots=own.root)
    call = daemon.client.call
    call("catalogue.load", source="films", path=str(films))
    daemon.stop()
    own.activate(own.place(bundles / "litert-float"))
    daemon.start()
    status = call("bundle.status")
    assert (status["slot"], status["flavour"], status["trial_left"]) == (
        "current",
        "litert-float",
        3,
    )
    wait_until(lambda: codes(call("rows")) == ["popular"])  # titles were fitted to it beside
    for _ in range(3):
        call("rows")
    assert call("bundle.status")["trial_left"] == 0


@pytest.fixture
def own_slots(bundles, tmp_path):
    """A folder with two placed Bundles, the first of which is current."""
    own = Slots(tmp_path / "own")
    first = own.place(bundles / "litert-int8")
    second = own.place(bundles / "litert-float")
    shutil.copytree(second.path, tmp_path / "kept")  # activating deletes what no slot leads to
    own.activate(first)
    return own


def test_a_running_daemon_ends_for_a_new_bundle_and_the_next_start_takes_it(
    start_daemon, own_slots, tmp_path, films
):
    daemon = start_daemon(slots=own_slots.root)
    daemon.client.call("catalogue.load", source="films", path=str(films))
    watch(daemon, some_ids(films, 1)[0])
    new = own_slots.place(tmp_path / "kept")
    began = time.monotonic()
    own_slots.activate(new)
    assert daemon.process.wait(10) == RENEW
    assert time.monotonic() - began < TICK_S / 3, "the kernel said so, no tick did"
    assert f"Bundle {new.bundle_id[:12]} is current now" in daemon.logged()
    daemon.start()
    status = daemon.client.call("bundle.status")
    assert (status["flavour"], status["slot"], status["skipped"]) == (
        "litert-float",
        "current",
        {},
    )
    assert len(daemon.client.call("export")["events"]) == 1


def test_a_new_bundle_is_noticed_where_the_kernel_tells_nothing(start_daemon, own_slots, tmp_path):
    """A watchdog's tick is as short as we like; the renames happen out of dnotify's sight."""
    daemon = start_daemon(slots=own_slots.root, environment={"WATCHDOG_USEC": "1000000"})
    unseen = tmp_path / "unseen"
    shutil.copytree(own_slots.root, unseen, symlinks=True)
    own_slots.root.rename(tmp_path / "gone")
    unseen.rename(own_slots.root)
    folder = own_slots.place(tmp_path / "kept").path
    assert daemon.process.poll() is None
    own_slots.switch(folder.name)
    assert daemon.process.wait(10) == RENEW


def test_a_condemned_bundle_that_becomes_current_ends_no_daemon(start_daemon, own_slots, tmp_path):
    new = own_slots.place(tmp_path / "kept")
    (tmp_path / "state").mkdir()
    Verdicts(tmp_path / "state" / "verdicts.json").condemn(new.bundle_id, "it was no good")
    daemon = start_daemon(slots=own_slots.root, environment={"WATCHDOG_USEC": "200000"})
    own_slots.activate(new)
    time.sleep(1.0)
    assert daemon.process.poll() is None
    assert daemon.client.call("bundle.status")["flavour"] == "litert-int8"
    assert daemon.stop() == 0


def test_a_current_bundle_that_was_passed_over_at_the_start_is_no_news(start_daemon, own_slots):
    """Else the daemon would end and start for ever."""
    previous = own_slots.path(Slot.CURRENT)
    broken = own_slots.root / "broken"
    shutil.copytree(previous, broken)
    (broken / "manifest.json").write_text("{}", encoding="utf-8")
    own_slots.switch("broken")
    daemon = start_daemon(slots=own_slots.root, environment={"WATCHDOG_USEC": "200000"})
    assert daemon.client.call("bundle.status")["slot"] == "previous"
    time.sleep(1.0)
    assert daemon.process.poll() is None


def test_a_damaged_bundle_makes_way_for_the_one_before(start_daemon, bundles, tmp_path):
    own = Slots(tmp_path / "own")
    for flavour in ("litert-int8", "litert-float"):
        own.activate(own.place(bundles / flavour))
    victim = next(own.path(Slot.CURRENT).glob("*.tflite"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    status = start_daemon(slots=own.root).client.call("bundle.status")
    assert status["slot"] == "previous"
    assert "SHA-256" in status["skipped"]["current"]


def test_a_bundle_that_hangs_while_loading_is_ended_and_passed_over(
    start_daemon, bundles, tmp_path
):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    own = Slots(tmp_path / "own")
    for flavour in ("litert-int8", "litert-float"):
        own.activate(own.place(bundles / flavour))
    # The second opening of a model's file (the first checks its hash) takes three seconds.
    model = str(next(own.path(Slot.CURRENT).glob("user_model*")))
    delay = ["-e", "trace=openat", "-e", "inject=openat:delay_enter=3000000:when=2"]
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", model, *delay]
    hangs = DaemonProcess(
        tmp_path / "state", own.root, wrapper=strace, settings="[model]\nload_limit_s = 0.5\n"
    )
    hangs.start()
    assert hangs.process.wait(30) == 1
    status = start_daemon(slots=own.root).client.call("bundle.status")
    assert status["slot"] == "previous"
    assert "it hung: loading" in status["skipped"]["current"]


def test_a_bundle_that_was_killed_while_loading_gets_a_second_chance(start_daemon, slots, tmp_path):
    (tmp_path / "state").mkdir()
    record = {
        "bundle_id": Slots(slots).path(Slot.CURRENT).name,
        "boot_id": boot_id(Path("/proc")),
        "what": "loading",
    }
    (tmp_path / "state" / "in-flight").write_text(json.dumps(record), encoding="utf-8")
    daemon = start_daemon()
    assert daemon.client.call("bundle.status")["slot"] == "current"


def test_install_and_check_say_what_they_did(bundles, tmp_path):
    command = [sys.executable, "-m", "couchside.device.daemon", "--state", str(tmp_path)]

    def run(*arguments):
        return subprocess.run(
            [*command, *arguments], check=False, capture_output=True, text=True, timeout=60
        )

    good = str(bundles / "litert-int8")
    assert "good" in run("check", good).stdout
    assert "is current" in run("install", good).stdout
    assert run("check").returncode == 0
    missing = run("install", str(tmp_path / "nothing"))
    assert missing.returncode == 1
    assert "manifest.json" in missing.stderr
    assert run("--config", str(tmp_path / "none.toml")).returncode == 2


def test_without_any_bundle_it_says_what_to_do(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "couchside.device.daemon",
            "--state",
            str(tmp_path),
            "--socket",
            str(tmp_path / "s"),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "couchside-device install" in done.stderr


def test_events_of_1970_do_not_disturb_the_order(daemon, films, load_films):
    load_films(daemon)
    first, second = some_ids(films, 2)
    watch(daemon, first, "stop", at=1.79e9, position_s=1000.0, duration_s=6000.0)
    watch(daemon, second, "stop", at=12.0, position_s=1000.0, duration_s=6000.0)
    shown = cards(daemon.client.call("rows"), "continue_watching")
    assert [card["title_id"] for card in shown] == [second, first]
