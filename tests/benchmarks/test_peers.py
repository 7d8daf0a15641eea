"""Contenders take turns, give the same answers, and are compared by CPU time within a round."""

import pytest

from couchside.benchmarks.promises.peers import contest, run_contests
from couchside.device.bundle import open_bundle


class Processor:
    """A clock that each contender moves by the nanoseconds it needs."""

    def __init__(self):
        self.now = 0
        self.order = []

    def contender(self, name, *needs):
        """Uses ``needs`` in turn, the last for ever."""
        left = list(needs)

        def run():
            self.order.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_ratio_says_how_much_less_it_needs_than_the_peer():
    cpu = Processor()
    runs = {"peer": cpu.contender("peer", 30_000_000), "ours": cpu.contender("ours", 10_000_000)}
    peer, ours = contest("work", runs, rounds=3, clock=lambda: cpu.now)
    assert (peer.ratio, peer.cpu_ms) == (1.0, 30.0)
    assert ours.peer == "peer"
    assert ours.cpu_ms == 10.0
    assert (ours.ratio_low, ours.ratio, ours.ratio_high) == (3.0, 3.0, 3.0)


def test_slow_round_widens_the_range_and_not_the_median():
    cpu = Processor()
    runs = {
        "peer": cpu.contender("peer", 40_000_000),
        "ours": cpu.contender("ours", 1, 80_000_000, 40_000_000),  # the first is the warm-up
    }
    _, ours = contest("work", runs, rounds=3, clock=lambda: cpu.now)
    assert (ours.ratio_low, ours.ratio, ours.ratio_high) == (0.5, 1.0, 1.0)


def test_contenders_take_turns():
    cpu = Processor()
    runs = {name: cpu.contender(name, 30_000_000) for name in ("a", "b")}
    list(contest("work", runs, rounds=2, clock=lambda: cpu.now))
    assert cpu.order == ["a", "b"] * 3


@pytest.mark.timeout(120)
def test_runtimes_numpy_and_torch_agree_with_the_bundles(bundles):
    opened = {path.name: open_bundle(path) for path in sorted(bundles.iterdir())}
    results = list(run_contests(opened))  # raises where two answers differ
    peers = {result.work: result.peer for result in results}
    assert peers["best 100 of 100,000 scores"] == "numpy argpartition"
    assert peers["user_model"] == "onnxruntime, float32"
    assert peers["training_step"] == "torch, eager"
    contenders = {result.contender for result in results if result.work == "training_step"}
    assert contenders == {"torch, eager", "onnxruntime, float32", "litert, float32"}
    assert all(0 < r.ratio_low <= r.ratio <= r.ratio_high for r in results)
