"""A recipe says everything that decides a Bundle's content; two equal recipes on equal data agree.

Recipes are TOML files. The built-in ones live in ``recipes/`` and go by their name.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from couchside.compression.errors import RecipeError
from couchside.device import strict

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")
PACKAGE = "couchside.compression"
Flavour = Literal["litert-float", "litert-int8", "onnx-float", "onnx-int8"]


@dataclass(frozen=True, slots=True)
class DataRecipe:
    """What to learn from."""

    source: str
    """``sample`` for the ratings in this package, or a folder with ratings.csv, titles.csv."""
    validation_quantile: float
    """Global temporal split: events before this quantile of time fit the validation model."""
    test_quantile: float
    """Events before this quantile fit the shipped models; the later ones are targets."""
    max_users: int
    """Keep only the first so many users, 0 for all; for quick tests."""
    popularity_half_life_days: float


@dataclass(frozen=True, slots=True)
class TextRecipe:
    """A text tower."""

    buckets: int
    width: int
    layers: int
    heads: int
    epochs: int


@dataclass(frozen=True, slots=True)
class UserRecipe:
    """A user tower and its training."""

    width: int
    layers: int
    heads: int
    epochs: int
    dropout: float


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """What teacher and student share in training."""

    batch_size: int
    learning_rate: float
    weight_decay: float
    delta_bound: float
    """‖delta‖ at most, beside unit content vectors."""
    delta_dropout: float
    channel_dropout: float
    """Chance that a step's signal, and its gap, is shown as unknown."""
    negatives: int
    """Titles drawn for each batch's softmax beside its targets; 0: all titles, every time."""
    distillation_weight: float
    """Share of the teacher's soft targets in the student's loss, in [0, 1]."""
    popularity_weights: tuple[float, ...]
    """Grid from which validation picks the weight of popularity in the shown ranking."""
    seed: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to make a Bundle."""

    name: str
    version: int
    """Release number of the Bundles."""
    d: int
    content_d: int
    history_length: int
    text_tokens: int
    text_batch: int
    step_batch: int
    """Sequences in one on-device training step."""
    step_candidates: int
    """Titles that compete in the training step's softmax."""
    data: DataRecipe
    teacher_text: TextRecipe
    teacher_user: UserRecipe
    student_text: TextRecipe
    student_user: UserRecipe
    training: TrainingRecipe
    flavours: tuple[Flavour, ...]


_RANGES: dict[str, tuple[float, float]] = {
    "version": (1, 2**31 - 1),
    "d": (8, 1024),
    "content_d": (8, 1024),
    "history_length": (2, 1000),
    "text_tokens": (4, 512),
    "text_batch": (1, 256),
    "step_batch": (1, 256),
    "step_candidates": (2, 65536),
    "validation_quantile": (0.05, 0.95),
    "test_quantile": (0.05, 0.99),
    "max_users": (0, 10**9),
    "popularity_half_life_days": (0.1, 3650),
    "buckets": (64, 2**20),
    "width": (4, 4096),
    "layers": (0, 48),
    "heads": (1, 64),
    "epochs": (1, 10_000),
    "dropout": (0, 0.9),
    "batch_size": (1, 65536),
    "learning_rate": (1e-7, 1),
    "weight_decay": (0, 1),
    "delta_bound": (0, 10),
    "delta_dropout": (0, 1),
    "channel_dropout": (0, 1),
    "negatives": (0, 10**7),
    "distillation_weight": (0, 1),
    "seed": (0, 2**32 - 1),
}
"""Inclusive bounds of every number in a recipe, by field name."""


def builtin_recipes(package: str = PACKAGE) -> list[str]:
    """Names of the recipes that come with a package, in its folder ``recipes``."""
    folder = resources.files(package) / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir())


def load_recipe(name_or_path: str) -> Recipe:
    """Read a built-in recipe by name, or a TOML file by path.

    Raises:
        RecipeError: no such recipe, not TOML, an unknown or missing key, or a value out of range.
    """
    recipe = parse_recipe(Recipe, name_or_path)
    check_ranges(recipe, _RANGES, name_or_path)
    _check_whole(recipe, name_or_path)
    return recipe


def read_recipe_json(path: Path) -> Recipe:
    """Read the recipe that a run wrote beside its graphs.

    Raises:
        RecipeError: there is none, or another version of this software wrote it.
    """
    try:
        return strict.from_json(Recipe, strict.loads(path.read_bytes()))
    except OSError as error:
        raise RecipeError(
            f"{path}: {error.strerror}; couchside-compress RECIPE --out DIR writes it"
        ) from error
    except strict.StrictError as error:
        raise RecipeError(f"{path}: {error}; run couchside-compress again") from error


def parse_recipe(kind: type[T], name_or_path: str, package: str = PACKAGE) -> T:
    """A recipe as it is written, a dataclass ``kind``; nobody has looked at its numbers yet.

    Raises:
        RecipeError: no such recipe, not TOML, or an unknown, missing or mistyped key.
    """
    try:
        values = tomllib.loads(_read(name_or_path, package))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe {name_or_path}: not TOML: {error}") from error
    try:
        return strict.from_json(kind, values)
    except strict.StrictError as error:
        raise RecipeError(f"recipe {name_or_path}: {error}") from error


def _read(name_or_path: str, package: str) -> str:
    known = builtin_recipes(package)
    if name_or_path in known:
        folder = resources.files(package) / "recipes"
        return (folder / f"{name_or_path}.toml").read_text(encoding="utf-8")
    try:
        return Path(name_or_path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"no recipe {name_or_path!r}: built in are {', '.join(known)}; or give the path of a "
            "TOML file"
        ) from error


def check_ranges(
    part: Any, ranges: Mapping[str, tuple[float, float]], source: str, path: str = ""
) -> None:
    """Hold every number of ``part``, a dataclass, to its inclusive bounds in ``ranges``.

    Raises:
        RecipeError: one is outside; ``source`` names the recipe.
    """
    for field in fields(part):
        value = getattr(part, field.name)
        where = f"{path}{field.name}"
        if hasattr(value, "__dataclass_fields__"):
            check_ranges(value, ranges, source, f"{where}.")
        elif field.name in ranges:
            low, high = ranges[field.name]
            if not low <= value <= high:
                raise RecipeError(
                    f"recipe {source}: {where} is {value}, must be {low:g} … {high:g}"
                )


def _check_whole(recipe: Recipe, source: str) -> None:
    """Rules that tie several fields together."""
    for name in ("teacher_text", "teacher_user", "student_text", "student_user"):
        tower = getattr(recipe, name)
        if tower.width % tower.heads:
            raise RecipeError(f"recipe {source}: {name}.width must be a multiple of its heads")
    data = recipe.data
    if data.validation_quantile >= data.test_quantile:
        raise RecipeError(
            f"recipe {source}: data.validation_quantile must lie before data.test_quantile"
        )
    if not recipe.training.popularity_weights or not recipe.flavours:
        raise RecipeError(
            f"recipe {source}: popularity_weights and flavours need at least one entry"
        )
    if min(recipe.training.popularity_weights) < 0:
        raise RecipeError(f"recipe {source}: training.popularity_weights must not be negative")
    if len(set(recipe.flavours)) < len(recipe.flavours):
        raise RecipeError(f"recipe {source}: flavours names one twice")
