from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from couchside.compression.errors import CompressionError
from couchside.compression.student import load_models, save_models


def load(tiny, path):
    return load_models(tiny, tiny.student_text, tiny.student_user, path)


def test_models_come_back_as_they_were_saved(tiny, student, tmp_path):
    path = tmp_path / "models.npz"
    save_models(student, path)
    again = load(tiny, path)
    pairs = [(student.text, again.text), (student.ranker.tower, again.ranker.tower)]
    pairs.append((student.ranker.table, again.ranker.table))
    for before, after in pairs:
        state = after.state_dict()
        assert before.state_dict().keys() == state.keys()
        assert all(torch.equal(value, state[name]) for name, value in before.state_dict().items())
        assert not after.training
    assert [entry.name for entry in tmp_path.iterdir()] == ["models.npz"]


@pytest.mark.parametrize("damage", ["absent", "empty", "broken off", "other sizes", "a part less"])
def test_checkpoint_that_is_none_is_refused_with_what_to_do(tiny, student, tmp_path, damage):
    path = tmp_path / "models.npz"
    save_models(student, path)
    recipe = tiny
    if damage == "absent":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "broken off":
        path.write_bytes(path.read_bytes()[:-5000])
    elif damage == "other sizes":
        recipe = replace(tiny, student_user=replace(tiny.student_user, width=32))
    else:
        with np.load(path) as archive:
            kept = {key: archive[key] for key in archive.files if not key.startswith("text/")}
        np.savez(path, **kept)
    with pytest.raises(CompressionError, match=rf"(?s){path}: no checkpoint.*delete {tmp_path}"):
        load(recipe, path)


def test_checkpoint_with_a_pickle_in_it_is_refused(tiny, student, tmp_path):
    path = tmp_path / "models.npz"
    save_models(student, path)
    with np.load(path) as archive:
        arrays = {key: archive[key] for key in archive.files}
    arrays["text/embedding.weight"] = np.array([{"a": 1}], dtype=object)
    np.savez(path, **arrays, allow_pickle=True)
    with pytest.raises(CompressionError, match="no checkpoint"):
        load(tiny, path)


def test_sizes_count_every_parameter_once(student):
    sizes = student.parameter_bytes()
    table = student.ranker.table
    titles, content_d = table.content.shape
    d = table.projection.shape[1]
    assert sizes["item table"] == 4 * titles * (content_d + d)
    modules = (student.text, student.ranker.tower, student.ranker.table)
    trained = sum(parameter.numel() for module in modules for parameter in module.parameters())
    assert sum(sizes.values()) == 4 * (trained + titles * content_d)  # content is a buffer
