"""One step of learning as a plain graph, so that a TV trains with its stock inference runtime.

The parameters that learn on a TV (user tower and content projection P; never item rows) lie in
one flat vector ``theta``, which is also what a federated Update carries. The step computes the
loss, its gradient (``torch.func``) and ``theta - rate * gradient``, and is traced into core ATen
operators that every exporter knows. Clip, noise and ledger are the TV's own code, never graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._decomp import core_aten_decompositions
from torch.func import functional_call, grad_and_value
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from couchside.compression.towers import UserTower, item_vectors

if TYPE_CHECKING:
    from couchside.compression.fit import Ranker
    from couchside.compression.recipe import Recipe

INPUTS = (
    "theta",
    "rate",
    "content",
    "delta",
    "signals",
    "gaps",
    "mask",
    "candidate_content",
    "candidate_delta",
    "candidate_prior",
    "target",
)
OUTPUTS = ("loss", "theta_after")


@dataclass(frozen=True)
class Layout:
    """Where each trainable tensor lies in ``theta``."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def sizes(self) -> list[int]:
        """Numbers of values, in order."""
        return [int(torch.Size(shape).numel()) for shape in self.shapes]

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """The tensors inside ``theta``."""
        parts = torch.split(theta, self.sizes())
        triples = zip(self.names, self.shapes, parts, strict=True)
        return {name: part.reshape(shape) for name, shape, part in triples}


class _Learner(nn.Module):
    """What learns: the user tower and P, with the loss they learn from."""

    def __init__(self, tower: UserTower, projection: Tensor) -> None:
        super().__init__()
        self.tower = tower
        self.projection = nn.Parameter(projection)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Mean softmax cross-entropy of each step's next title among the candidates."""
        vectors = item_vectors(batch["content"], self.projection, batch["delta"])
        present = vectors * batch["mask"][:, :, None]
        users = self.tower(present, batch["signals"], batch["gaps"], batch["mask"])
        candidates = item_vectors(
            batch["candidate_content"], self.projection, batch["candidate_delta"]
        )
        # The prior is popularity, and what a drawn title must weigh more for those not drawn: the
        # same terms as in the lab, so that a TV does not learn popularity once more.
        logits = users @ candidates.T + batch["candidate_prior"]
        # A one-hot product instead of a gather: its gradient needs no scatter, which not every
        # runtime has. A target below 0 matches nothing and so counts for nothing.
        places = torch.arange(candidates.shape[0], dtype=torch.int32)
        chosen = (batch["target"][:, :, None] == places).to(logits.dtype)
        log_likelihood = (functional.log_softmax(logits, dim=-1) * chosen).sum()
        return -log_likelihood / chosen.sum().clamp(min=1.0)


class TrainingStep(nn.Module):
    """``(theta, rate, batch) → (loss, theta_after)``: one step of plain SGD."""

    def __init__(self, tower: UserTower, projection: Tensor) -> None:
        super().__init__()
        # Held in a tuple so that its parameters are not parameters of this module: theta is.
        self._learner = (_Learner(tower, projection),)
        named = dict(self._learner[0].named_parameters())
        self.layout = Layout(tuple(named), tuple(tuple(p.shape) for p in named.values()))

    def initial_theta(self) -> Tensor:
        """The shipped weights, flat."""
        values = dict(self._learner[0].named_parameters())
        return torch.cat([values[name].detach().reshape(-1) for name in self.layout.names])

    def forward(self, theta: Tensor, rate: Tensor, *batch: Tensor) -> tuple[Tensor, Tensor]:
        """See the class; ``batch`` is in the order of INPUTS after ``theta, rate``."""
        named = dict(zip(INPUTS[2:], batch, strict=True))

        def loss_of(flat: Tensor) -> Tensor:
            parameters = self.layout.unflatten(flat)
            loss: Tensor = functional_call(self._learner[0], parameters, (named,))
            return loss

        gradient, loss = grad_and_value(loss_of)(theta)
        return loss, theta - rate * gradient


class TracedStep(nn.Module):
    """The step as a traced graph behind a module, which is what exporters take."""

    def __init__(self, graph: Any) -> None:
        super().__init__()
        self.graph = graph

    def forward(  # noqa: D102 - the inputs are INPUTS
        self,
        theta: Tensor,
        rate: Tensor,
        content: Tensor,
        delta: Tensor,
        signals: Tensor,
        gaps: Tensor,
        mask: Tensor,
        candidate_content: Tensor,
        candidate_delta: Tensor,
        candidate_prior: Tensor,
        target: Tensor,
    ) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor] = self.graph(
            theta,
            rate,
            content,
            delta,
            signals,
            gaps,
            mask,
            candidate_content,
            candidate_delta,
            candidate_prior,
            target,
        )
        return result


def training_step(recipe: Recipe, ranker: Ranker) -> TrainingStep:
    """The step that continues from a ranker's weights, without dropout."""
    tower = UserTower(
        d=recipe.d,
        width=recipe.student_user.width,
        layers=recipe.student_user.layers,
        heads=recipe.student_user.heads,
        length=recipe.history_length,
        dropout=0.0,
    )
    tower.load_state_dict(ranker.tower.state_dict())
    return TrainingStep(tower.eval(), ranker.table.projection.detach().clone())


def write_theta(layout: Layout, theta: Tensor, ranker: Ranker) -> None:
    """Put the values of ``theta`` into the ranker's tower and P: the way back from a Round."""
    values = layout.unflatten(theta)
    with torch.no_grad():
        ranker.table.projection.copy_(values.pop("projection"))
    tower = {name.removeprefix("tower."): value for name, value in values.items()}
    ranker.tower.load_state_dict(tower)  # all of it: a missing or unknown name is an error


def sample_batch(recipe: Recipe, step: TrainingStep, seed: int = 0) -> tuple[Tensor, ...]:
    """A random but valid batch, in the order of INPUTS, for tracing and for golden vectors."""
    rng = torch.Generator().manual_seed(seed)
    b, length, k = recipe.step_batch, recipe.history_length, recipe.step_candidates

    def unit_rows(*shape: int) -> Tensor:
        return functional.normalize(torch.randn(*shape, generator=rng), dim=-1)

    def whole(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=rng, dtype=torch.int32)

    starts = torch.randint(0, length - 1, (b, 1), generator=rng)
    mask = (torch.arange(length)[None] >= starts).to(torch.float32)
    target = torch.where(mask > 0, whole(k, b, length), torch.tensor(-1, dtype=torch.int32))
    return (
        step.initial_theta(),
        torch.tensor([10.0]),  # far beyond use: theta_after must show what is wrong with a gradient
        unit_rows(b, length, recipe.content_d),
        unit_rows(b, length, recipe.d) * 0.2,
        whole(4, b, length),
        whole(8, b, length),
        mask,
        unit_rows(k, recipe.content_d),
        unit_rows(k, recipe.d) * 0.2,
        torch.rand(k, generator=rng) * 3.0,
        target.to(torch.int32),
    )


def trace(step: TrainingStep, batch: tuple[Tensor, ...]) -> TracedStep:
    """Trace the step, gradient included, into core ATen operators."""
    table: Any = core_aten_decompositions()  # its own class, which make_fx's annotation misses
    graph = make_fx(step.forward, decomposition_table=table)(*batch)
    return TracedStep(graph)
