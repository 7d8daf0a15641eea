"""A cloud with its helper at one broker; some tests share a Round that stays open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from simulators.learners import LearningCloud, Season

from couchside.cloud_sync.broker import LocalBroker, local_broker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def some_broker(tmp_path: Path) -> Iterator[LocalBroker]:
    """A running broker; mosquitto, or amqtt where that is missing."""
    broker = local_broker(tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def cloud(tmp_path: Path, some_broker: LocalBroker) -> LearningCloud:
    return LearningCloud(tmp_path, some_broker.address)


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Iterator[Season]:
    """One open Round with aggregator and helper, shared by tests that send their own Updates."""
    folder = tmp_path_factory.mktemp("season")
    broker = local_broker(folder / "broker")
    broker.start()
    cloud = LearningCloud(folder, broker.address)
    asked = cloud.open_quietly(tiny_bundle, goal=1000, least=3)
    with cloud.helper() as helper, cloud.aggregator() as aggregator:
        yield Season(cloud, asked, helper, aggregator)
    broker.stop()
