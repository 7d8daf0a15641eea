"""A Round's result on the folder that it grew on → new Bundles, judged, in a new folder.

Only the user model is exported again: the text tower does not learn on TVs, and theta is an input
of the training step. The new folder holds what the next refresh needs, in the same places.
"""

from __future__ import annotations

import json
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from couchside.compression import data, evaluate, pack
from couchside.compression.alone import LOCK, alone
from couchside.compression.errors import DataError, LineageError
from couchside.compression.export import QUANTIZED, SUFFIX
from couchside.compression.exporters import exporting
from couchside.compression.refresh.gate import Court, Verdict, judge
from couchside.compression.refresh.lineage import Base, check_lineage, open_base
from couchside.compression.refresh.popularity import Popularity, freshen
from couchside.compression.student import save_models
from couchside.compression.training_step import write_theta
from couchside.device import strict
from couchside.device.bundle import QualityRecord, open_bundle
from couchside.device.learning.result import read_result

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from couchside.compression.evaluate import PerUser
    from couchside.compression.recipe import Flavour, Recipe
    from couchside.device.learning.result import RoundResult

REPORT = "refresh.json"
REMADE, KEPT = "user_model", ("text_encoder", "training_step")
VERSION_MOST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Report:
    """``refresh.json``."""

    round_id: int
    folded: int
    base_version: int
    version: int
    gate: tuple[Verdict, ...]
    titles_counted: int
    """Titles whose count was more than noise; 0: the base's popularity was kept."""
    popularity_as_of: float
    parity: Mapping[str, Mapping[str, Mapping[str, float]]]
    """Cosine and relative error to torch, by flavour and graph."""
    seconds: Mapping[str, float]
    """What each part took."""


@dataclass(frozen=True)
class _Refresh:
    base: Base
    result: RoundResult
    recipe: Recipe
    """The base's, with the new version and the wanted flavours."""
    popularity: Popularity
    court: Court


def refresh(
    base: Path,
    params: Path,
    out: Path,
    *,
    flavours: Sequence[Flavour] = (),
    version: int | None = None,
) -> Path:
    """Make Bundles of the result in ``params``; returns the folder of the Bundles.

    ``out`` appears whole or not at all; one that an earlier refresh made is replaced.

    Args:
        base: the ``--out`` folder of the run, or of the refresh, that TVs had their Bundle from.
        params: a folder that ``couchside-cloud round close`` wrote.
        out: the new folder.
        flavours: which to make; none: all that ``base`` has.
        version: of the new Bundles; None: one more than TVs have.

    Raises:
        CompressionError: with what is wrong and what to do.
        CouchsideError: a Bundle or the result is damaged.
    """
    base, params, out = base.resolve(), params.resolve(), out.resolve()
    _check_out(out, base, params)
    seconds: dict[str, float] = {}
    with _timed("[1/4] read", seconds):
        this = _read(base, params, flavours, version)
    part = out.with_name(f"{out.name}.part")
    with alone(part):
        try:
            _clear(part)
            report = _make(this, part, seconds)
            text = json.dumps(strict.to_json(report), indent=1, allow_nan=False)
            (part / REPORT).write_text(text + "\n")
            if out.exists():
                shutil.rmtree(out)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        _publish(part, out)
    return out / "bundles"


def _check_out(out: Path, base: Path, params: Path) -> None:
    for source in (base, params):
        if out == source or out in source.parents:
            raise LineageError(f"{out}: holds what the refresh starts from; name another folder")
    if out.exists() and not (out / REPORT).is_file() and any(out.iterdir()):
        raise LineageError(f"{out}: holds something that no refresh made; name a new folder")


@contextmanager
def _timed(label: str, seconds: dict[str, float]) -> Iterator[None]:
    tqdm.write(label)
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    seconds[label.split()[1]] = round(took, 2)
    tqdm.write(f"{label}: {took:.1f} s")


def _read(folder: Path, params: Path, flavours: Sequence[Flavour], version: int | None) -> _Refresh:
    """Everything that can be refused before anything is made; theta goes into the models."""
    result, theta, counts = read_result(params)
    base = open_base(folder)
    check_lineage(base, result, theta, counts)
    recipe = replace(
        base.recipe,
        version=_next_version(base, result, version),
        flavours=_wanted(base, flavours),
    )
    old = Popularity(base.bundle.tensor("popularity"), base.bundle.manifest.popularity_as_of)
    popularity = freshen(
        old,
        counts,
        closed_at=result.closed_at,
        folded=result.folded,
        sigma=result.count_sigma,
        half_life_days=recipe.data.popularity_half_life_days,
    )
    court = Court(data.load_interactions(recipe.data), recipe.data, base.bundle.popularity_weight)
    _check_ratings(base, court)
    write_theta(base.layout, torch.from_numpy(theta), base.models.ranker)
    return _Refresh(base, result, recipe, popularity, court)


def _next_version(base: Base, result: RoundResult, wanted: int | None) -> int:
    """TVs never take a lower version, and may have had the base under a higher one."""
    last = max(base.bundle.version, result.base_version)
    version = last + 1 if wanted is None else wanted
    if not last < version <= VERSION_MOST:
        raise LineageError(
            f"version {version}: must be more than {last}, which TVs have, or none of them takes "
            f"the Bundle (and at most {VERSION_MOST})"
        )
    return version


def _wanted(base: Base, flavours: Sequence[Flavour]) -> tuple[Flavour, ...]:
    for flavour in flavours:
        if flavour not in base.bundles:
            have = ", ".join(base.bundles)
            raise LineageError(f"{base.folder}: no flavour {flavour} there; it has {have}")
    return tuple(flavour for flavour in base.bundles if flavour in flavours or not flavours)


def _check_ratings(base: Base, court: Court) -> None:
    """The targets must be those of the base: else it has seen some of them."""
    quality = base.bundle.manifest.quality
    same = quality is None or quality.split_sha256 == court.split_sha256
    if not same or tuple(base.bundle.titles()) != court.interactions.titles:
        raise DataError(
            f"{base.recipe.data.source}: not the ratings that {base.folder} was made of; "
            f"bring them back, or run couchside-compress on the new ones"
        )


def _clear(part: Path) -> None:
    """Remove what a killed refresh left, but not the lock that is held."""
    for path in part.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def _make(this: _Refresh, part: Path, seconds: dict[str, float]) -> Report:
    base, recipe, models, court = this.base, this.recipe, this.base.models, this.court
    graphs = part / "work" / "graphs"
    with _timed("[2/4] graphs", seconds):
        models_file = _lay_out(this, part)
        families = pack.families(recipe)
        with exporting(graphs / "recipe.json", models_file, graphs, families, [REMADE]) as wait:
            # Meanwhile, for the gate: what was, and what no quantised flavour can be better than.
            before = {f: court.measure_bundle(base.bundles[f]) for f in recipe.flavours}
            student = court.measure(models.ranker.scores(court.interactions, court.wanted))
            wait()
    with _timed("[3/4] pack", seconds):
        contents = pack.Contents(
            recipe=recipe,
            models=models,
            titles=court.interactions.titles,
            popularity=this.popularity.values,
            popularity_weight=base.bundle.popularity_weight,
            popularity_as_of=this.popularity.as_of,
        )
        parity = pack.pack_all(part / "bundles", contents, graphs)
    with _timed("[4/4] gate", seconds):
        verdicts = tuple(
            _judge(this, part / "bundles" / f, before[f], student) for f in recipe.flavours
        )
    return Report(
        round_id=this.result.round_id,
        folded=this.result.folded,
        base_version=base.bundle.version,
        version=recipe.version,
        gate=verdicts,
        titles_counted=this.popularity.counted,
        popularity_as_of=this.popularity.as_of,
        parity=parity,
        seconds=seconds,
    )


def _lay_out(this: _Refresh, part: Path) -> Path:
    """Write the new checkpoint, and beside it all that stays as it was; returns the checkpoint."""
    old, new = this.base.folder / "work", part / "work"
    for name in ("student", "validation", "graphs"):
        (new / name).mkdir(parents=True)
    models_file = new / "student" / "models.npz"
    save_models(this.base.models, models_file)
    recipe = json.dumps(strict.to_json(this.recipe), sort_keys=True)
    (new / "graphs" / "recipe.json").write_text(recipe)
    kept = ["validation/validation.json"]
    for family in pack.families(this.recipe):
        for graph in KEPT:
            kinds = ("float", "int8") if graph in QUANTIZED else ("float",)
            kept += [f"graphs/{family}/{kind}/{graph}{SUFFIX[family]}" for kind in kinds]
    for name in kept:
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(old / name, new / name)
    return models_file


def _judge(this: _Refresh, folder: Path, base: PerUser, student: PerUser) -> Verdict:
    """Let a Bundle through the gate and write into it what was measured."""
    bundle = open_bundle(folder)
    measured = this.court.measure_bundle(bundle)
    verdict = judge(bundle.flavour, measured, base)
    change = verdict.change
    tqdm.write(
        f"  {bundle.flavour}: NDCG@10 {verdict.ndcg_at_10:.4f}, {change.mean:+.2%} to the base "
        f"[{change.low:+.2%}, {change.high:+.2%}]"
    )
    loss = evaluate.loss_to(measured, student)
    quality = QualityRecord(
        split_sha256=this.court.split_sha256,
        ndcg_at_10=verdict.ndcg_at_10,
        ndcg_loss_low=loss.low,
        ndcg_loss=loss.mean,
        ndcg_loss_high=loss.high,
    )
    pack.record_quality(folder, quality)
    return verdict


def _publish(part: Path, out: Path) -> None:
    """From the rename on, ``part`` is the next refresh's: nothing there may be touched."""
    part.rename(out)
    (out / LOCK).unlink()  # held until then, wherever it lies
