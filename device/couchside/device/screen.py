"""What the command line shows: answers of the daemon as text for a person."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADINGS = {
    "continue_watching": "Continue watching",
    "for_you": "For you",
    "because_you_watched": "Because you watched {name}",
    "live_now": "On now",
    "new": "New",
    "popular": "Popular",
}
NAME_WIDTH = 44
BAR_WIDTH = 10


def rows(answer: Any) -> str:
    """The shelf."""
    if not answer["rows"]:
        return "The shelf is empty. Load titles (couchside load FILE) or watch something."
    parts = []
    for row in answer["rows"]:
        heading = HEADINGS.get(row["code"], row["code"]).format(**row["params"])
        lines = [f"  {_card(card, answer['names'])}" for card in row["cards"]]
        parts.append("\n".join((heading, *lines)))
    return "\n\n".join(parts)


def cards(answer: Any) -> str:
    """A plain list of titles."""
    if not answer["cards"]:
        return "nothing found"
    return "\n".join(
        f"{card['name']:<{NAME_WIDTH}}  {card['title_id']}" for card in answer["cards"]
    )


def why(answer: Any) -> str:
    """Why a card stands where it stands."""
    names, row = answer["names"], answer["row"]
    name = names.get(answer["title_id"], answer["title_id"])
    place = f"{name} is in the row {row!r}" if row else f"{name} is not on the shelf"
    reason = reason_text(answer["reason"], names)
    return f"{place}: {reason}" if reason else f"{place}; no single thing that was watched moves it"


def reason_text(reason: Mapping[str, Any] | None, names: Mapping[str, str]) -> str:
    """A reason in words; empty if there is none."""
    if reason is None:
        return ""
    evidence = " and ".join(names.get(title, title) for title in reason["evidence"])
    words = {
        "unfinished": "you stopped in the middle",
        "next_episode": f"follows {evidence}" if evidence else "the next episode",
        "watched": f"because of {evidence}",
        "similar_to": f"like {evidence}",
        "on_now": "on the air now",
        "new_here": "new here",
        "popular": "watched by many",
    }
    return words.get(reason["code"], str(reason["code"]))


def _card(card: Mapping[str, Any], names: Mapping[str, str]) -> str:
    name = card["name"]
    if len(name) > NAME_WIDTH:
        name = name[: NAME_WIDTH - 1] + "…"
    notes = [_bar(card["progress"]), reason_text(card["reason"], names), _until(card["expires_at"])]
    return f"{name:<{NAME_WIDTH}}  {' · '.join(filter(None, notes))}".rstrip()


def _bar(progress: float | None) -> str:
    if progress is None:
        return ""
    full = round(progress * BAR_WIDTH)
    return "▰" * full + "▱" * (BAR_WIDTH - full)


def _until(expires_at: float | None) -> str:
    if expires_at is None:
        return ""
    return time.strftime("until %a %H:%M", time.localtime(expires_at))


def done(answer: Any) -> str:
    """An event that was taken."""
    return f"{answer['name']}: {answer['status']}"


def forgotten(answer: Any) -> str:
    """What was erased."""
    return f"erased {answer['events']} events; their bytes are gone from the TV"


def exported(answer: Any) -> str:
    """A summary of an export; the whole is what ``--out`` or ``--json`` gives."""
    said = [one["purpose"] for one in answer["consent"] if one["granted"]]
    members = len(answer["profiles"])
    return (
        f"{len(answer['events'])} events of {members} profile{'s' * (members != 1)};"
        f" allowed: {', '.join(said) or 'nothing'}"
    )


def profiles(answer: Any) -> str:
    """The members of the household."""
    return "\n".join(
        f"{one['profile_id']:<16}  {one['name']:<24}  "
        + ("no fence" if one["max_maturity"] is None else f"up to age {one['max_maturity']}")
        for one in answer["profiles"]
    )


def loaded(answer: Any) -> str:
    """What became of a source, with its first problems."""
    counts = f"{answer['titles']} titles, {answer['known']} known to the Bundle"
    lines = [f"{answer['source']}: {counts}, {answer['problems']} problems"]
    lines += [f"  {problem}" for problem in answer["first_problems"]]
    if answer["problems"] > len(answer["first_problems"]):
        lines.append("  …")
    return "\n".join(lines)


def consent(answer: Any) -> str:
    """What the household allows."""
    return "\n".join(
        f"{one['purpose']:<12}  {'yes' if one['granted'] else 'no'}" for one in answer["consent"]
    )


def table(answer: Any) -> str:
    """Names and values; bytes as MB."""
    return "\n".join(f"{name:<20}  {_value(name, value)}" for name, value in answer.items())


def _value(name: str, value: Any) -> str:
    if name.endswith("_bytes"):
        return f"{value / 2**20:.1f} MB"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {item}" for key, item in value.items()) or "none"
    return "-" if value is None else str(value)
