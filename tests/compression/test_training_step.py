from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

from couchside.compression.towers import item_vectors
from couchside.compression.training_step import INPUTS, sample_batch, trace, training_step
from couchside.device.bundle import open_bundle
from couchside.device.runtime.graph import open_graph

THETA, RATE, TARGET = 0, 1, INPUTS.index("target")


@pytest.fixture(scope="module")
def step(tiny, student):
    return training_step(tiny, student.ranker)


def batch_of(tiny, step, seed, rate=0.1):
    batch = list(sample_batch(tiny, step, seed))
    batch[RATE] = torch.tensor([rate])
    return batch


def plain_loss(tower, projection, batch):
    """The loss in everyday torch: gather, mask by index, cross_entropy."""
    named = dict(zip(INPUTS, batch, strict=True))
    vectors = item_vectors(named["content"], projection, named["delta"])
    vectors = vectors * named["mask"][:, :, None]
    users = tower(vectors, named["signals"], named["gaps"], named["mask"])
    candidates = item_vectors(named["candidate_content"], projection, named["candidate_delta"])
    logits = (users @ candidates.T + named["candidate_prior"]).flatten(0, 1)
    return functional.cross_entropy(logits, named["target"].flatten().long(), ignore_index=-1)


def test_five_steps_equal_sgd_by_autograd(tiny, student, step):
    tower = copy.deepcopy(student.ranker.tower).eval()
    projection = student.ranker.table.projection.detach().clone().requires_grad_()
    named = {**dict(tower.named_parameters(prefix="tower")), "projection": projection}
    optimizer = torch.optim.SGD(named.values(), lr=0.1)
    theta = step.initial_theta()
    # The flat vector is laid out as the manifest will say.
    assert dict(zip(step.layout.names, step.layout.shapes, strict=True)) == {
        name: tuple(value.shape) for name, value in named.items()
    }
    first = theta.clone()
    for seed in range(5):
        batch = batch_of(tiny, step, seed)
        expected = plain_loss(tower, projection, batch)
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        loss, theta = step(theta, *batch[1:])
        assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
        by_hand = torch.cat([named[name].detach().reshape(-1) for name in step.layout.names])
        torch.testing.assert_close(theta, by_hand, rtol=0, atol=1e-5)
    assert (theta - by_hand).norm() < 1e-4 * (by_hand - first).norm()


@pytest.mark.parametrize("flavour", ["litert-int8", "onnx-int8"])
def test_twenty_steps_on_the_tv_equal_torch(tiny, step, bundles, flavour):
    bundle = open_bundle(bundles / flavour)
    graph = open_graph(bundle, "training_step")
    tv = np.array(bundle.tensor("theta"))
    lab = step.initial_theta()
    np.testing.assert_array_equal(tv, lab.numpy())
    for seed in range(20):
        batch = batch_of(tiny, step, seed)
        feeds = {name: value.numpy() for name, value in zip(INPUTS, batch, strict=True)}
        answers = graph.run(feeds | {"theta": tv})
        loss, lab = step(lab, *batch[1:])
        assert float(answers["loss"]) == pytest.approx(loss.item(), abs=1e-5)
        tv = answers["theta_after"]
        np.testing.assert_allclose(tv, lab.numpy(), rtol=0, atol=1e-5)
    way = np.linalg.norm(tv - bundle.tensor("theta"))
    assert np.linalg.norm(tv - lab.numpy()) < 1e-4 * way


def test_loss_falls_on_a_batch_that_is_shown_again(tiny, step):
    batch = batch_of(tiny, step, seed=3, rate=0.5)
    theta, losses = batch[THETA], []
    for _ in range(40):
        loss, theta = step(theta, *batch[1:])
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_rate_of_zero_learns_nothing(tiny, step):
    batch = batch_of(tiny, step, seed=0, rate=0.0)
    _, after = step(*batch)
    assert torch.equal(after, batch[THETA])


def test_target_of_minus_one_counts_for_nothing(tiny, step):
    batch = batch_of(tiny, step, seed=1)
    target = batch[TARGET].clone()
    target[0] = -1  # the first history asks nothing
    target[1, :-3] = -1
    batch[TARGET] = target
    loss, after = step(*batch)
    others = list(batch)  # what the silent history holds is then without effect
    for name in ("content", "delta", "signals", "gaps"):
        place = INPUTS.index(name)
        others[place] = batch[place].clone()
        others[place][0] = 0
    loss_again, after_again = step(*others)
    assert loss.item() == pytest.approx(loss_again.item(), abs=1e-6)
    torch.testing.assert_close(after, after_again, rtol=0, atol=1e-6)
    batch[TARGET] = torch.full_like(target, -1)
    loss, after = step(*batch)
    assert loss.item() == 0.0
    assert torch.equal(after, batch[THETA])


def test_candidate_that_is_no_target_still_pushes(tiny, step):
    batch = batch_of(tiny, step, seed=2)
    before, _ = step(*batch)
    batch[INPUTS.index("candidate_delta")] = batch[INPUTS.index("candidate_delta")] * -1
    after, _ = step(*batch)
    assert abs(before.item() - after.item()) > 1e-3


def test_traced_step_is_the_step(tiny, step):
    traced = trace(step, sample_batch(tiny, step))
    for seed in (4, 5):  # other values than those it was traced with
        batch = batch_of(tiny, step, seed, rate=0.3)
        for got, expected in zip(traced(*batch), step(*batch), strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def test_sample_batch_is_valid_and_the_same_each_time(tiny, step):
    batch = dict(zip(INPUTS, sample_batch(tiny, step, 7), strict=True))
    again = dict(zip(INPUTS, sample_batch(tiny, step, 7), strict=True))
    assert all(torch.equal(batch[name], again[name]) for name in INPUTS)
    asked = batch["target"] >= 0
    assert torch.equal(asked, batch["mask"] > 0)
    assert asked.any(dim=1).all()
    assert batch["target"].max() < tiny.step_candidates


def test_sample_batch_makes_a_step_as_long_as_the_weights(tiny, step):
    # The golden vectors compare theta_after: a step lost in it would hide a wrong gradient.
    batch = sample_batch(tiny, step)
    _, after = step(*batch)
    assert (after - batch[THETA]).norm() > 0.3 * batch[THETA].norm()


def test_manifest_says_where_each_parameter_lies(step, tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    theta = torch.from_numpy(np.array(bundle.tensor("theta")))
    named = step.layout.unflatten(theta)
    assert [record.name for record in bundle.manifest.parameters] == list(named)
    end = 0
    for record in bundle.manifest.parameters:
        assert record.offset == end
        end += int(np.prod(record.shape))
        piece = theta[record.offset : end].reshape(record.shape)
        assert torch.equal(piece, named[record.name])
    assert end == len(theta)
    np.testing.assert_array_equal(named["projection"].numpy(), bundle.projection)
