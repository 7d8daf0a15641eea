"""What a refresh starts from, and whether a Round's result grew on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from couchside.compression.errors import LineageError
from couchside.compression.recipe import read_recipe_json
from couchside.compression.student import load_models
from couchside.compression.training_step import training_step
from couchside.device.bundle import open_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from couchside.compression.recipe import Flavour, Recipe
    from couchside.compression.student import Models
    from couchside.compression.training_step import Layout
    from couchside.device.bundle import Bundle
    from couchside.device.learning.result import RoundResult


@dataclass(frozen=True)
class Base:
    """The ``--out`` folder of an earlier run or refresh, opened and checked."""

    folder: Path
    recipe: Recipe
    models: Models
    layout: Layout
    bundles: dict[Flavour, Bundle]
    """Of every flavour in the recipe; they differ in their graphs only."""

    @property
    def bundle(self) -> Bundle:
        """Any of the Bundles, for what all flavours share."""
        return next(iter(self.bundles.values()))


def open_base(folder: Path) -> Base:
    """Open the Bundles in ``folder`` and the checkpoint that they were made of.

    Raises:
        CompressionError: something is missing, or the parts are not of one run.
        BundleError: a Bundle is damaged.
    """
    recipe = read_recipe_json(folder / "work" / "graphs" / "recipe.json")
    bundles = {flavour: open_bundle(folder / "bundles" / flavour) for flavour in recipe.flavours}
    models_file = folder / "work" / "student" / "models.npz"
    models = load_models(recipe, recipe.student_text, recipe.student_user, models_file)
    step = training_step(recipe, models.ranker)
    base = Base(folder, recipe, models, step.layout, bundles)
    if len({_shared(bundle) for bundle in bundles.values()}) > 1:
        raise LineageError(f"{folder / 'bundles'}: flavours of different runs; run it again")
    if not np.array_equal(step.initial_theta().numpy(), base.bundle.tensor("theta")):
        raise LineageError(f"{models_file}: the Bundles were made of another; run it again")
    return base


def _shared(bundle: Bundle) -> tuple[object, ...]:
    return bundle.version, *(_sha256(bundle, name) for name in ("theta", "content", "titles"))


def _sha256(bundle: Bundle, name: str) -> str:
    """Of the file that holds a tensor, or of the list of titles."""
    manifest = bundle.manifest
    file = manifest.titles if name == "titles" else manifest.tensors[name].file
    return manifest.files[file].sha256


def check_lineage(
    base: Base, result: RoundResult, theta: NDArray[np.float32], counts: NDArray[np.float32]
) -> None:
    """Whether TVs with ``base`` made this result.

    Raises:
        LineageError: they had another Bundle, or its lengths are not those of this one.
    """
    bundle = base.bundle
    # Not the version: a release may give the same Bundle another one.
    said = (result.base_theta_sha256, result.base_titles_sha256)
    if said != (_sha256(bundle, "theta"), _sha256(bundle, "titles")):
        raise LineageError(
            f"Round {result.round_id} started from another Bundle (version {result.base_version}) "
            f"than those in {base.folder} (version {bundle.version}); name the folder of that one"
        )
    lengths = bundle.tensor("theta").size, bundle.tensor("popularity").size
    if len(theta) != lengths[0] or len(counts) not in (0, lengths[1]):
        raise LineageError(
            f"Round {result.round_id}: {len(theta)} parameters and counts of {len(counts)} titles, "
            f"expected {lengths[0]} and {lengths[1]} (or no counts); close the Round again"
        )
    if result.folded < 1 or result.count_sigma < 0:
        raise LineageError(
            f"Round {result.round_id}: {result.folded} TVs and noise of {result.count_sigma} are "
            f"no Round; close it again"
        )
