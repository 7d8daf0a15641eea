"""``couchside-cloud``: keys, releases, Rounds, and what the broker retains of them.

Exit status: 0 done, 1 failed, 2 wrong usage. A release is signed on disk first and published
second; if the broker is away, ``publish`` brings it there later.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from couchside.cloud_sync import topics
from couchside.cloud_sync.address import BrokerAddress
from couchside.cloud_sync.cloud.keys import ROLES
from couchside.cloud_sync.cloud.repository import Repository, now_utc
from couchside.cloud_sync.errors import CloudSyncError
from couchside.cloud_sync.learning import cli as learning
from couchside.cloud_sync.learning.identity import rounds_key
from couchside.cloud_sync.mqtt import Session
from couchside.device.errors import CouchsideError

if TYPE_CHECKING:
    from collections.abc import Sequence

OK, FAILED = 0, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``couchside-cloud``; the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.repository is None and options.command != "helper":
        parser.error("--repository DIR is needed")
    try:
        result = _result(options)
    except (CloudSyncError, CouchsideError, OSError, ValueError, sqlite3.Error) as error:
        print(f"couchside-cloud: {error}", file=sys.stderr)
        return FAILED
    if result:
        print(json.dumps(result, indent=1) if options.json else _readable(result))
    return OK


def _result(options: argparse.Namespace) -> dict[str, Any]:
    if options.command in learning.COMMANDS:
        broker = _address(options) if options.broker else None
        return learning.COMMANDS[options.command](options, broker)
    repository = Repository(options.repository, options.keys or options.repository / "keys")
    return COMMANDS[options.command](repository, options)


def _keys(repository: Repository, options: argparse.Namespace) -> dict[str, Any]:
    if options.rotate:
        repository.rotate(options.rotate, now_utc())
        return {"rotated": options.rotate, **_publish_if_asked(repository, options)}
    root = repository.create(now_utc())
    key, _ = rounds_key(options.keys or options.repository / "keys", options.repository)
    return {
        "root for the TVs": str(root),
        "rounds key for the helper": key.public_key().public_bytes_raw().hex(),
    }


def _release(repository: Repository, options: argparse.Namespace) -> dict[str, Any]:
    if not topics.is_name(options.channel):
        raise ValueError(f"--channel {options.channel!r}: lower-case letters, digits, hyphens")
    released = repository.release(
        options.channel, options.bundle, now_utc(), version=options.as_version
    )
    described = {f"{options.channel}/{item.flavour}": asdict(item) for item in released}
    return {**described, **_publish_if_asked(repository, options)}


def _renew(repository: Repository, options: argparse.Namespace) -> dict[str, Any]:
    repository.renew(now_utc())
    return {"head": f"{len(repository.head())} bytes", **_publish_if_asked(repository, options)}


def _publish_if_asked(repository: Repository, options: argparse.Namespace) -> dict[str, Any]:
    return publish(repository, _address(options)) if options.broker else {}


def _publish(repository: Repository, options: argparse.Namespace) -> dict[str, Any]:
    if not options.broker:
        raise ValueError("--broker HOST:PORT is needed to publish")
    return publish(repository, _address(options))


def publish(
    repository: Repository, broker: BrokerAddress, *, timeout_s: float = 120.0
) -> dict[str, Any]:
    """Retain the newest release at the broker: blocks, roots, then the head that leads to them.

    What the release no longer needs is taken away last, so at no moment does a head lead nowhere.

    Raises:
        BrokerError: the broker is away or does not take it all; publishing again is harmless.
    """
    blocks = [(topics.block(name), block) for name, block in repository.blocks()]
    roots = [(topics.root(n), raw) for n, raw in enumerate(repository.roots(), start=1)]
    heads = [(topics.head(channel), repository.head()) for channel in repository.channels()]
    session = Session(broker, "couchside-cloud")
    try:
        session.wait_connected(min(timeout_s, 15.0))
        session.publish_all([*blocks, *roots, *heads], timeout_s=timeout_s)
        gone = repository.forget_old_blocks()
        session.publish_all([(topics.block(name), b"") for name in gone], timeout_s=timeout_s)
        return {
            "published blocks": len(blocks),
            "removed blocks": len(gone),
            "bytes sent": session.bytes_out,
        }
    finally:
        session.close()


def _status(repository: Repository, _options: argparse.Namespace) -> dict[str, Any]:
    ends = {f"{role} expires": f"{end:%Y-%m-%d}" for role, end in repository.expires().items()}
    releases = {path: asdict(destination) for path, destination in repository.releases().items()}
    return {**releases, "head bytes": len(repository.head()), **ends}


COMMANDS = {
    "keys": _keys,
    "release": _release,
    "renew": _renew,
    "publish": _publish,
    "status": _status,
}


def _readable(result: dict[str, Any]) -> str:
    lines = []
    for name, value in result.items():
        if isinstance(value, dict):
            inner = ", ".join(
                f"{key.replace('_', ' ')} {item:,}" if isinstance(item, int) else f"{key} {item}"
                for key, item in value.items()
                if key not in {"flavour", "blocks"} or isinstance(item, int)
            )
            lines.append(f"{name}: {inner}")
        else:
            lines.append(f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value}")
    return "\n".join(lines)


def _address(options: argparse.Namespace) -> BrokerAddress:
    host, _, port = options.broker.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"--broker {options.broker!r} must be HOST:PORT")
    return BrokerAddress(
        host, int(port), options.ca, options.certificate, options.key, options.protocol
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="couchside-cloud", description="Signs and ships Bundles.")
    parser.add_argument("--repository", type=Path, metavar="DIR", help="every command but helper")
    parser.add_argument("--keys", type=Path, metavar="DIR", help="default: keys in the repository")
    parser.add_argument("--broker", metavar="HOST:PORT", help="publish there as well")
    parser.add_argument("--ca", default="", metavar="FILE", help="who signed the broker; means TLS")
    parser.add_argument("--certificate", default="", metavar="FILE", help="ours")
    parser.add_argument("--key", default="", metavar="FILE", help="of the certificate")
    parser.add_argument("--protocol", default="auto", choices=("auto", "5", "3.1.1"), help="MQTT")
    parser.add_argument("--json", action="store_true", help="print JSON")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    keys = commands.add_parser("keys", help="make keys and an empty repository, or replace keys")
    keys.add_argument("--rotate", choices=sorted(ROLES), metavar="ROLE", help="replace its keys")
    release = commands.add_parser("release", help="sign Bundles as a channel's next release")
    release.add_argument("bundle", type=Path, nargs="+", metavar="BUNDLE", help="one per flavour")
    release.add_argument("--channel", default="stable", metavar="NAME")
    release.add_argument("--as-version", type=int, metavar="N", help="instead of the Bundles' own")
    commands.add_parser("renew", help="sign snapshot and timestamp again; daily")
    commands.add_parser("publish", help="retain the newest release at the broker again")
    commands.add_parser("status", help="releases, sizes and expiries")
    learning.add_parsers(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
