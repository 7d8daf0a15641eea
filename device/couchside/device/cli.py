"""``couchside``: the daemon's face for a person at a terminal.

It does what a launcher and a player do, over the same socket, with the same rights. Exit status:
0 done, 1 refused by the daemon, 2 wrong usage, 3 no daemon, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from couchside.device import screen
from couchside.device.config import Config, read_config
from couchside.device.errors import ConfigError, RpcError, UnreachableError
from couchside.device.rpc.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OK, REFUSED, USAGE, NO_DAEMON, INTERRUPTED = 0, 1, 2, 3, 130
ASSUMED_S = 5400.0
"""Length of a title that the catalogue has no length of, when this command plays the player."""
LOAD_S = 600.0
"""Patience for an answer; a load of a large guide takes the longest."""

Command = tuple["Callable[[Client, argparse.Namespace], Any]", "Callable[[Any], str]"]


class UsageError(Exception):
    """What was typed can't be done as typed, such as a name that fits several titles."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``couchside``; the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    act, render = COMMANDS[options.command]
    try:
        with Client(_socket(options), timeout_s=LOAD_S) as client:
            result = act(client, options)
        print(json.dumps(result, indent=1, ensure_ascii=False) if options.json else render(result))
        sys.stdout.flush()
    except (ConfigError, UsageError) as error:
        return _fail(USAGE, str(error))
    except UnreachableError as error:
        return _fail(NO_DAEMON, str(error))
    except (RpcError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # the reader, perhaps head(1), has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return OK
        return _fail(REFUSED, str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    return OK


def _fail(status: int, message: str) -> int:
    print(f"couchside: {message}", file=sys.stderr)
    return status


def _socket(options: argparse.Namespace) -> Path:
    """Of the flag, the environment, the configuration, or where it always is; in this order."""
    if options.socket is not None:
        return Path(options.socket)
    if "COUCHSIDE_SOCKET" in os.environ:
        return Path(os.environ["COUCHSIDE_SOCKET"])
    return (Config() if options.config is None else read_config(options.config)).socket


def find_title(client: Client, words: str, profile_id: str) -> dict[str, Any]:
    """The title with this title_id, or the one with this name.

    Raises:
        UsageError: there is no such title, or there are several.
    """
    try:
        return _title(client, words, profile_id)
    except RpcError as error:
        if error.data.get("field") != "title_id":
            raise
    cards = client.call("search", text=words, profile_id=profile_id, k=25)["cards"]
    same = [card for card in cards if card["name"].casefold() == words.casefold()]
    if len(same) == 1:
        return _title(client, same[0]["title_id"], profile_id)
    near = "".join(f"\n  {card['title_id']}  {card['name']}" for card in (same or cards)[:8])
    problem = "several titles are called so" if same else "no title is called so"
    raise UsageError(f"{words!r}: {problem}; name one by its id{near and ':'}{near}")


def _title(client: Client, title_id: str, profile_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.call("title", title_id=title_id, profile_id=profile_id)["title"]
    return found


def _rows(client: Client, options: argparse.Namespace) -> Any:
    return client.call("rows", profile_id=options.profile)


def _watch(client: Client, options: argparse.Namespace) -> Any:
    title = find_title(client, options.title, options.profile)
    duration = title["duration_s"] or ASSUMED_S
    event: dict[str, Any] = {"kind": "complete", "position_s": duration}
    if options.until is not None:
        event = {"kind": "stop", "position_s": options.until * duration}
    common = {"title_id": title["title_id"], "profile_id": options.profile}
    client.call("event", event_id=_event_id(), kind="start", position_s=0.0, **common)
    done = client.call("event", event_id=_event_id(), duration_s=duration, **common, **event)
    return {"name": title["name"], "title_id": title["title_id"], **done}


def _opinion(client: Client, options: argparse.Namespace) -> Any:
    title = find_title(client, options.title, options.profile)
    done = client.call(
        "feedback",
        event_id=_event_id(),
        title_id=title["title_id"],
        profile_id=options.profile,
        opinion=options.command,
    )
    return {"name": title["name"], "title_id": title["title_id"], **done}


def _dismiss(client: Client, options: argparse.Namespace) -> Any:
    title = find_title(client, options.title, options.profile)
    common = {"title_id": title["title_id"], "profile_id": options.profile}
    return {"name": title["name"], **client.call("dismiss", event_id=_event_id(), **common)}


def _why(client: Client, options: argparse.Namespace) -> Any:
    title = find_title(client, options.title, options.profile)
    return client.call("explain", title_id=title["title_id"], profile_id=options.profile)


def _similar(client: Client, options: argparse.Namespace) -> Any:
    title = find_title(client, options.title, options.profile)
    return client.call("similar", title_id=title["title_id"], profile_id=options.profile)


def _search(client: Client, options: argparse.Namespace) -> Any:
    return client.call("search", text=" ".join(options.text), profile_id=options.profile)


def _forget(client: Client, options: argparse.Namespace) -> Any:
    if options.all == (options.title is not None):
        raise UsageError("forget: name a title, or say --all")
    if options.all:
        return client.call("forget", everything=True)
    title = find_title(client, options.title, options.profile)
    return client.call("forget", title_id=title["title_id"])


def _export(client: Client, options: argparse.Namespace) -> Any:
    page = client.call("export")
    whole = {"profiles": page["profiles"], "consent": page["consent"], "events": page["events"]}
    while page["next"] is not None:
        page = client.call("export", after=page["next"])
        whole["events"] += page["events"]
    if options.out is not None:
        options.out.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return whole


def _profiles(client: Client, options: argparse.Namespace) -> Any:
    if options.add is not None:
        profile_id, name = options.add
        client.call(
            "profiles.add", profile_id=profile_id, name=name, max_maturity=options.max_maturity
        )
    if options.remove is not None:
        client.call("profiles.remove", profile_id=options.remove)
    return client.call("profiles.list")


def _load(client: Client, options: argparse.Namespace) -> Any:
    path = options.file.resolve()
    source = options.source or path.name.split(".")[0]
    return client.call("catalogue.load", source=source, path=str(path))


def _consent(client: Client, options: argparse.Namespace) -> Any:
    if options.purpose is None:
        return client.call("consent.get")
    if options.answer is None:
        raise UsageError(f"consent {options.purpose}: say yes or no")
    return client.call("consent.set", purpose=options.purpose, granted=options.answer == "yes")


def _health(client: Client, _: argparse.Namespace) -> Any:
    return client.call("health")


def _bundle(client: Client, _: argparse.Namespace) -> Any:
    return client.call("bundle.status")


def _learning(client: Client, _: argparse.Namespace) -> Any:
    return client.call("learning.status")


def _idle(client: Client, options: argparse.Namespace) -> Any:
    standby = options.answer == "yes"
    return client.call("device.state", standby=standby, unmetered=options.unmetered)


def _event_id() -> str:
    return f"cli-{uuid.uuid4()}"


COMMANDS: dict[str, Command] = {
    "rows": (_rows, screen.rows),
    "watch": (_watch, screen.done),
    "like": (_opinion, screen.done),
    "dislike": (_opinion, screen.done),
    "clear": (_opinion, screen.done),
    "dismiss": (_dismiss, screen.done),
    "why": (_why, screen.why),
    "similar": (_similar, screen.cards),
    "search": (_search, screen.cards),
    "forget": (_forget, screen.forgotten),
    "export": (_export, screen.exported),
    "profiles": (_profiles, screen.profiles),
    "load": (_load, screen.loaded),
    "consent": (_consent, screen.consent),
    "health": (_health, screen.table),
    "bundle": (_bundle, screen.table),
    "learning": (_learning, screen.table),
    "idle": (_idle, screen.table),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="couchside", description="What is on the couch's shelf, and why."
    )
    parser.add_argument("--socket", metavar="PATH", help="the daemon's (or $COUCHSIDE_SOCKET)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the daemon's settings")
    parser.add_argument("--profile", default="household", metavar="ID", help="who is watching")
    parser.add_argument("--json", action="store_true", help="print what the daemon answered")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser("rows", help="show the shelf")
    _add_title_commands(commands)
    _add_household_commands(commands)
    loading = commands.add_parser("load", help="replace a source of titles by a file")
    loading.add_argument("file", type=Path, metavar="FILE", help="XMLTV (.xml) or JSON lines")
    loading.add_argument("--source", metavar="NAME", help="its name; otherwise the file's")
    commands.add_parser("health", help="memory, speed, counters")
    commands.add_parser("bundle", help="the Bundle that ranks")
    commands.add_parser("learning", help="what was learned here, and what of it left")
    idle = commands.add_parser("idle", help="say that nobody is there, so that the TV may learn")
    idle.add_argument("answer", choices=("yes", "no"))
    idle.add_argument("--unmetered", action="store_true", help="bytes cost nothing now")
    return parser


def _add_title_commands(commands: Any) -> None:
    watch = commands.add_parser("watch", help="watch a title, to its end or until a point")
    watch.add_argument("title", metavar="TITLE", help="its id or its name")
    until = watch.add_mutually_exclusive_group()
    until.add_argument("--until", type=_fraction, metavar="PART", help="stop there; 0.5 is half")
    until.add_argument("--complete", action="store_true", help="to the end (the default)")
    for name, meaning in (
        ("like", "say that you like a title"),
        ("dislike", "never show it again"),
        ("clear", "take back what you said of a title"),
        ("dismiss", "hide a card until you watch the title again"),
        ("why", "say why a card stands where it stands"),
        ("similar", "show titles like one title"),
    ):
        command = commands.add_parser(name, help=meaning)
        command.add_argument("title", metavar="TITLE", help="its id or its name")
    search = commands.add_parser("search", help="find titles by words and by meaning")
    search.add_argument("text", nargs="+", metavar="TEXT", help="what you would say")


def _add_household_commands(commands: Any) -> None:
    forget = commands.add_parser("forget", help="erase what was watched, down to the bytes")
    forget.add_argument("title", nargs="?", metavar="TITLE", help="its id or its name")
    forget.add_argument("--all", action="store_true", help="everything, of everybody")
    export = commands.add_parser("export", help="everything that is stored of the household")
    export.add_argument("--out", type=Path, metavar="FILE", help="write it there, as JSON")
    profiles = commands.add_parser("profiles", help="who lives here")
    profiles.add_argument("--add", nargs=2, metavar=("ID", "NAME"), help="add or change one")
    profiles.add_argument("--max-maturity", type=int, metavar="YEARS", help="fence of --add")
    profiles.add_argument("--remove", metavar="ID", help="remove one and all it did")
    consent = commands.add_parser("consent", help="what the household allows")
    consent.add_argument("purpose", nargs="?", choices=("learning", "popularity", "health"))
    consent.add_argument("answer", nargs="?", choices=("yes", "no"))


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a part from 0 to 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
