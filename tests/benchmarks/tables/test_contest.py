"""Contenders take turns and are compared by CPU time within a round."""

from couchside.benchmarks.tables.contest import contest


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
    peer, ours = contest(runs, rounds=3, clock=lambda: cpu.now)
    assert (peer.ratio, peer.cpu_ms) == (1.0, 30.0)
    assert ours.cpu_ms == 10.0
    assert (ours.ratio_low, ours.ratio, ours.ratio_high) == (3.0, 3.0, 3.0)


def test_slow_round_widens_the_range_and_not_the_median():
    cpu = Processor()
    runs = {
        "peer": cpu.contender("peer", 40_000_000),
        "ours": cpu.contender("ours", 1, 80_000_000, 40_000_000),  # the first is the warm-up
    }
    _, ours = contest(runs, rounds=3, clock=lambda: cpu.now)
    assert (ours.ratio_low, ours.ratio, ours.ratio_high) == (0.5, 1.0, 1.0)


def test_one_disturbed_round_of_many_is_no_interval():
    cpu = Processor()
    runs = {
        "peer": cpu.contender("peer", 40_000_000),
        "ours": cpu.contender("ours", 1, 80_000_000, 40_000_000),
    }
    _, ours = contest(runs, rounds=9, clock=lambda: cpu.now)
    assert (ours.ratio_low, ours.ratio, ours.ratio_high) == (1.0, 1.0, 1.0)


def test_contenders_take_turns():
    cpu = Processor()
    runs = {name: cpu.contender(name, 30_000_000) for name in ("a", "b")}
    list(contest(runs, rounds=2, clock=lambda: cpu.now))
    assert cpu.order == ["a", "b"] * 3


def test_what_goes_before_a_call_costs_nobody_time():
    cpu = Processor()

    def empty_caches():
        cpu.now += 5_000_000

    runs = {"peer": cpu.contender("peer", 10_000_000)}
    (peer,) = contest(runs, rounds=3, before=empty_caches, clock=lambda: cpu.now)
    assert peer.cpu_ms == 10.0
