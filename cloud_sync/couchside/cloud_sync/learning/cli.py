"""``couchside-cloud helper``, ``aggregate`` and ``round``: the commands of learning together."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from couchside.cloud_sync import topics
from couchside.cloud_sync.errors import BrokerError, RoundError
from couchside.cloud_sync.learning.asking import ask_helper
from couchside.cloud_sync.learning.identity import (
    helper_keys,
    public_key,
    rounds_key,
    rounds_key_file,
    trust_helper,
)
from couchside.cloud_sync.learning.letters import Unmask
from couchside.cloud_sync.learning.lifecycle import Rounds, epsilons
from couchside.cloud_sync.learning.plan import Wish
from couchside.cloud_sync.learning.summing.aggregator import Aggregator
from couchside.cloud_sync.learning.unmasking.helper import LEAST_COHORT, Helper, Policy
from couchside.cloud_sync.learning.unmasking.seeds import SeedStore
from couchside.cloud_sync.mqtt import Session
from couchside.device import strict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from couchside.cloud_sync.address import BrokerAddress
    from couchside.cloud_sync.learning.journal import Kept

MOST_WAIT_S = 5.0
"""Longest wait between two attempts to connect: there are few of us, and TVs wait for receipts."""
CONNECT_S = 15.0
WISH = Wish()


class _Stoppable(Protocol):
    stopping: bool

    def run(self) -> None: ...


def helper(options: argparse.Namespace, broker: BrokerAddress | None) -> dict[str, Any]:
    """Run the unmasking helper, or show who it is."""
    options.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = helper_keys(options.state)
    if options.show:
        print(json.dumps(strict.to_json(keys.identity), indent=1, sort_keys=True))
        return {}
    if broker is None or not options.rounds_key:
        raise ValueError("helper needs --broker HOST:PORT and --rounds-key (or --show)")
    trusted = tuple(map(public_key, options.rounds_key))
    store = SeedStore(options.state / "helper.db")
    session = Session(broker, "couchside-helper", most_wait_s=MOST_WAIT_S)
    running = Helper(
        Policy(trusted, options.least_cohort),
        keys,
        store,
        session,
        report=_reporter(options),
        clock=time.time,
    )
    _run(running, session)
    store.close()
    return {}


def aggregate(options: argparse.Namespace, broker: BrokerAddress | None) -> dict[str, Any]:
    """Run the aggregator of a channel."""
    if broker is None:
        raise ValueError("aggregate needs --broker HOST:PORT")
    _check_channel(options.channel)
    rounds = Rounds(options.repository, _keys(options))
    session = Session(broker, f"couchside-aggregate-{options.channel}", most_wait_s=MOST_WAIT_S)
    running = Aggregator(
        options.channel,
        rounds.journal,
        session,
        rounds.asking_keys(),
        report=_reporter(options),
        clock=time.time,
        monotonic=time.monotonic,
    )
    _run(running, session)
    rounds.close()
    return {}


def round_command(options: argparse.Namespace, broker: BrokerAddress | None) -> dict[str, Any]:
    """``round open``, ``status``, ``close`` or ``trust``."""
    if options.action == "trust":
        identity = trust_helper(options.repository, options.helper)
        key, _ = rounds_key(_keys(options), options.repository)
        return {
            "helper": strict.to_json(identity),
            "rounds key for the helper": key.public_key().public_bytes_raw().hex(),
            "next": "release again: TVs learn from the manifest whom they learn with",
        }
    rounds = Rounds(options.repository, _keys(options))
    try:
        return ACTIONS[options.action](rounds, options, broker)
    finally:
        rounds.close()


def _open(
    rounds: Rounds, options: argparse.Namespace, broker: BrokerAddress | None
) -> dict[str, Any]:
    _check_channel(options.channel)
    made = not rounds_key_file(_keys(options)).exists()
    asked = rounds.open_round(
        options.channel, options.bundle, _wish(options), int(time.time()), os.urandom(32)
    )
    kept = rounds.journal.get(asked.round_id)
    if broker is not None and kept is not None:
        try:
            with _connected(broker, "couchside-cloud-open") as session:
                _retain(session, options.channel, kept.signed)
        except BrokerError as error:
            raise BrokerError(
                f"{error}; round {kept.round_id} is open all the same, and the aggregator will "
                "publish it"
            ) from error
    described = {key: value for key, value in strict.to_json(asked).items() if key != "seed"}
    new_key = {"made": f"{rounds_key_file(_keys(options))}; release again before TVs follow"}
    return {
        **described,
        "sigma": round(asked.sigma, 2),
        **epsilons(asked),
        "published": broker is not None,
        **(new_key if made else {}),
    }


def _status(
    rounds: Rounds, options: argparse.Namespace, _broker: BrokerAddress | None
) -> dict[str, Any]:
    every = rounds.status(time.time())
    return {
        name: described
        for name, described in every.items()
        if options.channel in (None, name.split("/")[0])
    }


def _close(
    rounds: Rounds, options: argparse.Namespace, broker: BrokerAddress | None
) -> dict[str, Any]:
    _check_channel(options.channel)
    if broker is None and not options.abandon:
        raise ValueError("round close needs --broker HOST:PORT, where the helper is")
    kept = rounds.seal(options.channel, int(time.time()))
    if options.abandon or not rounds.is_enough(kept):
        rounds.void(kept, int(time.time()))
    if broker is None:
        return {"state": "void", "round_id": kept.round_id}
    with _connected(broker, "couchside-cloud-close") as session:
        _retain(session, options.channel, b"")
        if options.abandon:
            return {"state": "void", "round_id": kept.round_id}
        if not rounds.is_enough(kept):
            raise RoundError(
                f"round {kept.round_id} is void: {kept.folded} TVs took part, fewer than its "
                "--least; nothing was unmasked, and nothing will be"
            )
        return _unmask(rounds, kept, options, session)


def _unmask(
    rounds: Rounds, kept: Kept, options: argparse.Namespace, session: Session
) -> dict[str, Any]:
    ask = Unmask(kept.signed, rounds.journal.update_ids(kept.round_id))
    answer = ask_helper(session, rounds.asking_keys(), ask, timeout_s=options.timeout)
    out = options.out or rounds.folder(kept.round_id)
    written = rounds.finish(kept, answer, out, options.server_rate, int(time.time()))
    return {"state": "closed", **strict.to_json(written), "result": str(out)}


ACTIONS = {"open": _open, "status": _status, "close": _close}
COMMANDS = {"helper": helper, "aggregate": aggregate, "round": round_command}


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands of this module to those of ``couchside-cloud``."""
    server = commands.add_parser("helper", help="run the unmasking helper; needs no --repository")
    server.add_argument("--state", type=Path, required=True, metavar="DIR", help="keys, seeds")
    server.add_argument(
        "--rounds-key",
        action="append",
        metavar="HEX|FILE",
        help="public key of the cloud's Rounds, its rounds.pub; may come twice",
    )
    server.add_argument(
        "--least-cohort",
        type=_at_least_2,
        default=LEAST_COHORT,
        metavar="N",
        help="unmask no fewer TVs, whatever a Round says",
    )
    server.add_argument("--show", action="store_true", help="print the public identity and end")
    summer = commands.add_parser("aggregate", help="run the aggregator of a channel")
    summer.add_argument("--channel", default="stable", metavar="NAME")
    rounds = commands.add_parser("round", help="open, watch and close a Round")
    actions = rounds.add_subparsers(dest="action", required=True, metavar="ACTION")
    trust = actions.add_parser("trust", help="take a helper's identity")
    trust.add_argument("helper", type=Path, metavar="HELPER_JSON")
    _add_open(actions.add_parser("open", help="plan, sign and publish a Round"))
    status = actions.add_parser("status", help="every Round: state, TVs, refusals, ε")
    status.add_argument("--channel", metavar="NAME", help="only this one's")
    close = actions.add_parser("close", help="seal, have the sum unmasked, write the result")
    close.add_argument("--channel", default="stable", metavar="NAME")
    close.add_argument(
        "--out", type=Path, metavar="DIR", help="default: rounds/N, in the repository"
    )
    close.add_argument("--server-rate", type=float, default=1.0, metavar="R")
    close.add_argument("--timeout", type=float, default=60.0, metavar="S", help="for the helper")
    close.add_argument("--abandon", action="store_true", help="make it void instead")


def _add_open(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--channel", default="stable", metavar="NAME")
    parser.add_argument("--bundle", type=Path, required=True, metavar="DIR", help="the TVs have it")
    parser.add_argument(
        "--learn", default=",".join(WISH.learn), metavar="NAMES", help="parameters, or all"
    )
    parser.add_argument("--coordinates", type=int, metavar="N", help="default: as many as fit")
    parser.add_argument("--no-titles", action="store_true", help="count no titles")
    parser.add_argument("--goal", type=int, default=WISH.goal, metavar="M", help="TVs at most")
    parser.add_argument("--least", type=int, default=WISH.least, metavar="N", help="TVs at least")
    parser.add_argument("--noise", type=float, default=WISH.noise, metavar="Z", help="multiplier")
    parser.add_argument("--clip", type=float, default=WISH.clip, metavar="C", help="L2 norm")
    parser.add_argument(
        "--steps", type=int, default=WISH.steps, metavar="S", help="of SGD, on a TV"
    )
    parser.add_argument("--rate", type=float, default=WISH.rate, metavar="R", help="of SGD")
    parser.add_argument(
        "--sample", type=float, default=WISH.sample, metavar="P", help="chance of a TV"
    )
    parser.add_argument("--new-events", type=int, default=WISH.new_events, metavar="N")
    parser.add_argument("--open-s", type=int, default=WISH.open_s, metavar="S")
    parser.add_argument("--spread-s", type=float, default=WISH.spread_s, metavar="S")


def _wish(options: argparse.Namespace) -> Wish:
    return Wish(
        learn=tuple(filter(None, options.learn.split(","))),
        coordinates=options.coordinates,
        titles=not options.no_titles,
        goal=options.goal,
        least=options.least,
        noise=options.noise,
        clip=options.clip,
        steps=options.steps,
        rate=options.rate,
        sample=options.sample,
        new_events=options.new_events,
        open_s=options.open_s,
        spread_s=options.spread_s,
    )


def _at_least_2(text: str) -> int:
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError("a sum of one TV is that TV's Update; at least 2")
    return number


def _keys(options: argparse.Namespace) -> Path:
    folder: Path = options.keys or options.repository / "keys"
    return folder


def _check_channel(channel: str) -> None:
    if not topics.is_name(channel):
        raise ValueError(f"--channel {channel!r}: lower-case letters, digits, hyphens")


@contextmanager
def _connected(broker: BrokerAddress, name: str) -> Iterator[Session]:
    session = Session(broker, name, most_wait_s=MOST_WAIT_S)
    try:
        session.wait_connected(CONNECT_S)
        yield session
    finally:
        session.close()


def _retain(session: Session, channel: str, signed: bytes) -> None:
    session.publish_all([(topics.round_of(channel), signed)], timeout_s=CONNECT_S)


def _reporter(options: argparse.Namespace) -> Callable[[dict[str, Any]], None]:
    """One line a change: JSON on the standard output, or words in the log."""
    if options.json:
        return lambda change: print(json.dumps(change), flush=True)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    log = logging.getLogger("couchside.cloud")
    return lambda change: log.info(" ".join(f"{key}={value}" for key, value in change.items()))


def _run(process: _Stoppable, session: Session) -> None:
    """Run until SIGTERM or Ctrl-C, then say goodbye to the broker."""

    def stop(*_: object) -> None:
        process.stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        process.run()
    finally:
        session.close()
