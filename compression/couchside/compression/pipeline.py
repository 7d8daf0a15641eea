"""The stages from ratings to Bundles; a finished stage is not done again.

A stage is finished when ``work/NAME/done`` holds its fingerprint: a hash of the recipe, the input
data, the sources of ours that decide the result, and everything before it. Anything else is redone,
so a stale result can't slip into a Bundle. A stage's folder is removed before it starts: a killed
run leaves nothing that the next one would trust.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from couchside.compression import data, evaluate, pack
from couchside.compression.alone import alone
from couchside.compression.distill import distill_text
from couchside.compression.errors import CompressionError
from couchside.compression.exporters import exporting
from couchside.compression.fit import fit
from couchside.compression.report import print_quality, size_rows
from couchside.compression.student import Models, load_models, save_models
from couchside.compression.teacher import content_vectors, fit_text_teacher, token_table
from couchside.device import strict
from couchside.device.bundle import QualityRecord, open_bundle
from couchside.device.features import DAY

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from numpy.typing import NDArray

    from couchside.compression.recipe import Recipe


@dataclass(frozen=True)
class Run:
    """One run of the pipeline: where it writes and what it learns from."""

    recipe: Recipe
    out: Path
    interactions: data.Interactions
    split: data.Split

    @property
    def work(self) -> Path:
        """Folder of the stages."""
        return self.out / "work"

    @property
    def models_file(self) -> Path:
        """The student's checkpoint."""
        return self.work / "student" / "models.npz"


def run(recipe: Recipe, out: Path) -> Path:
    """Make every flavour of ``recipe`` under ``out``; returns the folder of the Bundles.

    Raises:
        CompressionError: with what is wrong and what to do.
    """
    interactions = data.load_interactions(recipe.data)
    this = Run(recipe, out, interactions, data.split(interactions, recipe.data))
    fingerprint = _fingerprint(this)
    stages: list[tuple[str, Callable[[Run, Path], None]]] = [
        ("validation", _validate),
        ("teacher", _teach),
        ("student", _distill),
        ("graphs", _export),
        ("drafts", _pack),
        ("quality", _evaluate),
    ]
    with alone(this.work):
        for number, (name, stage) in enumerate(stages, start=1):
            fingerprint = hashlib.sha256(f"{fingerprint} {name}".encode()).hexdigest()
            _do_stage(this, f"[{number}/{len(stages)}] {name}", name, stage, fingerprint)
        return _publish(this)


def _fingerprint(this: Run) -> str:
    digest = hashlib.sha256(this.split.sha256.encode())
    digest.update(repr(this.interactions.titles).encode())
    digest.update(_recipe_json(this.recipe).encode())
    for source in _own_sources():
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _own_sources() -> list[Path]:
    """Files of ours that this module has imported, directly or not."""
    loaded = {name: module for name, module in sys.modules.items() if name.startswith("couchside.")}
    files = {getattr(module, "__file__", None) for module in loaded.values()}
    return sorted(Path(file) for file in files if file)


def _recipe_json(recipe: Recipe) -> str:
    return json.dumps(strict.to_json(recipe), sort_keys=True)


def _do_stage(
    this: Run, label: str, name: str, stage: Callable[[Run, Path], None], fingerprint: str
) -> None:
    folder, done = this.work / name, this.work / name / "done"
    if done.is_file() and done.read_text() == fingerprint:
        tqdm.write(f"{label}: done before")
        return
    tqdm.write(label)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = time.monotonic()
    stage(this, folder)
    done.write_text(fingerprint)
    tqdm.write(f"{label}: {time.monotonic() - start:.1f} s")


def _validate(this: Run, folder: Path) -> None:
    """Fit a student-sized ranker before the validation window and choose popularity's weight."""
    recipe, interactions = this.recipe, this.interactions
    cut = this.split.validation_from
    text = fit_text_teacher(recipe, interactions, until=cut)
    content = content_vectors(text, _tokens(this, recipe.teacher_text.buckets))
    ranker = fit(
        recipe, recipe.student_user, content, interactions, until=cut, label="validation: user"
    )
    wanted = data.targets(interactions, cut, this.split.test_from)
    weight, ndcg = evaluate.choose_popularity_weight(
        evaluate.Judge(interactions, wanted),
        ranker.scores(interactions, wanted),
        interactions.popularity(cut, recipe.data.popularity_half_life_days),
        recipe.training.popularity_weights,
    )
    tqdm.write(f"  popularity weight {weight:g} (NDCG@10 on validation {ndcg[weight]:.4f})")
    result = {"popularity_weight": weight, "ndcg_at_10": {f"{w:g}": v for w, v in ndcg.items()}}
    (folder / "validation.json").write_text(json.dumps(result, indent=1))


def _teach(this: Run, folder: Path) -> None:
    recipe, cut = this.recipe, this.split.test_from
    text = fit_text_teacher(recipe, this.interactions, until=cut)
    content = content_vectors(text, _tokens(this, recipe.teacher_text.buckets))
    ranker = fit(
        recipe, recipe.teacher_user, content, this.interactions, until=cut, label="teacher: user"
    )
    save_models(Models(text, ranker), folder / "models.npz")


def _distill(this: Run, folder: Path) -> None:
    recipe, teacher = this.recipe, _load_teacher(this)
    text = distill_text(recipe, this.interactions, teacher.ranker.table.content)  # type: ignore[arg-type]
    content = content_vectors(text, _tokens(this, recipe.student_text.buckets))
    ranker = fit(
        recipe,
        recipe.student_user,
        content,
        this.interactions,
        until=this.split.test_from,
        teacher=teacher.ranker,
        label="student: user",
    )
    save_models(Models(text, ranker), folder / "models.npz")


def _export(this: Run, folder: Path) -> None:
    recipe_file = folder / "recipe.json"
    recipe_file.write_text(_recipe_json(this.recipe))
    with exporting(recipe_file, this.models_file, folder, pack.families(this.recipe)) as wait:
        wait()


def _pack(this: Run, folder: Path) -> None:
    """A Bundle a flavour that still lacks its quality."""
    contents = pack.Contents(
        recipe=this.recipe,
        models=_load_student(this),
        titles=this.interactions.titles,
        popularity=this.interactions.popularity(
            this.split.test_from, this.recipe.data.popularity_half_life_days
        ),
        popularity_weight=_popularity_weight(this),
        popularity_as_of=this.split.test_from,
    )
    report = pack.pack_all(folder, contents, this.work / "graphs")
    (folder / "parity.json").write_text(json.dumps(report, indent=1))


def _evaluate(this: Run, folder: Path) -> None:
    interactions, cut = this.interactions, this.split.test_from
    wanted = data.targets(interactions, cut, np.inf)
    judge = evaluate.Judge(interactions, wanted)
    weight = _popularity_weight(this)
    prior = np.float32(weight) * interactions.popularity(
        cut, this.recipe.data.popularity_half_life_days
    )
    window = cut - data.BASELINE_WINDOW_DAYS * DAY
    popularity = judge.per_user(judge.constant(interactions.counts(window, cut)))
    rows = [evaluate.quality_row("popularity-7d, frozen", popularity, popularity)]

    def add(
        name: str, scores: NDArray[np.float32], student: evaluate.PerUser | None = None
    ) -> evaluate.PerUser:
        measured = judge.per_user(scores)
        rows.append(evaluate.quality_row(name, measured, popularity, student))
        tqdm.write(f"  {name}: NDCG@10 {rows[-1].ndcg_at_10:.4f}")
        return measured

    rolling = evaluate.rolling_popularity(interactions, wanted)
    add("popularity-7d, rolling (needs a network)", rolling)
    add("popularity of the Bundle, frozen", judge.constant(prior))
    add("ItemKNN", evaluate.item_knn(interactions, cut, wanted))
    teacher = _load_teacher(this).ranker.scores(interactions, wanted)
    add("teacher, user model alone", teacher)
    add("teacher, shown ranking", teacher + prior)
    student = _load_student(this).ranker.scores(interactions, wanted)
    add("float student, user model alone", student)
    reference = add("float student, shown ranking", student + prior)
    for flavour in this.recipe.flavours:
        bundle = open_bundle(this.work / "drafts" / flavour)
        scores = evaluate.bundle_scores(bundle, interactions, wanted)
        add(f"{flavour}, shown ranking", scores + prior, reference)
    after = int((interactions.times >= cut).sum())
    table = evaluate.QualityTable(
        split_sha256=this.split.sha256,
        test_from=cut,
        users=judge.users,
        targets=len(wanted),
        cold_events_left_out=after - len(wanted),
        popularity_weight=weight,
        rows=tuple(rows),
    )
    (folder / "quality.json").write_text(json.dumps(strict.to_json(table), indent=1))


def _publish(this: Run) -> Path:
    """Put the measured Bundles and reports in place; print what a person wants to know."""
    table = strict.from_json(
        evaluate.QualityTable, strict.loads((this.work / "quality" / "quality.json").read_bytes())
    )
    bundles = this.out / "bundles"
    fresh = this.out / "bundles.part"
    shutil.rmtree(fresh, ignore_errors=True)
    for flavour in this.recipe.flavours:
        shutil.copytree(this.work / "drafts" / flavour, fresh / flavour)
        pack.record_quality(fresh / flavour, _quality_record(table, flavour))
    shutil.rmtree(bundles, ignore_errors=True)
    fresh.rename(bundles)
    sizes = size_rows(_load_teacher(this), _load_student(this), bundles, this.recipe.flavours)
    report = strict.to_json(table) | {"sizes": strict.to_json(sizes)}
    (this.out / "quality.json").write_text(json.dumps(report, indent=1) + "\n")
    shutil.copyfile(this.work / "drafts" / "parity.json", this.out / "parity.json")
    print_quality(table, sizes)
    return bundles


def _quality_record(table: evaluate.QualityTable, flavour: str) -> QualityRecord:
    row = next(row for row in table.rows if row.name.startswith(f"{flavour},"))
    if row.loss is None:
        raise CompressionError(f"{flavour} was not measured; delete work/quality and run again")
    return QualityRecord(
        split_sha256=table.split_sha256,
        ndcg_at_10=row.ndcg_at_10,
        ndcg_loss_low=row.loss.low,
        ndcg_loss=row.loss.mean,
        ndcg_loss_high=row.loss.high,
    )


def _tokens(this: Run, buckets: int) -> torch.Tensor:
    return token_table(this.interactions, length=this.recipe.text_tokens, buckets=buckets)


def _popularity_weight(this: Run) -> float:
    result = json.loads((this.work / "validation" / "validation.json").read_text())
    return float(result["popularity_weight"])


def _load_teacher(this: Run) -> Models:
    recipe = this.recipe
    path = this.work / "teacher" / "models.npz"
    return load_models(recipe, recipe.teacher_text, recipe.teacher_user, path)


def _load_student(this: Run) -> Models:
    recipe = this.recipe
    return load_models(recipe, recipe.student_text, recipe.student_user, this.models_file)
