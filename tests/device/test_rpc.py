"""The wire and the server: strict, bounded in memory, and no client can block another."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
import time
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from couchside.device import strict
from couchside.device.errors import ConfigError, RequestError, RpcError, UnreachableError
from couchside.device.rpc import Client, methods, wire
from couchside.device.rpc.server import Server


def lines_from(*chunks, limit=100):
    """What ``Lines`` makes of bytes that arrive in these chunks."""
    ours, theirs = socket.socketpair()

    def send():
        for chunk in chunks:
            theirs.sendall(chunk)
        theirs.close()

    sender = threading.Thread(target=send)
    sender.start()
    lines, found = wire.Lines(ours, limit), []
    while True:
        try:
            line = lines.next()
        except wire.LineTooLongError:
            found.append("too long")
            continue
        if line is None:
            break
        found.append(line)
    sender.join()
    ours.close()
    return found


@settings(max_examples=100, deadline=None)
@given(
    sent=st.lists(st.binary(max_size=150).map(lambda b: b.replace(b"\n", b"")), max_size=8),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=30),
)
def test_lines_are_the_same_however_they_are_cut(sent, cuts):
    whole = b"".join(line + b"\n" for line in sent)
    chunks, start = [], 0
    for cut in cuts:
        chunks.append(whole[start : start + cut])
        start += cut
    chunks.append(whole[start:])
    expected = [line if len(line) <= 100 else "too long" for line in sent]
    assert lines_from(*chunks) == expected


def test_a_line_cut_off_by_the_end_is_not_a_line():
    assert lines_from(b"one\ntwo") == [b"one"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"", wire.PARSE_ERROR),
        (b"{", wire.PARSE_ERROR),
        (b"\xff\xfe", wire.PARSE_ERROR),
        (b'{"jsonrpc":"2.0","method":"rows","id":NaN}', wire.PARSE_ERROR),
        (b'{"jsonrpc":"2.0","method":"rows","method":"forget","id":1}', wire.PARSE_ERROR),
        (b"[" * 50_000, wire.PARSE_ERROR),
        (b'{"id":' + b"9" * 10_000 + b"}", wire.PARSE_ERROR),
        (b"[]", wire.INVALID_REQUEST),
        (b'[{"jsonrpc":"2.0","method":"rows","id":1}]', wire.INVALID_REQUEST),
        (b"3", wire.INVALID_REQUEST),
        (b'{"method":"rows","id":1}', wire.INVALID_REQUEST),
        (b'{"jsonrpc":"1.0","method":"rows","id":1}', wire.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","method":3,"id":1}', wire.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","method":"rows","id":true}', wire.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","method":"rows","id":{}}', wire.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","method":"rows","params":[],"id":1}', wire.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","method":"rows","id":1,"extra":1}', wire.INVALID_REQUEST),
    ],
)
def test_what_is_not_a_request_is_refused(line, code):
    with pytest.raises(RpcError) as caught:
        wire.parse_request(line)
    assert caught.value.code == code


@settings(max_examples=300, deadline=None)
@given(line=st.binary(max_size=200))
def test_no_bytes_break_the_parser(line):
    with suppress(RpcError):
        wire.parse_request(line)


@given(text=st.text())
def test_every_error_can_be_told(text):
    told = json.loads(wire.failure("id", RpcError(wire.PARSE_ERROR, text)))
    assert told["error"]["code"] == wire.PARSE_ERROR


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(sorted(methods.METHODS)), data=st.data())
def test_no_params_break_a_method_before_it_is_called(name, data):
    kind = methods.METHODS[name].params
    fields = st.sampled_from([*kind.__dataclass_fields__, "surprise"])
    params = data.draw(st.dictionaries(fields, json_values, max_size=4))
    with suppress(strict.StrictError, RequestError):
        strict.from_json(kind, params)


@contextmanager
def serving(path, handle, **options):
    server = Server(path, handle, **{"connections": 4, "send_s": 0.5, **options})
    server.start()
    try:
        yield server
    finally:
        server.stop()


def echo(line, peer):
    request = json.loads(line)
    return (
        json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": request["params"]}).encode()
        + b"\n"
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s"


@contextmanager
def connected(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.settimeout(5.0)
        one.connect(str(path))
        yield one


def ask(one, number=1):
    one.sendall(json.dumps({"id": number, "params": {"n": number}}).encode() + b"\n")
    return json.loads(one.recv(4096))


def test_the_socket_is_for_its_owner_and_group_only(path):
    with serving(path, echo):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()


def test_the_handler_hears_who_is_calling(path):
    peers = []

    def remember(line, peer):
        peers.append(peer)
        return echo(line, peer)

    with serving(path, remember), connected(path) as one:
        ask(one)
    assert peers[0].uid == os.getuid()
    assert peers[0].pid == os.getpid()


def test_a_client_that_says_half_a_line_blocks_nobody(path):
    with serving(path, echo), connected(path) as slow, connected(path) as other:
        slow.sendall(b'{"half": ')
        assert ask(other)["result"] == {"n": 1}


def test_a_client_that_never_reads_is_cut_off(path):
    huge = b"x" * 4_000_000 + b"\n"
    with serving(path, lambda *_: huge, send_s=0.3) as server, connected(path) as deaf:
        deaf.sendall(b"{}\n")
        deadline = time.monotonic() + 5.0
        while server.connections and time.monotonic() < deadline:
            time.sleep(0.05)
        assert server.connections == 0


def test_one_connection_too_many_takes_the_place_of_the_longest_silent(path):
    with serving(path, echo, connections=2), connected(path) as first, connected(path) as second:
        ask(first)
        ask(second)
        with connected(path) as third:
            assert ask(third)["result"] == {"n": 1}
            assert ask(second)["result"] == {"n": 1}
            assert first.recv(10) == b"", "the longest silent is hung up on"


def test_when_everybody_is_working_a_new_client_is_told_so(path):
    proceed = threading.Event()

    def slow(line, peer):
        assert proceed.wait(5.0)
        return echo(line, peer)

    with serving(path, slow, connections=1), connected(path) as first:
        first.sendall(b'{"id": 1, "params": {}}\n')
        time.sleep(0.2)
        with connected(path) as second:
            assert json.loads(second.recv(4096))["error"]["code"] == wire.BUSY
        proceed.set()
        assert json.loads(first.recv(4096))["result"] == {}


def test_a_stale_socket_is_replaced(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    with serving(path, echo), connected(path) as one:
        assert ask(one)["result"] == {"n": 1}


def test_a_living_daemons_socket_is_respected(path):
    with serving(path, echo), pytest.raises(ConfigError, match="another daemon"):
        Server(path, echo, connections=1, send_s=1.0)


def test_a_file_in_the_sockets_place_is_respected(path):
    path.write_text("precious", encoding="utf-8")
    with pytest.raises(ConfigError, match="not a socket"):
        Server(path, echo, connections=1, send_s=1.0)
    assert path.read_text(encoding="utf-8") == "precious"


def test_a_path_too_long_for_a_socket_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="shorten it"):
        Server(tmp_path / ("x" * 200), echo, connections=1, send_s=1.0)


def test_the_client_reconnects_to_a_restarted_daemon(path):
    with Client(path, patience_s=5.0) as client:
        with serving(path, echo):
            assert client.call("m", n=1) == {"n": 1}
        with serving(path, echo):
            assert client.call("m", n=2) == {"n": 2}


def test_the_client_says_when_no_daemon_is_there(path):
    with pytest.raises(UnreachableError, match="is couchside-device running"):
        Client(path).call("rows")


def test_the_client_gives_up_on_a_daemon_that_does_not_answer(path):
    silent = threading.Event()
    with serving(path, lambda *_: silent.wait(3.0) and None):
        with pytest.raises(UnreachableError, match="no reply"):
            Client(path, timeout_s=0.2).call("rows")
        silent.set()
