"""The peers that are no dependencies of the project: an environment of their own, `.venv-peers`."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PINNED = ROOT / "benchmarks" / "peers.txt"
VENV = ROOT / ".venv-peers"


class NoPeersError(Exception):
    """The environment could not be made: says why."""


def python_of_peers() -> Path:
    """The interpreter of the peers' environment, which is made where it is missing or its pins have changed.

    Raises:
        NoPeersError: it could not be made.
    """
    python, ready = VENV / "bin" / "python", VENV / ".ready"
    wanted = hashlib.blake2b(PINNED.read_bytes(), digest_size=16).hexdigest()
    if ready.is_file() and ready.read_text() == wanted:
        return python
    print(f"Installing the peers into {VENV.name} ...", file=sys.stderr)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(PINNED)]
    for command in ([sys.executable, "-m", "venv", "--clear", str(VENV)], pip):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no reason was given"]
            raise NoPeersError(f"{VENV.name} could not be made from benchmarks/peers.txt ({last[0]})")
    ready.write_text(wanted)
    return python
