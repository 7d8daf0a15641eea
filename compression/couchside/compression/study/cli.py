"""``couchside-compress study RATINGS --out DIR``: baselines and our model on public ratings.

Writes ``DIR/result.json`` and, for each seed, ``DIR/seed-N/`` with checkpoint and curve. Nothing of
it belongs in a repository but the result: the weights were made of data that others own.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from couchside.compression.errors import CompressionError
from couchside.compression.study import BASELINES, OURS
from couchside.compression.study.recipe import builtin_recipes, load_recipe
from couchside.device import strict
from couchside.device.durable import write_durably

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = "couchside-compress study"
SPLITS = ("leave-one-out", "temporal")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Train a user model on public ratings and judge it beside baselines.",
    )
    add = result.add_argument
    add("ratings", help="a rating file, a folder with one, or 'sample' (of this package)")
    add("--out", type=Path, required=True, metavar="DIR", help="checkpoints, curves, result.json")
    add("--name", help="of the data set in the result; default: the last part of RATINGS")
    add("--split", choices=SPLITS, default=SPLITS[0], help="default: %(default)s")
    names = ", ".join(builtin_recipes())
    add("--recipe", default="ml-1m", help=f"built in ({names}) or a TOML file; default: ml-1m")
    add("--models", help=f"some of {','.join((*BASELINES, OURS))}; default: all that can run")
    add("--titles", type=Path, metavar="FILE", help="genres; default: a file beside RATINGS")
    add("--seed", type=int, action="append", help="of our model; may be repeated; default: 0")
    add("--epochs", type=int, help="instead of the recipe's")
    add("--minutes", type=float, default=float("inf"), help="at most so long for each training")
    add("--resume", action="store_true", help="go on from the checkpoints in --out")
    add("--threads", type=int, default=1, help="CPU threads; default: 1")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a study; 0 done, 1 a clear error, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = parser()
    options = command.parse_args(words)
    if options.threads < 1 or (options.epochs or 1) < 1 or not options.minutes >= 0:
        command.error("--threads and --epochs must be at least 1, --minutes at least 0")
    if any(not 0 <= seed < 2**32 for seed in options.seed or ()):
        command.error("--seed must be 0 … 2^32 - 1")
    try:
        print(_run(options, shlex.join(["couchside-compress", "study", *words])))
    except (CompressionError, OSError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ninterrupted; go on with --resume: {options.out}", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace, command: str) -> str:
    recipe = load_recipe(options.recipe)
    if options.epochs:
        recipe = replace(recipe, epochs=options.epochs)
    models = _models(options)
    _set_threads(options.threads)
    # Late, so that a wrong option is told at once and not after seconds of imports.
    from couchside.compression.study.contest import Plan, hold  # noqa: PLC0415
    from couchside.compression.study.results import table_text  # noqa: PLC0415

    plan = Plan(
        ratings=options.ratings,
        titles=options.titles,
        dataset=options.name or Path(options.ratings).resolve().name,
        split=options.split,
        recipe=recipe,
        models=models,
        seeds=tuple(dict.fromkeys(options.seed or (0,))),
        minutes=options.minutes,
        resume=options.resume,
        out=options.out,
    )
    result = hold(plan, command=command)
    write_durably(options.out / "result.json", json.dumps(strict.to_json(result), indent=1) + "\n")
    return table_text(result)


def _models(options: argparse.Namespace) -> tuple[str, ...]:
    known = (*BASELINES, OURS)
    if options.models is None:
        return tuple(n for n in known if n != "popularity-7d" or options.split == "temporal")
    chosen = set(options.models.split(","))
    if unknown := sorted(chosen.difference(known)):
        raise CompressionError(f"--models: no {', '.join(unknown)}; there are {', '.join(known)}")
    return tuple(sorted(chosen, key=known.index))


def _set_threads(threads: int) -> None:
    # Read when numpy's BLAS and OpenMP are loaded; threads that spin slow a shared machine down.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(threads))
    print("Loading torch", flush=True)
    import torch  # noqa: PLC0415

    torch.set_num_threads(threads)


if __name__ == "__main__":
    sys.exit(main())
