"""What decides a trained model, beside its data and its seed: a TOML file in ``recipes/``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from couchside.compression import recipe as recipes
from couchside.compression.errors import RecipeError

PACKAGE = "couchside.compression.study"


@dataclass(frozen=True, slots=True)
class StudyRecipe:
    """Size and training of one user model."""

    name: str
    d: int
    """Width of item vectors and of the transformer."""
    layers: int
    heads: int
    inner: int
    """Width of the feed-forward layer, in multiples of d."""
    length: int
    """Events of a history that the model sees, the latest ones."""
    dropout: float
    loss: Literal["softmax", "sampled-softmax", "gbce"]
    negatives: int
    """Titles drawn for each batch where the loss samples; ignored by ``softmax``."""
    windows: Literal["all", "last"]
    """Learn from all of a long history, cut at a random phase, or from its latest stretch."""
    tokens: int
    """Events in a batch, padding included; at least one history."""
    learning_rate: float
    warm_up_steps: int
    """Steps in which the learning rate rises from 0; then it stays."""
    weight_decay: float
    averaging: float
    """Share of the old value at each step in the averaged weights, which are what is judged."""
    bf16: bool
    """Matrix products of training in bfloat16; judging is always in float32."""
    epochs: int
    validate_every: int
    """Epochs between two looks at validation."""
    patience: int
    """Looks without a new best before training ends."""


_RANGES: dict[str, tuple[float, float]] = {
    "d": (4, 1024),
    "layers": (1, 48),
    "heads": (1, 64),
    "inner": (1, 16),
    "length": (1, 1000),
    "dropout": (0, 0.9),
    "negatives": (1, 10**6),
    "tokens": (1, 10**7),
    "learning_rate": (1e-7, 1),
    "warm_up_steps": (0, 10**6),
    "weight_decay": (0, 1),
    "averaging": (0, 0.99999),
    "epochs": (1, 10_000),
    "validate_every": (1, 1000),
    "patience": (1, 10_000),
}
"""Inclusive bounds, by field name."""


def builtin_recipes() -> list[str]:
    """Names of the recipes that come with the studies."""
    return recipes.builtin_recipes(PACKAGE)


def load_recipe(name_or_path: str) -> StudyRecipe:
    """Read a built-in recipe by name, or a TOML file by path.

    Raises:
        RecipeError: no such recipe, not TOML, an unknown or missing key, or a value out of range.
    """
    recipe = recipes.parse_recipe(StudyRecipe, name_or_path, PACKAGE)
    recipes.check_ranges(recipe, _RANGES, name_or_path)
    if recipe.d % recipe.heads:
        raise RecipeError(f"recipe {name_or_path}: d must be a multiple of heads")
    return recipe
