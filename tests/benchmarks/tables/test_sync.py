"""Delivery and sums through real processes: bytes that add up, nothing lost, others computed."""

import hashlib
import socket
import threading

import numpy as np
import pytest

from couchside.benchmarks.errors import InvalidRunError
from couchside.benchmarks.tables.bench import Bench
from couchside.benchmarks.tables.sync import crossing, sections, streams, summing, table, wire
from couchside.benchmarks.tables.sync.link import Link
from couchside.benchmarks.tables.sync.unmasking import unmask
from couchside.cloud_sync.address import BrokerAddress
from couchside.device.bundle import open_bundle
from couchside.device.learning.spool import FRAME_BYTES


@pytest.fixture(scope="module")
def bundle(bundles):
    return open_bundle(bundles / "litert-int8")


@pytest.fixture
def echo():
    """A server that says everything again, once."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(1000):
                connection.sendall(data)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield BrokerAddress("127.0.0.1", listener.getsockname()[1])
    listener.close()
    thread.join(5)


def test_link_carries_and_counts(echo):
    with Link(echo, delay_s=0.01) as link:
        with socket.create_connection((link.address.host, link.address.port), 5) as tv:
            tv.sendall(b"x" * 5000)
            back = b""
            while len(back) < 5000:
                back += tv.recv(5000)
        assert back == b"x" * 5000
        assert (link.sent, link.received) == (5000, 5000)


@pytest.mark.timeout(120)
def test_later_releases_cost_what_is_new(bundle):
    found = crossing.releases({bundle.flavour: bundle}, bundle.flavour, 1.0)
    first = found["first"][bundle.flavour]
    assert first["received"] > len(crossing.carried(bundle))
    assert first["blocks"] > found["popularity"]["blocks"] >= found["manifest"]["blocks"] > 0
    assert first["received"] > 5 * found["manifest"]["received"]
    assert 0 < found["quiet"]["received"] < found["manifest"]["received"]


@pytest.mark.timeout(120)
def test_kill_half_way_costs_at_most_the_block_under_way(bundle):
    kill = crossing.killed(bundle)
    assert kill["held"] >= kill["blocks"] // 2
    assert kill["again"] == 0
    assert sections.blocks_again(kill, 0) < 1.5


@pytest.mark.parametrize("form", crossing.FORMS)
def test_stream_brings_the_file_and_costs_more_than_it(bundle, form):
    size = len(crossing.carried(bundle))
    found = crossing.stream(bundle, form)
    assert found["received"] > size * (4 / 3 if form == "json" else 1)
    assert found["requests"] == -(-found["blocks"] // streams.A_REQUEST)


def test_stream_goes_on_where_it_was_killed(bundle):
    found = crossing.stream_killed(bundle, "cbor")
    again = found["received"] - found["undisturbed"]
    assert 0 <= again < (streams.A_REQUEST + 0.5) * streams.BLOCK_BYTES["cbor"]


def test_block_messages_are_read_as_written():
    for form in crossing.FORMS:
        for number, payload in ((0, b""), (23, b"a"), (70_000, bytes(range(256)) * 3)):
            answer = {"f": 0, "l": len(payload), "i": number, "p": payload}
            message = streams.written(answer, form)
            assert streams.read(message, form) == (number, payload)
    # RFC 8949, appendix A: {"a": …} is a1 61 61 …, a string of four bytes 44 …
    short = streams.written({"f": 0, "l": 4, "i": 1000, "p": b"\1\2\3\4"}, "cbor")
    assert short.hex() == "a4616600616c0461691903e861704401020304"


def test_other_popularity_is_a_good_bundle_and_changes_nothing_else(bundle, tmp_path):
    other = open_bundle(crossing.with_other_popularity(bundle, tmp_path / "other"))
    assert not np.array_equal(other.tensor("popularity"), bundle.tensor("popularity"))
    assert np.array_equal(other.tensor("projection"), bundle.tensor("projection"))
    digests = [
        {name: hashlib.sha256(raw).digest() for name, raw in crossing.contents(each).items()}
        for each in (bundle, other)
    ]
    changed = {name for name in digests[0] if digests[0][name] != digests[1][name]}
    assert changed == {"items.bin", "manifest.json"}


def test_round_changes_less_than_the_whole_bundle(bundle):
    after = crossing.after_round(bundle)
    theta = bundle.manifest.files["theta.bin"].bytes
    assert theta / 2 < after["bytes"] < len(crossing.carried(bundle))


def test_other_ways_are_computed_from_the_same_files(bundle):
    ways = wire.other_ways(bundle)
    assert ways["plain"] == sum(file.stat().st_size for file in bundle.path.iterdir())
    assert ways["archive"] < ways["plain"]


@pytest.mark.timeout(120)
def test_crowd_gets_a_receipt_each_and_costs_are_counted(bundle):
    found = summing.gather(bundle, 12)
    assert found["lost"] == 0
    assert found["projection"] <= found["frame"] <= FRAME_BYTES
    assert found["sent"] > 12 * found["frame"]
    assert found["cpu"].keys() == {"aggregator", "helper", "broker"}
    assert min(found["cpu"].values()) > 0
    assert 20 < found["grown"]["aggregator"] < 200


def test_helper_alone_unmasks(bundle, tmp_path):
    found = unmask(bundle, 12, tmp_path)
    assert found["ms"] > 0
    assert 0 < found["before"] <= found["peak"]


def test_helper_alone_refuses_too_few(bundle, tmp_path):
    with pytest.raises(InvalidRunError, match="unmasks from 13"):
        unmask(bundle, 12, tmp_path, least=13)


def test_blocks_again_leave_the_greeting_out():
    kill = {"received": 1_061_440 + 500, "undisturbed": 1_000_000}
    assert sections.blocks_again(kill, 500) == 1.0
    assert sections.blocks_again({**kill, "received": 1_000_100}, 500) == 0.0
    assert sections.whole_blocks({**kill, "received": 1_061_440 + 550}, 500) == 1.0
    assert sections.whole_blocks({**kill, "received": 1_005_000}, 500) == 1.0
    assert sections.whole_blocks({**kill, "received": 1_000_100}, 500) == 0.0


def test_distance_is_what_is_longer():
    section = sections.far_away({"window 1": [7.0, 11.0], "cbor": [0.5, 2.75]})
    assert [(row.cells[0].value, row.ours) for row in section.rows] == [(4.0, True), (2.25, False)]


def test_fold_takes_time():
    assert summing.fold_ms(1000) > 0


def test_peers_that_are_left_out_are_a_reason(bundle, bundles, tmp_path):
    bench = Bench("quick", bundles, tmp_path, "test", peers=False)
    turns = table._turns(bench, 9)
    section = sections.sums_alone(9, {"fold": turns["ours"], "both": [0.1]}, turns["flower"])
    assert section.rows[-1].cells[0].text == "left out by --without-peers"
    assert wire.differences(bench, bundle) == {"missing": "left out by --without-peers"}
