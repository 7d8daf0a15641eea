"""Posters that need no pictures: colour, type and a motif by genre, the same every time.

Real posters can't be shipped, so a title's most telling genre picks a palette, a motif and a
typeface, and a hash of its name picks among the variants.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Look:
    """How posters of a genre look."""

    motifs: tuple[str, ...]
    """Names of its motifs, symbols in the page."""
    face: str
    """Name of the typeface, a class in the style sheet."""
    palettes: tuple[tuple[str, str, str], ...]
    """Colours as #rrggbb: two ends of the ground, and the ink of motif and small print."""


@dataclass(frozen=True, slots=True)
class Poster:
    """One poster, ready to be drawn."""

    genre: str
    """The telling one; empty if none is known."""
    motif: str
    face: str
    top: str
    bottom: str
    ink: str
    turn: int
    """Degrees by which the motif is turned."""
    shift: int
    """Per cent by which it is moved sideways."""
    size: float
    """Of the title's letters, in per cent of the poster's width."""


LOOKS: dict[str, Look] = {
    "Sci-Fi": Look(("orbits", "shards"), "wide", (
        ("#0b2a4a", "#05101f", "#7fd3ff"), ("#2b1d5c", "#0b0a26", "#b9a8ff"),
        ("#093b42", "#04161c", "#74e6dc"))),
    "Horror": Look(("thorns",), "blade", (
        ("#4a0d12", "#140406", "#ff8f86"), ("#23281f", "#0a0d09", "#b8cf9a"),
        ("#3a1030", "#12040f", "#f58fd0"))),
    "Animation": Look(("balloons", "arches"), "round", (
        ("#0f5f73", "#083343", "#ffd66b"), ("#8a2f5c", "#4a1536", "#ffd9a0"),
        ("#2f6b2f", "#173d1e", "#ffe37a"))),
    "Western": Look(("ridges",), "slab", (
        ("#7a3b12", "#321505", "#ffc98a"), ("#6a2d1f", "#260e08", "#ffbfa3"))),
    "Documentary": Look(("contours",), "serif", (
        ("#1f4d3c", "#0b1f1a", "#a8e6c4"), ("#3f4a1c", "#181d0a", "#dbe59a"),
        ("#274557", "#0d1b24", "#a9d6ee"))),
    "War": Look(("chevrons",), "stencil", (
        ("#40442a", "#17190e", "#d9d8a4"), ("#4a3a2c", "#1a130d", "#e8cfae"))),
    "Music": Look(("waves",), "round", (
        ("#5a1a5e", "#200a26", "#ffb3f4"), ("#7a2440", "#2c0b19", "#ffc0cb"))),
    "Sport": Look(("lanes",), "heavy", (
        ("#0f5a3a", "#06251a", "#9df0c4"), ("#1b4a8a", "#0a1c3a", "#a9d0ff"))),
    "News": Look(("globe",), "wide", (
        ("#123a6b", "#08182f", "#a4ccff"), ("#6b1f24", "#290a0d", "#ffb9b5"))),
    "Film-Noir": Look(("blinds",), "slab", (
        ("#2c2c30", "#0c0c0e", "#e9e4d6"), ("#22303a", "#0a1116", "#cfe0ea"))),
    "Romance": Look(("rings", "tide"), "script", (
        ("#7d2a3c", "#33101c", "#ffc9cf"), ("#6d3357", "#2a1222", "#ffcbe6"),
        ("#84402a", "#35160e", "#ffd3bd"))),
    "Fantasy": Look(("moons", "arches"), "script", (
        ("#2c2a6e", "#100e30", "#cfc9ff"), ("#16505a", "#081f26", "#b0ecec"),
        ("#4c2470", "#1c0a30", "#e4c2ff"))),
    "Crime": Look(("blinds",), "slab", (
        ("#2a3644", "#0d131a", "#ffc27a"), ("#3c2a2a", "#140c0c", "#ffb59a"))),
    "Mystery": Look(("blinds",), "serif", (
        ("#24384a", "#0a141d", "#b7dcf2"), ("#34304e", "#120f20", "#cdc6ff"))),
    "Thriller": Look(("target", "shards"), "heavy", (
        ("#4b1d12", "#170704", "#ffb08c"), ("#173244", "#060f17", "#8fd0f5"),
        ("#33343c", "#0e0f13", "#f0d27a"))),
    "Adventure": Look(("ridges", "tide"), "heavy", (
        ("#7b4a0e", "#2e1803", "#ffdc94"), ("#17586a", "#07212b", "#a8e9f5"),
        ("#4c5a16", "#1b2106", "#e6ef9c"))),
    "Action": Look(("slashes", "shards"), "heavy", (
        ("#7a1f0e", "#290803", "#ffc09a"), ("#3a3a42", "#101013", "#ffcf66"),
        ("#17406e", "#071728", "#9ecbff"))),
    "Family": Look(("balloons",), "round", (
        ("#256a7a", "#0d2c38", "#ffe08a"), ("#7a4a1a", "#331b06", "#ffe3b0"))),
    "Comedy": Look(("confetti", "arches"), "round", (
        ("#8a5a0b", "#3d2503", "#ffe79a"), ("#8a3426", "#3a110b", "#ffd0b8"),
        ("#246a5c", "#0b2d28", "#b5f2df"), ("#5c3a86", "#22123a", "#e3ccff"))),
    "Biography": Look(("contours",), "serif", (
        ("#5a4322", "#21170a", "#f0d8a8"), ("#2f4652", "#0f1a20", "#bcdcea"))),
    "Drama": Look(("suns", "panes", "arches", "tide"), "serif", (
        ("#5b3326", "#1f0f0a", "#ffd0b0"), ("#28455a", "#0c1922", "#b6dcf2"),
        ("#4a2b4f", "#190d1c", "#eec8f4"), ("#3e4a2c", "#14190d", "#dcebb8"),
        ("#6b4416", "#241503", "#ffdf9e"), ("#1d4f50", "#081d1e", "#aee9e2"),
        ("#5e2338", "#200a12", "#ffc2d4"))),
}  # fmt: skip
"""The most telling genre first: a horror drama is a horror film on the shelf."""
ALIASES = {"Kids": "Animation", "Musical": "Music", "History": "Biography", "Film": "Drama"}
PLAIN = Look(("suns",), "wide", (("#3a3f4a", "#121419", "#d8dee9"),))
TEXT = "#ffffff"
"""Titles are white on every ground."""
TEXT_WIDTH = 85.0
"""Per cent of a poster's width that its title may take."""
LETTER = {
    "serif": 0.76, "script": 0.68, "slab": 0.77, "heavy": 0.78, "blade": 0.79, "stencil": 0.78,
    "wide": 0.74, "round": 0.75,
}  # fmt: skip
"""Width of a face's letters in its own size, in the widest font it may fall back to."""
SMALLEST = 6.0


def poster(name: str, genres: Sequence[str], *, wide: bool = False) -> Poster:
    """The poster of a title, upright (2:3) or wide (16:9)."""
    known = {ALIASES.get(genre, genre) for genre in genres}
    genre = next((genre for genre in LOOKS if genre in known), "")
    look = LOOKS.get(genre, PLAIN)
    chance = zlib.crc32(name.encode("utf-8", "replace"))
    top, bottom, ink = look.palettes[chance % len(look.palettes)]
    return Poster(
        genre or next(iter(genres), ""),
        look.motifs[(chance >> 4) % len(look.motifs)],
        look.face,
        top,
        bottom,
        ink,
        turn=(chance >> 8) % 24 - 12,
        shift=(chance >> 16) % 40 - 20,
        size=_letters(name, look.face, *((9.5, 2.3) if wide else (17.0, 4.3))),
    )


def _letters(name: str, face: str, largest: float, lines: float) -> float:
    """The largest size at which the longest word and the whole name still fit."""
    line = TEXT_WIDTH / LETTER[face]
    longest = max(map(len, name.split()), default=1)
    return round(max(min(largest, line / longest, lines * line / max(len(name), 1)), SMALLEST), 2)


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours #rrggbb, from 1 to 21 (WCAG 2.2, 1.4.3)."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
