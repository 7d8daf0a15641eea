"""The floor: a frame comes back as it came, over a Unix socket, one connection after the other.

A frame is its length (4 bytes, big endian) and that many bytes. Nothing but Python's standard
library.

    python echo_server.py SOCKET
"""

import socket
import struct
import sys

LENGTH = struct.Struct(">I")


def main(path):
    """Serve until killed."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(path)
    server.listen()
    while True:
        connection, _ = server.accept()
        with connection, connection.makefile("rb") as stream:
            while head := stream.read(LENGTH.size):
                connection.sendall(head + stream.read(*LENGTH.unpack(head)))


main(sys.argv[1])
