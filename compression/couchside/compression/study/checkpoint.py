"""What a training run keeps between epochs: it goes on after kill -9 as if nothing had happened.

``checkpoint.pt`` is replaced durably after every epoch, ``curve.json`` beside it for people and
plots. A checkpoint belongs to one recipe, seed and set of sequences; another one's is refused.
"""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from couchside.compression.errors import CompressionError
from couchside.device import strict
from couchside.device.durable import write_bytes_durably, write_durably

if TYPE_CHECKING:
    from pathlib import Path

CHECKPOINT, CURVE = "checkpoint.pt", "curve.json"


@dataclass(frozen=True, slots=True)
class Point:
    """One epoch of a run."""

    epoch: int
    """From 1."""
    loss: float
    """Mean over the epoch's targets."""
    cpu_s: float
    """CPU seconds of training since the start, all threads; judging is left out."""
    val_ndcg: float | None = None
    """NDCG@10 on validation, of the averaged weights; None: not looked at."""
    val_hr: float | None = None
    """HR@10 likewise."""


def save(folder: Path, key: str, state: dict[str, Any], curve: tuple[Point, ...]) -> None:
    """Replace the checkpoint, then the curve.

    Args:
        folder: exists.
        key: identifies recipe, seed and sequences.
        state: tensors, numbers, and containers of them.
        curve: every epoch so far.
    """
    points = [strict.to_json(point) for point in curve]
    buffer = io.BytesIO()
    torch.save({"key": key, "state": state, "curve": points}, buffer)
    write_bytes_durably(folder / CHECKPOINT, buffer.getvalue())
    write_durably(folder / CURVE, json.dumps(points, indent=0) + "\n")


def load(folder: Path, key: str) -> tuple[dict[str, Any], tuple[Point, ...]] | None:
    """(state, curve) of the last finished epoch; None where nothing has begun.

    Raises:
        CompressionError: the file is damaged, or another recipe, seed or split made it.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        # Weights only: a checkpoint must not be able to run code.
        kept = torch.load(path, weights_only=True)
        points = tuple(strict.from_json(Point, point) for point in kept["curve"])
        owner, state = kept["key"], kept["state"]
    except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise CompressionError(f"{path}: damaged ({error}); remove it to start again") from error
    except strict.StrictError as error:
        raise CompressionError(f"{path}: {error}; another version made it, remove it") from error
    if owner != key:
        raise CompressionError(
            f"{path}: made by another recipe, seed or split; name another --out, or remove it"
        )
    return state, points
