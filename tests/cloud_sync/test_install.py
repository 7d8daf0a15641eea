"""What the installer survives: kills at every step, a full disk, models that hang."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from simulators.fleet import NOW, Cloud, Tv, next_version

from couchside.cloud_sync.blocks import encode
from couchside.cloud_sync.errors import RefusedError
from couchside.cloud_sync.tv.trial import run_golden
from couchside.device.slots import Slot
from couchside.device.verdicts import Verdicts

MB = 1 << 20
CHANGING = "fsync,rename,symlink,mkdir,unlink,rmdir,pwrite64"
"""The system calls by which the installer changes a disk (on x86-64; at-variants are added)."""
ALSO = ",renameat,renameat2,symlinkat,mkdirat,unlinkat"


def test_installed_bundle_is_the_released_one(tv: Tv, cloud: Cloud, tiny_bundle: Path) -> None:
    cloud.release(tiny_bundle)
    tv.receives(cloud)
    assert tv.apply().state == "installed"
    current = tv.slots.path(Slot.CURRENT)
    for file in tiny_bundle.iterdir():
        assert (current / file.name).read_bytes() == file.read_bytes()
    assert tv.plan().state == "current"


def test_plan_names_what_is_missing_step_by_step(tv: Tv, cloud: Cloud, tiny_bundle: Path) -> None:
    cloud.release(tiny_bundle)
    tv.receives(cloud, blocks=False)
    blocks = dict(cloud.repository.blocks())
    listing = tv.plan()
    assert (listing.state, len(listing.blocks)) == ("wanted", 1)
    tv.store.put(listing.blocks[0], blocks[listing.blocks[0]])
    wanted = tv.plan()
    assert wanted.state == "wanted"
    assert set(wanted.blocks) == set(blocks) - set(listing.blocks)
    for name in wanted.blocks[:-1]:
        tv.store.put(name, blocks[name])
    assert tv.plan().blocks == wanted.blocks[-1:]
    assert tv.apply().state == "wanted"
    tv.store.put(wanted.blocks[-1], blocks[wanted.blocks[-1]])
    assert tv.plan().state == "ready"


def test_unchanged_files_are_taken_from_the_installed_bundle_unless_damaged(
    tv_with_first: Tv, cloud: Cloud, second: Path
) -> None:
    tv = tv_with_first
    shutil.rmtree(tv.config.blocks)
    cloud.release(second)
    tv.receives(cloud, blocks=False)
    blocks = dict(cloud.repository.blocks())
    (name,) = tv.plan().blocks
    tv.store.put(name, blocks[name])
    assert len(tv.plan().blocks) == 1  # the manifest's
    titles = tv.slots.path(Slot.CURRENT) / "titles.jsonl"
    raw = bytearray(titles.read_bytes())
    raw[100] ^= 1
    titles.chmod(0o644)
    titles.write_bytes(raw)
    assert len(tv.plan().blocks) > 1


def test_part_of_a_file_is_taken_from_the_installed_one_unless_damaged(
    tv: Tv, cloud: Cloud, tiny_bundle: Path, tmp_path: Path
) -> None:
    items = bytearray((tiny_bundle / "items.bin").read_bytes())
    items[:-1] = random.Random(0).randbytes(len(items) - 1)  # does not compress
    first = next_version(tiny_bundle, tmp_path / "first", 1, items_bin=bytes(items))
    items[-1] ^= 1
    changed = next_version(first, tmp_path / "changed", 2, items_bin=bytes(items))
    cloud.release(first)
    tv.receives(cloud)
    assert tv.apply().state == "installed"
    shutil.rmtree(tv.config.blocks)
    cloud.release(changed)
    record, _ = encode("items.bin", bytes(items))
    assert len(record.blocks) > 1
    tv.receives(cloud, blocks=False)
    blocks = dict(cloud.repository.blocks())
    for name in tv.plan().blocks:
        tv.store.put(name, blocks[name])
    wanted = tv.plan().blocks
    assert record.blocks[-1] in wanted
    assert not set(record.blocks[:-1]) & set(wanted)
    with (tv.slots.path(Slot.CURRENT) / "items.bin").open("r+b") as damaged:
        damaged.write(bytes([items[0] ^ 1]))
    assert set(tv.plan().blocks) == {*wanted, record.blocks[0]}
    for name in tv.plan().blocks:
        tv.store.put(name, blocks[name])
    assert tv.apply().state == "installed"
    assert (tv.slots.path(Slot.CURRENT) / "items.bin").read_bytes() == bytes(items)


def test_previous_stays_the_last_one_that_ran_well(
    tv_with_first: Tv, cloud: Cloud, second: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    """Version 2 was condemned by the daemon: version 3 must not push version 1 out."""
    tv = tv_with_first
    verdicts = Verdicts(tv.folder / "verdicts.json")
    verdicts.commit(tv.slots.path(Slot.CURRENT).name)
    cloud.release(second)
    tv.receives(cloud)
    assert tv.apply().state == "installed"
    verdicts.condemn(tv.slots.path(Slot.CURRENT).name, "it hung")
    cloud.release(next_version(tiny_bundle, tmp_path / "third", 3))
    tv.receives(cloud)
    assert tv.apply().state == "installed"
    assert [tv.version(slot) for slot in Slot] == [3, 1, 1]


def test_bad_release_is_taken_back_by_old_bytes_under_a_higher_version(
    tv_with_first: Tv, cloud: Cloud, second: Path, tiny_bundle: Path
) -> None:
    tv = tv_with_first
    cloud.release(second)
    tv.receives(cloud)
    assert tv.apply().state == "installed"
    cloud.release(tiny_bundle, version=3)
    tv.receives(cloud)
    assert tv.apply().state == "installed"
    current = tv.slots.path(Slot.CURRENT)
    assert tv.version() == 3
    assert (current / "user_model.tflite").read_bytes() == (
        tiny_bundle / "user_model.tflite"
    ).read_bytes()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("fault", ["signal=SIGKILL", "error=ENOSPC", "error=EIO"])
def test_kill_or_disk_error_at_every_step_leaves_the_old_bundle_or_the_new(
    tv_with_first: Tv, cloud: Cloud, second: Path, fault: str, tmp_path: Path
) -> None:
    """A sample of the sweep; COUCHSIDE_SWEEP=1 strikes at every single step."""
    tv = tv_with_first
    cloud.release(second)
    tv.receives(cloud)
    saved = tmp_path / "saved"
    shutil.copytree(tv.folder, saved, symlinks=True)
    steps = _count(tv)
    assert steps > 20
    stride = 1 if os.environ.get("COUCHSIDE_SWEEP") else max(steps // 4, 1)
    outcomes = set()
    for step in range(1, steps + 1, stride):
        shutil.rmtree(tv.folder)
        shutil.copytree(saved, tv.folder, symlinks=True)
        inject = f"inject={CHANGING}{ALSO}:{fault}:when={step}"
        subprocess.run(
            ["strace", "-f", "-o", "/dev/null", "-e", f"trace={CHANGING}{ALSO}", "-e", inject,
             *tv.install_command("apply")],
            capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        assert tv.version() in {1, 2}, step
        assert tv.version(Slot.FACTORY) == 1, step
        outcomes.add(tv.version())
        assert tv.apply().state in {"installed", "current"}, step
        assert [tv.version(slot) for slot in Slot] == [2, 1, 1], step
        assert not list(tv.slots.root.glob("*.part/")), step
    assert 1 in outcomes


def _count(tv: Tv) -> int:
    """How many changing system calls one installation makes."""
    trace = tv.folder.parent / "trace"
    copy = tv.folder.parent / "untouched"
    shutil.copytree(tv.folder, copy, symlinks=True)
    command = ["strace", "-f", "-o", str(trace), "-e", f"trace={CHANGING}{ALSO}"]
    done = subprocess.run(
        [*command, *tv.install_command("apply")], capture_output=True, check=False, timeout=60
    )
    assert b"installed" in done.stdout, done.stderr
    shutil.rmtree(tv.folder)
    copy.rename(tv.folder)
    return len(re.findall(r"^\d+ +[a-z0-9]+\(", trace.read_text(), re.MULTILINE))


def test_disk_full_by_file_size_limit(tv_with_first: Tv, cloud: Cloud, second: Path) -> None:
    tv = tv_with_first
    cloud.release(second)
    tv.receives(cloud)
    done = subprocess.run(
        tv.install_command("apply"), capture_output=True, check=False, timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
    )  # fmt: skip
    plan = json.loads(done.stdout)
    assert (done.returncode, plan["state"]) == (3, "failed")
    assert tv.version() == 1
    assert not list(tv.slots.root.glob("*.part"))
    assert tv.apply().state == "installed"


def test_disk_full_in_the_slots(cloud: Cloud, tiny_bundle: Path, second: Path, tmp_path) -> None:
    """A tmpfs with room for one Bundle and a half."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root; the file size limit was tested")
    tv = Tv(tmp_path / "tv", cloud.root)
    tv.slots.root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tv.slots.root)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no mounts in this container; the file size limit was tested")
    try:
        cloud.release(tiny_bundle)
        tv.receives(cloud)
        assert tv.apply().state == "installed"
        cloud.release(second)
        tv.receives(cloud)
        plan = tv.plan()
        assert (plan.state, "bytes free" in plan.why) == ("failed", True)
        Path(tv.slots.root / "stray.part").mkdir()
        assert tv.version() == 1
        subprocess.run(["mount", "-o", "remount,size=3m", str(tv.slots.root)], check=True)
        assert tv.apply().state == "installed"
        assert tv.version() == 2
    finally:
        subprocess.run(["umount", str(tv.slots.root)], check=True)


def test_hanging_model_is_killed_in_time(tiny_bundle: Path) -> None:
    with pytest.raises(RefusedError, match=r"more than 0\.05 s"):
        run_golden(tiny_bundle, timeout_s=0.05, data_bytes=256 * MB)


def test_model_that_eats_memory_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(RefusedError):
        run_golden(tiny_bundle, timeout_s=30, data_bytes=8 * MB)


def test_golden_child_is_small_and_reaches_no_network(tiny_bundle: Path) -> None:
    seen = run_golden(tiny_bundle, timeout_s=30, data_bytes=256 * MB)
    assert seen.peak_rss_bytes <= 80 * MB
    assert min(seen.cosine.values()) > 0.99
    probe = (
        "from couchside.cloud_sync.tv import golden; golden._confine(1 << 28, 9)\n"
        "import socket; socket.create_connection(('127.0.0.1', 9))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=False
    )
    assert "PermissionError" in done.stderr


def test_installer_has_no_network(tmp_path: Path) -> None:
    """It loads no MQTT, and a socket in it is refused."""
    probe = (
        "import sys; from couchside.cloud_sync.tv import install\n"
        "print('paho' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_serve_answers_one_command_from_standard_input(
    tv: Tv, cloud: Cloud, tiny_bundle: Path
) -> None:
    cloud.release(tiny_bundle)
    tv.receives(cloud)
    for asked, state in (("plan\n", "ready"), ("apply\n", "installed"), ("plan\n", "current")):
        done = subprocess.run(
            tv.install_command("serve"), input=asked, capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout)["state"] == state
    done = subprocess.run(
        tv.install_command("serve"), input="rm -rf /\n", capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "it knows plan and apply" in done.stderr


def test_damaged_database_is_named(tv_with_first: Tv) -> None:
    (tv_with_first.config.state / "sync.db").write_bytes(b"no database" * 100)
    for name in ("sync.db-wal", "sync.db-shm"):
        (tv_with_first.config.state / name).unlink(missing_ok=True)
    plan = tv_with_first.plan(NOW)
    assert plan.state == "failed"
    assert "move it away" in plan.why
    assert tv_with_first.version() == 1
