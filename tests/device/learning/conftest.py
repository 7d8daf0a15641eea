"""A Bundle that trusts a cloud of the test's own, and TVs with it."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from simulators.daemon import running_daemon
from simulators.rounds import LAB, Trust

from couchside.device.learning.spool import Spool
from couchside.device.slots import Slots


@pytest.fixture(scope="session")
def trust(tiny_bundle, tmp_path_factory):
    return Trust(tiny_bundle, tmp_path_factory.mktemp("trust") / "bundle")


@pytest.fixture(scope="session")
def trusting_slots(trust, tmp_path_factory):
    slots = Slots(tmp_path_factory.mktemp("trusting"))
    slots.activate(slots.place(trust.bundle.path))
    return slots.root


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "updates", tmp_path / "rounds")


@pytest.fixture
def start_tv(tmp_path, trusting_slots, spool):
    """Starts TVs of a lab, which let a Round of two be unmasked."""
    spool.rounds.mkdir()
    with ExitStack() as stack:

        def start(settings=LAB):
            paths = f'[paths]\nupdates = "{spool.updates}"\nrounds = "{spool.rounds}"\n'
            return stack.enter_context(
                running_daemon(tmp_path, trusting_slots, settings=paths + settings)
            )

        yield start


@pytest.fixture
def tv(start_tv, load_films):
    daemon = start_tv()
    load_films(daemon)
    return daemon
