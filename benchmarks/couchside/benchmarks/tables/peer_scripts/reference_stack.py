"""A recommender for one TV as a good engineer puts it together in a week, from what everybody uses.

FastAPI on uvicorn (with uvloop and httptools) over a Unix socket, SQLite as it comes, faiss for the
best titles, onnxruntime for the Bundle's own user model, pyversity for variety, JSON. What anybody
would do for speed is done: titles and the household's state live in memory, the user vector is kept
until the next event, answers skip pydantic. It leaves out: reasons, the guide's rows, next
episodes, fences, profiles beyond a name, forget, checks of the model, buffering of heartbeats.

    python reference_stack.py FOLDER SOCKET STATE
"""

import json
import sqlite3
import sys
import time
from pathlib import Path

import faiss
import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from pyversity import Strategy, diversify

from couchside.device.features import gap_buckets, signal_of, user_model_inputs
from couchside.device.records import EventKind

POOL, CARDS, CONTINUE = 200, 25, 10
DIVERSITY = 0.3
SEEDS = 2
PLAYED = {"start", "progress", "pause", "stop", "tune", "complete"}
TELLING = {"complete", "like", "dislike", "watchlist"}
STARTED_S = 120.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, profile_id TEXT NOT NULL,
    title_id TEXT NOT NULL, kind TEXT NOT NULL, at REAL, position_s REAL, duration_s REAL
)"""
INSERT = """
INSERT OR IGNORE INTO events (event_id, profile_id, title_id, kind, at, position_s, duration_s)
VALUES (?, ?, ?, ?, ?, ?, ?)"""


class Event(BaseModel):
    """One thing that the household did."""

    event_id: str
    title_id: str
    kind: EventKind
    profile_id: str = "household"
    at: float = Field(default_factory=time.time)
    position_s: float | None = None
    duration_s: float | None = None
    credits_s: float | None = None


class Who(BaseModel):
    """Who asks."""

    profile_id: str = "household"


class Catalogue:
    """Titles in memory, with the Bundle's popularity as one more dimension of the index."""

    def __init__(self, folder):
        self.titles = json.loads((folder / "titles.json").read_text())
        self.rows = {title["title_id"]: row for row, title in enumerate(self.titles)}
        self.vectors = np.load(folder / "vectors.npy")
        # Titles share a direction; without it, likeness tells them apart.
        self.centred = self.vectors - self.vectors[self.vectors.any(axis=1)].mean(axis=0)
        self.popularity = np.load(folder / "popularity.npy")
        wide = np.column_stack([self.vectors, self.popularity]).astype(np.float32)
        faiss.omp_set_num_threads(1)
        self.index = faiss.IndexFlatIP(wide.shape[1])
        self.index.add(wide)
        self.popular = np.argsort(-self.popularity, kind="stable").tolist()

    def best(self, vector, weight, k):
        """Scores and rows of the k best."""
        query = np.append(vector, weight).astype(np.float32)[None]
        scores, rows = self.index.search(query, min(k, len(self.titles)))
        return scores[0], rows[0]


class UserModel:
    """The Bundle's ONNX graph."""

    def __init__(self, folder):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            folder / "user_model.onnx", options, providers=["CPUExecutionProvider"]
        )
        self.personal = np.load(folder / "personal.npy")
        self.inputs = {port.name for port in self.session.get_inputs()}
        self.length = next(
            port.shape[1] for port in self.session.get_inputs() if port.name == "vectors"
        )

    def user(self, vectors, signals, gaps):
        """User vector of a history."""
        feeds = user_model_inputs(vectors, signals, gaps, length=self.length)
        feeds["personal"] = self.personal
        feeds = {name: value for name, value in feeds.items() if name in self.inputs}
        return self.session.run(["user"], feeds)[0][0]


class Household:
    """What one profile did, by title, in the order of the last event."""

    def __init__(self):
        self.seen = {}
        self.user = None

    def apply(self, title_id, kind, at, position_s, duration_s):
        """Take one event in."""
        last = self.seen.pop(
            title_id, {"fraction": None, "finished": False, "hidden": False, "telling": False}
        )
        fraction = position_s / duration_s if position_s is not None and duration_s else None
        self.seen[title_id] = {
            "kind": EventKind(kind),
            "at": at,
            "telling": last["telling"] or kind in TELLING or (position_s or 0) > STARTED_S,
            "fraction": last["fraction"] if fraction is None else fraction,
            "finished": kind == "complete" or (kind not in PLAYED and last["finished"]),
            "hidden": kind in ("dislike", "dismiss") or (kind not in PLAYED and last["hidden"]),
        }
        self.user = None


class Recommender:
    """Answers."""

    def __init__(self, folder, state):
        self.catalogue = Catalogue(folder)
        self.model = UserModel(folder)
        self.weight = json.loads((folder / "settings.json").read_text())["popularity_weight"]
        self.database = sqlite3.connect(state / "events.db")
        self.database.execute(SCHEMA)
        self.households = {}
        for profile, *rest in self.database.execute(
            "SELECT profile_id, title_id, kind, at, position_s, duration_s FROM events ORDER BY id"
        ):
            self.household(profile).apply(*rest)

    def household(self, profile_id):
        """State of a profile."""
        return self.households.setdefault(profile_id, Household())

    def event(self, event):
        """Store one event; on disk when this returns."""
        values = (event.event_id, event.profile_id, event.title_id, event.kind.value, event.at,
                  event.position_s, event.duration_s)  # fmt: skip
        with self.database:
            done = self.database.execute(INSERT, values)
        if not done.rowcount:
            return {"status": "duplicate"}
        self.household(event.profile_id).apply(*values[2:])
        return {"status": "stored"}

    def rows(self, profile_id):
        """The shelf: at most one card a title."""
        household = self.household(profile_id)
        taken = set(household.seen)
        shelf = [("continue_watching", None, self._continue(household))]
        if (user := self._user(household)) is not None:
            shelf.append(("for_you", None, self._for_you(user, taken)))
        shelf += [
            ("because_you_watched", seed, self._like(seed, taken))
            for seed in self._seeds(household)
        ]
        shelf.append(("popular", None, self._take(self.catalogue.popular, taken)))
        return {"rows": [self._row(*row, household) for row in shelf if row[2]]}

    def _user(self, household):
        if household.user is None:
            known = [
                (self.catalogue.rows[title], seen)
                for title, seen in household.seen.items()
                if title in self.catalogue.rows and seen["telling"]
            ][-self.model.length :]
            if not known:
                return None
            rows = np.array([row for row, _ in known])
            signals = [signal_of(seen["kind"], seen["fraction"]) for _, seen in known]
            gaps = gap_buckets(np.array([seen["at"] for _, seen in known]))
            household.user = self.model.user(
                self.catalogue.vectors[rows], np.array(signals, dtype=np.int32), gaps
            )
        return household.user

    def _continue(self, household):
        unfinished = [
            self.catalogue.rows[title]
            for title, seen in reversed(household.seen.items())
            if title in self.catalogue.rows
            and 0.03 < (seen["fraction"] or 0) < 0.95
            and not (seen["finished"] or seen["hidden"])
        ]
        return unfinished[:CONTINUE]

    def _for_you(self, user, taken):
        # Broadcasts and watched titles are taken out afterwards, so ask for more.
        scores, rows = self.catalogue.best(user, self.weight, 2 * POOL + len(taken))
        keep = np.array([self._free(row, taken) for row in rows.tolist()])
        scores, rows = scores[keep][:POOL], rows[keep][:POOL]
        if not len(rows):
            return []
        spread = np.ptp(scores) or 1.0
        scores = (scores - scores.min()) / spread  # weighed against likeness, in [0, 1] too
        chosen = diversify(
            self.catalogue.centred[rows], scores, k=CARDS, strategy=Strategy.MMR,
            diversity=DIVERSITY,
        )  # fmt: skip
        return self._take(rows[chosen.indices].tolist(), taken)

    def _like(self, seed, taken):
        rows = self.catalogue.best(self.catalogue.vectors[seed], 0.0, POOL + len(taken))[1]
        return self._take(rows.tolist(), taken)

    def _seeds(self, household):
        liked = [
            self.catalogue.rows[title]
            for title, seen in reversed(household.seen.items())
            if title in self.catalogue.rows and (seen["finished"] or seen["kind"] == "like")
        ]
        return liked[:SEEDS]

    def _take(self, rows, taken):
        """The first cards that are nowhere yet; from now on they are."""
        chosen = []
        for row in rows:
            if self._free(row, taken):
                chosen.append(row)
                taken.add(self.catalogue.titles[row]["title_id"])
                if len(chosen) == CARDS:
                    break
        return chosen

    def _free(self, row, taken):
        title = self.catalogue.titles[row]
        return title["on_demand"] and title["title_id"] not in taken

    def _row(self, code, seed, rows, household):
        titles = self.catalogue.titles
        return {
            "code": code,
            "params": {} if seed is None else {"title_id": titles[seed]["title_id"],
                                               "name": titles[seed]["name"]},
            "cards": [self._card(titles[row], household) for row in rows],
        }  # fmt: skip

    @staticmethod
    def _card(title, household):
        seen = household.seen.get(title["title_id"])
        return {
            "title_id": title["title_id"],
            "name": title["name"],
            "reason": None,
            "progress": seen["fraction"] if seen else None,
            "expires_at": None,
            "deep_link": title["deep_link"],
            "artwork": title["artwork"],
        }


def make_app(recommender):
    """The web application; coroutines, as the work is short and a pool of threads costs more."""
    app = FastAPI()

    @app.post("/event")
    async def event(event: Event):
        return JSONResponse(recommender.event(event))

    @app.post("/rows")
    async def rows(who: Who):
        return JSONResponse(recommender.rows(who.profile_id))

    return app


if __name__ == "__main__":
    stock, uds, kept = sys.argv[1:]
    uvicorn.run(
        make_app(Recommender(Path(stock), Path(kept))),
        uds=uds, log_level="warning", access_log=False, timeout_graceful_shutdown=2,
    )  # fmt: skip
