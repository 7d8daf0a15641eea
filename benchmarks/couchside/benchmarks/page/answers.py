"""Answers of the daemon → what a launcher shows: names, years and channels beside the codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from couchside.benchmarks.page.report import ShownCard, ShownRow, ShownShelf, Why
from couchside.benchmarks.tv.evening import channel_name, episode_name
from couchside.device.records import Reason, ReasonCode, RowCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from couchside.device.records import Title


def shown_shelf(
    viewer: str, at: float, answer: Any, titles: Mapping[str, Title], *, note: str
) -> ShownShelf:
    """The answer to ``rows``."""
    rows = tuple(
        ShownRow(
            RowCode(row["code"]),
            tuple(shown_card(card, titles) for card in row["cards"]),
            row["params"].get("name"),
        )
        for row in answer["rows"]
    )
    return ShownShelf(viewer, at, rows, note)


def shown_card(card: Any, titles: Mapping[str, Title]) -> ShownCard:
    """A card of the shelf beside what the launcher knows of its title."""
    title = titles[card["title_id"]]
    evidence = tuple(card["reason"]["evidence"]) if card["reason"] else ()
    return ShownCard(
        title_id=title.title_id,
        name=card["name"],
        genres=title.genres,
        year=title.year,
        reason=Reason(ReasonCode(card["reason"]["code"]), evidence) if card["reason"] else None,
        because=tuple(titles[one].name for one in evidence),
        progress=card["progress"],
        channel=channel_name(title),
        starts_at=title.starts_at,
        ends_at=title.ends_at,
        episode=episode_name(title),
    )


def shown_why(viewer: str, card: Any, answer: Any, titles: Mapping[str, Title]) -> Why:
    """The answer to ``explain`` for a card."""
    shown = shown_card({**card, "reason": answer["reason"]}, titles)
    return Why(viewer, shown, RowCode(answer["row"]) if answer["row"] else None)
