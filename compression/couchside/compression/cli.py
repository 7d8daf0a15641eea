"""``couchside-compress RECIPE --out DIR``: a recipe and ratings in, Bundles out."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from couchside.compression.errors import CompressionError
from couchside.compression.recipe import builtin_recipes, load_recipe
from couchside.device.errors import CouchsideError

if TYPE_CHECKING:
    from collections.abc import Sequence


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="couchside-compress", description="Make Bundles: teach, distil, export, quantise."
    )
    names = ", ".join(builtin_recipes())
    result.add_argument("recipe", help=f"a built-in recipe ({names}) or the path of a TOML file")
    result.add_argument("--out", type=Path, required=True, help="folder for bundles/ and work/")
    result.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="CPU threads for training"
    )
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pipeline; 0 done, 1 a clear error, 130 interrupted."""
    options = parser().parse_args(arguments)
    if options.threads < 1:
        parser().error("--threads must be at least 1")
    try:
        recipe = load_recipe(options.recipe)
        print(f"Recipe {recipe.name}, into {options.out}", flush=True)
        # OpenMP's threads spin while they wait; beside any other busy process that made training
        # five times slower on two cores. It reads this when torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # Late, so that a wrong recipe is told at once and not after seconds of imports.
        print("Loading torch", flush=True)
        import torch  # noqa: PLC0415

        print("Loading the exporters, reading ratings", flush=True)
        from couchside.compression.pipeline import run  # noqa: PLC0415

        torch.set_num_threads(options.threads)
        bundles = run(recipe, options.out)
    except (CompressionError, CouchsideError, OSError) as error:
        print(f"couchside-compress: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; finished stages are kept, run again to go on", file=sys.stderr)
        return 130
    print(f"\nBundles: {bundles}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
