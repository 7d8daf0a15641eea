from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from couchside.compression.data import Target
from couchside.compression.distill import distill_text
from couchside.compression.errors import CompressionError
from couchside.compression.fit import fit, windows
from couchside.compression.teacher import (
    content_vectors,
    fit_text_teacher,
    relations,
    token_table,
)
from couchside.device.features import DAY
from couchside.device.records import Title, TitleKind

FILMS = 12
USERS = 40
STEPS = 14


@pytest.fixture(scope="module")
def small(tiny):
    """A recipe that learns a pattern of twelve films in a second or two."""
    size = replace(tiny.student_user, width=16, epochs=25, dropout=0.0)
    training = replace(
        tiny.training, delta_dropout=0.0, channel_dropout=0.0, delta_bound=2.0, batch_size=20
    )
    return replace(tiny, history_length=6, student_user=size, teacher_user=size, training=training)


@pytest.fixture(scope="module")
def content(small):
    return torch.randn(FILMS, small.content_d, generator=torch.Generator().manual_seed(1))


def rounds(made, step):
    """Everyone watches film after film, ``step`` further each time, round the clock of twelve."""
    events = [
        (user, (user * 5 + step * n) % FILMS, 9, n * DAY + user)
        for user in range(USERS)
        for n in range(STEPS)
    ]
    return made(events, FILMS)


def next_films(ranker, interactions, step):
    """Share of users whose first choice is the film that the pattern says."""
    wanted = []
    for user, rows in interactions.by_user.items():
        wanted.append(Target(user, 0, rows[:8]))
    first = ranker.scores(interactions, wanted).argmax(axis=1)
    said = [(interactions.items[target.history[-1]] + step) % FILMS for target in wanted]
    return float((first == said).mean())


@pytest.fixture(scope="module")
def forwards(made, small, content):
    """A ranker that learned that film n + 1 follows film n."""
    data = rounds(made, 1)
    return fit(small, small.teacher_user, content, data, until=np.inf, label="forwards")


def test_ranker_learns_what_follows_what(made, forwards):
    assert next_films(forwards, rounds(made, 1), 1) > 0.95


def test_ranker_keeps_its_deltas_within_the_bound(forwards, small):
    norms = forwards.table.bounded_delta().norm(dim=1)
    assert (norms <= small.training.delta_bound * (1 + 1e-5)).all()
    assert norms.max() > 0.05
    assert not forwards.tower.training
    assert not forwards.table.training


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_student_believes_its_teacher_as_much_as_the_recipe_says(
    made, small, content, forwards, share
):
    other = rounds(made, 5)  # what the student sees itself
    recipe = replace(small, training=replace(small.training, distillation_weight=share))
    student = fit(
        recipe, recipe.student_user, content, other, until=np.inf, teacher=forwards, label="student"
    )
    follows_teacher = next_films(student, other, 1)
    follows_data = next_films(student, other, 5)
    believed, ignored = sorted((follows_teacher, follows_data), reverse=True)
    assert believed == (follows_teacher if share else follows_data)
    assert believed > 0.8
    assert ignored < 0.2


def weights(ranker):
    named = {**ranker.tower.state_dict(), **ranker.table.state_dict()}
    return torch.cat([value.reshape(-1) for value in named.values()])


def test_fit_is_the_same_each_time_and_never_looks_beyond_its_end(made, small, content):
    recipe = replace(small, student_user=replace(small.student_user, epochs=2))
    data = rounds(made, 1)
    cut = 9 * DAY
    later = data.times >= cut
    changed = replace(
        data,
        items=np.where(later, (data.items * 7 + 3) % FILMS, data.items),
        ratings=np.where(later, 1, data.ratings),
    )
    assert not np.array_equal(changed.items, data.items)

    def learn(interactions, until):
        size = recipe.student_user
        return weights(fit(recipe, size, content, interactions, until=until, label="t"))

    before = learn(data, cut)
    assert torch.equal(learn(data, cut), before)
    assert torch.equal(learn(changed, cut), before)
    assert not torch.equal(learn(changed, np.inf), before)


def test_loss_that_is_not_finite_says_what_to_lower(made, small, content):
    broken = content.clone()
    broken[3] = torch.nan
    with pytest.raises(CompressionError, match=r"toy: the loss is not finite; lower training\.lea"):
        fit(small, small.student_user, broken, rounds(made, 1), until=np.inf, label="toy")


def test_windows_cut_each_history_before_the_end_into_stretches(made):
    data = rounds(made, 1)
    until, length = 9 * DAY, 4
    stretches = windows(data, until, length, np.random.default_rng(0))
    assert {int(data.users[rows[0]]) for rows in stretches} == set(range(USERS))
    for rows in stretches:
        user = data.users[rows[0]]
        own = data.by_user[int(user)].tolist()
        assert 2 <= len(rows) <= length + 1
        assert (data.times[rows] < until).all()
        first = own.index(rows[0])
        assert rows.tolist() == own[first : first + len(rows)]
    asked = [row for rows in stretches for row in rows[1:]]
    assert len(asked) == len(set(asked))  # no event is learned twice an epoch


def test_windows_of_short_histories_ask_for_every_event_but_the_first(made):
    data = rounds(made, 1)
    stretches = windows(data, np.inf, STEPS, np.random.default_rng(0))
    asked = sorted(row for rows in stretches for row in rows[1:])
    firsts = {rows[0] for rows in data.by_user.values()}
    assert asked == [row for row in range(len(data.users)) if row not in firsts]


def test_windows_shift_from_epoch_to_epoch(made):
    data = rounds(made, 1)
    rng = np.random.default_rng(0)
    cuts = [{tuple(rows) for rows in windows(data, np.inf, 4, rng)} for _ in range(2)]
    assert cuts[0] != cuts[1]


@pytest.fixture(scope="module")
def camps(made):
    """Two audiences: users 0-9 watch films 0-5, users 10-19 films 6-11; genres lie across."""
    rng = np.random.default_rng(2)
    events = [
        (user, int(item) + 6 * (user >= 10), 8, float(user * 10 + place))
        for user in range(20)
        for place, item in enumerate(rng.permutation(6)[:4])
    ]
    names = ["Ash", "Oak", "Elm", "Fir", "Yew", "Bay", "Cod", "Eel", "Ray", "Pike", "Carp", "Tuna"]
    titles = tuple(
        Title(f"t{n}", TitleKind.MOVIE, name, genres=("Drama", "Comedy")[n % 2 : n % 2 + 1])
        for n, name in enumerate(names)
    )
    return replace(made(events, FILMS), titles=titles)


def test_titles_with_a_common_audience_are_related(camps):
    found = relations(camps, np.inf, rank=2)
    near = (found.cowatch @ found.cowatch.T).numpy()
    assert near[:6, :6].min() > 0.9
    assert near[6:, 6:].min() > 0.9
    assert np.abs(near[:6, 6:]).max() < 0.1
    shared = (found.genres @ found.genres.T).numpy()
    np.testing.assert_allclose(shared, np.arange(12)[:, None] % 2 == np.arange(12) % 2)


def test_title_with_too_few_viewers_is_not_trusted(camps):
    early = relations(camps, 25.0, rank=2)  # users 0 to 2 only
    viewers = camps.counts(-np.inf, 25.0)
    np.testing.assert_array_equal(early.trust.numpy() > 0, viewers >= 3)
    assert not early.trust[6:].any()


def test_relations_never_look_beyond_their_end(camps):
    moved = np.where(camps.times >= 100.0, (camps.items + 1) % FILMS, camps.items)
    before, after = relations(camps, 100.0, 2), relations(replace(camps, items=moved), 100.0, 2)
    assert torch.equal(before.cowatch, after.cowatch)
    assert torch.equal(before.trust, after.trust)


def test_teacher_places_titles_by_audience_and_the_student_follows(camps, tiny):
    many = replace(tiny.teacher_text, epochs=150)
    recipe = replace(tiny, teacher_text=many, student_text=replace(many, epochs=250))
    teacher = fit_text_teacher(recipe, camps, until=np.inf)
    table = token_table(camps, length=tiny.text_tokens, buckets=many.buckets)
    content = content_vectors(teacher, table)
    near = (content @ content.T).numpy()
    same = np.arange(12)[:, None] // 6 == np.arange(12) // 6
    assert near[same].mean() > near[~same].mean() + 0.4
    student = distill_text(recipe, camps, content)
    cosine = (content_vectors(student, table) * content).sum(dim=1)
    assert cosine.min() > 0.9
