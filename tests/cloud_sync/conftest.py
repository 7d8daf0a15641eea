"""A broker of each kind, and releases that are cheap to make."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from simulators.fleet import Cloud, Tv, next_version

from couchside.cloud_sync.broker import LocalBroker, amqtt, mosquitto, mosquitto_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["mosquitto", "amqtt"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalBroker]:
    """A running broker; the same tests run on both kinds."""
    if request.param == "mosquitto" and mosquitto_program() is None:
        pytest.skip("mosquitto is not installed; amqtt alone was tested")
    broker = (mosquitto if request.param == "mosquitto" else amqtt)(tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return Cloud(tmp_path / "cloud")


@pytest.fixture(scope="session")
def second(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 2 of the tiny Bundle."""
    return next_version(tiny_bundle, tmp_path_factory.mktemp("second") / "bundle", 2)


@pytest.fixture
def tv(tmp_path: Path, cloud: Cloud) -> Tv:
    """A TV that reaches no broker; tests put what it received into its spool."""
    return Tv(tmp_path / "tv", cloud.root)


@pytest.fixture
def tv_with_first(tv: Tv, cloud: Cloud, tiny_bundle: Path) -> Tv:
    """A TV that has installed version 1."""
    cloud.release(tiny_bundle)
    tv.receives(cloud)
    assert tv.apply().state == "installed", tv.apply()
    return tv
