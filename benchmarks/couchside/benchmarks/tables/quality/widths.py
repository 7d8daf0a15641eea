"""The same student with a narrower user model: what width buys, everything else equal.

Item content, teacher, data, epochs and seed are the lab's; only the width of the user model
differs, and its projection and deltas are trained with it, as always.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from couchside.benchmarks.tables.compression.judged import loss_percent
from couchside.benchmarks.tables.quality.cold import percent
from couchside.compression import evaluate
from couchside.compression.data import BASELINE_WINDOW_DAYS
from couchside.device.features import DAY
from couchside.device.quality import paired_difference

if TYPE_CHECKING:
    from couchside.benchmarks.tables.compression.judged import Lab
    from couchside.compression.fit import Ranker

WIDTHS = (8, 16, 32)


def train(lab: Lab, width: int) -> dict[str, Any]:
    """Train the student with a user model of ``width`` and judge it beside the shipped one."""
    # Late, as in read_lab: torch.
    from couchside.compression.fit import fit  # noqa: PLC0415
    from couchside.compression.student import load_models  # noqa: PLC0415

    recipe = lab.recipe
    teacher = load_models(
        recipe,
        recipe.teacher_text,
        recipe.teacher_user,
        lab.folder / "work" / "teacher" / "models.npz",
    )
    narrow = fit(
        recipe,
        replace(recipe.student_user, width=width),
        lab.models.ranker.table.content,  # type: ignore[arg-type]
        lab.interactions,
        until=lab.split.test_from,
        teacher=teacher.ranker,
        label=f"user model of width {width}",
    )
    return judge(lab, narrow)


def judge(lab: Lab, ranker: Ranker) -> dict[str, Any]:
    """Bytes in float, NDCG@10, gain over popularity and loss to the lab's student in per cent."""
    wanted = lab.targets(None)
    yardstick = evaluate.Judge(lab.interactions, wanted)
    cut = lab.split.test_from
    counts = lab.interactions.counts(cut - BASELINE_WINDOW_DAYS * DAY, cut)
    popular = yardstick.per_user(yardstick.constant(counts))
    student = yardstick.per_user(lab.models.ranker.scores(lab.interactions, wanted) + lab.prior)
    mine = yardstick.per_user(ranker.scores(lab.interactions, wanted) + lab.prior)
    gain = paired_difference(mine.ndcg, popular.ndcg, relative=True)
    loss = loss_percent(mine, student)
    parameters = sum(parameter.numel() for parameter in ranker.tower.parameters())
    return {
        "bytes": 4 * parameters,
        "ndcg": float(mine.ndcg.mean()),
        "gain": percent(gain),
        "loss": [loss.low, loss.mean, loss.high],
    }
