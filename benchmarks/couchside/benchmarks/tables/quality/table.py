"""The table ``quality``: is the ranking worth having, and where does it end?

All of it is offline, on ratings that people gave and not on what they watched: it orders models,
and says nothing about how glad a household will be.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from couchside.benchmarks.lab import LabReport, read_lab_report
from couchside.benchmarks.tables.compression.judged import read_lab
from couchside.benchmarks.tables.quality import cold, documents, widths
from couchside.benchmarks.tables.table import Body, Cell, Column, Row, Section, Table
from couchside.compression.report import ENCODER, ITEM_TABLE, USER_MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from couchside.benchmarks.tables.bench import Bench
    from couchside.benchmarks.tables.compression.judged import Lab
    from couchside.device.quality import Interval

PROMISED = "litert-int8"
"""The flavour that the promise is about."""
QUICK_TARGETS = 700
SHOWN = ", shown ranking"
REPORT = (
    Column("models", "kB", "less"),
    Column("NDCG@10", "", "more"),
    Column("HR@10", "", "more"),
    Column("over popularity-7d", "%", "more"),
    Column("loss to float", "%", "less"),
)
VIEWERS = (
    Column("popularity-7d", "", "more"),
    Column("ItemKNN", "", "more"),
    Column("user model alone", "", "more"),
    Column("shown ranking", "", "more"),
    Column("shown over popularity-7d", "%", "more"),
)
TITLES = (
    Column("NDCG@10 among new titles", "", "more"),
    Column("over TF-IDF kNN", "%", "more"),
    Column("HR@10 among new titles", "", "more"),
    Column("NDCG@10 among all titles", "", "more"),
)
WIDTHS = (
    Column("user model in float", "kB", "less"),
    Column("NDCG@10", "", "more"),
    Column("over popularity-7d", "%", "more"),
    Column("loss to the one we ship", "%", "less"),
)
KB = 1000


def _run(bench: Bench) -> Body:
    lab = read_lab(bench.bundles_folder)
    report = read_lab_report(lab.folder / "quality.json")
    most = bench.quick_or_full(QUICK_TARGETS, None)
    viewers = bench.unit("quality/new viewers", lambda: cold.new_viewers(lab, most))
    titles = bench.unit("quality/new titles", lambda: cold.new_titles(lab))
    sections = [_report(report), _viewers(viewers, lab, most), _titles(titles)]
    if bench.size == "full":
        sections.append(_widths(bench, lab))
    sections += map(documents.section, documents.read_documents(documents.FOLDER))
    shown = [line for line in report.rows if line.name == PROMISED + SHOWN]
    bound = tuple(100 * line.over_popularity.low for line in shown)
    return Body(tuple(sections), promised={"gain_over_popularity": bound} if bound else {})


TABLE = Table(
    "quality",
    "Quality of the ranking",
    "Does it beat popularity, for whom does it not, and what do bytes buy?",
    _run,
)


def _report(report: LabReport) -> Section:
    """What the lab measured when it made these Bundles."""
    sizes: dict[str, int] = {}
    for size in report.sizes:
        if size.part in (ENCODER, USER_MODEL, ITEM_TABLE):
            sizes[size.form] = sizes.get(size.form, 0) + size.bytes
    return Section(
        title="On the sample, as the lab measured it",
        text=f"MovieTweetings: {report.targets:,} ratings of {report.users:,} users after a cut "
        f"in time (split {report.split_sha256[:12]}), each ranked among every title its user has "
        "not seen; models are frozen at the cut while histories grow. Metrics are averaged within "
        "a user first. Brackets are paired 95 % intervals over users.",
        columns=REPORT,
        rows=tuple(_line(line, sizes) for line in report.rows),
        caveats=(
            (
                "Popularity that is counted anew every day needs a network; what is frozen, ours "
                "too, can't know what came out since."
            ),
            (
                f"{report.cold_events_left_out:,} ratings of titles or users that the models could "
                "not know were left out; new titles have their own section."
            ),
            "People rate on the day of a premiere; viewing at home is less of a crowd.",
        ),
        chart="NDCG@10",
    )


def _line(line: Any, sizes: Mapping[str, int]) -> Row:
    form = line.name.split(",")[0]
    size = sizes.get(form)
    return Row(
        line.name,
        (
            Cell(text="–") if size is None else Cell(size / KB),
            Cell(line.ndcg_at_10),
            Cell(line.hr_at_10),
            _percent(line.over_popularity),
            Cell(text="–") if line.loss is None else _percent(line.loss),
        ),
        ours=line.name.endswith(SHOWN) and form != "teacher",
    )


def _viewers(found: Sequence[Mapping[str, Any]], lab: Lab, most: int | None) -> Section:
    some = "all" if most is None else f"{len(lab.targets(most)):,}"
    return Section(
        title="New viewers: how soon is it worth having?",
        text=f"The float student on {some} of the same targets, NDCG@10, when only the last events "
        "of each history are known; popularity as in the Bundle is all that is shown before the "
        "first. Brackets are the paired 95 % interval.",
        columns=VIEWERS,
        rows=tuple(_viewer(row) for row in found),
        caveats=(
            (
                "Real viewers with their history cut short: the sample has too few users who "
                "came after the cut. What they have seen stays out of the ranking."
            ),
        ),
        chart="shown ranking",
    )


def _viewer(row: Mapping[str, Any]) -> Row:
    known = row["known"]
    name = "everything" if known is None else f"{known} event{'' if known == 1 else 's'}"
    values = (row[key] for key in ("popularity", "item_knn", "alone", "shown"))
    return Row(name, (*map(Cell, values), _triple(row["gain"])))


def _titles(found: Mapping[str, Any]) -> Section:
    return Section(
        title="New titles: what does their text tell?",
        text=f"{found['targets']:,} ratings by {found['users']:,} users of {found['titles']} "
        "titles that nobody had rated before the cut, ranked among these titles, and among all. "
        "Every row reads the same words of name, genres and year. Brackets are 95 % intervals "
        f"over users; in random order it would be {found['chance']:.4f}.",
        columns=TITLES,
        rows=tuple(
            Row(
                row["name"],
                (_triple(row["among"]), _triple(row["gain"]), Cell(row["hit"]), Cell(row["every"])),
                ours=row["name"] != "TF-IDF kNN",
            )
            for row in found["rows"]
        ),
        caveats=(
            "The encoder was trained on these titles' words and genres too, on nobody's ratings.",
            "Years tell much here: what is new is rated by those who rate what is new.",
            "Among all titles, a new one has no popularity to be carried by, whoever ranks it.",
        ),
        chart="NDCG@10 among new titles",
    )


def _widths(bench: Bench, lab: Lab) -> Section:
    rivals, shipped = widths.Rivals(lab), lab.recipe.student_user.width
    found = {
        width: bench.unit(f"quality/width {width}", partial(rivals.train, width))
        for width in widths.WIDTHS
    }
    found[shipped] = bench.unit("quality/width as shipped", rivals.shipped)
    rows = [
        Row(
            f"width {width}",
            (Cell(made["bytes"] / KB), Cell(made["ndcg"]), _triple(made["gain"]),
             _triple(made["loss"])),
            ours=width == shipped,
        )
        for width, made in found.items()
    ]  # fmt: skip
    return Section(
        title="A narrower user model",
        text="The student trained again with a narrower user model on the same content, with the "
        "same teacher, epochs and seed; all targets, the shown ranking, in float. Brackets are "
        "paired 95 % intervals over users.",
        columns=WIDTHS,
        rows=tuple(rows),
        caveats=(
            "One seed each: what lies within an interval is not settled.",
            "Popularity's weight was chosen for the width that ships.",
        ),
        chart="NDCG@10",
    )


def _percent(interval: Interval) -> Cell:
    return Cell(100 * interval.mean, 100 * interval.low, 100 * interval.high)


def _triple(values: Sequence[float]) -> Cell:
    low, mean, high = values
    return Cell(mean, low, high)
