"""What a viewer reads: headings, reasons, times and sizes. The daemon speaks codes, never these."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

from couchside.device.records import ReasonCode, RowCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from couchside.benchmarks.page.report import Scene, ShownCard, ShownRow
    from couchside.device.quality import Interval

HEADINGS = {
    RowCode.CONTINUE_WATCHING: "Continue watching",
    RowCode.FOR_YOU: "For you",
    RowCode.BECAUSE_YOU_WATCHED: "Because you watched",
    RowCode.LIVE_NOW: "On now",
    RowCode.NEW: "New here",
    RowCode.POPULAR: "Popular",
}
OUTCOMES = {
    "zapped": "passed by",
    "left": "tuned away",
    "stopped": "stopped",
    "paused": "left it paused",
    "finished": "saw it to the end",
}
OPINIONS = {"like": "liked it", "dislike": "did not like it"}


def heading(row: ShownRow) -> str:
    """The heading of a row."""
    words = HEADINGS[row.code]
    return f"{words} {row.seed}" if row.seed else words


def reason(card: ShownCard) -> str:
    """Why the card is there, in a few words; empty where no true reason is known."""
    if card.reason is None:
        return ""
    because = joined(card.because)
    match card.reason.code:
        case ReasonCode.WATCHED:
            return f"Because you watched {because}"
        case ReasonCode.SIMILAR_TO:
            return f"Similar to {because}"
        case ReasonCode.NEXT_EPISODE:
            return f"Next after {because}" if because else "Next episode"
        case ReasonCode.UNFINISHED:
            return "You stopped here"
        case ReasonCode.ON_NOW:
            return "On now"
        case ReasonCode.NEW_HERE:
            return "New here"
        case ReasonCode.POPULAR:
            return "Watched by many"


def because(card: ShownCard) -> str:
    """The same as a whole sentence that says how it is known."""
    if card.reason is None:
        return f"Nothing in the history moves {card.name}, so its card gives no reason."
    evidence = joined(card.because)
    match card.reason.code:
        case ReasonCode.WATCHED:
            return (
                f"Without {evidence} in the history, {card.name} would fall furthest "
                "down the ranking. The TV left it out and looked."
            )
        case ReasonCode.SIMILAR_TO:
            return f"Of everything on this TV, {card.name} is among the nearest to {evidence}."
        case ReasonCode.NEXT_EPISODE:
            return f"{card.name} follows {evidence or 'the episode before it'}, just finished."
        case ReasonCode.UNFINISHED:
            return f"{card.name} was started and left {percent(card.progress)} in."
        case ReasonCode.ON_NOW:
            return f"{card.name} is on {card.channel or 'air'} at this moment."
        case ReasonCode.NEW_HERE:
            return f"{card.name} became available in the last days."
        case ReasonCode.POPULAR:
            return f"{card.name} was watched by many when the Bundle was made."


def scene(happening: Scene) -> str:
    """What happened, after the viewer's name and the title's."""
    words = [OUTCOMES[happening.outcome]]
    if happening.fraction is not None and happening.outcome in ("stopped", "paused"):
        words[0] += f" at {percent(happening.fraction)}"
    if happening.opinion is not None:
        words.append(OPINIONS[happening.opinion])
    return ", ".join(words)


def joined(names: Sequence[str]) -> str:
    """ "A", "A and B", "A, B and C"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def clock(at: float, utc_offset_h: float) -> str:
    """Hours and minutes on the household's clock, such as "20:15"."""
    zone = timezone(timedelta(hours=utc_offset_h))
    return f"{datetime.fromtimestamp(at, zone):%H:%M}"


def day(at: float) -> str:
    """Date and time in UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%d %B %Y, %H:%M} UTC"


def span(seconds: float) -> str:
    """A duration, such as "48 s", "12 min" or "1 h 40 min"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(count: float) -> str:
    """Bytes in kB or MB (powers of ten)."""
    if count >= 999_500:
        return f"{count / 1e6:.1f} MB"
    return f"{count / 1e3:.0f} kB" if count >= 999.5 else f"{count:.0f} B"


def times(before: float, after: float) -> str:
    """How many times smaller, such as "4.1×"; "–" where there is nothing to compare."""
    return f"{before / after:.1f}×" if after else "–"


def percent(fraction: float | None) -> str:
    """Whole per cent."""
    return "part of the way" if fraction is None else f"{100 * fraction:.0f} %"


def change(interval: Interval | None) -> str:
    """A relative change with its 95 % interval, such as "+8.1 % [+2.0, +14.3]"."""
    if interval is None:
        return "–"
    low, mean, high = (_signed(100 * value) for value in (interval.low, interval.mean, interval.high))
    return f"{mean} % [{low}, {high}]"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")
