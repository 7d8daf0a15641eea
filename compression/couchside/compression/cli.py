"""``couchside-compress RECIPE --out DIR``: a recipe and ratings in, Bundles out.

``couchside-compress refresh BASE --params P --out NEW``: the result of a Round in, Bundles out.

``couchside-compress study RATINGS --out DIR``: our kind of user model on public data, and others.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from couchside.compression.errors import CompressionError
from couchside.compression.recipe import Flavour, builtin_recipes, load_recipe
from couchside.compression.study import cli as study
from couchside.device.errors import CouchsideError

if TYPE_CHECKING:
    from collections.abc import Sequence

REFRESH, STUDY = "refresh", "study"
"""First words that make it another command; a recipe of such a name is ``./refresh``."""


def parser() -> argparse.ArgumentParser:
    """The command line that runs a recipe."""
    result = argparse.ArgumentParser(
        prog="couchside-compress",
        description="Make Bundles: teach, distil, export, quantise.",
        epilog="After a Round: couchside-compress refresh --help. "
        "Public data: couchside-compress study --help",
    )
    names = ", ".join(builtin_recipes())
    result.add_argument("recipe", help=f"a built-in recipe ({names}) or the path of a TOML file")
    result.add_argument("--out", type=Path, required=True, help="folder for bundles/ and work/")
    _add_threads(result)
    return result


def refresh_parser() -> argparse.ArgumentParser:
    """The command line of ``refresh``."""
    result = argparse.ArgumentParser(
        prog=f"couchside-compress {REFRESH}",
        description="Make new Bundles of what TVs learned in a Round, or refuse to.",
    )
    result.add_argument("base", type=Path, help="--out folder that the TVs' Bundle came from")
    result.add_argument(
        "--params", type=Path, required=True, help="folder of couchside-cloud round close"
    )
    result.add_argument("--out", type=Path, required=True, help="new folder, a base in its turn")
    result.add_argument(
        "--flavour", action="append", choices=get_args(Flavour), default=[], help="default: all"
    )
    result.add_argument("--version", type=int, help="of the new Bundles; default: one more")
    _add_threads(result)
    return result


def _add_threads(result: argparse.ArgumentParser) -> None:
    result.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="CPU threads for torch"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a recipe or a refresh; 0 done, 1 a clear error, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == [STUDY]:
        return study.main(words[1:])
    if words[:1] == [REFRESH]:
        command, work, kept = refresh_parser(), _refresh, "nothing was written, run again"
        words = words[1:]
    else:
        command, work = parser(), _run
        kept = "finished stages are kept, run again to go on"
    options = command.parse_args(words)
    if options.threads < 1:
        command.error("--threads must be at least 1")
    try:
        bundles = work(options)
    except (CompressionError, CouchsideError, OSError) as error:
        print(f"couchside-compress: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ninterrupted; {kept}", file=sys.stderr)
        return 130
    print(f"\nBundles: {bundles}")
    return 0


def _run(options: argparse.Namespace) -> Path:
    recipe = load_recipe(options.recipe)
    print(f"Recipe {recipe.name}, into {options.out}", flush=True)
    # Late, so that a wrong recipe is told at once and not after seconds of imports.
    _load_torch(options.threads)
    print("Loading the exporters, reading ratings", flush=True)
    from couchside.compression.pipeline import run  # noqa: PLC0415

    return run(recipe, options.out)


def _refresh(options: argparse.Namespace) -> Path:
    print(f"Refresh of {options.base}, into {options.out}", flush=True)
    _load_torch(options.threads)
    from couchside.compression.refresh.remake import refresh  # noqa: PLC0415

    return refresh(
        options.base,
        options.params,
        options.out,
        flavours=options.flavour,
        version=options.version,
    )


def _load_torch(threads: int) -> None:
    # OpenMP's threads spin while they wait; beside any other busy process that made training
    # five times slower on two cores. It reads this when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    print("Loading torch", flush=True)
    import torch  # noqa: PLC0415

    torch.set_num_threads(threads)


if __name__ == "__main__":
    sys.exit(main())
