from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from couchside.compression.fit import gather
from couchside.compression.teacher import content_vectors, token_table
from couchside.compression.towers import ItemTable, TextTower, UserTower, item_vectors
from couchside.device.bundle import project
from couchside.device.encoders import tokens
from couchside.device.features import GAPS, SIGNALS, user_model_inputs

D, LENGTH, BATCH = 6, 9, 4


def user_tower(layers: int = 2) -> UserTower:
    torch.manual_seed(5)
    sizes = {"d": D, "width": 8, "heads": 2, "length": LENGTH}
    return UserTower(**sizes, layers=layers, dropout=0.5).eval()


def histories(seed: int = 0, first_step: int = 0) -> list[torch.Tensor]:
    """Vectors, signals, gaps and mask of histories whose first steps are padding."""
    rng = torch.Generator().manual_seed(seed)
    mask = (torch.arange(LENGTH) >= first_step).float().expand(BATCH, LENGTH).clone()
    return [
        torch.randn(BATCH, LENGTH, D, generator=rng) * mask[:, :, None],
        torch.randint(0, SIGNALS, (BATCH, LENGTH), generator=rng) * mask.int(),
        torch.randint(0, GAPS, (BATCH, LENGTH), generator=rng) * mask.int(),
        mask,
    ]


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("step", range(1, LENGTH))
def test_later_step_changes_no_earlier_user_vector(layers, step):
    tower = user_tower(layers)
    vectors, signals, gaps, mask = histories()
    before = tower(vectors, signals, gaps, mask)
    vectors, signals, gaps = vectors.clone(), signals.clone(), gaps.clone()
    vectors[:, step] += 3.0
    signals[:, step] = (signals[:, step] + 1) % SIGNALS
    gaps[:, step] = (gaps[:, step] + 1) % GAPS
    after = tower(vectors, signals, gaps, mask)
    assert torch.equal(before[:, :step], after[:, :step])
    assert (before[:, step:] - after[:, step:]).abs().amax(dim=2).min() > 1e-4


@pytest.mark.parametrize("first_step", [1, 4, LENGTH - 1])
def test_padding_changes_no_user_vector_of_a_real_step(first_step):
    tower = user_tower()
    vectors, signals, gaps, mask = histories(first_step=first_step)
    clean = tower(vectors, signals, gaps, mask)[:, first_step:]
    vectors[:, :first_step] = 100.0
    signals[:, :first_step] = SIGNALS - 1
    gaps[:, :first_step] = GAPS - 1
    dirty = tower(vectors, signals, gaps, mask)[:, first_step:]
    torch.testing.assert_close(dirty, clean, rtol=0, atol=1e-6)


@pytest.mark.parametrize("first_step", [1, 4, LENGTH - 1])
def test_padded_history_is_read_as_if_there_were_no_padding(first_step):
    tower = user_tower()
    inputs = histories(first_step=first_step)
    short = user_tower()
    short.length = LENGTH - first_step
    short.position = torch.nn.Parameter(tower.position[first_step:])
    expected = short(*(part[:, first_step:] for part in inputs))
    found = tower(*inputs)[:, first_step:]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_user_of_padding_alone_is_finite():
    tower = user_tower()
    assert torch.isfinite(tower(*histories(first_step=LENGTH))).all()


def test_users_in_one_batch_do_not_meet():
    tower = user_tower()
    inputs = histories()
    together = tower(*inputs)
    for row in range(BATCH):
        alone = tower(*(part[row : row + 1] for part in inputs))
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-6)


def text_tower() -> TextTower:
    torch.manual_seed(6)
    return TextTower(buckets=50, width=8, layers=1, heads=2, out=D).eval()


def test_padding_changes_no_content_vector():
    tower = text_tower()
    short = torch.tensor([[3, 7, 49], [5, 0, 0]])
    padded = torch.cat([short, torch.zeros(2, 5, dtype=torch.int64)], dim=1)
    torch.testing.assert_close(tower(padded), tower(short), rtol=0, atol=1e-6)


def test_content_of_no_token_is_finite_and_of_other_tokens_other():
    tower = text_tower()
    content = tower(torch.tensor([[0, 0, 0], [1, 0, 0], [2, 0, 0]]))
    assert torch.isfinite(content).all()
    assert (content[1] - content[2]).abs().max() > 1e-3
    unit = content_vectors(tower, torch.tensor([[1, 2], [3, 0]]))
    assert unit.norm(dim=1).tolist() == pytest.approx([1.0, 1.0])


@given(
    st.just(0.0) | st.floats(1e-6, 10), st.just(0.0) | st.floats(1e-3, 1e4), st.integers(0, 2**31)
)
def test_delta_never_exceeds_its_bound_and_keeps_its_direction(bound, size, seed):
    rng = torch.Generator().manual_seed(seed)
    table = ItemTable(torch.ones(5, 4), d=3, delta_bound=bound, delta_dropout=0.0)
    raw = torch.randn(5, 3, generator=rng) * size
    table.delta.data = raw
    delta, long = table.bounded_delta(), raw.norm(dim=1, keepdim=True)
    assert (delta.norm(dim=1) <= bound * (1 + 1e-5)).all()
    expected = raw * (bound / long.clamp(min=1e-9)).clamp(max=1.0)
    torch.testing.assert_close(delta, expected, rtol=1e-5, atol=1e-6)


def test_items_lose_their_delta_in_training_and_keep_it_on_the_tv():
    torch.manual_seed(0)
    table = ItemTable(torch.randn(400, 4), d=3, delta_bound=0.5, delta_dropout=0.25)
    table.delta.data.normal_()
    with torch.no_grad():
        table.eval()
        whole = table()
        cold = item_vectors(table.content, table.projection, torch.zeros(400, 3))
        assert torch.equal(whole, table())
        table.train()
        vectors = table()
    is_cold = (vectors == cold).all(dim=1)
    is_whole = (vectors == whole).all(dim=1)
    assert (is_cold ^ is_whole).all()
    assert 0.15 < is_cold.float().mean() < 0.35


@given(st.integers(0, 2**31), st.integers(1, 20), st.integers(1, 8), st.integers(1, 8))
def test_item_vectors_equal_the_tvs_own(seed, titles, content_d, d):
    rng = np.random.default_rng(seed)
    content = rng.normal(size=(titles, content_d)).astype(np.float32)
    content[0] = 0.0  # a title that says nothing
    projection = rng.normal(size=(content_d, d)).astype(np.float32)
    delta = rng.normal(size=(titles, d)).astype(np.float32)
    lab = item_vectors(*(torch.from_numpy(part) for part in (content, projection, delta)))
    np.testing.assert_allclose(lab.numpy(), project(content, projection) + delta, atol=1e-6)


def test_training_reads_a_history_as_the_tv_does(interactions, tiny):
    length = tiny.history_length
    vectors = np.random.default_rng(0).normal(size=(len(interactions.titles), D))
    vectors = vectors.astype(np.float32)
    rows = list(interactions.by_user.values())[:30]
    rows += [rows[0][:n] for n in (0, 1, length - 1, length, length + 1)]
    batch = gather(interactions, rows, length)
    for place, events in enumerate(rows):
        tv = user_model_inputs(
            vectors[interactions.items[events]],
            interactions.signals[events],
            interactions.gaps[events],
            length=length,
        )
        present = batch.mask[place].numpy()
        np.testing.assert_array_equal(present, tv["mask"][0])
        np.testing.assert_array_equal(batch.signals[place].numpy(), tv["signals"][0])
        np.testing.assert_array_equal(batch.gaps[place].numpy(), tv["gaps"][0])
        lab = vectors[batch.items[place].numpy()] * present[:, None]
        np.testing.assert_array_equal(lab, tv["vectors"][0])


def test_training_reads_a_title_as_the_tv_does(interactions):
    table = token_table(interactions, length=16, buckets=512)
    assert table.shape == (len(interactions.titles), 16)
    for row in (0, len(table) // 2, len(table) - 1):
        tv = tokens(interactions.titles[row], length=16, buckets=512)
        np.testing.assert_array_equal(table[row].numpy(), tv)
