"""A report like the ones that the demo makes, with every kind of row, card and number in it."""

from __future__ import annotations

from couchside.benchmarks.page.report import (
    Arrival,
    Delivery,
    DemoReport,
    Latency,
    Learning,
    LearningTv,
    Quality,
    Refusal,
    Release,
    Scene,
    ShownCard,
    ShownRow,
    ShownShelf,
    Size,
    Sockets,
    Timed,
    Why,
)
from couchside.benchmarks.promises.budgets import judge, read_promises
from couchside.device.quality import Interval
from couchside.device.records import Reason, ReasonCode, RowCode

MEASURED = {"daemon_rss": [61.23], "daemon_anonymous": [33.21], "rows_p99": [4.56]}
NOW = 1_795_465_800.0

FILMS = (
    ("The Wolf of Wall Street", 2013, ("Biography", "Crime", "Drama")),
    ("Gravity", 2013, ("Adventure", "Drama", "Sci-Fi")),
    ("Django Unchained", 2012, ("Western",)),
    ("The Conjuring", 2013, ("Horror", "Mystery", "Thriller")),
    ("Cloudy with a Chance of Meatballs 2", 2013, ("Animation", "Comedy", "Family")),
    ("Captain Phillips", 2013, ("Biography", "Drama", "Thriller")),
    ("About Time", 2013, ("Comedy", "Fantasy", "Romance")),
    ("Rush", 2013, ("Action", "Sport")),
    ("Searching for Sugar Man", 2012, ("Documentary", "Music")),
    ("Pirates of the Caribbean: The Curse of the Black Pearl", 2003, ("Adventure", "Fantasy")),
    ("Frankenweenie", 2012, ("Animation", "Horror", "Family")),
    ("The Hangover", 2009, ("Comedy",)),
    ("Inception", 2010, ("Action", "Mystery", "Sci-Fi")),
    ("Sin City", 2005, ("Crime", "Thriller")),
    ("Inglourious Basterds", 2009, ("Adventure", "Drama", "War")),
    ("12 Years a Slave", 2013, ("Biography", "Drama", "History")),
    ("Se7en", 1995, ("Crime", "Mystery", "Thriller")),
    ("Léon", 1994, ("Crime", "Drama", "Thriller")),
    ("Her", 2013, ("Drama", "Romance", "Sci-Fi")),
)
PROGRAMMES = (
    ("Cup Night", "Touchline", ("Sport",), None),
    ("Salt Assembly", "Saga", ("Drama",), "S2 E3"),
    ("Harbour Report", "Kestrel News", ("News",), None),
    ("Slow Rivers", "Fieldnotes", ("Documentary",), "S1 E5"),
    ("Pip and the Tide", "Pebble", ("Kids",), "S3 E8"),
    ("Nebraska", "Lantern Cinema", ("Adventure", "Comedy", "Drama"), None),
    ("Inspector Vane", "Harbour Two", ("Crime",), "S4 E1"),
)


def film(
    place: int,
    code: ReasonCode | None = None,
    because: tuple[str, ...] = (),
    progress: float | None = None,
) -> ShownCard:
    name, year, genres = FILMS[place % len(FILMS)]
    reason = None if code is None else Reason(code, tuple(because))
    return ShownCard(f"film:{place}", name, genres, year, reason, because, progress)


def programme(place: int) -> ShownCard:
    name, channel, genres, episode = PROGRAMMES[place]
    return ShownCard(
        f"programme:{place}",
        name,
        genres,
        reason=Reason(ReasonCode.ON_NOW),
        channel=channel,
        starts_at=NOW - 600 - 120 * place,
        ends_at=NOW + 1800 + 300 * place,
        episode=episode,
    )


LIVE = ShownRow(RowCode.LIVE_NOW, tuple(programme(place) for place in range(len(PROGRAMMES))))
POPULAR = ShownRow(
    RowCode.POPULAR, tuple(film(place, ReasonCode.POPULAR) for place in range(len(FILMS)))
)


def shelf(viewer: str) -> ShownShelf:
    return ShownShelf(
        viewer,
        NOW,
        (
            ShownRow(RowCode.CONTINUE_WATCHING, (film(12, ReasonCode.UNFINISHED, progress=0.48),)),
            ShownRow(
                RowCode.FOR_YOU,
                (
                    film(18, ReasonCode.WATCHED, ("Gravity", "About Time")),
                    film(2),
                    *(film(n, ReasonCode.WATCHED, ("Gravity",)) for n in range(3, 12)),
                ),
            ),
            LIVE,
            ShownRow(
                RowCode.BECAUSE_YOU_WATCHED,
                tuple(film(n, ReasonCode.SIMILAR_TO, ("Gravity",)) for n in range(12, 18)),
                seed="Gravity",
            ),
            ShownRow(RowCode.NEW, tuple(film(n, ReasonCode.NEW_HERE) for n in range(6, 12))),
            POPULAR,
        ),
        note=f"{viewer}'s shelf after the evening.",
    )


def scenes() -> tuple[Scene, ...]:
    start = NOW - 5 * 3600
    return (
        Scene("Ines", "Field Notes", start, start + 45, "zapped", ("Documentary",), "Fieldnotes"),
        Scene("Ines", "Cup Night", start + 45, start + 1500, "left", ("Sport",), "Touchline"),
        Scene("Tom", "Salt Assembly", start + 1700, start + 5300, "finished", ("Drama",), "Saga"),
        Scene(
            "Ines",
            "Rush",
            start + 5400,
            start + 5800,
            "stopped",
            ("Action",),
            None,
            0.05,
            "dislike",
        ),
        Scene("Ines", "Inception", start + 5900, start + 9900, "stopped", ("Sci-Fi",), None, 0.48),
        Scene(
            "Ines",
            "Gravity",
            start + 10_000,
            start + 16_000,
            "finished",
            ("Adventure", "Sci-Fi"),
            None,
            0.95,
            "like",
        ),
    )


def delivery() -> Delivery:
    def release(version: int, fetched: int, received: int) -> Release:
        arrivals = tuple(
            Arrival(f"TV {n}", version - 1, version, 4.6 + n / 10, received + n, 1848, fetched)
            for n in (1, 2, 3)
        )
        return Release(version, 5_432_109, 2_123_456, 42, 891, arrivals)

    return Delivery(
        "mosquitto, MQTT 5",
        (release(1, 42, 2_140_000), release(2, 2, 7_796)),
        (
            Refusal("An old head", "RollbackError: New timestamp <2>", 3, 1.4, 2, 10.2),
            Refusal("A flipped bit", f"damaged copies of block {'0b' * 32}", 3, 1.2, 2, 1.8),
        ),
    )


def learning() -> Learning:
    return Learning(
        households=12,
        real=3,
        round_id=1,
        parameters="projection",
        uplink_bytes=18_210,
        epsilon=5.2215,
        delta=1e-6,
        noise_multiplier=1.0,
        count_sigma=4.2,
        change_norm=0.079,
        ndcg_before=0.1017,
        ndcg_after=0.1181,
        gain=Interval(0.0897, 0.1606, 0.2447),
        users=816,
        targets=2673,
        tvs=tuple(
            LearningTv(f"TV {n}", 50 + n, 71_315_456, 5.222, ("Gravity",), ("Argo", "Ted"))
            for n in (1, 2, 3)
        ),
        server_rss=(("aggregator", 53_522_432), ("helper", 52_514_816)),
    )


def sample_report() -> DemoReport:
    wolf = film(18, ReasonCode.WATCHED, ("Gravity", "About Time"))
    return DemoReport(
        made_at=NOW,
        utc_offset_h=-3.5,
        recipe="tv-small",
        bundle="litert-int8, version 1",
        titles=5184,
        programmes=247,
        events=259,
        before=ShownShelf("Before", NOW, (LIVE, POPULAR), note="Nothing is known of anybody."),
        after=(shelf("Ines"), shelf("Tom"), ShownShelf("Mila", NOW, (LIVE,), note="Up to age 7.")),
        scenes=scenes(),
        whys=(
            Why("Ines", wolf, RowCode.FOR_YOU),
            Why("Ines", film(12, ReasonCode.UNFINISHED, progress=0.48), RowCode.CONTINUE_WATCHING),
            Why("Tom", film(2), RowCode.FOR_YOU),
        ),
        sizes=(
            Size("teacher", 9_012_345, 2_123_456, 2_527_744),
            Size("float student", 912_345, 623_456, 2_527_744),
            Size("litert-float", 930_111, 640_222, 801_333, 7_654_321),
            Size("litert-int8", 260_444, 190_555, 801_333, 5_432_109, runs=True),
            Size("onnx-float", 931_666, 641_777, 801_333, 7_000_888),
            Size("onnx-int8", 270_999, 180_111, 801_333, 5_222_333),
        ),
        qualities=(
            Quality("popularity-7d, frozen", 0.0811, 0.2013, Interval(0.0, 0.0, 0.0)),
            Quality("popularity-7d, rolling", 0.1022, 0.2412, Interval(0.15, 0.26, 0.38)),
            Quality("ItemKNN", 0.0533, 0.1314, Interval(-0.45, -0.34, -0.23)),
            Quality("teacher, shown ranking", 0.0987, 0.2345, Interval(0.09, 0.217, 0.35)),
            Quality("float student, shown ranking", 0.0985, 0.2344, Interval(0.08, 0.214, 0.34)),
            Quality(
                "litert-int8, shown ranking",
                0.0984,
                0.2343,
                Interval(0.079, 0.2131, 0.338),
                Interval(-0.002, 0.0013, 0.0046),
                runs=True,
            ),
        ),
        targets=2187,
        users=312,
        latencies=(
            Latency("rows, over the socket", 1000, 2.31, 4.56, 9.87),
            Latency("an event until it is on disk", 61, 1.23, None, 8.76),
        ),
        promises=tuple(
            line
            for line in judge(read_promises().budget, MEASURED, recipe="tv-small")
            if line.values
        ),
        sockets=Sockets(5, 2, 0),
        delivery=delivery(),
        learning=learning(),
        parts=(Timed("compress", 133.3), Timed("load", 4.4), Timed("evening", 2.2)),
        facts=(("Processor", "An imaginary one"), ("Python", "3.11.2"), ("Recipe", "tv-small")),
    )
