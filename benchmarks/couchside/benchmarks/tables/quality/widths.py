"""The same student with a narrower user model: what width buys, everything else equal.

Item content, teacher, data, epochs and seed are the lab's; only the width of the user model
differs, and its projection and deltas are trained with it, as always.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from couchside.benchmarks.tables.compression.judged import loss_percent
from couchside.benchmarks.tables.quality.cold import percent
from couchside.compression.data import BASELINE_WINDOW_DAYS
from couchside.compression.evaluate import Judge
from couchside.device.features import DAY
from couchside.device.quality import paired_difference

if TYPE_CHECKING:
    from couchside.benchmarks.tables.compression.judged import Lab
    from couchside.compression.evaluate import PerUser
    from couchside.compression.fit import Ranker

WIDTHS = (16, 32)


class Rivals:
    """Rankers beside the lab's student, on all targets of its test."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._wanted = lab.targets(None)
        self._judge = Judge(lab.interactions, self._wanted)

    def shipped(self) -> dict[str, Any]:
        """The student that ships, in the form of ``train``."""
        return self._record(self._lab.models.ranker, self._student)

    def train(self, width: int) -> dict[str, Any]:
        """Train a student with a user model of ``width``.

        Returns:
            Bytes of the user model in float32, NDCG@10 of the shown ranking, its gain over
            popularity and its loss to the student that ships, both paired and in per cent.
        """
        # Late, as in read_lab: torch.
        from couchside.compression.fit import fit  # noqa: PLC0415
        from couchside.compression.student import load_models  # noqa: PLC0415

        recipe = self._lab.recipe
        teacher = load_models(
            recipe,
            recipe.teacher_text,
            recipe.teacher_user,
            self._lab.folder / "work" / "teacher" / "models.npz",
        )
        narrow = fit(
            recipe,
            replace(recipe.student_user, width=width),
            self._lab.models.ranker.table.content,  # type: ignore[arg-type]
            self._lab.interactions,
            until=self._lab.split.test_from,
            teacher=teacher.ranker,
            label=f"user model of width {width}",
        )
        return self._record(narrow, self._shown(narrow))

    @cached_property
    def _student(self) -> PerUser:
        return self._shown(self._lab.models.ranker)

    @cached_property
    def _popular(self) -> PerUser:
        cut = self._lab.split.test_from
        counts = self._lab.interactions.counts(cut - BASELINE_WINDOW_DAYS * DAY, cut)
        return self._judge.per_user(self._judge.constant(counts))

    def _shown(self, ranker: Ranker) -> PerUser:
        alone = ranker.scores(self._lab.interactions, self._wanted)
        return self._judge.per_user(alone + self._lab.prior)

    def _record(self, ranker: Ranker, measured: PerUser) -> dict[str, Any]:
        loss = loss_percent(measured, self._student)
        gain = paired_difference(measured.ndcg, self._popular.ndcg, relative=True)
        return {
            "bytes": 4 * sum(parameter.numel() for parameter in ranker.tower.parameters()),
            "ndcg": float(measured.ndcg.mean()),
            "gain": percent(gain),
            "loss": [loss.low, loss.mean, loss.high],
        }
