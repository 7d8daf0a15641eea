"""``couchside-simulate``: homes with everything that their TVs would see, and the truth beside it.

    couchside-simulate --homes 20 --days 28 --out homes

Writes into ``--out``: ``films.jsonl`` and ``guide.xml`` (what a TV loads), ``homes.jsonl`` (who
lives where), and for each home ``home-0001/events.jsonl`` (one ``event`` a line, as the daemon
takes it) and ``home-0001/truth.jsonl`` (one viewing a line: who, whose choice, why, how much of it,
the rating).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from couchside.compression.data import load_interactions
from couchside.compression.errors import CompressionError
from couchside.compression.homes.diary import Viewing, World, live
from couchside.compression.homes.events import events
from couchside.compression.homes.people import Home, make_homes
from couchside.compression.invented_guide import make_guide
from couchside.compression.recipe import load_recipe
from couchside.device import strict
from couchside.device.errors import CouchsideError
from couchside.device.guide.jsonl import write_jsonl
from couchside.device.guide.xmltv import read_xmltv

if TYPE_CHECKING:
    from collections.abc import Sequence

    from couchside.device.guide.problems import Problem

PROGRAM = "couchside-simulate"
MOST_DAYS = 366
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is simulated."""

    homes: int
    days: int
    seed: int
    start: float
    """POSIX seconds of the first midnight UTC."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status."""
    options = parser().parse_args(arguments)
    try:
        _run(options)
    except (CompressionError, CouchsideError, OSError) as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"{PROGRAM}: interrupted; {options.out} holds the homes made so far\n")
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    plan = _plan(options)
    recipe = replace(load_recipe("tv-small").data, source=options.ratings)
    interactions = load_interactions(recipe)
    homes = make_homes(interactions, plan.homes, plan.seed)
    out: Path = options.out
    if out.exists() and any(out.iterdir()):
        raise CompressionError(f"{out} is not empty; name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    (out / "films.jsonl").write_text("".join(write_jsonl(interactions.titles)), encoding="utf-8")
    guide = options.guide or out / "guide.xml"
    if options.guide is None:
        text = make_guide(
            interactions.titles, day_start=plan.start, days=plan.days + 1, seed=plan.seed
        )
        guide.write_text(text, encoding="utf-8")
    problems: list[Problem] = []
    shown = sorted(read_xmltv(guide, report=problems.append), key=lambda t: t.starts_at or 0.0)
    if problems:
        sys.stderr.write(f"{PROGRAM}: {guide}: {len(problems)} programmes left out\n")
    world = World(interactions, tuple(shown))
    _lines(out / "homes.jsonl", map(_home, homes))
    counts: Counter[str] = Counter()
    for home in tqdm(homes, desc="homes", unit="home", mininterval=1.0):
        counts += _write_home(home, world, plan, out / home.name, own=options.own_profiles)
    _tell(plan, counts)


def _write_home(home: Home, world: World, plan: Plan, folder: Path, *, own: bool) -> Counter[str]:
    viewings = list(live(home, world, start=plan.start, days=plan.days, seed=plan.seed))
    folder.mkdir()
    _lines(folder / "truth.jsonl", map(_truth, viewings))
    told = [strict.to_json(event) for event in events(viewings, own_profiles=own)]
    _lines(folder / "events.jsonl", ({k: v for k, v in e.items() if v is not None} for e in told))
    return Counter(
        {"events": len(told), "viewings": len(viewings)}
        | Counter(f"viewings, {viewing.why}" for viewing in viewings)
        | Counter("viewings, by two or more" for v in viewings if len(v.members) > 1)
    )


def _home(home: Home) -> dict[str, Any]:
    members = [
        {
            "member": member.member_id,
            "user": member.user,
            "rhythm": member.rhythm.name,
            "max_maturity": member.rhythm.max_maturity,
            "films": len(member.films),
            "habits": dict(zip(("films", "series", "live"), member.habits, strict=True)),
        }
        for member in home.members
    ]
    return {"home": home.name, "utc_offset_h": home.utc_offset_h, "members": members}


def _truth(viewing: Viewing) -> dict[str, Any]:
    value: dict[str, Any] = strict.to_json(viewing)
    return {**value, "title": viewing.title.title_id, "completion": round(viewing.completion, 4)}


def _lines(file: Path, records: Any) -> None:
    with file.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _tell(plan: Plan, counts: Counter[str]) -> None:
    per = plan.homes * plan.days
    for name, count in sorted(counts.items()):
        sys.stdout.write(f"{name:28} {count:>9,}   {count / per:8.2f} a home and day\n")


def _plan(options: argparse.Namespace) -> Plan:
    for name, least, most in (("homes", 1, 10**6), ("days", 1, MOST_DAYS), ("seed", 0, 2**32 - 1)):
        if not least <= getattr(options, name) <= most:
            raise CompressionError(f"--{name} must be from {least} to {most}")
    try:
        first = datetime.strptime(options.start, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise CompressionError(f"--start {options.start}: must be a day like 2026-01-05") from error
    return Plan(options.homes, options.days, options.seed, first.timestamp())


def parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Homes of real people's ratings, with what their TVs would see and the truth.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder")
    add("--homes", type=int, default=10, help="how many; nobody lives in two")
    add("--days", type=int, default=28, help="how long")
    add("--seed", type=int, default=1, help="decides everything")
    add("--start", default=f"{MONDAY:%Y-%m-%d}", metavar="DAY", help="the first day, UTC")
    add("--ratings", default="sample", metavar="DIR",
        help="folder with ratings.csv and titles.csv, or the sample of this package")  # fmt: skip
    add("--guide", type=Path, metavar="FILE", help="an XMLTV guide instead of an invented one")
    add("--own-profiles", action="store_true", help="file events under who chose, not under one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
