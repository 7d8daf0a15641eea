"""Who is new: viewers of whom little is known, and titles that nobody had watched.

Both use the lab's split and its float student. A new viewer is played by a real one of whose
history the models get the last n events; what the viewer has seen stays out of the ranking all the
same. A new title is one without an event before the cut: all that is known of it is its text.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from couchside.compression.data import BASELINE_WINDOW_DAYS, Target
from couchside.compression.evaluate import Judge, PerUser, nearest_titles
from couchside.device.bundle import project
from couchside.device.encoders import fields
from couchside.device.features import DAY
from couchside.device.quality import Interval, paired_difference

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from couchside.benchmarks.tables.compression.judged import Lab
    from couchside.compression.data import Interactions
    from couchside.device.records import Title

KNOWN = (0, 1, 2, 5, 10)
"""Events of a new viewer."""
K = 10


def new_viewers(lab: Lab, most: int | None) -> list[dict[str, Any]]:
    """NDCG@10 of each model a number of known events; the last record knows all of them."""
    interactions, cut = lab.interactions, lab.split.test_from
    wanted = lab.targets(most)
    judge = Judge(interactions, wanted)
    counts = interactions.counts(cut - BASELINE_WINDOW_DAYS * DAY, cut)
    popular = judge.per_user(judge.constant(counts))
    before = interactions.times < cut
    near = nearest_titles(
        _matrix(
            interactions.users[before],
            interactions.items[before],
            (int(interactions.users.max()) + 1, len(interactions.titles)),
        )
    )
    found = []
    for known in (*KNOWN, None):
        short = [replace(t, history=_last(t.history, known)) for t in wanted]
        alone = _scores(lab, short)
        knn = np.asarray(_histories(interactions, short) @ near, dtype=np.float32)
        shown = judge.per_user(alone + lab.prior)
        found.append(
            {
                "known": known,
                "popularity": float(popular.ndcg.mean()),
                "item_knn": float(judge.per_user(knn).ndcg.mean()),
                "alone": float(judge.per_user(alone).ndcg.mean()),
                "shown": float(shown.ndcg.mean()),
                "gain": percent(paired_difference(shown.ndcg, popular.ndcg, relative=True)),
            }
        )
    return found


def _last(history: NDArray[np.int64], known: int | None) -> NDArray[np.int64]:
    return history if known is None else history[len(history) - min(known, len(history)) :]


def _scores(lab: Lab, wanted: Sequence[Target]) -> NDArray[np.float32]:
    """Of the user model alone; zeros where nothing is known, as on a TV."""
    if any(len(target.history) for target in wanted):
        return lab.models.ranker.scores(lab.interactions, wanted)
    return np.zeros((len(wanted), len(lab.interactions.titles)), dtype=np.float32)


def new_titles(lab: Lab) -> dict[str, Any]:
    """How well each way to read a text ranks titles that nobody had watched."""
    interactions = lab.interactions
    new = interactions.counts(-np.inf, lab.split.test_from) == 0
    wanted = new_title_targets(interactions, lab.split.test_from, new)
    judge = Judge(interactions, wanted)
    rows = []
    reference: PerUser | None = None
    for name, scores in _readers(lab, wanted, new):
        among = judge.per_user(np.where(new, scores, -np.inf).astype(np.float32))
        every = judge.per_user(scores)
        reference = among if reference is None else reference
        rows.append(
            {
                "name": name,
                "among": _triple(paired_difference(among.ndcg, np.zeros_like(among.ndcg))),
                "hit": float(among.hit_rate.mean()),
                "every": float(every.ndcg.mean()),
                "gain": percent(paired_difference(among.ndcg, reference.ndcg, relative=True)),
            }
        )
    return {
        "titles": int(new.sum()),
        "targets": len(wanted),
        "users": judge.users,
        "chance": chance(int(new.sum())),
        "rows": rows,
    }


def new_title_targets(
    interactions: Interactions, cut: float, new: NDArray[np.bool_]
) -> list[Target]:
    """Every event from the cut on of a new title, whose user has a history."""
    found = []
    for user, rows in interactions.by_user.items():
        for place, row in enumerate(rows):
            late = interactions.times[row] >= cut
            if place and late and new[interactions.items[row]]:
                found.append(Target(user, int(interactions.items[row]), rows[:place]))
    return found


def chance(titles: int) -> float:
    """Expected NDCG@10 of one target among so many titles in an order drawn at random."""
    places = np.arange(1, min(K, titles) + 1)
    return float((1 / np.log2(places + 1)).sum() / titles) if titles else 0.0


def tfidf(titles: Sequence[Title]) -> sparse.csr_matrix:
    """Unit TF-IDF rows of what the text encoder reads too: genres, year, words of the name."""
    terms: dict[str, int] = {}
    pairs = [
        (row, terms.setdefault(field, len(terms)))
        for row, title in enumerate(titles)
        for field in fields(title)
    ]
    places = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    shape = (len(titles), max(1, len(terms)))
    counts = sparse.csr_matrix((np.ones(places.shape[1]), (places[0], places[1])), shape=shape)
    holders = np.maximum(np.asarray((counts > 0).sum(axis=0)).ravel(), 1)
    weighted = counts @ sparse.diags(np.log(len(titles) / holders) + 1)
    norm = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    return sparse.csr_matrix(sparse.diags(1 / np.maximum(norm, 1e-12)) @ weighted)


def _readers(
    lab: Lab, wanted: Sequence[Target], new: NDArray[np.bool_]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Scores [targets, titles] by name; TF-IDF, to which the others are compared, comes first."""
    interactions, table = lab.interactions, lab.models.ranker.table
    text = tfidf(interactions.titles)
    histories = _histories(interactions, wanted)
    yield "TF-IDF kNN", np.asarray((histories @ text @ text.T).toarray(), dtype=np.float32)
    content = table.content.detach().numpy()  # type: ignore[operator]
    near = np.asarray((histories @ content) @ content.T, dtype=np.float32)
    yield "text encoder, kNN", near
    vectors = table().detach().numpy()
    vectors[new] = project(content, table.projection.detach().numpy())[new]  # as on a TV: no delta
    yield "user model on the encoder's vectors", _users(lab, wanted, vectors) @ vectors.T


def _histories(interactions: Interactions, wanted: Sequence[Target]) -> sparse.csr_matrix:
    """What each target's user had watched: 1 [targets, titles]."""
    rows = np.concatenate([np.full(len(t.history), row) for row, t in enumerate(wanted)])
    items = np.concatenate([interactions.items[t.history] for t in wanted])
    return _matrix(rows, items, (len(wanted), len(interactions.titles)))


def _matrix(
    rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]
) -> sparse.csr_matrix:
    ones = np.ones(len(rows), dtype=np.float32)
    return sparse.csr_matrix((ones, (rows, columns)), shape=shape)


def _users(lab: Lab, wanted: Sequence[Target], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """User vectors [targets, d] of histories among these item vectors."""
    import torch  # noqa: PLC0415 - late, as in read_lab

    from couchside.compression.fit import gather  # noqa: PLC0415

    ranker = lab.models.ranker
    with torch.no_grad():
        batch = gather(lab.interactions, [t.history for t in wanted], ranker.tower.length)
        users = ranker.users(torch.from_numpy(vectors), batch)[:, -1]
    return np.asarray(users.numpy(), dtype=np.float32)


def percent(interval: Interval) -> list[float]:
    """Lower bound, mean and upper bound in per cent."""
    return [100 * value for value in _triple(interval)]


def _triple(interval: Interval) -> list[float]:
    return [interval.low, interval.mean, interval.high]
