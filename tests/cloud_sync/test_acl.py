"""The production broker's files: mutual TLS, and a TV that can read and write nothing.

Permission is judged by what is delivered: mosquitto grants any SUBSCRIBE and filters later.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from couchside.cloud_sync import topics
from couchside.cloud_sync.address import BrokerAddress
from couchside.cloud_sync.broker import LocalBroker, free_port, mosquitto_program
from couchside.cloud_sync.errors import BrokerError
from couchside.cloud_sync.mqtt import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = Path(__file__).parents[2] / "cloud_sync"


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o755)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fleet")])
        self._write("ca", self._name, self._key)

    def issue(self, common_name: str) -> tuple[str, str]:
        """Files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        self._write(
            common_name, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]), key
        )
        return str(self.folder / f"{common_name}.pem"), str(self.folder / f"{common_name}.key")

    def _write(self, file: str, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> None:
        now = datetime.now(UTC)
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=file == "ca", path_length=None), critical=True)
            .add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        (self.folder / f"{file}.pem").write_bytes(certificate.public_bytes(pem))
        (self.folder / f"{file}.key").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[tuple[Authority, BrokerAddress]]:
    """mosquitto with the repository's configuration, its paths moved into a folder."""
    program = mosquitto_program()
    if program is None:
        pytest.skip("mosquitto is not installed; its ACL was not tested")
    authority = Authority(tmp_path / "couchside")
    authority.issue("broker")
    shutil.copy(FILES / "mosquitto.acl", authority.folder)
    port = free_port()
    text = (FILES / "mosquitto.conf").read_text()
    text = text.replace("/etc/mosquitto/couchside", str(authority.folder))
    text = text.replace("/var/lib/mosquitto/", f"{tmp_path}/").replace("8883", f"{port} 127.0.0.1")
    config = tmp_path / "mosquitto.conf"
    config.write_text(text + "user root\n")
    broker = LocalBroker(
        "mosquitto", [program, "-c", str(config)], port=port, protocol="5", log=tmp_path / "log"
    )
    broker.start()
    ca = str(authority.folder / "ca.pem")
    yield authority, BrokerAddress("localhost", port, ca=ca, protocol="5")
    broker.stop()


def connect(fleet: tuple[Authority, BrokerAddress], name: str) -> Session:
    authority, broker = fleet
    certificate, key = authority.issue(name)
    session = Session(replace(broker, certificate=certificate, key=key), name)
    session.wait_connected(10)
    return session


def received(session: Session, *subscriptions: str) -> set[str]:
    for topic in subscriptions:
        session.subscribe(topic)
    end, seen = time.monotonic() + 1.0, set()
    while time.monotonic() < end:
        seen |= {message.topic for message in session.poll(0.1)}
    return seen


def test_tv_reads_releases_and_nothing_else(fleet) -> None:
    cloud, tv = connect(fleet, "couchside-cloud"), connect(fleet, "tv-1")
    block = topics.block("0" * 64)
    told = [topics.head("stable"), topics.root(1), block, "couchside/1/k/secret"]
    cloud.publish_all([(topic, b"x") for topic in told], timeout_s=10)
    assert received(tv, "#", block, topics.ANY_ROOT, topics.head("stable")) == set(told[:3])
    for session in (cloud, tv):
        session.close()


def test_tv_can_not_publish_a_head(fleet) -> None:
    cloud, tv = connect(fleet, "couchside-cloud"), connect(fleet, "tv-1")
    tv.publish(topics.head("stable"), b"evil", retain=True)
    tv.poll(0.5)
    assert received(cloud, "couchside/1/#") == set()
    for session in (cloud, tv):
        session.close()


def test_tv_sends_updates_under_its_own_name_and_hears_only_its_receipts(fleet) -> None:
    cloud, tv = connect(fleet, "couchside-cloud"), connect(fleet, "tv-1")
    cloud.subscribe(topics.ANY_UPDATE)
    tv.subscribe("couchside/1/#")
    tv.subscribe(topics.receipt("+"))
    for name in ("tv-1", "tv-2"):
        tv.publish(topics.update(1, name), b"u", retain=False)
    tv.poll(0.2)
    assert received(cloud) == {topics.update(1, "tv-1")}
    told = [topics.receipt("tv-1"), topics.receipt("tv-2"), topics.round_of("stable"), topics.ASK]
    cloud.publish_all([(topic, b"x") for topic in told], timeout_s=10)
    assert received(tv) == {topics.receipt("tv-1"), topics.round_of("stable")}
    for session in (cloud, tv):
        session.close()


def test_helper_hears_asks_and_never_an_update(fleet) -> None:
    cloud, helper = connect(fleet, "couchside-cloud"), connect(fleet, "couchside-helper")
    tv = connect(fleet, "tv-1")
    helper.subscribe("#")
    helper.subscribe(topics.ASK)
    helper.subscribe(topics.ANY_UPDATE)
    cloud.subscribe(topics.ANSWER)
    cloud.publish_all([(topics.ASK, b"x"), (topics.receipt("tv-1"), b"x")], timeout_s=10)
    tv.publish(topics.update(1, "tv-1"), b"u", retain=False)
    tv.poll(0.2)
    assert received(helper) == {topics.ASK}
    helper.publish(topics.ANSWER, b"a", retain=False)
    helper.poll(0.2)
    assert received(cloud) == {topics.ANSWER}
    for session in (cloud, helper, tv):
        session.close()


def test_nobody_connects_without_a_certificate_of_the_fleet(fleet, tmp_path: Path) -> None:
    _, broker = fleet
    certificate, key = Authority(tmp_path / "rogue").issue("couchside-cloud")
    for stranger in (broker, replace(broker, certificate=certificate, key=key)):
        session = Session(stranger, "stranger", most_wait_s=0.5)
        with pytest.raises(BrokerError):
            session.wait_connected(2)
        session.close()


# paho 2.2 leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_broker_of_another_authority_is_not_talked_to(fleet, tmp_path: Path) -> None:
    authority, broker = fleet
    certificate, key = authority.issue("tv-1")
    other = Authority(tmp_path / "other")
    session = Session(
        replace(broker, ca=str(other.folder / "ca.pem"), certificate=certificate, key=key), "tv"
    )
    with pytest.raises(BrokerError, match=r"(?i)certificate verify failed"):
        session.wait_connected(2)
