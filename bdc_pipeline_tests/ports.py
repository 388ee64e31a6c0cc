"""Ports on loopback: one that a process may listen at later, and an address at which surely nobody answers.

A port that is bound for a moment and given back is neither. The system may give it to anyone before it is used.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

HOST = "127.0.0.1"


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    """An address at which every connection is refused: its socket stays bound, and never listens."""
    with socket.socket() as silent:
        silent.bind((HOST, 0))
        yield f"http://{HOST}:{silent.getsockname()[1]}"


def reserved_port() -> int:
    """A free port for a process that is to be told its port.

    It is none of those that the system gives to whoever asks for any, and no other process of the tests gets it as long as
    this one lives.

    Raises:
        OSError: no port on loopback can be bound.
    """
    given = _given_by_the_system()
    # where the system gives them all, any will do: the lock still keeps other tests away
    candidates = [port for port in range(10_000, 65_536) if port not in given] or range(10_000, 65_536)
    directory = Path(tempfile.gettempdir()) / f"bdc-pipeline-test-ports-{os.getuid()}"
    directory.mkdir(exist_ok=True)
    # not the random numbers that all workers seed alike
    for port in random.SystemRandom().sample(candidates, min(200, len(candidates))):
        # never closed: the lock is held until this process ends
        lock = os.open(directory / str(port), os.O_CREAT | os.O_WRONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as free:
                free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                free.bind((HOST, port))
        except OSError as error:
            os.close(lock)
            if error.errno not in {errno.EADDRINUSE, errno.EAGAIN}:
                raise
            continue
        return port
    raise OSError(errno.EADDRINUSE, "No port on loopback is free")


def _given_by_the_system() -> range:
    """The ports from which the system takes those that nobody has named."""
    try:
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except OSError:
        return range(32_768, 65_536)  # what other systems give is in here
    return range(int(first), int(last) + 1)
