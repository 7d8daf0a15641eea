"""The daemon's table: what the kernel counts, clients of other protocols, and a small real run."""

import socket
import subprocess
import sys
import threading
import time

import pytest

from couchside.benchmarks.errors import InvalidRunError
from couchside.benchmarks.promises.daemon_run import Stock, make_stock
from couchside.benchmarks.tables.bench import open_bundles
from couchside.benchmarks.tables.daemon import day, kernel
from couchside.benchmarks.tables.daemon.day import ECHO, STACK, Contender, Effort, run_once
from couchside.benchmarks.tables.daemon.servers import Echo, HttpClient
from couchside.benchmarks.tables.daemon.table import COLUMNS, COMPARED, found_name, sections
from couchside.device.errors import RpcError, UnreachableError

OURS = found_name("litert-int8")


@pytest.fixture(scope="module")
def once(bundles):
    """Our daemon and the echo, for real, without the stack."""
    opened = open_bundles(bundles)
    stock = make_stock(5000, now=time.time())
    guide = "<programme ".join(stock.guide.split("<programme ")[:61]) + "</tv>"
    stock = Stock(stock.films[:300], guide)
    return run_once(opened, ["litert-int8"], stock, None, Effort(rows=40, idle_s=0.2))


def server_of(value, **changes):
    """A server for which everything measured is ``value``."""
    one = {name: [value] * 1000 for name in ("wall_ms", "cpu_ms", "quiet_cpu_ms", "event_ms")}
    one |= dict.fromkeys(("start_s", "wake_ups", "cards", "rows"), value)
    one |= dict.fromkeys(("rss_bytes", "anonymous_bytes"), 1e6 * value)
    return one | {"dirtied": 1000 * value, "asked": 1000 * value, "missed": 0} | changes


def test_kernel_counts_writes_and_sleeps(tmp_path):
    process = tmp_path / "7"
    for task, count in (("7", 5), ("8", 9)):
        (process / "task" / task).mkdir(parents=True)
        status = f"Name:\tpython\nvoluntary_ctxt_switches:\t{count}\n"
        (process / "task" / task / "status").write_text(status)
    (process / "task" / "9").mkdir()  # a thread that has just ended
    (process / "io").write_text("rchar: 1\nwchar: 700\nwrite_bytes: 4096\n")
    assert kernel.wake_ups(7, tmp_path) == 14
    assert kernel.written(7, tmp_path) == kernel.Written(700, 4096)
    assert kernel.Written(700, 4096) - kernel.Written(200, 0) == kernel.Written(500, 4096)
    with pytest.raises(FileNotFoundError):
        kernel.written(8, tmp_path)


def test_kernel_counts_a_sleeper():
    code = "import time\nfor _ in range(20): time.sleep(.01)\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        deadline = time.monotonic() + 20
        while kernel.wake_ups(child.pid) < 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert kernel.wake_ups(child.pid) >= 20
        child.communicate(b"\n")


def answer_once(path, reply):
    """A server that gives one reply to whatever it is asked."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve():
        connection, _ = server.accept()
        with server, connection:
            asked.append(connection.recv(65536))
            connection.sendall(reply)

    asked = []
    thread = threading.Thread(target=serve)
    thread.start()
    return thread, asked


def test_http_client_reads_one_reply(tmp_path):
    path = tmp_path / "s"
    thread, asked = answer_once(
        path, b'HTTP/1.1 200 OK\r\ncontent-type: x\r\nContent-Length: 11\r\n\r\n{"rows": 7}'
    )
    with HttpClient(path) as client:
        assert client.call("rows", cards=3) == {"rows": 7}
    thread.join()
    head, _, body = asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /rows HTTP/1.1\r\n")
    assert b"Content-Length: 12" in head
    assert body == b'{"cards": 3}'


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"HTTP/1.1 422 No\r\nContent-Length: 3\r\n\r\nbad", RpcError),
        (b"", UnreachableError),
    ],
)
def test_http_client_tells_what_went_wrong(tmp_path, reply, error):
    thread, _ = answer_once(tmp_path / "s", reply)
    with HttpClient(tmp_path / "s") as client, pytest.raises(error):
        client.call("rows")
    thread.join()


def test_nobody_there_is_unreachable(tmp_path):
    with pytest.raises(UnreachableError):
        HttpClient(tmp_path / "s").call("rows")


def test_echo_gives_back_what_it_got(tmp_path):
    with Echo(tmp_path) as echo:
        assert echo.start() > 0
        echo.client.payload = b'{"rows": [1, 2]}'
        assert echo.client.call("anything") == {"rows": [1, 2]}
        echo.stop()
        assert echo.start() > 0  # its old socket is not in the way


def test_run_measures_our_daemon_and_the_floor(once):
    ours, echo = once[OURS], once[ECHO]
    assert once["shared"] is None
    assert len(ours["wall_ms"]) == len(ours["cpu_ms"]) == len(echo["wall_ms"]) == 40
    assert len(ours["quiet_cpu_ms"]) == 20
    assert ours["missed"] == 0
    assert ours["cards"] > 25
    assert ours["events"] > 100
    assert ours["asked"] > 100  # an event has that many bytes
    assert ours["start_s"] > echo["start_s"] > 0
    assert ours["rss_bytes"] > echo["rss_bytes"]
    assert ours["wake_ups"] >= 0


def test_table_of_a_run_without_the_stack_says_why(once):
    (section,) = sections([once], "left out by --without-peers")
    rows = {row.name: row for row in section.rows}
    assert rows[STACK].cells[0].text == "left out by --without-peers"
    assert rows[OURS].ours
    assert rows[OURS].cells[2].text == "too few calls"
    assert not rows[ECHO].ours


def test_ratios_are_of_one_run_each():
    runs = [
        {OURS: server_of(ours), STACK: server_of(theirs), "shared": 0.9}
        for ours, theirs in ((1.0, 2.0), (3.0, 3.0), (1.0, 4.0))
    ]
    table, ratios = sections(runs)
    assert "90 %" in table.text
    (row,) = ratios.rows
    assert [column.name for column in ratios.columns] == [column.name for column in COMPARED]
    for cell in row.cells:
        assert (cell.value, cell.low, cell.high) == (0.5, 0.25, 1.0)
    resident = [column.name for column in COLUMNS].index("resident")
    assert table.rows[1].cells[resident].value == 3.0


def test_what_was_not_counted_is_no_number():
    one = server_of(1.0, dirtied=0)
    del one["wake_ups"]
    (section, _) = sections([{OURS: one, STACK: server_of(2.0), "shared": 1.0}])
    names = [column.name for column in COLUMNS]
    assert section.rows[0].cells[names.index("flash an event")].value is None
    assert section.rows[0].cells[names.index("wake-ups, idle")].value is None


class Shown:
    """A TV whose shelf has one row for you."""

    def __init__(self, titles):
        cards = [{"title_id": title} for title in titles]
        self.client = self
        self.shelf = {"rows": [{"code": "for_you", "cards": cards}]}

    def call(self, _):
        return self.shelf


@pytest.mark.parametrize(("theirs", "same"), [("abcde", 1.0), ("abcdx", 0.8), ("axyzw", None)])
def test_stack_must_answer_the_same_question(theirs, same):
    contenders = {
        OURS: Contender(Shown("abcde"), ours=True),
        STACK: Contender(Shown(theirs), ours=False),
    }
    if same is None:
        with pytest.raises(InvalidRunError, match="20%"):
            day._first_shelves(contenders)
    else:
        assert day._first_shelves(contenders) == same
