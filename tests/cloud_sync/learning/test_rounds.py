"""Rounds through real brokers, with the aggregator and the helper as processes of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from simulators.learners import Crowd, LearningCloud

from couchside.device.learning.receipt import Verdict
from couchside.device.learning.result import read_result

if TYPE_CHECKING:
    from pathlib import Path

    from couchside.cloud_sync.broker import LocalBroker


@pytest.fixture
def cloud(tmp_path: Path, broker: LocalBroker) -> LearningCloud:
    return LearningCloud(tmp_path, broker.address)


def test_round_with_dropouts(cloud: LearningCloud, tiny_bundle: Path) -> None:
    asked = cloud.open_round(tiny_bundle, "--goal", 60, "--least", 20)
    crowd = Crowd(cloud.broker, [cloud.tv(asked, f"tv-{n}") for n in range(42)])
    with cloud.helper(), cloud.aggregator():
        crowd.deliver()
        assert {each.receipt.verdict for each in crowd.learners} == {Verdict.FOLDED}
        closed = cloud.close()
    crowd.close()
    assert (closed["state"], closed["folded"]) == ("closed", 42), cloud.stderr
    result, _, counts = read_result(cloud.repository / "rounds/1")
    exact = sum(each.values for each in crowd.learners)
    off = counts * asked.title_weight - exact[asked.coordinates :]
    assert np.abs(off).max() < 8 * asked.sigma
    assert off.std() == pytest.approx(asked.sigma, rel=0.15)
    assert result.count_sigma == pytest.approx(asked.sigma / asked.title_weight)
