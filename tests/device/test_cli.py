"""``couchside``: what a person types, sees and gets told when something is wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from couchside.device.cli import COMMANDS

MODULE = (sys.executable, "-m", "couchside.device.cli")


def terminal(daemon):
    """Runs ``couchside`` beside a daemon."""

    def run(*arguments, status=0):
        done = subprocess.run(
            [*MODULE, "--socket", str(daemon.socket), *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout if status == 0 else done.stderr

    return run


@pytest.fixture
def couchside(daemon, load_films):
    """A household of this test's own, with films."""
    load_films(daemon)
    return terminal(daemon)


@pytest.fixture(scope="module")
def looking(shared_daemon, load_films):
    """For tests that only look: nobody has watched anything."""
    load_films(shared_daemon)
    return terminal(shared_daemon)


@pytest.fixture
def names(films):
    """Names of films that only one film has."""
    titles = [json.loads(line) for line in films.read_text(encoding="utf-8").splitlines()]
    count = {}
    for title in titles:
        count[title["name"].casefold()] = count.get(title["name"].casefold(), 0) + 1
    unique = [title for title in titles if count[title["name"].casefold()] == 1]
    return [title["name"] for title in unique if title["name"].isascii()][50:60]


def test_an_evening_at_the_terminal(couchside, names, tmp_path):
    assert "Popular" in couchside("rows")
    assert f"{names[0]}: stored" in couchside("watch", names[0], "--until", "0.5")
    shelf = couchside("rows")
    assert shelf.startswith("Continue watching")
    assert "▰▰▰▰▰▱▱▱▱▱ · you stopped in the middle" in shelf
    for name in names[1:5]:
        couchside("watch", name)
    assert "For you" in couchside("rows")
    assert "is in the row 'continue_watching': you stopped in the middle" in couchside(
        "why", names[0]
    )
    assert couchside("similar", names[1]).count("\n") == 25
    assert couchside("search", *names[2].split())
    couchside("like", names[1])
    couchside("dislike", names[2])
    couchside("clear", names[2])
    couchside("dismiss", names[0])
    assert "Continue watching" not in couchside("rows")
    assert "14 events of 1 profile" in couchside("export", "--out", str(tmp_path / "mine.json"))
    events = json.loads((tmp_path / "mine.json").read_text(encoding="utf-8"))["events"]
    assert len(events) == 14
    assert "erased 3 events" in couchside("forget", names[1])
    assert "their bytes are gone" in couchside("forget", "--all")
    assert "0 events" in couchside("export")


def test_json_is_what_the_daemon_answered(looking):
    assert json.loads(looking("--json", "health"))["errors"] == 0
    assert json.loads(looking("--json", "rows"))["rows"][0]["code"] == "popular"


def test_a_title_may_be_named_by_its_id(couchside, films):
    title = json.loads(films.read_text(encoding="utf-8").splitlines()[7])
    assert couchside("watch", title["title_id"]) == f"{title['name']}: stored\n"


def test_an_unknown_name_offers_what_is_near(looking):
    told = looking("watch", "the rinkk of no film", status=2)
    assert "no title is called so" in told


def test_a_name_of_several_titles_asks_for_the_id(looking, films):
    titles = [json.loads(line) for line in films.read_text(encoding="utf-8").splitlines()]
    seen, twice = set(), None
    for title in titles:
        if title["name"].casefold() in seen:
            twice = title["name"]
            break
        seen.add(title["name"].casefold())
    assert twice, "the sample has films of one name"
    told = looking("watch", twice, status=2)
    assert "several titles are called so" in told
    assert "imdb:" in told


def test_profiles_come_and_go_with_their_fence(couchside):
    told = couchside("profiles", "--add", "kid", "Kid", "--max-maturity", "6")
    assert "up to age 6" in told
    assert "shelf is empty" in couchside("--profile", "kid", "rows")  # nobody rated the films
    assert "Kid" not in couchside("profiles", "--remove", "kid")
    assert "no profile 'kid'" in couchside("--profile", "kid", "rows", status=1)


def test_consent_is_no_until_it_is_yes(couchside):
    assert couchside("consent").count("no") == 3
    assert "learning      yes" in couchside("consent", "learning", "yes")
    assert "learning      no" in couchside("consent", "learning", "no")
    assert "say yes or no" in couchside("consent", "learning", status=2)


def test_load_tells_what_was_wrong_with_a_file(couchside, tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text('{"title_id": "a", "kind": "movie", "name": "A"}\n{"broken\n', encoding="utf-8")
    told = couchside("load", str(file))
    assert "mine: 1 titles" in told
    assert "line 2" in told
    assert "does not exist" in couchside("load", str(tmp_path / "none.xml"), status=1)


def test_forget_needs_to_know_what(looking):
    assert "name a title, or say --all" in looking("forget", status=2)


def test_bundle_and_health_are_readable(looking):
    assert "litert-int8" in looking("bundle")
    assert " MB" in looking("health")


@pytest.mark.parametrize("arguments", [["watch", "x", "--until", "2"], ["rows", "--surprise"], []])
def test_wrong_usage_is_status_2(looking, arguments):
    assert "usage:" in looking(*arguments, status=2)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_says_clearly_that_no_daemon_runs(tmp_path, command):
    arguments = {"search": ["x"], "load": ["x"], "forget": ["--all"], "idle": ["yes"]}.get(
        command, ["x"]
    )
    if command in ("rows", "health", "bundle", "learning", "export", "profiles", "consent"):
        arguments = []
    done = subprocess.run(
        [*MODULE, "--socket", str(tmp_path / "s"), command, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 3
    assert "is couchside-device running?" in done.stderr


def test_the_socket_may_come_from_the_environment_or_the_settings(shared_daemon, tmp_path):
    settings = tmp_path / "cli.toml"
    settings.write_text(f'[paths]\nsocket = "{shared_daemon.socket}"\n', encoding="utf-8")
    plain = {name: value for name, value in os.environ.items() if name != "COUCHSIDE_SOCKET"}
    for arguments, environment in (
        (["--config", str(settings)], plain),
        ([], {**plain, "COUCHSIDE_SOCKET": str(shared_daemon.socket)}),
    ):
        subprocess.run([*MODULE, *arguments, "health"], check=True, env=environment, timeout=30)


def test_control_c_is_clean(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen(1)
        waiting = subprocess.Popen(
            [*MODULE, "--socket", str(tmp_path / "s"), "rows"], stderr=subprocess.PIPE
        )
        connection, _ = silent.accept()
        connection.recv(10)
        time.sleep(0.1)
        waiting.send_signal(signal.SIGINT)
        told = waiting.communicate(timeout=10)[1]
        connection.close()
    assert waiting.returncode == 130
    assert told == b""


def test_a_reader_that_has_seen_enough_is_no_error(looking, shared_daemon):
    command = [*MODULE, "--socket", str(shared_daemon.socket), "--json", "rows"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
        writer.stdout.close()
        told = writer.stderr.read()
    assert writer.returncode == 0
    assert told == b""


def test_the_command_line_brings_no_numpy():
    code = "import sys, couchside.device.cli; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
