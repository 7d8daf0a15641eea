"""The same report for a terminal: a shelf and the figures as plain text."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from couchside.benchmarks.page import words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from couchside.benchmarks.page.report import (
        Arrival,
        DemoReport,
        Learning,
        LearningTv,
        Refusal,
        Release,
        ShownCard,
        ShownShelf,
    )

NAME_WIDTH = 40
TOLD_WIDTH = 96


def shelf(shown: ShownShelf, utc_offset_h: float, *, cards: int) -> str:
    """The rows of a shelf with the first few cards of each."""
    rows = []
    for row in shown.rows:
        rows.append(f"  {words.heading(row)}")
        rows += [f"    {_card(card, utc_offset_h)}" for card in row.cards[:cards]]
    return "\n".join(rows)


def _card(card: ShownCard, utc_offset_h: float) -> str:
    name = f"{card.name} ({card.year})" if card.year else card.name
    if len(name) > NAME_WIDTH:
        name = name[: NAME_WIDTH - 1] + "…"
    return f"{name:<{NAME_WIDTH}}  {words.caption(card, utc_offset_h)}".rstrip()


def release(shown: Release) -> str:
    """What was signed, and what it took to reach each TV."""
    heading = (
        f"  version {shown.version}: {words.size(shown.bundle_bytes)} on a TV, "
        f"{words.size(shown.wire_bytes)} in {words.count(shown.blocks, 'block')} on the wire, "
        f"head {shown.head_bytes:,} B"
    )
    return "\n".join((heading, *(_arrival(shown, one) for one in shown.arrivals)))


def _arrival(shown: Release, one: Arrival) -> str:
    return (
        f"    {one.tv}  {words.step(one):<15}{words.span(one.seconds):>6}"
        f"{one.bytes_in:>11,} B in{one.bytes_out:>8,} B out"
        f"{one.fetched:>4} blocks fetched,{words.reused(shown, one):>4} reused"
    )


def refusal(shown: Refusal) -> str:
    """What was tried, and what a TV said to it."""
    told = textwrap.fill(
        f"“{shown.words}”", TOLD_WIDTH, initial_indent="    ", subsequent_indent="     "
    )
    return (
        f"  {shown.attack}\n{told}\n    {words.count(shown.tvs, 'TV')} refused within "
        f"{words.span(shown.seconds)}; each still answers rows from version {shown.version}, "
        f"in {shown.rows_ms:.1f} ms at most"
    )


def learning(shown: Learning) -> str:
    """What the Round gave, and what changed."""
    judged = (
        f"  NDCG@10 of the shown ranking on {shown.targets:,} titles that {shown.users:,} of these "
        f"people watched later:\n    {shown.ndcg_before:.4f} before, {shown.ndcg_after:.4f} after, "
        f"{words.change(shown.gain)}"
    )
    return "\n".join((judged, f"  {words.privacy(shown)}", *map(_learner, shown.tvs)))


def _learner(shown: LearningTv) -> str:
    return (
        f"  {shown.tv}: child {words.size(shown.child_peak_bytes)} at most, gone; "
        f"came {', '.join(shown.came) or 'nothing'}; went {', '.join(shown.went) or 'nothing'}"
    )


def figures(report: DemoReport) -> str:
    """Sizes, quality, latency, promises and sockets."""
    parts = (_sizes(report), _quality(report), _latencies(report), _promises(report))
    return "\n\n".join("\n".join(part) for part in (*parts, _sockets(report)))


def _sizes(report: DemoReport) -> Iterator[str]:
    heads = " ".join(f"{head:>11}" for head in ("encoder", "user model", "item table", "models"))
    yield f"{'Bytes':<18}{heads}  smaller"
    for size in report.sizes:
        parts = (size.encoder, size.user_model, size.item_table, size.models)
        columns = " ".join(f"{part:>11,}" for part in parts)
        smaller = words.times(report.sizes[0].models, size.models)
        yield f"  {size.name:<16}{columns}  {smaller:>7}"


def _quality(report: DemoReport) -> Iterator[str]:
    yield "NDCG@10, and over popularity-7d with the paired 95 % bootstrap over users"
    for quality in report.qualities:
        gain = words.change(quality.over_popularity)
        loss = f", loss to float {words.change(quality.loss, 2)}" if quality.loss else ""
        yield f"  {quality.name:<42}{quality.ndcg_at_10:.4f}  {gain}{loss}"


def _latencies(report: DemoReport) -> Iterator[str]:
    yield f"{'Milliseconds':<34}{'n':>7} {'p50':>8} {'p99':>8} {'longest':>8}"
    for line in report.latencies:
        p99 = "-" if line.p99_ms is None else f"{line.p99_ms:.2f}"
        yield f"  {line.what:<32}{line.n:>7,} {line.p50_ms:>8.2f} {p99:>8} {line.longest_ms:>8.2f}"


def _promises(report: DemoReport) -> Iterator[str]:
    yield "Promises"
    for line in report.promises:
        value = words.measured(line.values[0], line.budget.unit)
        bound = "at least" if line.budget.at_most is None else "at most"
        limit = words.measured(line.budget.limit, line.budget.unit)
        yield f"  {line.verdict.value:<8}{value:>10}, {bound} {limit:<8}  {line.budget.what}"


def _sockets(report: DemoReport) -> Iterator[str]:
    sockets = report.sockets
    yield (
        f"What left the TV: {sockets.looks} looks at the daemon found at most {sockets.unix} Unix "
        f"sockets and {sockets.internet} of any other family"
    )
