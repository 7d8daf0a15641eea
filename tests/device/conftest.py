"""What tests of the TV share: an opened Bundle, installed slots, a daemon that runs."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from simulators.daemon import running_daemon

from couchside.device.bundle import open_bundle
from couchside.device.slots import Slots


@pytest.fixture(scope="session")
def bundle(tiny_bundle):
    return open_bundle(tiny_bundle)


@pytest.fixture(scope="session")
def slots(tiny_bundle, tmp_path_factory):
    """A slots folder that nobody writes to; tests that do make their own."""
    folder = tmp_path_factory.mktemp("slots")
    installed = Slots(folder)
    installed.activate(installed.place(tiny_bundle))
    return folder


@pytest.fixture
def start_daemon(tmp_path, slots):
    """Starts daemons with a state folder of this test's own."""
    with ExitStack() as stack:

        def start(slots=slots, **options):
            return stack.enter_context(running_daemon(tmp_path, slots, **options))

        yield start


@pytest.fixture
def daemon(start_daemon):
    return start_daemon()


@pytest.fixture(scope="module")
def shared_daemon(tmp_path_factory, slots):
    """One for all tests of a module that leave nothing behind."""
    with running_daemon(tmp_path_factory.mktemp("shared"), slots) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def films(tiny_bundle):
    """A catalogue file of films that the Bundle knows."""
    return tiny_bundle / "titles.jsonl"


@pytest.fixture(scope="session")
def load_films(films):
    """Loads them into a running daemon."""

    def load(daemon):
        return daemon.client.call("catalogue.load", source="films", path=str(films))

    return load
