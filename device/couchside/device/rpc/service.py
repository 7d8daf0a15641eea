"""What each method of the RPC does: JSON in, the household and its answers, JSON out."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from couchside.device import process, strict
from couchside.device.errors import (
    BundleError,
    CatalogueError,
    RequestError,
    RpcError,
    StoreError,
)
from couchside.device.household.store import Consent
from couchside.device.learning.tutor import SHARED, Idleness
from couchside.device.records import EventKind, Profile, ViewingEvent
from couchside.device.rpc import methods, wire

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from couchside.device.records import Card, Reason, Row
    from couchside.device.rpc.server import Peer
    from couchside.device.tv import TV

_log = logging.getLogger(__name__)


class Service:
    """Answers lines of the RPC.

    Args:
        tv: the household, its titles and its answers.
        owner_uids: users with every right.
    """

    def __init__(self, tv: TV, *, owner_uids: Collection[int]) -> None:
        self._tv = tv
        self._owner_uids = frozenset(owner_uids)
        self.calls = 0
        self.errors = 0
        self._handlers: Mapping[str, Callable[[Any], Any]] = {
            "event": self._event,
            "rows": self._rows,
            "similar": self._similar,
            "search": self._search,
            "title": self._title,
            "health": self._health,
            "explain": self._explain,
            "feedback": self._feedback,
            "dismiss": self._dismiss,
            "forget": self._forget,
            "export": self._export,
            "profiles.list": self._profiles_list,
            "profiles.add": self._profiles_add,
            "profiles.remove": self._profiles_remove,
            "catalogue.load": self._catalogue_load,
            "catalogue.remove": self._catalogue_remove,
            "catalogue.status": self._catalogue_status,
            "consent.get": self._consent_get,
            "consent.set": self._consent_set,
            "bundle.status": self._bundle_status,
            "device.state": self._device_state,
            "learning.status": self._learning_status,
            "standby": self._standby,
        }

    def handle(self, line: bytes, peer: Peer) -> bytes | None:
        """The reply to one line; None for a notification. Never raises."""
        self.calls += 1
        try:
            request = wire.parse_request(line)
        except RpcError as error:
            return wire.failure(None, error)
        try:
            result = wire.success(request.request_id, self._call(request, peer))
        except RpcError as error:
            result = wire.failure(request.request_id, error)
        except Exception as error:  # noqa: BLE001 - the one place: it never dies of input
            self.errors += 1
            _log.exception("%s failed", request.method)
            told = RpcError(wire.INTERNAL_ERROR, f"internal error: {type(error).__name__}")
            result = wire.failure(request.request_id, told)
        return result if request.wants_reply else None

    def _call(self, request: wire.Request, peer: Peer) -> Any:
        method = methods.METHODS.get(request.method)
        if method is None:
            known = ", ".join(methods.METHODS)
            raise RpcError(
                wire.METHOD_NOT_FOUND, f"no method {request.method!r}; methods are {known}"
            )
        if method.scope is methods.Scope.OWNER and peer.uid not in self._owner_uids:
            raise RpcError(
                wire.NOT_ALLOWED,
                f"user {peer.uid} may not call {request.method}; rpc.owner_uids lists who may",
            )
        try:
            params: Any = strict.from_json(method.params, request.params)
            return self._handlers[request.method](params)
        except strict.StrictError as error:
            raise RpcError(
                wire.INVALID_PARAMS, f"invalid params: {error}", {"field": error.path}
            ) from error
        except RequestError as error:
            raise RpcError(wire.INVALID_PARAMS, str(error), {"field": error.field}) from error
        except CatalogueError as error:
            raise RpcError(wire.CATALOGUE_ERROR, str(error)) from error
        except BundleError as error:
            self._tv.trial.failed(str(error))
            raise RpcError(wire.INTERNAL_ERROR, f"the Bundle failed: {error}") from error
        except (StoreError, sqlite3.OperationalError, OSError) as error:
            self.errors += 1
            _log.warning("%s: %s", request.method, error)
            raise RpcError(wire.INTERNAL_ERROR, f"the TV's storage refused: {error}") from error

    def _event(self, params: methods.EventParams) -> Any:
        event = ViewingEvent(
            params.event_id,
            params.profile_id,
            params.title_id,
            params.kind,
            self._tv.clock() if params.at is None else params.at,
            params.position_s,
            params.duration_s,
            params.credits_s,
        )
        return self._add(event)

    def _add(self, event: ViewingEvent) -> Any:
        acknowledgement = self._tv.household.add_event(event)
        moment = self._tv.household.moment
        return {
            "status": acknowledgement.value,
            "known_title": event.title_id in moment.catalogue.index,
            "generation": moment.generation,
        }

    def _rows(self, params: methods.RowsParams) -> Any:
        ranking = self._tv.recommender.rows(params.profile_id, rows=params.rows, cards=params.cards)
        self._tv.trial.healthy()
        named = {title for row in ranking.rows for card in row.cards for title in _evidence(card)}
        return {
            "rows": [_row(row) for row in ranking.rows],
            "names": self._tv.recommender.names(named),
            "bundle_version": ranking.bundle_version,
            "generation": ranking.generation,
        }

    def _similar(self, params: methods.SimilarParams) -> Any:
        cards = self._tv.recommender.similar(params.title_id, params.profile_id, params.k)
        return {"cards": [_card(card) for card in cards]}

    def _search(self, params: methods.SearchParams) -> Any:
        cards = self._tv.recommender.search(params.text, params.profile_id, params.k)
        return {"cards": [_card(card) for card in cards]}

    def _title(self, params: methods.TitleParams) -> Any:
        title = self._tv.recommender.title(params.title_id, params.profile_id)
        return {"title": {**strict.to_json(title), "external_ids": dict(title.external_ids)}}

    def _explain(self, params: methods.TitleParams) -> Any:
        row, reason = self._tv.recommender.explain(params.title_id, params.profile_id)
        asked = {params.title_id, *(reason.evidence if reason else ())}
        return {
            "title_id": params.title_id,
            "row": row.value if row else None,
            "reason": _reason(reason),
            "names": self._tv.recommender.names(asked),
        }

    def _feedback(self, params: methods.FeedbackParams) -> Any:
        return self._add(self._opinion(params, EventKind(params.opinion)))

    def _dismiss(self, params: methods.DismissParams) -> Any:
        return self._add(self._opinion(params, EventKind.DISMISS))

    def _opinion(
        self, params: methods.FeedbackParams | methods.DismissParams, kind: EventKind
    ) -> ViewingEvent:
        now = self._tv.clock()
        return ViewingEvent(params.event_id, params.profile_id, params.title_id, kind, now)

    def _forget(self, params: methods.ForgetParams) -> Any:
        erased = self._tv.forget(title_id=params.title_id, profile_id=params.profile_id)
        return {"events": erased, "generation": self._tv.household.moment.generation}

    def _export(self, params: methods.ExportParams) -> Any:
        events = self._tv.store.events(
            after=params.after, limit=params.limit, profile_id=params.profile_id
        )
        whole = len(events) == params.limit
        return {
            "profiles": strict.to_json(self._tv.store.profiles()),
            "consent": strict.to_json(self._tv.store.consent()),
            "events": [
                {"sequence": one.sequence, "boot_id": one.boot_id, **strict.to_json(one.event)}
                for one in events
            ],
            "next": events[-1].sequence if whole else None,
        }

    def _profiles_list(self, _: methods.NoParams) -> Any:
        return {"profiles": strict.to_json(self._tv.store.profiles())}

    def _profiles_add(self, params: methods.ProfileParams) -> Any:
        profile = Profile(params.profile_id, params.name, params.max_maturity)
        self._tv.put_profile(profile)
        return {"profile": strict.to_json(profile)}

    def _profiles_remove(self, params: methods.ProfileIdParams) -> Any:
        self._tv.remove_profile(params.profile_id)
        return {"removed": params.profile_id}

    def _catalogue_load(self, params: methods.LoadParams) -> Any:
        return strict.to_json(self._tv.library.load(params.source, Path(params.path)))

    def _catalogue_remove(self, params: methods.SourceParams) -> Any:
        self._tv.library.remove(params.source)
        return {"removed": params.source}

    def _catalogue_status(self, _: methods.NoParams) -> Any:
        report = self._tv.library.last_report
        return {
            "sources": self._tv.library.sources(),
            "titles": len(self._tv.household.moment.catalogue),
            "last_load": strict.to_json(report) if report else None,
        }

    def _consent_get(self, _: methods.NoParams) -> Any:
        return {"consent": strict.to_json(self._tv.store.consent())}

    def _consent_set(self, params: methods.ConsentParams) -> Any:
        consent = Consent(params.purpose, params.granted, self._tv.clock())
        if not params.granted and params.purpose in SHARED:
            with self._tv.tutor.silenced():
                self._tv.store.set_consent(consent)
        else:
            self._tv.store.set_consent(consent)
        self._tv.tutor.look()
        return self._consent_get(methods.NoParams())

    def _bundle_status(self, _: methods.NoParams) -> Any:
        bundle = self._tv.choice.bundle
        return {
            "version": bundle.version,
            "bundle_id": bundle.bundle_id,
            "flavour": bundle.flavour,
            "runtime": bundle.runtime,
            "slot": self._tv.choice.slot.value,
            "trial_left": self._tv.trial.left,
            "skipped": dict(self._tv.choice.skipped),
        }

    def _device_state(self, params: methods.StateParams) -> Any:
        written = self._tv.store.flush() if params.standby else 0
        self._tv.tutor.idle(Idleness(params.standby, params.unmetered))
        return {"written": written}

    def _learning_status(self, _: methods.NoParams) -> Any:
        return self._tv.tutor.status()

    def _standby(self, _: methods.NoParams) -> Any:
        return {"written": self._tv.store.flush()}

    def _health(self, _: methods.NoParams) -> Any:
        tv, timings = self._tv, self._tv.recommender.timings
        catalogue = tv.household.moment.catalogue
        now = tv.recommender.now()
        return {
            **process.memory(Path("/proc/self/status")),
            "generation": tv.household.moment.generation,
            "bundle_version": tv.choice.bundle.version,
            "slot": tv.choice.slot.value,
            "titles": len(catalogue),
            "titles_available": int((catalogue.on_demand(now) | catalogue.on_air(now)).sum()),
            "titles_with_vector": int(catalogue.has_vector.sum()),
            "profiles": len(tv.household.moment.members),
            "clock_set": now is not None,
            "events_waiting": tv.store.waiting,
            "history_recovered": tv.store.recovered is not None,
            "calls": self.calls,
            "errors": self.errors + tv.recommender.reasons.failures,
            "rows": timings.count,
            "rows_p50_ms": _milliseconds(timings.percentile(50)),
            "rows_p99_ms": _milliseconds(timings.percentile(99)),
        }


def _evidence(card: Card) -> tuple[str, ...]:
    return card.reason.evidence if card.reason else ()


def _row(row: Row) -> dict[str, Any]:
    return {
        "code": row.code.value,
        "params": dict(row.params),
        "cards": [_card(card) for card in row.cards],
    }


def _card(card: Card) -> dict[str, Any]:
    return {
        "title_id": card.title_id,
        "name": card.name,
        "reason": _reason(card.reason),
        "progress": card.progress,
        "expires_at": card.expires_at,
        "deep_link": card.deep_link,
        "artwork": card.artwork,
    }


def _reason(reason: Reason | None) -> dict[str, Any] | None:
    if reason is None:
        return None
    return {"code": reason.code.value, "evidence": list(reason.evidence)}


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
