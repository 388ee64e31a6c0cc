"""A child process that touches the share for us, so that a hung share hangs nobody but the child.

A call on a file share may take minutes or never come back, and a thread that waits for it cannot be ended. Each command
goes to the child over a pipe; as long as its single file operations come back within the deadline, the child says that it is
alive. When one does not, the child is killed (or, where the kernel cannot kill it, left behind) and a new one is started
on next use. The child ends when its parent does: it sees the pipe close.

Frames are four bytes of length and MessagePack: `[command, arguments]` one way, `[kind, payload, counts]` the other.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Self

import msgspec

from bdc_pipeline.share.answers import Ambiguous, Refused, Taken, Unseen, told
from bdc_pipeline.share.errors import Offline, ShareError
from bdc_pipeline.share.files import Before, Counts, FileStat, ShareFiles

__all__ = ["Worker", "main"]

DEADLINE = 20.0
"""Seconds that one file operation may take. A healthy share over a slow line takes one or two."""

START_SECONDS = 30.0
"""A child starts within 0.15 s; on a machine under load, later."""

SIGN_SECONDS = 0.1
"""A sign of life is sent at most so often."""

MOST_LEFT_BEHIND = 4
"""Children that could not be killed; with so many waiting for the share, no more are started."""

ENTRY = "import sys; sys.path.append(sys.argv[1]); from bdc_pipeline.share.worker import main; main()"
"""By its own path at the end of `sys.path`, so that nothing in the current folder stands before the standard library."""

ALIVE = b""

KINDS: dict[str, type[Exception]] = {
    "missing": FileNotFoundError,
    "taken": Taken,
    "unseen": Unseen,
    "ambiguous": Ambiguous,
    "refused": Refused,
    "offline": Offline,
    "other": ShareError,
}
"""What an answer that is no result is raised as; the first that fits, in this order, when it is told."""

_left_behind: dict[Path, list[subprocess.Popen[bytes]]] = {}
"""By the share that they wait for: another share's have nothing to do with it."""
_left_behind_lock = threading.Lock()


class Worker:
    """A share's files, touched by a child process with a deadline for every operation. One thread at a time uses it."""

    def __init__(self, root: Path, client: str, *, deadline: float = DEADLINE) -> None:
        """`root` is the folder `app.db.sync`, `client` this client's id, `deadline` seconds for one file operation."""
        self.root = Path(root).absolute()
        self.client = client
        self.deadline = deadline
        self.counts = Counts()
        self._child: _Child | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child; it lets go of the share's folders. A later call starts another."""
        with self._lock:
            if self._child is not None:
                self._child.end()
                self._child = None

    @property
    def pid(self) -> int | None:
        """The child's process id, where one is running."""
        return self._child.process.pid if self._child else None

    def call(self, command: str, *arguments: Any, deadline: float | None = None) -> Any:
        """What `command` gives. Raises `Offline` when the deadline (of one file operation) passes or the child ends."""
        with self._lock:
            child = self._running()
            child.ask(command, arguments)
            try:
                return self._answer(child, command, deadline or self.deadline)
            finally:
                # Whatever interrupted the wait leaves an answer on its way that belongs to no later question
                if not child.idle:
                    self._give_up(child)

    def make_folders(self) -> None:
        """Make the share's folder and those below it, as far as they are missing."""
        self.call("make_folders")

    def refresh(self) -> None:
        """Look at the share's folders anew with the next operation: they may have been moved or replaced."""
        if self._child is not None:
            self.call("refresh")

    def read(self, path: str) -> bytes:
        """A file's content; FileNotFoundError when it is not there."""
        content: bytes = self.call("read", path)
        return content

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        """The contents of several files, read side by side; None for those that are not there."""
        contents: list[bytes | None] = self.call("read_many", list(paths))
        return contents

    def publish(self, path: str, data: bytes, before: Before | None = None) -> int | None:
        """Give `data` the name `path` unless it is taken; returns the share's clock minus ours in ms."""
        looked = () if before is None else msgspec.structs.astuple(before)
        offset: int | None = self._publishing("publish", path, data, *looked)
        return offset

    def publish_file(self, path: str, source: Path) -> int | None:
        """Like `publish`, from a local file of any size."""
        offset: int | None = self._publishing("publish_file", path, str(source.absolute()))
        return offset

    def replace(self, path: str, data: bytes) -> None:
        """Give `data` the name `path`, whatever was there."""
        self.call("replace", path, data)

    def fetch(self, path: str, to: Path) -> int:
        """Copy a file of any size to a local one; returns its bytes."""
        size: int = self.call("fetch", path, str(to.absolute()))
        return size

    def list(self, folder: str) -> list[str]:
        """The names in a folder, sorted."""
        names: list[str] = self.call("list", folder)
        return names

    def survey(self, folder: str) -> dict[str, FileStat]:
        """The files in a folder by their names, with sizes and times."""
        return {name: FileStat(*found) for name, found in self.call("survey", folder).items()}

    def stat(self, path: str) -> FileStat:
        """A file's size and time; FileNotFoundError when it is not there."""
        return FileStat(*self.call("stat", path))

    def remove(self, paths: Sequence[str]) -> int:
        """Remove files; returns how many were there."""
        removed: int = self.call("remove", list(paths))
        return removed

    def _publishing(self, command: str, path: str, what: bytes | str, *looked: Any) -> Any:
        """A name that was being given when the share went away may be there or not."""
        try:
            return self.call(command, path, what, *looked)
        except (Taken, Ambiguous, Refused):
            raise
        except Offline as error:
            raise Ambiguous(str(error)) from error

    def _running(self) -> _Child:
        if self._child is None:
            waiting = _waiting_for(self.root)
            if waiting >= MOST_LEFT_BEHIND:
                raise Offline(f"{self.root.parent} hangs: {waiting} processes wait for it and cannot be ended.")
            self._child = _Child(self.root, self.client)
        return self._child

    def _answer(self, child: _Child, command: str, deadline: float) -> Any:
        while True:
            try:
                frame = child.replies.get(timeout=deadline if child.started else max(deadline, START_SECONDS))
            except queue.Empty:
                raise Offline(
                    f"The share hangs: {command} on {self.root.parent} did not come back within {deadline:g} s. "
                    "What was written here is kept and sent when it answers again."
                ) from None
            if frame is None:
                raise Offline(
                    f"The process that talks to {self.root.parent} ended ({child.process.poll()}); it is started anew."
                )
            child.started = True
            if frame == ALIVE:
                continue
            child.idle = True
            kind, payload, counts = msgspec.msgpack.decode(frame)
            self.counts.add(Counts(*counts))
            if kind == "result":
                return payload
            raise KINDS[kind](*payload)

    def _give_up(self, child: _Child) -> None:
        child.kill()
        self._child = None


class _Child:
    """One child process, and the thread that carries questions to it and answers from it."""

    def __init__(self, root: Path, client: str) -> None:
        self.root = root
        package = str(Path(__file__).parents[2])
        self.process = subprocess.Popen(  # noqa: S603  (our own interpreter and module)
            [sys.executable, "-P", "-c", ENTRY, package, str(root), client],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the parent, which may still have something to send
        )
        self.started = False
        self.idle = True
        self.replies: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=self._carry, name="share-worker", daemon=True).start()

    def ask(self, command: str, arguments: Sequence[Any]) -> None:
        """Send a command; its answer comes among the replies."""
        self.idle = False
        self._requests.put(msgspec.msgpack.encode([command, arguments]))

    def end(self) -> None:
        """Close the pipe, which ends an idle child."""
        self._requests.put(None)
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill the child; where the kernel keeps it (a call to a file server cannot always be broken), leave it behind."""
        self._requests.put(None)
        self.process.kill()
        try:
            self.process.wait(0.5)
        except subprocess.TimeoutExpired:
            with _left_behind_lock:
                _left_behind.setdefault(self.root, []).append(self.process)

    def _carry(self) -> None:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None  # noqa: S101  (asked for above)
        assert stdout is not None  # noqa: S101
        with contextlib.suppress(OSError), stdout, stdin:
            while (request := self._requests.get()) is not None:
                _write_frame(stdin, request)
                while (reply := _read_frame(stdout)) == ALIVE:
                    self.replies.put(ALIVE)
                if reply is None:
                    break
                self.replies.put(reply)
        self.replies.put(None)


def _waiting_for(root: Path) -> int:
    """How many children still wait for this share; those that have ended meanwhile are let go."""
    with _left_behind_lock:
        waiting = [process for process in _left_behind.get(root, []) if process.poll() is None]
        _left_behind[root] = waiting
        return len(waiting)


def _write_frame(pipe: IO[bytes], frame: bytes) -> None:
    pipe.write(len(frame).to_bytes(4, "big") + frame)
    pipe.flush()


def _read_frame(pipe: IO[bytes]) -> bytes | None:
    """The next frame; None when the pipe was closed."""
    length = pipe.read(4)
    if len(length) < 4:
        return None
    size = int.from_bytes(length, "big")
    frame = pipe.read(size)
    return frame if len(frame) == size else None


# In the child


class _Replies:
    """The pipe to the parent: answers, and signs of life while an answer is not there."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._last = 0.0

    def alive(self) -> None:
        """Say that an operation came back, at most every 0.1 s."""
        now = time.monotonic()
        if now - self._last > SIGN_SECONDS:
            self._last = now
            self.send(ALIVE)

    def send(self, frame: bytes) -> None:
        """Send a frame; without a parent there is nothing left to do."""
        try:
            with self._lock:
                _write_frame(self._pipe, frame)
        except OSError:
            os._exit(0)


def main() -> None:
    """The child: commands come on standard input, answers go where standard output was."""
    _, _, root, client = sys.argv
    replies = _Replies(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what some library prints is not an answer
    replies.send(ALIVE)  # from here on the deadline counts
    files = ShareFiles(Path(root), client, alive=replies.alive)
    commands: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_obey, args=(commands, files, replies), daemon=True).start()
    while (frame := _read_frame(sys.stdin.buffer)) is not None:
        commands.put(frame)
    # The parent closed the pipe or is gone. A command that hangs in the share must not keep this process.
    os._exit(0)


def _obey(commands: queue.SimpleQueue[bytes], files: ShareFiles, replies: _Replies) -> None:
    while True:
        command, arguments = msgspec.msgpack.decode(commands.get())
        answer = _answered(files, replies, command, arguments)
        replies.send(msgspec.msgpack.encode([*answer, msgspec.structs.astuple(files.counts.taken())]))


def _answered(files: ShareFiles, replies: _Replies, command: str, arguments: list[Any]) -> tuple[str, Any]:
    """The kind of the answer, and the result or what the error is made of."""
    try:
        if command in FILE_COMMANDS:
            return "result", FILE_COMMANDS[command](files, *arguments)
        module, _, name = command.partition(":")
        function: Callable[..., Any] = getattr(importlib.import_module(f"bdc_pipeline.share.{module}"), name)
        return "result", function(*arguments, alive=replies.alive)
    except FileNotFoundError as error:
        return "missing", [error.errno, error.strerror, error.filename]
    except ShareError as error:
        return next(kind for kind, known in KINDS.items() if isinstance(error, known)), [str(error)]
    except OSError as error:
        failure = told(error, error.filename or files.root)
        return ("offline" if isinstance(failure, Offline) else "refused"), [str(failure)]
    except Exception as error:  # noqa: BLE001  (the parent tells it; a child that dies tells nothing)
        return "other", [f"{command} on the share failed: {type(error).__name__}: {error}"]


FILE_COMMANDS: dict[str, Callable[..., Any]] = {
    "make_folders": ShareFiles.make_folders,
    "refresh": ShareFiles.refresh,
    "read": ShareFiles.read,
    "read_many": ShareFiles.read_many,
    "publish": lambda files, path, data, *before: files.publish(path, data, Before(*before) if before else None),
    "publish_file": lambda files, path, source: files.publish_file(path, Path(source)),
    "replace": ShareFiles.replace,
    "fetch": lambda files, path, to: files.fetch(path, Path(to)),
    "list": ShareFiles.list,
    "survey": lambda files, folder: {name: msgspec.structs.astuple(s) for name, s in files.survey(folder).items()},
    "stat": lambda files, path: msgspec.structs.astuple(files.stat(path)),
    "remove": ShareFiles.remove,
}
"""What a child does on files. Any other command is `module:function` of this package, called with `alive`."""
