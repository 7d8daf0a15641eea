"""What the cloud team types: the commands of Rounds, and what a release carries of them."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from simulators.fleet import at

from couchside.cloud_sync.cloud import cli
from couchside.cloud_sync.cloud.repository import Repository
from couchside.device.bundle import open_bundle
from couchside.device.learning.privacy import epsilon, rho

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_800_000_000


class Desk:
    """Commands in this process, without a broker."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.repository = folder / "cloud"

    def run(self, *arguments: object) -> dict:
        start = ["--json", "--repository", str(self.repository)]
        self.status = cli.main([*start, *map(str, arguments)])
        out, self.err = self._capsys.readouterr()
        return json.loads(out) if out else {}

    def trust(self) -> dict:
        identity = self.run("helper", "--state", self.folder / "helper", "--show")
        (self.folder / "helper.json").write_text(json.dumps(identity))
        return identity | {"taken": self.run("round", "trust", self.folder / "helper.json")}


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    desk = Desk(tmp_path, capsys)
    desk.made = desk.run("keys")
    assert desk.status == 0, desk.err
    return desk


def released(desk: Desk, bundle: Path, *arguments: object) -> object:
    """The manifest as a release carries it."""
    desk.run("release", bundle, *arguments)
    assert desk.status == 0, desk.err
    rewritten = sorted((desk.repository / "rewritten").glob("*"))
    return open_bundle(rewritten[-1] if rewritten else bundle).manifest


def test_keys_make_a_key_for_rounds_too(desk: Desk) -> None:
    file = desk.repository / "keys/online/rounds-1.pem"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    public = (desk.repository / "rounds.pub").read_text().strip()
    assert public == desk.made["rounds key for the helper"]
    assert len(bytes.fromhex(public)) == 32


def test_helper_shows_the_same_identity_each_time(desk: Desk) -> None:
    first = desk.run("helper", "--state", desk.folder / "helper", "--show")
    assert first == desk.run("helper", "--state", desk.folder / "helper", "--show")
    assert {len(bytes.fromhex(key)) for key in first.values()} == {32}


def test_release_tells_tvs_whom_they_learn_with(desk: Desk, tiny_bundle: Path) -> None:
    identity = desk.trust()
    record = released(desk, tiny_bundle).learning
    assert record.helper_key == identity["seal"]
    assert record.rounds_keys == (desk.made["rounds key for the helper"],)


def test_release_without_a_helper_leaves_the_bundle_as_it_is(desk: Desk, tiny_bundle: Path) -> None:
    assert released(desk, tiny_bundle) == open_bundle(tiny_bundle).manifest
    assert not (desk.repository / "rewritten").exists()
    renumbered = released(desk, tiny_bundle, "--as-version", 5)
    assert (renumbered.version, renumbered.learning) == (5, None)


def test_open_needs_a_helper(desk: Desk, tiny_bundle: Path) -> None:
    desk.run("round", "open", "--bundle", tiny_bundle)
    assert desk.status == 1
    assert "couchside-cloud round trust FILE takes it" in desk.err


def test_open_in_a_repository_that_has_no_rounds_key_yet(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(tmp_path, capsys)
    Repository(desk.repository, desk.repository / "keys").create(at(NOW))
    desk.trust()
    (desk.repository / "keys/online/rounds-1.pem").unlink()
    opened = desk.run("round", "open", "--bundle", tiny_bundle)
    assert "release again before TVs follow" in opened["made"]
    assert (desk.repository / "keys/online/rounds-1.pem").exists()


def test_open_says_what_it_costs_and_status_repeats_it(desk: Desk, tiny_bundle: Path) -> None:
    desk.trust()
    opened = desk.run("round", "open", "--bundle", tiny_bundle, "--noise", 1.0, "--sample", 0.01)
    assert opened["epsilon"] == pytest.approx(epsilon(rho(1.0)), abs=1e-3)
    assert opened["epsilon_amplified"] < 0.6 * opened["epsilon"]
    assert (opened["round_id"], opened["published"]) == (1, False)
    status = desk.run("round", "status", "--channel", "stable")["stable/1"]
    assert (status["state"], status["folded"], status["goal"]) == ("open", 0, 1000)
    assert 86_300 < status["seconds_left"] <= 86_400
    assert status["epsilon"] == opened["epsilon"]
    assert desk.run("round", "status", "--channel", "beta") == {}


def test_second_round_of_a_channel_waits_for_the_first(desk: Desk, tiny_bundle: Path) -> None:
    desk.trust()
    desk.run("round", "open", "--bundle", tiny_bundle)
    desk.run("round", "open", "--bundle", tiny_bundle)
    assert desk.status == 1
    assert "first: couchside-cloud round close --channel stable" in desk.err
    desk.run("round", "open", "--bundle", tiny_bundle, "--channel", "beta")
    assert desk.status == 0, desk.err
    assert desk.run("round", "close", "--abandon") == {"state": "void", "round_id": 1}
    assert desk.run("round", "open", "--bundle", tiny_bundle)["round_id"] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("round", "close"), "needs --broker"),
        (("round", "close", "--abandon"), "has no Round to close"),
        (("round", "close", "--abandon", "--channel", "../x"), "lower-case letters"),
        (("aggregate",), "needs --broker"),
        (("helper", "--state", "STATE"), "needs --broker"),
        (("round", "trust", "STATE/none.json"), "none.json: No such file"),
        (("round", "open", "--bundle", "BUNDLE", "--goal", 2**20), "takes sets of at most 3300"),
        (("round", "open", "--bundle", "BUNDLE", "--learn", "x"), "no such parameter"),
        (("round", "open", "--bundle", "STATE"), "a Bundle is a folder with a manifest"),
    ],
)
def test_wrong_use_says_what_to_do(desk: Desk, tiny_bundle: Path, arguments, words: str) -> None:
    desk.trust()
    places = {"STATE": desk.folder / "state", "BUNDLE": tiny_bundle}
    told = [
        str(each).replace("STATE", str(places["STATE"])).replace("BUNDLE", str(tiny_bundle))
        for each in arguments
    ]
    desk.run(*told)
    assert desk.status == 1
    assert words in desk.err


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"seal": "00", "sign": "11"}', '{"seal": 1, "sign": 2}', "\x00"]
)
def test_identity_that_is_none_is_refused(desk: Desk, text: str) -> None:
    (desk.folder / "helper.json").write_text(text)
    desk.run("round", "trust", desk.folder / "helper.json")
    assert desk.status == 1
    assert "helper.json" in desk.err
    assert not (desk.repository / "helper.json").exists()


@pytest.mark.parametrize("key", ["", "zz", "00" * 31, "AA" * 32])
def test_helper_refuses_a_key_that_is_none(desk: Desk, key: str) -> None:
    where = ("--broker", "127.0.0.1:9", "helper", "--state", desk.folder / "helper")
    desk.run(*where, "--rounds-key", key)
    assert desk.status == 1
    assert "hexadecimal digits" in desk.err


@pytest.mark.parametrize(
    "arguments", [("keys",), ("helper", "--state", "x", "--least-cohort", "1")]
)
def test_wrong_flags_end_with_usage(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "couchside.cloud_sync.cloud.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr
