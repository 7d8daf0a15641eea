"""Age ratings of many countries as one number: the lowest age in years that may watch.

Numbers mean themselves ("16", "16+", "-12", "FSK 12", "12A", DVB ages). Words come from the tables
of the boards (MPA, US TV Parental Guidelines, BBFC, IFCO, ACB, ICAA and others). Where a board only
advises ("PG"), the age is the one it names or, failing that, the higher of those in use: the
number feeds a hard fence for children, so it may err upwards, never down.
"""

from __future__ import annotations

import re

AGES = {
    # US TV Parental Guidelines
    "TV-Y": 0, "TV-G": 0, "TV-Y7": 7, "TV-Y7-FV": 7, "TV-PG": 10, "TV-14": 14, "TV-MA": 17,
    # MPA film ratings
    "G": 0, "PG": 10, "PG-13": 13, "R": 18, "NC-17": 18, "X": 18,
    # BBFC and IFCO; both letter and number forms
    "U": 0, "UC": 0, "GEN": 0, "GENERAL": 0, "R18": 18,
    # Australia
    "P": 0, "C": 0, "M": 16, "MA": 17, "MA15+": 15, "AV15+": 15, "R18+": 18, "X18+": 18,
    # France, Spain, the Netherlands, Brazil: for everyone
    "TP": 0, "TOUS PUBLICS": 0, "ALL": 0, "AL": 0, "L": 0, "LIVRE": 0,
}  # fmt: skip
"""Words that mean one thing, or nearly so, in every system that uses them."""

BY_SYSTEM = {
    ("MPAA", "R"): 17, ("MPA", "R"): 17,
    ("BBFC", "PG"): 8, ("IFCO", "PG"): 8,
    ("ACB", "M"): 15, ("ICAA", "A"): 0,
}  # fmt: skip
"""Words that are lower, or known at all, only from this board."""

UNRATED = frozenset(("", "NR", "NOT RATED", "UNRATED", "N/A", "NONE", "TBC", "EXEMPT", "E"))
"""Says that there is no rating."""

ADVICE = frozenset(("ADVISORY", "ADVISORIES", "CONTENT", "CRITICS"))
"""Systems that describe content ("language", "violence") and name no age."""

OLDEST = 21
"""Years; no board asks for more, so a larger number is a mistake."""

_NUMBER = re.compile(
    r"(?:FSK|PEGI|BBFC|IFCO|DVB|AGE|AB|VM|K|MA|M)?[ :-]*[+-]?(\d{1,2})(?: ?\+|A|PG| ?YEARS?)?"
)


def age(system: str, value: str) -> int | None:
    """The lowest age in years that may watch, or None where the value says "not rated".

    Args:
        system: name of the rating board, in any case; may be empty.
        value: the rating as printed.

    Raises:
        ValueError: neither a known word nor a plausible age.
    """
    board, word = system.strip().upper(), " ".join(value.upper().split())
    if word in UNRATED or board in ADVICE:
        return None
    known = BY_SYSTEM.get((board, word), AGES.get(word))
    if known is not None:
        return known
    number = _NUMBER.fullmatch(word)
    if number is None or int(number[1]) > OLDEST:
        raise ValueError(f"rating {value!r} of {system or 'no system'!r} names no known age")
    return int(number[1])
