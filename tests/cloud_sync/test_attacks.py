"""Every attack of the TUF specification, and ours, against a TV with version 1: it stays on it.

The broker is the attacker unless a name says that keys were stolen.
"""

from __future__ import annotations

import json
import shutil
import zlib
from dataclasses import replace

import pytest
from simulators.fleet import DAY, NOW, Cloud, Tv, at, next_version
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from couchside.cloud_sync import blocks as blockwise
from couchside.cloud_sync import head
from couchside.cloud_sync.cloud.keys import load_keys
from couchside.device import strict
from couchside.device.slots import Slot


def refused(tv: Tv, error: str, words: str = "", now: int = NOW) -> None:
    """``apply`` refuses with this error, and the TV still has version 1, whole."""
    plan = tv.apply(now)
    assert plan.state == "refused", plan
    assert plan.why.startswith(error), plan.why
    assert words in plan.why
    assert tv.version() == 1


def forge(tv: Tv, **documents: bytes) -> None:
    """Replaces documents in the head that the TV received."""
    inside = head.unpack(tv.config.head.read_bytes())
    for name, raw in documents.items():
        file = next(file for file in inside if name in file)
        inside[file] = raw
    tv.config.head.write_bytes(head.pack(inside))


def document(tv: Tv, role: str) -> bytes:
    inside = head.unpack(tv.config.head.read_bytes())
    return next(raw for file, raw in inside.items() if role in file)


def keep(tv: Tv) -> bytes:
    return tv.config.head.read_bytes()


def test_flipped_block_on_the_disk_is_found_and_named(
    tv_with_first: Tv, cloud: Cloud, second
) -> None:
    tv = tv_with_first
    cloud.release(second)
    tv.receives(cloud)
    name = cloud.repository.releases()["stable/litert-int8/blocks.json"].blocks[0]
    raw = bytearray((tv.config.blocks / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (tv.config.blocks / name).write_bytes(raw)
    plan = tv.apply()
    assert (plan.state, plan.blocks) == ("damaged", (name,))
    assert tv.version() == 1
    tv.receives(cloud)
    assert tv.apply().state == "installed"


def test_wrong_hash_of_the_block_list_in_targets_signed_by_nobody(
    tv_with_first: Tv, cloud: Cloud, second
) -> None:
    tv = tv_with_first
    cloud.release(second)
    tv.receives(cloud)
    metadata = Metadata[Targets].from_bytes(document(tv, "targets"))
    metadata.signed.targets["stable/litert-int8/blocks.json"].hashes["sha256"] = "0" * 64
    forge(tv, targets=metadata.to_bytes(JSONSerializer(compact=True)))
    refused(tv, "UntrustedError")


def test_wrong_file_hash_in_a_signed_block_list(tv_with_first: Tv, cloud: Cloud, second) -> None:
    """A mistake of the cloud, not an attack: the files must still match."""
    tv = tv_with_first
    cloud.release(second)
    _rewrite_list(cloud, lambda files: [*files[:-1], replace(files[-1], sha256="0" * 64)])
    tv.receives(cloud)
    refused(tv, "UntrustedError", "another file than was signed")
    assert not list(tv.slots.root.glob("*.part"))


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", ".hidden", "a/b", ""])
def test_block_list_that_leads_out_of_the_folder(
    tv_with_first: Tv, cloud: Cloud, second, name: str
) -> None:
    tv = tv_with_first
    cloud.release(second)
    _rewrite_list(cloud, lambda files: [replace(files[0], name=name), *files[1:]])
    tv.receives(cloud)
    refused(tv, "UntrustedError", "describes no Bundle")


def _rewrite_list(cloud: Cloud, change) -> None:
    """Signs a block list that is not what the Bundle is, with all the right keys."""
    repository = cloud.repository
    ((path, destination),) = repository.releases().items()
    store = blockwise.BlockStore(cloud.folder / "blocks")
    listing = blockwise.read_list(b"".join(map(store.read, destination.blocks)))
    listing = replace(listing, files=tuple(change(list(listing.files))))
    raw = json.dumps(strict.to_json(listing)).encode()
    for block in blockwise.cut(raw):
        store.put(blockwise.name_of(block), block)
    targets = repository._read("targets", Targets).signed
    custom = replace(destination, blocks=tuple(map(blockwise.name_of, blockwise.cut(raw))))
    target = TargetFile.from_data(path, raw, ["sha256"])
    target.unrecognized_fields["custom"] = strict.to_json(custom)
    targets.targets[path] = target
    repository._sign("targets", targets, at(NOW))
    repository._sign_online(at(NOW))
    tolerant = [*custom.blocks, *(n for file in listing.files for n in file.blocks)]
    repository.block_names = lambda: list(dict.fromkeys(tolerant))


def test_rollback_to_an_older_head(tv_with_first: Tv, cloud: Cloud, second) -> None:
    tv = tv_with_first
    old = keep(tv)
    cloud.release(second)
    tv.receives(cloud)
    assert tv.apply().state == "installed"
    tv.config.head.write_bytes(old)
    plan = tv.apply()
    assert plan.state == "refused"
    assert plan.why.startswith("RollbackError")
    assert tv.version() == 2


def test_rollback_after_the_metadata_cache_was_wiped(
    tv_with_first: Tv, cloud: Cloud, second
) -> None:
    tv = tv_with_first
    old = keep(tv)
    cloud.release(second)
    tv.receives(cloud)
    assert tv.apply().state == "installed"
    shutil.rmtree(tv.config.state / "metadata")
    tv.config.head.write_bytes(old)
    plan = tv.apply()
    assert plan.why.startswith("RollbackError"), plan
    assert tv.version() == 2


def test_rollback_after_cache_and_database_were_wiped(
    tv_with_first: Tv, cloud: Cloud, second
) -> None:
    """The installed Bundle itself is the last floor."""
    tv = tv_with_first
    old = keep(tv)
    cloud.release(second)
    tv.receives(cloud)
    assert tv.apply().state == "installed"
    shutil.rmtree(tv.config.state)
    tv.config.head.write_bytes(old)
    plan = tv.apply()
    assert plan.why.startswith("RollbackError"), plan
    assert tv.version() == 2


def test_lower_bundle_version_signed_with_stolen_keys_of_all_roles(
    tv_with_first: Tv, cloud: Cloud, second, tiny_bundle, tmp_path
) -> None:
    """Fresh metadata that leads to an older Bundle: versions of Bundles have a floor as well."""
    tv = tv_with_first
    cloud.release(second)
    tv.receives(cloud)
    assert tv.apply().state == "installed"
    other = next_version(tiny_bundle, tmp_path / "v1-again", 1, theta_bin=b"x" * 13760)
    targets = cloud.repository._read("targets", Targets).signed
    targets.targets.clear()
    cloud.repository._check_versions = lambda *_: None
    cloud.release(other)
    tv.receives(cloud)
    plan = tv.apply()
    assert plan.why.startswith("RollbackError: the release is version 1"), plan
    assert tv.version() == 2


def test_expired_timestamp_is_refused_and_the_installed_bundle_stays(
    tv_with_first: Tv, cloud: Cloud, second
) -> None:
    tv = tv_with_first
    cloud.release(second)
    tv.receives(cloud)
    refused(tv, "ExpiredError", now=NOW + 15 * DAY)
    refused(tv, "ExpiredError", now=NOW + 3650 * DAY)
    cloud.repository.renew(at(NOW + 15 * DAY))
    tv.receives(cloud)
    assert tv.apply(NOW + 15 * DAY).state == "installed"


def test_freeze_on_an_old_head_shows_after_14_days(tv_with_first: Tv) -> None:
    assert tv_with_first.plan(NOW + 13 * DAY).state == "current"
    refused(tv_with_first, "ExpiredError", now=NOW + 15 * DAY)


def test_freeze_goes_on_after_the_clock_fell_back_to_1970(tv_with_first: Tv) -> None:
    """A head that was once seen to be expired does not become valid when the clock dies."""
    refused(tv_with_first, "ExpiredError", now=NOW + 20 * DAY)
    refused(tv_with_first, "ExpiredError", now=0)


def test_clock_at_1970_is_lifted_to_the_time_last_seen(
    tv_with_first: Tv, cloud: Cloud, second
) -> None:
    """A thief signs with online keys what expires before the time that this TV has seen."""
    tv = tv_with_first
    assert tv.plan(NOW + 5 * DAY).state == "current"
    cloud.release(second, now=NOW - 10 * DAY)
    tv.receives(cloud)
    refused(tv, "ExpiredError", now=0)


def test_clock_at_1970_on_a_new_tv_installs_a_valid_release(
    tv: Tv, cloud: Cloud, tiny_bundle
) -> None:
    cloud.release(tiny_bundle)
    tv.receives(cloud)
    assert tv.apply(now=0).state == "installed"


def test_clock_in_2100_does_no_harm_beyond_the_next_renewal(
    tv_with_first: Tv, cloud: Cloud, second
) -> None:
    tv = tv_with_first
    cloud.release(second)
    tv.receives(cloud)
    refused(tv, "ExpiredError", now=4102444800)
    cloud.repository.renew(at(NOW + DAY))
    tv.receives(cloud)
    assert tv.apply(NOW + DAY).state == "installed"


def test_mix_and_match_of_two_releases(tv_with_first: Tv, cloud: Cloud, second, tmp_path) -> None:
    tv = tv_with_first
    old_targets = document(tv, "targets")
    cloud.release(second)
    tv.receives(cloud)
    forge(tv, targets=old_targets)
    refused(tv, "RollbackError")


def test_mix_and_match_of_an_older_snapshot(tv_with_first: Tv, cloud: Cloud, second) -> None:
    tv = tv_with_first
    old_snapshot = document(tv, "snapshot")
    cloud.release(second)
    tv.receives(cloud)
    forge(tv, snapshot=old_snapshot)
    refused(tv, "RollbackError")


def test_unsigned_head(tv_with_first: Tv, cloud: Cloud, second) -> None:
    tv = tv_with_first
    cloud.release(second)
    tv.receives(cloud)
    metadata = Metadata[Timestamp].from_bytes(document(tv, "timestamp"))
    metadata.signatures.clear()
    forge(tv, timestamp=metadata.to_bytes())
    refused(tv, "UntrustedError")


def test_one_of_two_targets_keys_is_not_enough(tv_with_first: Tv, cloud: Cloud, second) -> None:
    tv = tv_with_first
    cloud.release(second)
    tv.receives(cloud)
    metadata = Metadata[Targets].from_bytes(document(tv, "targets"))
    metadata.signatures.pop(next(iter(metadata.signatures)))
    forge(tv, targets=metadata.to_bytes())
    refused(tv, "UntrustedError")


def test_root_signed_by_one_of_three(tv_with_first: Tv, cloud: Cloud) -> None:
    tv = tv_with_first
    metadata = Metadata[Root].from_bytes(cloud.repository.roots()[0])
    metadata.signed.version = 2
    metadata.sign(load_keys(cloud.folder / "keys", "root")[0])
    tv.config.head.with_name("2.root.json").write_bytes(metadata.to_bytes())
    refused(tv, "UntrustedError")
    tv.config.head.with_name("2.root.json").unlink()
    assert tv.plan().state == "current"


def test_stolen_online_keys_can_install_nothing(
    tv_with_first: Tv, cloud: Cloud, second, tmp_path
) -> None:
    """Snapshot and timestamp are signed by the thief; targets they can't sign."""
    tv = tv_with_first
    thief = Cloud(tmp_path / "thief")
    thief.release(second)
    keys = cloud.folder / "keys"
    targets = thief.repository._read("targets", Targets).to_bytes()
    snapshot = Metadata(Snapshot(version=9))
    snapshot.signed.meta["targets.json"].version = 9
    snapshot.sign(load_keys(keys, "snapshot")[0])
    timestamp = Metadata(Timestamp(version=9))
    timestamp.signed.snapshot_meta.version = 9
    timestamp.sign(load_keys(keys, "timestamp")[0])
    pack = {
        "timestamp.json": timestamp.to_bytes(),
        "9.snapshot.json": snapshot.to_bytes(),
        "9.targets.json": targets,
    }
    tv.receives(thief)
    tv.config.head.with_name("1.root.json").unlink()
    tv.config.head.write_bytes(head.pack(pack))
    refused(tv, "UntrustedError", now=NOW - DAY)


def test_fast_forward_is_healed_by_new_keys(tv_with_first: Tv, cloud: Cloud, second) -> None:
    """A thief of the timestamp key counted far up; after a rotation versions start low again."""
    tv = tv_with_first
    timestamp = Metadata[Timestamp].from_bytes(document(tv, "timestamp"))
    timestamp.signed.version = 10_000
    timestamp.sign(load_keys(cloud.folder / "keys", "timestamp")[0])
    forge(tv, timestamp=timestamp.to_bytes())
    assert tv.plan().state == "current"
    assert tv.floor("timestamp") == 10_000
    cloud.repository.rotate("timestamp", at(NOW))
    cloud.release(second)
    tv.receives(cloud)
    assert tv.apply().state == "installed"
    assert tv.version() == 2


def test_new_root_keys_are_followed_and_old_ones_trusted_no_more(
    tv_with_first: Tv, cloud: Cloud, second
) -> None:
    tv = tv_with_first
    for role in ("root", "targets", "root"):
        cloud.repository.rotate(role, at(NOW))
    cloud.release(second)
    tv.receives(cloud)
    assert tv.apply().state == "installed"
    assert tv.floor("root") == 4


def test_head_of_another_channel(tv_with_first: Tv, cloud: Cloud, second) -> None:
    cloud.release(second, channel="beta")
    tv_with_first.receives(cloud)
    assert tv_with_first.plan().state == "current"


def test_flavour_that_the_release_has_not(cloud: Cloud, tiny_bundle, tmp_path) -> None:
    cloud.release(tiny_bundle)
    tv = Tv(tmp_path / "other", cloud.root, flavour="onnx-int8")
    tv.receives(cloud)
    plan = tv.plan()
    assert plan.state == "refused"
    assert "check channel and flavour" in plan.why


BOMB = zlib.compress(b'{"timestamp.json": "' + b"a" * 8_000_000 + b'"}', 9)


@pytest.mark.parametrize(
    "packed",
    [
        b"", b"no zlib", BOMB, zlib.compress(b"[" * 100_000), zlib.compress(b"[]"),
        zlib.compress(b'{"../x": ""}'), zlib.compress(b'{"timestamp.json": 1}'),
        zlib.compress(b'{"timestamp.json": "", "timestamp.json": ""}'),
        zlib.compress(b'{"timestamp.json": "\xff"}'),
        zlib.compress(b'{"timestamp.json": "' + b"[" * 16_000 + b'"}'),
        zlib.compress(b"{}")[:-3], zlib.compress(b"{}") + b"tail",
        b"x" * (head.HEAD_BYTES + 1),
    ],
    ids=["nothing", "text", "bomb", "nested", "list", "path", "number", "twice", "bytes",
         "nested-inside", "cut", "tail", "too-large"],
)  # fmt: skip
def test_head_that_is_none(tv_with_first: Tv, packed: bytes) -> None:
    tv_with_first.config.head.write_bytes(packed)
    refused(tv_with_first, "UntrustedError")


def test_bundle_whose_manifest_contradicts_the_release(
    tv_with_first: Tv, cloud: Cloud, second
) -> None:
    """A signed release that calls version 2 version 3: what runs must be what was announced."""
    tv = tv_with_first
    original = cloud.repository._add

    def lie(channel, bundle, targets):
        forged = replace(bundle, manifest=replace(bundle.manifest, version=3))
        return original(channel, forged, targets)

    cloud.repository._add = lie
    cloud.release(second)
    tv.receives(cloud)
    refused(tv, "UntrustedError", "its manifest says version 2")


def test_golden_vectors_that_fail_are_refused_and_not_fetched_again(
    tv_with_first: Tv, cloud: Cloud, tiny_bundle, tmp_path
) -> None:
    tv = tv_with_first
    golden = bytes(reversed((tiny_bundle / "golden.bin").read_bytes()))
    cloud.release(next_version(tiny_bundle, tmp_path / "bad", 2, golden_bin=golden))
    tv.receives(cloud)
    refused(tv, "RefusedError")
    shutil.rmtree(tv.config.blocks)
    plan = tv.plan()
    assert plan.state == "refused"
    assert "failed here before" in plan.why


def test_model_file_of_garbage_signed_by_mistake(
    tv_with_first: Tv, cloud: Cloud, tiny_bundle, tmp_path
) -> None:
    tv = tv_with_first
    garbage = b"\x1c\0\0\0TFL3" + bytes(range(256)) * 100
    cloud.release(next_version(tiny_bundle, tmp_path / "bad", 2, user_model_tflite=garbage))
    tv.receives(cloud)
    refused(tv, "RefusedError")
    cloud.release(next_version(tiny_bundle, tmp_path / "good", 3))
    tv.receives(cloud)
    assert tv.apply().state == "installed"
    assert (tv.version(), tv.version(Slot.FACTORY)) == (3, 1)


def test_release_too_large_for_this_tv(cloud: Cloud, tiny_bundle, tmp_path) -> None:
    cloud.release(tiny_bundle)
    tv = Tv(tmp_path / "small", cloud.root, bundle_bytes=70_000)
    tv.receives(cloud)
    plan = tv.plan()
    assert plan.state == "refused"
    assert "limits.bundle_bytes" in plan.why
