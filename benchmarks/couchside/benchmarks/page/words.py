"""What a viewer reads: headings, reasons, times and sizes. The daemon speaks codes, never these."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

from couchside.device import screen
from couchside.device.records import ReasonCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from couchside.benchmarks.page.report import (
        Arrival,
        Learning,
        Release,
        Scene,
        ShownCard,
        ShownRow,
    )
    from couchside.device.quality import Interval
    from couchside.device.records import RowCode

OUTCOMES = {
    "zapped": "passed by",
    "left": "tuned away",
    "stopped": "stopped",
    "finished": "saw it to the end",
}
OPINIONS = {"like": "liked it", "dislike": "did not like it"}


def heading(row: ShownRow) -> str:
    """The heading of a row."""
    return screen.HEADINGS[row.code].format(name=row.seed)


def row_name(code: RowCode) -> str:
    """The heading without the title that a row may name."""
    return screen.HEADINGS[code].format(name="").strip()


def reason(card: ShownCard) -> str:
    """Why the card is there, in a few words; empty where no true reason is known."""
    if card.reason is None:
        return ""
    text = screen.reason_text({"code": card.reason.code, "evidence": card.because}, {})
    return text[:1].upper() + text[1:]


def caption(card: ShownCard, utc_offset_h: float) -> str:
    """What stands under a card: channel and end of a broadcast, else the reason."""
    if card.on_air and card.ends_at is not None:
        return f"{card.channel or 'On air'}, until {clock(card.ends_at, utc_offset_h)}"
    return reason(card)


def small_print(card: ShownCard) -> str:
    """Episode and year."""
    return ", ".join(filter(None, (card.episode, str(card.year or ""))))


def facts(card: ShownCard) -> str:
    """Episode, year and up to three genres."""
    return ", ".join(filter(None, (small_print(card), *card.genres[:3])))


def because(card: ShownCard) -> str:
    """The same as a whole sentence that says how it is known."""
    if card.reason is None:
        return f"Nothing in the history moves {card.name}, so its card gives no reason."
    words = {
        ReasonCode.WATCHED: "Take {either} out of the history, and {name} falls further down the "
        "ranking than for anything else that the TV tried.",
        ReasonCode.SIMILAR_TO: "Few titles on this TV are nearer to {evidence} than {name} is.",
        ReasonCode.NEXT_EPISODE: "{name} is the next episode after {evidence}, just finished.",
        ReasonCode.UNFINISHED: "{name} was started and left {progress} in.",
        ReasonCode.ON_NOW: "{name} is on the air at this moment.",
        ReasonCode.NEW_HERE: "{name} became available in the last days.",
        ReasonCode.POPULAR: "{name} was watched by many when the Bundle was made.",
    }[card.reason.code]
    return words.format(
        name=card.name,
        either=" or ".join(card.because),
        evidence=joined(card.because),
        progress=percent(card.progress),
    )


def scene(happening: Scene) -> str:
    """What happened, after the viewer's name and the title's."""
    words = [OUTCOMES[happening.outcome]]
    if happening.fraction is not None and happening.outcome == "stopped":
        words[0] += f" at {percent(happening.fraction)}"
    if happening.opinion is not None:
        words.append(OPINIONS[happening.opinion])
    return ", ".join(words)


def step(arrival: Arrival) -> str:
    """From which version to which, such as "version 1 → 2"."""
    return f"{f'version {arrival.before}' if arrival.before else 'nothing'} → {arrival.after}"


def reused(release: Release, arrival: Arrival) -> int:
    """Blocks of a release that a TV did not fetch, because it has their files."""
    return max(release.blocks - arrival.fetched, 0)


def joined(names: Sequence[str]) -> str:
    """Names in a sentence: A; A and B; A, B and C."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def clock(at: float, utc_offset_h: float) -> str:
    """Hours and minutes on the household's clock, such as "20:15"."""
    zone = timezone(timedelta(hours=utc_offset_h))
    return f"{datetime.fromtimestamp(at, zone):%H:%M}"


def day(at: float) -> str:
    """Date and time in UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%d %B %Y, %H:%M} UTC"


def span(seconds: float) -> str:
    """A duration, such as "9.9 s", "48 s", "2 min 13 s" or "1 h 40 min"."""
    if seconds < 59.5:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 10:
        minutes, rest = round(seconds / 60), 0
    hours, minutes = divmod(minutes, 60)
    parts = {"h": hours, "min": minutes, "s": rest}
    return " ".join(f"{value} {unit}" for unit, value in parts.items() if value)


def count(number: int, noun: str) -> str:
    """A number with its noun, such as "1 row" or "1,000 rows"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


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


def change(interval: Interval | None, digits: int = 1) -> str:
    """A relative change with its 95 % interval, such as "+8.1 % [+2.0, +14.3]"."""
    if interval is None:
        return "–"
    values = (interval.mean, interval.low, interval.high)
    mean, low, high = (signed(100 * value, digits) for value in values)
    return f"{mean} % [{low}, {high}]"


def signed(value: float, digits: int = 1) -> str:
    """With its sign, zero without, and a real minus."""
    text = f"{value:+.{digits}f}"
    return text[1:] if not float(text) else text.replace("-", "−")


def tick(fraction: float) -> str:
    """A relative change at a plot's tick, such as "+50 %"."""
    return f"{signed(100 * fraction, 0)} %"


def measured(value: float, unit: str) -> str:
    """A number with as many digits as mean something, and its unit."""
    digits = 2 if abs(value) < 10 else 1
    return f"{value:,.{digits}f} {unit}".replace("-", "−")


def privacy(learning: Learning) -> str:
    """What a person must know of the privacy of a Round in a demo."""
    simulated = learning.households - learning.real
    return (
        f"ε = {learning.epsilon:.2f} at δ = {power(learning.delta)}; not private at this size: "
        f"{simulated} of {learning.households} TVs are simulated by one machine, which knows them "
        f"all, and both servers run on it"
    )


def power(value: float) -> str:
    """A small number as people write it, such as 10⁻⁶."""
    digits, exponent = f"{value:.0e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if digits == "1" else f"{digits} · 10{raised}"
