"""The student as it will be shipped: both towers, the item table, and files to keep them in.

Checkpoints are NumPy archives without pickle. They stay in the lab; a Bundle has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from couchside.compression.errors import CompressionError
from couchside.compression.fit import Ranker, new_ranker
from couchside.compression.teacher import new_text_tower

if TYPE_CHECKING:
    from pathlib import Path

    from couchside.compression.recipe import Recipe, TextRecipe, UserRecipe
    from couchside.compression.towers import TextTower, UserTower


@dataclass(frozen=True)
class Models:
    """A text tower and the ranker that was trained on its content vectors."""

    text: TextTower
    ranker: Ranker

    def parameter_bytes(self) -> dict[str, int]:
        """Float32 bytes of the encoder, the user model (with P) and the item table."""
        table = self.ranker.table
        content = table.content
        return {
            "encoder": 4 * _count(self.text),
            "user model": 4 * (_count(self.ranker.tower) + table.projection.numel()),
            "item table": 4 * (content.numel() + table.delta.numel()),  # type: ignore[operator]
        }


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def save_models(models: Models, path: Path) -> None:
    """Write every parameter and buffer to the .npz file ``path``, whole or not at all."""
    arrays: dict[str, np.ndarray] = {}
    for part, module in _parts(models).items():
        for name, value in module.state_dict().items():
            arrays[f"{part}/{name}"] = value.detach().numpy()
    draft = path.with_suffix(".part")
    with draft.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
    draft.replace(path)


def load_models(recipe: Recipe, text: TextRecipe, user: UserRecipe, path: Path) -> Models:
    """Read what ``save_models`` wrote.

    Raises:
        CompressionError: the file is not a checkpoint of these sizes; delete its folder, run again.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            states: dict[str, dict[str, Tensor]] = {}
            for key in archive.files:
                part, name = key.split("/", 1)
                states.setdefault(part, {})[name] = torch.from_numpy(archive[key])
        ranker = new_ranker(recipe, user, states["table"]["content"])
        models = Models(new_text_tower(recipe, text), ranker)
        for part, module in _parts(models).items():
            module.load_state_dict(states[part])
            module.eval()
    except (OSError, EOFError, ValueError, KeyError, RuntimeError, BadZipFile) as error:
        raise CompressionError(
            f"{path}: no checkpoint: {error}; delete {path.parent}, run again"
        ) from error
    return models


def _parts(models: Models) -> dict[str, nn.Module]:
    return {"text": models.text, "tower": models.ranker.tower, "table": models.ranker.table}


class TextGraph(nn.Module):
    """The text encoder's graph: ``tokens`` int32 [b, t] → ``content`` float [b, content_d]."""

    def __init__(self, tower: TextTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens: Tensor) -> Tensor:  # noqa: D102 - see the class
        return self.tower(tokens)  # type: ignore[no-any-return]


def personal_names(tower: UserTower) -> tuple[str, ...]:
    """Parameters that a TV may make its own: gains and biases of the layer norms."""
    norms = [name for name, part in tower.named_modules() if isinstance(part, nn.LayerNorm)]
    return tuple(f"{norm}.{name}" for norm in norms for name in ("weight", "bias"))


class UserGraph(nn.Module):
    """The user model's graph: one history → ``user`` float [1, d], at the last step.

    The layer norms' gains and biases come in as one flat input, ``personal``: all that a TV may
    change of a graph whose other weights are baked in and quantised.
    """

    def __init__(self, tower: UserTower) -> None:
        super().__init__()
        self.tower = tower
        named = dict(tower.named_parameters())
        self._shapes = {name: named[name].shape for name in personal_names(tower)}

    def shipped(self) -> Tensor:
        """The values of ``personal`` that everybody starts with: float [p]."""
        named = dict(self.tower.named_parameters())
        return torch.cat([named[name].detach().reshape(-1) for name in self._shapes])

    def forward(  # noqa: D102 - see the class
        self, vectors: Tensor, signals: Tensor, gaps: Tensor, mask: Tensor, personal: Tensor
    ) -> Tensor:
        sizes = [shape.numel() for shape in self._shapes.values()]
        parts = zip(self._shapes.items(), torch.split(personal, sizes), strict=True)
        own = {name: part.reshape(shape) for (name, shape), part in parts}
        users: Tensor = functional_call(self.tower, own, (vectors, signals, gaps, mask))
        return users[:, -1]
