"""``couchside-demo``: from the lab to the couch, in minutes, with nothing but this machine.

The sample is compressed, its int8 Bundle installed on a TV with an empty history, films and a guide
are loaded, a simulated household watches for an evening, and the shelf is shown before and after,
with its reasons, sizes, quality, speed and memory. Then the Bundle is signed and travels over MQTT
to three more TVs, a second release replaces it, and what a thief shows them is refused. At night
the fleet learns: sealed Updates go up, only their sum is opened, a better Bundle comes down. The
last line is the path of a page that tells all of it. Every number is measured in this very run;
stages of the lab that are finished are kept.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from couchside.benchmarks import lab
from couchside.benchmarks.delivery.journey import Journey
from couchside.benchmarks.errors import BenchmarkError, ExitCode, UsageError
from couchside.benchmarks.learning.night import Night
from couchside.benchmarks.learning.panel import read_panel
from couchside.benchmarks.machine.board import read_board
from couchside.benchmarks.page import terminal, words
from couchside.benchmarks.page.answers import shown_shelf, shown_why
from couchside.benchmarks.page.facts import run_facts
from couchside.benchmarks.page.render import render
from couchside.benchmarks.page.report import DemoReport
from couchside.benchmarks.promises.budgets import judge, read_promises
from couchside.benchmarks.promises.daemon_run import ask, describe
from couchside.benchmarks.story import Story
from couchside.benchmarks.tv.couch import Couch, latency
from couchside.benchmarks.tv.evening import (
    GUIDE_BEFORE_S,
    World,
    at_bedtime,
    find_evening,
    stocked,
)
from couchside.benchmarks.tv.process import TvProcess
from couchside.compression.households import FAMILY, make_guide
from couchside.compression.recipe import load_recipe
from couchside.device import screen, strict
from couchside.device.bundle import open_bundle
from couchside.device.durable import write_durably
from couchside.device.errors import CouchsideError
from couchside.device.guide.xmltv import read_xmltv
from couchside.device.records import RowCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from couchside.benchmarks.lab import LabReport
    from couchside.benchmarks.page.report import Delivery, Latency, Learning, ShownShelf, Why
    from couchside.device.bundle import Bundle

FLAVOUR = "litert-int8"
"""What most TVs would take."""
PARTS = 13
LEAST_COHORT = 500
"""TVs below which nothing is unmasked, as everything ships; smaller recipes have fewer."""
SEEDS = 4
"""Evenings to choose from, times the hours at which they may begin."""
PERSONAL = (RowCode.FOR_YOU, RowCode.BECAUSE_YOU_WATCHED, RowCode.CONTINUE_WATCHING)
"""Rows whose cards owe a viewer a reason."""
PRINTED = 4
"""Cards a row in the terminal."""
MB = 1e6
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``couchside-demo``; the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="couchside-") as folder:
            page = Demo(options, Path(folder)).run()
    except KeyboardInterrupt:
        print("\ninterrupted; nothing is left running, and finished stages are kept")
        return INTERRUPTED
    except (BenchmarkError, CouchsideError, OSError) as error:
        print(f"couchside-demo: {error}", file=sys.stderr)
        return error.code if isinstance(error, BenchmarkError) else ExitCode.USAGE
    print(f"\nOpen this in a browser: {page}")
    return ExitCode.OK


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="couchside-demo", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="for Bundles and page")
    parser.add_argument("--recipe", default="tv-small", help="what couchside-compress makes")
    parser.add_argument("--seed", type=int, default=1, help="of the household and its guide")
    parser.add_argument("--rows", type=int, default=1000, help="shelves to time; 1000 for a p99")
    return parser


class Demo:
    """One run.

    Args:
        options: of the command line.
        folder: empty and short-lived; the TV's state and socket.
    """

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options = options
        self._out: Path = options.out
        self._folder = folder
        self._story = Story(sys.stdout, PARTS)

    def run(self) -> Path:
        """Tell the whole story; the path of its page."""
        story = self._story
        self._out.mkdir(parents=True, exist_ok=True)
        with story.part("Compress the sample: teacher, student, int8"):
            report = self._compress()
        with TvProcess(self._folder) as tv:
            with story.part("Install the Bundle and switch the TV on"):
                bundle = self._switch_on(tv)
            couch = Couch(tv)
            with story.part("Load an app's films and a programme guide"):
                world = self._load(couch, bundle)
            with story.part("The shelf before, with an empty history"):
                before = self._before(couch, world)
            with story.part("An evening in front of the TV"):
                latencies = [self._live(couch, world)]
            with story.part("The shelf after, and why"):
                after, whys = self._after(couch, world)
            with story.part("Measure speed and memory"):
                asked, measured = self._measure(tv, couch, world)
        delivery, learning = self._fleet(bundle)
        measured["gain_over_popularity"] = [100 * report.gain(FLAVOUR).low]
        demo = DemoReport(
            made_at=world.now,
            utc_offset_h=world.offset,
            recipe=bundle.manifest.recipe,
            bundle=f"{bundle.flavour}, version {bundle.version}",
            titles=len(world.titles),
            programmes=world.programmes,
            events=len(world.evening.events),
            before=before,
            after=after,
            scenes=world.scenes,
            whys=whys,
            sizes=report.forms(FLAVOUR),
            qualities=report.qualities(FLAVOUR),
            targets=report.targets,
            users=report.users,
            latencies=(asked, *latencies),
            promises=_promises(measured, bundle.manifest.recipe),
            sockets=couch.sockets,
            delivery=delivery,
            learning=learning,
            parts=tuple(story.timed),
            facts=run_facts(read_board(Path("/")), bundle, report),
        )
        story.say(f"\n{terminal.figures(demo)}\n\nTime\n{story.times()}")
        return self._write(demo)

    def _compress(self) -> LabReport:
        lab.compress(self._options.recipe, self._out / "lab")
        return lab.read_lab_report(self._out / "lab" / "quality.json")

    def _switch_on(self, tv: TvProcess) -> Bundle:
        path = self._out / "lab" / "bundles" / FLAVOUR
        if not path.is_dir():
            raise UsageError(f"recipe {self._options.recipe} makes no {FLAVOUR}; add the flavour")
        tv.install(path)
        seconds = tv.start()
        bundle = open_bundle(path)
        self._story.say(
            f"  {FLAVOUR} version {bundle.version} passed its golden vectors; couchside-device "
            f"(process {tv.pid}) answered after {words.span(seconds)}"
        )
        return bundle

    def _load(self, couch: Couch, bundle: Bundle) -> World:
        now, seed = time.time(), self._options.seed
        films = stocked(bundle.titles(), now=now, seed=seed)
        guide = make_guide(films, day_start=now - GUIDE_BEFORE_S, seed=seed)
        with self._story.doing("the TV reads both and encodes what its Bundle does not know"):
            reports = couch.load(films, guide)
        for report in reports:
            self._story.say("  " + screen.loaded(report).replace("\n", "\n  "))
        programmes = list(read_xmltv(self._folder / "guide.xml", report=self._doubt))
        with self._story.doing("find an evening that ended just now"):
            watched = find_evening(
                at_bedtime(FAMILY, now),
                [*films, *programmes],
                now=now,
                seeds=range(seed, seed + SEEDS),
            )
        titles = {title.title_id: title for title in (*films, *programmes)}
        return World(now, titles, len(programmes), watched)

    def _doubt(self, problem: object) -> None:
        raise BenchmarkError(f"the invented guide is wrong: {problem}")

    def _before(self, couch: Couch, world: World) -> ShownShelf:
        couch.move_in(world.evening.household)
        answer = couch.shelf(world.evening.viewers[0])
        note = "An empty history: what is on now, what is new, and what many people watch."
        shelf = shown_shelf("Before", world.now, answer, world.titles, note=note)
        self._story.say(terminal.shelf(shelf, world.offset, cards=PRINTED))
        return shelf

    def _live(self, couch: Couch, world: World) -> Latency:
        took = couch.play(world.evening.events)
        for scene in world.scenes:
            place = f" on {scene.channel}" if scene.channel else ""
            self._story.say(
                f"  {words.clock(scene.began_at, world.offset)}  {scene.viewer:<6}"
                f"{scene.name}{place}: {words.scene(scene)}"
            )
        self._story.say(f"  {len(world.evening.events)} events acknowledged")
        return latency("an event, until it is on disk", took)

    def _after(self, couch: Couch, world: World) -> tuple[tuple[ShownShelf, ...], tuple[Why, ...]]:
        shelves, whys = [], []
        for number, viewer in enumerate(world.evening.viewers):
            answer = couch.shelf(viewer)
            name = viewer.title()
            shelf = shown_shelf(name, world.now, answer, world.titles, note=world.note(viewer))
            shelves.append(shelf)
            whys += self._whys(couch, world, viewer, answer)
            if not number:
                self._story.say(f"  {name}'s shelf")
                self._story.say(terminal.shelf(shelf, world.offset, cards=PRINTED))
        for why in whys:
            self._story.say(f"  {why.viewer}: {words.because(why.card)}")
        return tuple(shelves), tuple(whys)

    def _whys(self, couch: Couch, world: World, viewer: str, answer: Any) -> list[Why]:
        """A card of each personal row explained, the first that has a reason."""
        found = []
        for row in answer["rows"]:
            if RowCode(row["code"]) in PERSONAL:
                told = [card for card in row["cards"] if card["reason"]] or row["cards"]
                why = couch.why(told[0]["title_id"], viewer)
                found.append(shown_why(viewer.title(), told[0], why, world.titles))
        return found

    def _measure(
        self, tv: TvProcess, couch: Couch, world: World
    ) -> tuple[Latency, dict[str, list[float]]]:
        viewer, rows = world.evening.viewers[0], self._options.rows
        with self._story.doing(f"ask for the shelf {rows:,} times"):
            calls = ask(tv, rows, profile_id=viewer)
        couch.look_at_sockets()
        took = describe(calls)
        memory = tv.memory()
        shelf = _cards(couch.shelf(viewer))
        seconds, cpu_s = couch.pull_the_plug()
        same = "the same as" if _cards(couch.shelf(viewer)) == shelf else "another than"
        self._story.say(
            f"  plug pulled (kill -9) and on again: a shelf after {words.span(seconds)}, "
            f"{same} before"
        )
        wall = [call.wall for call in calls]
        return latency("the whole shelf, over the socket", wall), {
            "daemon_rss": [memory["rss_bytes"] / MB],
            "daemon_anonymous": [memory["anonymous_bytes"] / MB],
            "events_missed": [float(sum(call.missed for call in calls))],
            **{name: [value] for name, value in took.items()},
            "first_answer": [seconds],
            "first_answer_cpu": [cpu_s],
        }

    def _fleet(self, bundle: Bundle) -> tuple[Delivery, Learning]:
        panel = read_panel(load_recipe(self._options.recipe).data, bundle)
        least = min(LEAST_COHORT, len(panel.homes))
        with Journey(self._folder / "fleet", bundle, least_cohort=least) as journey:
            self._deliver(journey)
            learning = self._learn(Night(self._folder / "night", journey, panel), journey)
            return journey.told(), learning

    def _deliver(self, journey: Journey) -> None:
        story = self._story
        with story.part("Sign the Bundle and let it travel to three TVs"):
            with story.doing("couchside-cloud makes its keys; broker and TVs are switched on"):
                journey.begin()
            story.say(f"  {journey.broker}; the TVs have a root of trust and no Bundle")
            self._arrive(journey)
            with story.doing("an app hands every TV its films"):
                journey.load(self._folder / "films.jsonl")
        with story.part("A second release replaces it"):
            self._arrive(journey)
        with story.part("A thief owns the broker"):
            for attack in (
                journey.show_old_head,
                journey.show_forged_head,
                journey.show_flipped_block,
            ):
                with story.doing("he tampers; the TVs look"):
                    refusal = attack()
                story.say(terminal.refusal(refusal))
            story.say("  The broker is cleaned, and what the cloud had signed meanwhile arrives")
            self._arrive(journey, sign=False)

    def _learn(self, night: Night, journey: Journey) -> Learning:
        """The night: TVs learn, a Round is summed, a new Bundle comes down."""
        story = self._story
        with story.part("The fleet learns: an open Round"):
            lived = night.live()
            story.say(
                f"  {night.households:,} households of real ratings; {len(lived)} of them moved in "
                f"with the TVs ({sum(lived)} events), the others are simulated"
            )
            asked = night.open()
            story.say(
                f"  Round {asked['round_id']} asks for {asked['coordinates']:,} values of "
                f"{', '.join(asked['parameters'])} and counts of {asked['titles']:,} titles"
            )
            with story.doing("consent given, TVs in standby: each learns and seals its Update"):
                gathered = night.gather(asked)
            story.say(
                f"  every Update {gathered.uplink_bytes:,} bytes, masked; each has its receipt"
            )
        with story.part("Only the sum is opened; the lab makes a Bundle of it"):
            with story.doing("the helper adds its noise and unmasks the sum"):
                closed = night.close()
            story.say(
                f"  {closed['folded']:,} TVs in the sum, ε = {closed['epsilon']:.2f} for each"
            )
            with story.doing("couchside-compress refresh: new user model, golden vectors, gate"):
                new = night.refresh(self._out / "lab", self._out / "refreshed")
        with story.part("A better Bundle comes down"):
            self._arrive(journey, bundle=new)
            learning = night.tell(gathered, new)
            story.say(terminal.learning(learning))
        return learning

    def _arrive(self, journey: Journey, *, sign: bool = True, bundle: Path | None = None) -> None:
        with self._story.doing("couchside-cloud signs and publishes; every TV fetches and checks"):
            release = journey.release(sign=sign, bundle=bundle)
        self._story.say(terminal.release(release))

    def _write(self, demo: DemoReport) -> Path:
        page = self._out / "couchside.html"
        write_durably(page, render(demo))
        write_durably(self._out / "report.json", json.dumps(strict.to_json(demo), indent=1))
        return page.resolve()


def _promises(measured: dict[str, list[float]], recipe: str) -> Any:
    lines = judge(read_promises().budget, measured, recipe=recipe)
    return tuple(line for line in lines if line.values)


def _cards(answer: Any) -> list[list[str]]:
    """What the rows that do not follow the clock show."""
    rows = [row for row in answer["rows"] if row["code"] != RowCode.LIVE_NOW]
    return [[card["title_id"] for card in row["cards"]] for row in rows]


if __name__ == "__main__":
    sys.exit(main())
