"""What people type and configure: couchside-cloud, couchside-sync, couchside-install, sync.toml."""

from __future__ import annotations

import json
import random
import re
import stat
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from couchside.cloud_sync.address import BrokerAddress
from couchside.cloud_sync.cloud import cli
from couchside.cloud_sync.mqtt import Session
from couchside.cloud_sync.tv import install, sync
from couchside.cloud_sync.tv.config import SyncConfig, read_config
from couchside.device.errors import ConfigError

if TYPE_CHECKING:
    import argparse

    from simulators.fleet import Cloud

README = (Path(__file__).parents[2] / "cloud_sync" / "README.md").read_text(encoding="utf-8")


def run(capsys, *arguments: object) -> tuple[int, dict, str]:
    status = cli.main(["--json", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, json.loads(out) if out else {}, err


def test_keys_are_readable_by_their_owner_only(cloud: Cloud) -> None:
    files = list((cloud.folder / "keys").rglob("*.pem"))
    assert len(files) == 3 + 2 + 1 + 1
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_keys_are_never_overwritten(cloud: Cloud, capsys) -> None:
    status, _, err = run(capsys, "--repository", cloud.folder, "keys")
    assert status == 1
    assert "a repository already" in err


def test_release_needs_two_targets_keys(cloud: Cloud, tiny_bundle: Path, capsys) -> None:
    (cloud.folder / "keys/offline/targets-2.pem").unlink()
    status, _, err = run(capsys, "--repository", cloud.folder, "release", tiny_bundle)
    assert status == 1
    assert "1 keys of targets, 2 must sign" in err


def test_release_does_without_root_keys(cloud: Cloud, tiny_bundle: Path, capsys) -> None:
    for n in (1, 2, 3):
        (cloud.folder / f"keys/offline/root-{n}.pem").unlink()
    status, released, _ = run(capsys, "--repository", cloud.folder, "release", tiny_bundle)
    assert status == 0
    assert released["stable/litert-int8"]["version"] == 1


def test_release_that_does_not_grow_says_what_to_do(
    cloud: Cloud, tiny_bundle: Path, capsys
) -> None:
    cloud.release(tiny_bundle)
    status, _, err = run(capsys, "--repository", cloud.folder, "release", tiny_bundle)
    assert status == 1
    assert "--as-version 2" in err
    arguments = ("--repository", cloud.folder, "release", tiny_bundle, "--as-version", 2)
    assert run(capsys, *arguments)[0] == 0
    _, state, _ = run(capsys, "--repository", cloud.folder, "status")
    assert state["stable/litert-int8/blocks.json"]["version"] == 2


def test_release_of_two_versions_at_once(cloud: Cloud, tiny_bundle: Path, second, capsys) -> None:
    arguments = ("--repository", cloud.folder, "release", tiny_bundle, second)
    status, _, err = run(capsys, *arguments)
    assert status == 1
    assert "one Bundle per flavour" in err


def test_head_fits_with_flavours_and_channels_to_spare(cloud: Cloud, bundles: Path) -> None:
    for channel in ("stable", "beta", "canary", "region-eu", "region-us", "lab"):
        cloud.release(*sorted(bundles.iterdir()), channel=channel)
    assert len(cloud.repository.head()) <= 4096


def test_crash_between_targets_and_timestamp_leaves_the_old_release(
    cloud: Cloud, tiny_bundle: Path, second: Path
) -> None:
    cloud.release(tiny_bundle)
    before = cloud.repository.head()
    cloud.repository._sign_online = lambda _now: None
    cloud.release(second)
    del cloud.repository._sign_online
    assert cloud.repository.head() == before
    cloud.release(second)
    assert cloud.repository.releases()["stable/litert-int8/blocks.json"].version == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colour = 1", "colour: is not a field"),
        ("[limits]\nwindow = 99", "limits.window: must be from 1 to 16"),
        ('channel = "../x"', "channel: must be lower-case"),
        ("channel = ", "not TOML"),
        ('[broker]\nprotocol = "6"', "broker.protocol: must be one of"),
    ],
)
def test_setting_that_is_wrong_is_named(tmp_path: Path, text: str, words: str, capsys) -> None:
    file = tmp_path / "sync.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(words)):
        read_config(file)
    assert sync.main(["--config", str(file)]) == sync.USAGE
    assert install.main(["--config", str(file), "plan"]) == install.USAGE
    assert words in capsys.readouterr().err


def test_reconnection_waits_a_random_part_of_a_growing_time() -> None:
    """Full jitter: a fleet must not return in step."""
    waits = []
    for seed in range(200):
        now = [0.0]
        session = Session(
            BrokerAddress("127.0.0.1", 9, protocol="5"),
            "x",
            most_wait_s=60.0,
            clock=lambda now=now: now[0],
            rng=random.Random(seed),
        )
        for _ in range(8):
            now[0] = session._next_attempt
            session.poll(0.0)
        waits.append(session._next_attempt - now[0])
    assert max(waits) <= 60.0
    assert sum(waits) / len(waits) == pytest.approx(30.0, rel=0.2)
    assert min(waits) < 6.0


def test_readme_names_every_flag_and_setting() -> None:
    parsers = (cli._parser(), sync._parser(), install._parser())
    flags = set().union(*map(_flags, parsers))
    missing = {
        name
        for name in (flags - {"--help"}) | set(_settings(SyncConfig()))
        if f"`{name}" not in README
    }
    assert not missing


def _flags(parser: argparse.ArgumentParser) -> set[str]:
    """Flags and commands of a parser and of those inside it."""
    flags = set(re.findall(r"--[a-z-]+", parser.format_help()))
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for command, inner in action.choices.items():
                flags |= {command, *_flags(inner)}
    return flags


def _settings(section: object, path: str = "") -> list[str]:
    names = []
    for setting in fields(section):
        value = getattr(section, setting.name)
        name = f"{path}{setting.name}"
        names += _settings(value, f"{name}.") if is_dataclass(value) else [name]
    return names
