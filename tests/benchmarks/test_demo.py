from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from couchside.benchmarks.errors import BenchmarkError
from couchside.benchmarks.lab import read_lab_report

if TYPE_CHECKING:
    from collections.abc import Iterator

DEMO = (sys.executable, "-u", "-m", "couchside.benchmarks.demo")
ROWS = 1000
GRACE_S = 3.0
QUIET_S = 10.0
"""On a machine of its own the demo is never silent for 5 s; tests share theirs."""


@dataclass(frozen=True)
class Told:
    out: Path
    status: int
    text: str
    longest_silence_s: float

    @property
    def report(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.out / "report.json").read_text("utf-8"))
        return found


def listen(child: subprocess.Popen[bytes]) -> tuple[str, float]:
    """Everything that a child says, and how long it was silent at most."""
    assert child.stdout is not None
    said, longest, last = bytearray(), 0.0, time.monotonic()
    while chunk := os.read(child.stdout.fileno(), 65536):
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
        said += chunk
    child.stdout.close()
    return said.decode("utf-8"), longest


def start(*flags: str) -> subprocess.Popen[bytes]:
    """A demo in a session of its own, so that a test can see what it leaves behind."""
    return subprocess.Popen(
        [*DEMO, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, "COLUMNS": "80"},
    )


def living(session: int) -> Iterator[str]:
    """Command lines of the processes of a session."""
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(") ")[2].split()
            if entry.name.isdigit() and int(fields[3]) == session and fields[0] != "Z":
                yield (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, IndexError):
            continue


def left_behind(session: int) -> list[str]:
    """Those that still live a moment later: one that is just ending is not left behind."""
    end = time.monotonic() + GRACE_S
    while (found := list(living(session))) and time.monotonic() < end:
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def told(compressed: Path, tmp_path_factory: pytest.TempPathFactory) -> Told:
    out = tmp_path_factory.mktemp("demo")
    shutil.copytree(compressed, out / "lab")
    child = start("--recipe", "tv-tiny", "--out", str(out), "--rows", str(ROWS))
    text, silence = listen(child)
    status = child.wait(30)
    assert left_behind(child.pid) == []
    return Told(out, status, text, silence)


def test_demo_ends_with_the_path_of_its_page(told: Told) -> None:
    assert told.status == 0, told.text[-3000:]
    last = told.text.strip().splitlines()[-1]
    page = Path(last.removeprefix("Open this in a browser: "))
    assert page == (told.out / "couchside.html").resolve()
    assert "<!doctype html>" in page.read_text("utf-8")


def test_demo_is_never_silent_for_long(told: Told) -> None:
    assert told.longest_silence_s < QUIET_S


def test_demo_does_not_repeat_finished_stages(told: Told) -> None:
    assert told.text.count("done before") == 6


def test_demo_shows_the_shelf_before_and_after_and_a_reason(told: Told) -> None:
    before, after = told.text.split("[6/13]")
    assert "Continue watching" not in before
    assert "For you" not in before
    assert "For you" in after
    report = told.report
    assert report["before"]["rows"], "even an empty history has a shelf"  # type: ignore[index]
    first = report["after"][0]  # type: ignore[index]
    codes = [row["code"] for row in first["rows"]]
    assert {"continue_watching", "for_you", "live_now"} <= set(codes)
    assert all(row["cards"] for row in first["rows"])
    watched = {scene["name"] for scene in report["scenes"]}  # type: ignore[attr-defined]
    reasons = [why["card"] for why in report["whys"] if why["card"]["because"]]  # type: ignore[attr-defined]
    assert reasons
    assert all(set(card["because"]) <= watched for card in reasons)


def test_figures_of_the_demo_are_those_of_this_run(told: Told) -> None:
    page = (told.out / "couchside.html").read_text("utf-8")
    lab = json.loads((told.out / "lab" / "quality.json").read_text("utf-8"))
    bundle = told.out / "lab" / "bundles" / "litert-int8"
    for row in lab["rows"]:
        assert f"{row['ndcg_at_10']:.4f}" in page
        assert f"{row['ndcg_at_10']:.4f}" in told.text
    size = next(size for size in told.report["sizes"] if size["runs"])  # type: ignore[attr-defined]
    assert size["item_table"] == (bundle / "items.bin").stat().st_size
    assert size["user_model"] == (bundle / "user_model.tflite").stat().st_size
    asked = told.report["latencies"][0]  # type: ignore[index]
    assert asked["n"] == ROWS
    assert 0 < asked["p50_ms"] <= asked["p99_ms"] <= asked["longest_ms"]
    assert f"{asked['p99_ms']:.2f}" in page
    measured = {line["budget"]["name"] for line in told.report["promises"]}  # type: ignore[attr-defined]
    assert {"daemon_rss", "daemon_anonymous", "rows_p99", "first_answer"} <= measured


def test_daemon_of_the_demo_held_unix_sockets_only(told: Told) -> None:
    sockets = told.report["sockets"]
    assert sockets["internet"] == 0  # type: ignore[index]
    assert sockets["unix"] >= 2  # type: ignore[index]


def test_shelf_survives_the_plug_being_pulled(told: Told) -> None:
    assert "the same as before" in told.text


def test_bundle_of_the_demo_travels_and_a_second_release_replaces_it(told: Told) -> None:
    delivery: Any = told.report["delivery"]
    first, second, third, _ = delivery["releases"]
    bundle = told.out / "lab" / "bundles" / "litert-int8"
    # The release adds to the manifest whom its TVs learn with.
    made = sum(file.stat().st_size for file in bundle.iterdir())
    assert made < first["bundle_bytes"] < made + 300
    for number, release in enumerate((first, second, third), start=1):
        assert [one["tv"] for one in release["arrivals"]] == ["TV 1", "TV 2", "TV 3"]
        assert {(one["before"], one["after"]) for one in release["arrivals"]} == {
            (number - 1, number)
        }
        assert all(0 < one["seconds"] < 60 for one in release["arrivals"])
    for one in first["arrivals"]:
        assert one["fetched"] == first["blocks"]
        assert first["wire_bytes"] < one["bytes_in"] < 1.02 * first["wire_bytes"] + 6_000
        assert one["bytes_out"] < 4_000
    for one in (*second["arrivals"], *third["arrivals"]):
        assert 0 < one["fetched"] < second["blocks"] / 2
        assert f"{one['bytes_in']:,} B in" in told.text


def test_fleet_of_the_demo_learns_and_a_new_bundle_comes_down(told: Told) -> None:
    learning: Any = told.report["learning"]
    last: Any = told.report["delivery"]["releases"][-1]  # type: ignore[index]
    assert {(one["before"], one["after"]) for one in last["arrivals"]} == {(3, 4)}
    assert learning["households"] > learning["real"] == 3
    assert learning["uplink_bytes"] <= 48_000
    assert f"ε = {learning['epsilon']:.2f}" in told.text
    assert "not private at this size" in told.text
    assert f"{learning['ndcg_before']:.4f} before, {learning['ndcg_after']:.4f} after" in told.text
    for tv in learning["tvs"]:
        assert 20e6 < tv["child_peak_bytes"] < 100e6
        assert tv["epsilon"] == pytest.approx(learning["epsilon"], abs=0.01)
    page = (told.out / "couchside.html").read_text("utf-8")
    assert f"{learning['ndcg_after']:.4f}" in page


def test_thief_of_the_demo_is_refused_in_the_tvs_own_words(told: Told) -> None:
    refusals: Any = told.report["delivery"]["refusals"]  # type: ignore[index]
    rollback, forged, flipped = [one["words"] for one in refusals]
    assert rollback.startswith("RollbackError: ")
    assert forged.startswith("UntrustedError: timestamp was signed by 0/1 keys")
    assert re.search(r"damaged copies of block [0-9a-f]{64}", flipped)
    said = " ".join(told.text.split())
    for one in refusals:
        assert (one["tvs"], one["version"]) == (3, 2)
        assert one["words"] in said
        assert 0 < one["rows_ms"] < 5_000


def test_page_of_the_demo_names_nothing_outside_itself(told: Told) -> None:
    page = (told.out / "couchside.html").read_text("utf-8")
    assert not re.search(r"https?:|<script|@import", page)


def read_until(child: subprocess.Popen[bytes], words: bytes) -> None:
    assert child.stdout is not None
    said = bytearray()
    while words not in said:
        chunk = os.read(child.stdout.fileno(), 4096)
        assert chunk, said.decode()
        said += chunk


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_interrupted_in_the_lab_leaves_no_child_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    child = start("--recipe", "tv-tiny", "--out", str(tmp_path))
    read_until(child, b"[1/6]")  # the pipeline is at work
    # As a terminal does it for Ctrl-C; a supervisor ends the demo alone.
    (os.killpg if number is signal.SIGINT else os.kill)(child.pid, number)
    text, _ = listen(child)
    assert child.wait(30) == 130
    assert "interrupted" in text
    assert "Traceback" not in text
    assert left_behind(child.pid) == []


def test_demo_interrupted_in_front_of_the_tv_leaves_no_daemon_behind(
    compressed: Path, tmp_path: Path
) -> None:
    shutil.copytree(compressed, tmp_path / "lab")
    child = start("--recipe", "tv-tiny", "--out", str(tmp_path), "--rows", "1000000")
    read_until(child, b"[7/13]")
    assert [line for line in living(child.pid) if "couchside.device" in line]
    os.killpg(child.pid, signal.SIGINT)
    text, _ = listen(child)
    assert child.wait(30) == 130
    assert "Traceback" not in text
    assert left_behind(child.pid) == []
    assert not (tmp_path / "couchside.html").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_interrupted_on_the_bundles_way_leaves_no_process_behind(
    compressed: Path, tmp_path: Path, number: signal.Signals
) -> None:
    shutil.copytree(compressed, tmp_path / "lab")
    child = start("--recipe", "tv-tiny", "--out", str(tmp_path), "--rows", "50")
    read_until(child, b"nothing \xe2\x86\x92 1")
    read_until(child, b"[9/13]")
    there = "\n".join(living(child.pid))
    assert there.count("cloud_sync.tv.sync") >= 3
    assert there.count("couchside.device.daemon") >= 3
    (os.killpg if number is signal.SIGINT else os.kill)(child.pid, number)
    text, _ = listen(child)
    assert child.wait(30) == 130
    assert "Traceback" not in text
    assert left_behind(child.pid) == []


def test_demo_interrupted_at_night_leaves_no_server_and_no_child_behind(
    compressed: Path, tmp_path: Path
) -> None:
    shutil.copytree(compressed, tmp_path / "lab")
    child = start("--recipe", "tv-tiny", "--out", str(tmp_path), "--rows", "50")
    read_until(child, b"Round 1 asks")
    there = "\n".join(living(child.pid))
    assert "helper --state" in there
    assert "aggregate --channel" in there
    os.killpg(child.pid, signal.SIGINT)
    text, _ = listen(child)
    assert child.wait(30) == 130
    assert "Traceback" not in text
    assert left_behind(child.pid) == []


def test_unknown_recipe_is_told_and_starts_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--recipe", "tv-huge", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "tv-huge" in done.stderr
    assert "Traceback" not in done.stderr


def test_out_that_is_a_file_is_told(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    done = subprocess.run(
        [*DEMO, "--out", str(taken)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert str(taken) in done.stderr
    assert taken.read_text() == "mine"


def test_lab_report_that_is_damaged_is_told_with_its_file(compressed: Path, tmp_path: Path) -> None:
    good = (compressed / "quality.json").read_text("utf-8")
    damaged = tmp_path / "quality.json"
    damaged.write_text(good.replace('"targets"', '"tarkets"'), encoding="utf-8")
    with pytest.raises(BenchmarkError, match=r"quality\.json.*tarkets"):
        read_lab_report(damaged)


def test_lab_report_marks_the_flavour_on_the_tv_and_keeps_parts_apart(compressed: Path) -> None:
    report = read_lab_report(compressed / "quality.json")
    sizes, qualities = report.forms("onnx-int8"), report.qualities("onnx-int8")
    assert [size.name for size in sizes if size.runs] == ["onnx-int8"]
    assert [line.name for line in qualities if line.runs] == ["onnx-int8, shown ranking"]
    assert sizes[0].name == "teacher"
    assert min(min(size.encoder, size.user_model, size.item_table) for size in sizes) > 0
    with pytest.raises(BenchmarkError, match="litert-int4"):
        report.gain("litert-int4")
