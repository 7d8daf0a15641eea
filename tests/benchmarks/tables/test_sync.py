"""Delivery and sums through real processes: bytes that add up, nothing lost, others computed."""

import pytest

from couchside.benchmarks.tables.bench import Bench
from couchside.benchmarks.tables.sync import summing, table, wire
from couchside.device.bundle import open_bundle


@pytest.fixture(scope="module")
def bundle(bundles):
    return open_bundle(bundles / "litert-int8")


@pytest.mark.timeout(120)
def test_second_release_costs_only_its_manifest(bundle):
    found = wire.deliver(bundle)
    assert found["first"]["blocks"] > found["next"]["blocks"] > 0
    assert found["first"]["in"] > 5 * found["next"]["in"]
    assert found["head"] < found["next"]["in"]


@pytest.mark.timeout(120)
def test_kill_half_way_costs_at_most_the_block_under_way(bundle):
    first = wire.deliver(bundle)["first"]["blocks"]
    kill = wire.killed(bundle)
    assert kill["held"] >= first // 2
    assert table._again(kill, {"first": {"blocks": first}}) == 1


def test_other_ways_are_computed_from_the_same_files(bundle):
    ways = wire.other_ways(bundle)
    size = sum(file.stat().st_size for file in bundle.path.iterdir())
    assert ways["plain"]["in"] == size
    assert ways["archive"]["in"] < size
    assert ways["asked"]["in"] > 4 / 3 * size


@pytest.mark.timeout(120)
def test_crowd_gets_a_receipt_each_and_costs_are_counted(bundle):
    found = summing.gather(bundle, 12)
    assert found["frame"] <= 48_000
    assert found["cpu"].keys() == {"aggregator", "helper"}
    assert 20 < found["grown"]["aggregator"] < 200


def test_fold_takes_time():
    assert summing.fold_ms(1000) > 0


def test_flower_that_is_left_out_is_a_reason(bundles, tmp_path):
    bench = Bench("quick", bundles, tmp_path, "test", peers=False)
    section = table._fold_section({"values": 9}, [0.1], table._flower(bench, 9))
    assert section.rows[1].cells[0].text == "left out by --without-peers"
