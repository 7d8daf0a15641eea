from __future__ import annotations

import os
import socket

import pytest

from couchside.benchmarks.tv.sockets import count_sockets


def test_unix_sockets_and_others_are_told_apart() -> None:
    unix, others = count_sockets(os.getpid())
    left, right = socket.socketpair()
    with left, right, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as internet:
        internet.bind(("127.0.0.1", 0))
        assert count_sockets(os.getpid()) == (unix + 2, others + 1)
    assert count_sockets(os.getpid()) == (unix, others)


def test_netlink_socket_is_not_taken_for_a_unix_socket() -> None:
    _, others = count_sockets(os.getpid())
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE):
        assert count_sockets(os.getpid())[1] == others + 1


def test_process_that_is_gone_is_an_error() -> None:
    with pytest.raises(OSError, match="No such file"):
        count_sockets(2**22 + 1)
