"""Clients that are killed at any moment: `python -m bdc_pipeline_tests.share.killed SHARE CACHE NAME KILLS ACKNOWLEDGED`.

Everything is imported once; each life is a fork that opens the database, writes, notes what was acknowledged, and syncs, over
and over, until it is killed.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import sys
import time
from pathlib import Path

from bdc_pipeline.share import cycle, database, tend
from bdc_pipeline.share.database import SharedDatabase
from bdc_pipeline.share.errors import ShareError

FOUGHT = 3
"""Rows that all clients write to: by the number in a key, which row it was written to."""

LONGEST = 0.3
"""Seconds that a life goes on: one in four from its birth, the others from when the database is open."""


def live(share: Path, cache: Path, name: str, acknowledged: int, born: int) -> None:
    """Writes and syncs until the end."""
    with SharedDatabase(share, enable_cache=True, cache_directory=cache, user=name, background=False) as db:
        os.write(born, b"!")
        while True:
            number = time.time_ns()
            key = f"{name}-{number}"
            with db.transaction() as connection:
                connection.execute("INSERT INTO notes VALUES (?, ?)", (key, name))
                connection.execute("UPDATE counters SET number = number + 1 WHERE name = ?", (name,))
                connection.execute("UPDATE fought SET last = ? WHERE id = ?", (key, number % FOUGHT))
            os.write(acknowledged, f"{key}\n".encode())
            with contextlib.suppress(ShareError):
                db.sync()


def main() -> None:
    """Lives and is killed as often as asked."""
    share, cache, name, kills, noted = sys.argv[1:]
    acknowledged = os.open(noted, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    assert all((cycle, database, tend)), "imported before the first fork"
    lot = random.Random(name)
    for _ in range(int(kills)):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            live(Path(share), Path(cache), name, acknowledged, writing)
            os._exit(1)
        if lot.random() > 0.25:
            select.select([reading], [], [], 30)
        time.sleep(lot.uniform(0, LONGEST))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)


if __name__ == "__main__":
    main()
