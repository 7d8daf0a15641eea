"""The peer of the training step: what one would write in torch, on the Bundle's own weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from couchside.compression.recipe import load_recipe
from couchside.compression.towers import UserTower, item_vectors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from couchside.compression.recipe import Recipe
    from couchside.device.bundle import Bundle


class _Learner(nn.Module):
    """What learns on a TV, under the names of the Bundle's manifest."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        student = recipe.student_user
        self.tower = UserTower(
            d=recipe.d,
            width=student.width,
            layers=student.layers,
            heads=student.heads,
            length=recipe.history_length,
            dropout=0.0,
        )
        self.projection = nn.Parameter(torch.zeros(recipe.content_d, recipe.d))


class TorchStep:
    """Forward, backward, SGD in eager mode on one thread.

    Args:
        bundle: of a built-in recipe, which knows the number of heads.
        feeds: inputs of the graph ``training_step``.
    """

    def __init__(self, bundle: Bundle, feeds: Mapping[str, NDArray[Any]]) -> None:
        torch.set_num_threads(1)
        self._learner = _Learner(load_recipe(bundle.manifest.recipe))
        self._names = [record.name for record in bundle.manifest.parameters]
        theta = torch.from_numpy(feeds["theta"])
        self._learner.load_state_dict(
            {
                record.name: theta[record.offset :][: math.prod(record.shape)].view(record.shape)
                for record in bundle.manifest.parameters
            }
        )
        self._batch = {name: torch.from_numpy(value) for name, value in feeds.items()}
        rate = float(feeds["rate"].reshape(-1)[0])
        self._optimizer = torch.optim.SGD(self._learner.parameters(), lr=rate)

    def run(self) -> float:
        """One step; the loss before it."""
        self._optimizer.zero_grad()
        loss = self._loss()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return loss.item()

    def theta(self) -> NDArray[np.float32]:
        """All parameters in the order of the Bundle's flat vector."""
        named = dict(self._learner.named_parameters())
        parts = [named[name].detach().reshape(-1) for name in self._names]
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)

    def _loss(self) -> Tensor:
        batch, projection = self._batch, self._learner.projection
        steps = item_vectors(batch["content"], projection, batch["delta"])
        users = self._learner.tower(
            steps * batch["mask"][:, :, None], batch["signals"], batch["gaps"], batch["mask"]
        )
        titles = item_vectors(batch["candidate_content"], projection, batch["candidate_delta"])
        logits = (users @ titles.T + self._batch["candidate_prior"]).flatten(0, 1)
        return functional.cross_entropy(logits, batch["target"].flatten().long(), ignore_index=-1)
