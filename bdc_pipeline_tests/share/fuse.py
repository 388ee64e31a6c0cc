"""A slow, failing file share for tests and benchmarks: a FUSE mount that passes everything through to a folder.

Each mount is a process of its own; two mounts of one folder are two machines that do not share locks or caches. While it is
mounted, a mount can be told to take longer for each operation, to go away (every operation fails), to hang, and to crash as a
server does, which loses what was written and not synced. Operations are counted by kind, as the kernel sends them.

    with FuseShare(folder, point) as share:
        share.set(delay=0.020)
        ...
        share.operations()  # {'getattr': 1, 'open': 1, ...}

Needs the package `mfusepy`, `libfuse2` or `libfuse3` (Debian) and `/dev/fuse`; `why_not()` says what is missing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

UNCOUNTED = frozenset({"release", "releasedir", "statfs"})
"""Nobody waits for these: the kernel sends them afterwards, or a `df` does."""

START_SECONDS = 60.0


def why_not() -> str | None:
    """Why nothing can be mounted here; None when it can."""
    if not Path("/dev/fuse").exists():
        return "there is no /dev/fuse on this machine"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse may not be used by this user"
    try:
        import mfusepy  # type: ignore[import-untyped]  # noqa: F401, PLC0415
    except ImportError:
        return "the package mfusepy is not installed"
    except OSError as error:
        return f"libfuse is not installed (apt-get install libfuse2): {error}"
    return None


class FuseShare:
    """A folder mounted at `point`; both exist and are empty or not as they are."""

    def __init__(self, folder: Path, point: Path, *, delay: float = 0.0, cache_seconds: float = 1.0) -> None:
        """`delay` in seconds for each operation; `cache_seconds`: how long names and attributes are known without asking."""
        self.folder = Path(folder)
        self.point = Path(point)
        self._delay = delay
        self._cache_seconds = cache_seconds
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self.mount()
        return self

    def __exit__(self, *exception: object) -> None:
        self.unmount()

    def mount(self) -> None:
        """Start the process and wait until the folder is there. RuntimeError when it cannot be mounted."""
        ours, theirs = socket.socketpair()
        package = str(Path(__file__).parents[2])
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-c"),
                    "import sys; sys.path.append(sys.argv[1]); from bdc_pipeline_tests.share.fuse import serve; serve()",
                    *(package, str(self.folder), str(self.point), str(theirs.fileno()), str(self._cache_seconds)),
                ],
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                stderr=subprocess.PIPE,
            )
        self._control = ours
        deadline = time.monotonic() + START_SECONDS
        while not os.path.ismount(self.point):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                _, told = self._process.communicate()
                ours.close()
                raise RuntimeError(f"{self.point} cannot be mounted: {told.decode(errors='replace').strip()}")
            time.sleep(0.01)
        self.set(delay=self._delay)

    def unmount(self) -> None:
        """Let everything that hangs go, unmount, and end the process."""
        if self._process is None:
            return
        with contextlib.suppress(OSError):
            self.set(delay=0.0, fault="gone")
        for command in (["umount", "-l", str(self.point)], ["fusermount", "-u", "-z", str(self.point)]):
            with contextlib.suppress(OSError):
                if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                    break
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stderr:
            self._process.stderr.close()
        if self._control:
            self._control.close()
        self._process = None

    def set(self, *, delay: float | None = None, fault: str | None = "", after: int = 0) -> None:
        """Change the delay (seconds), or the fault, which begins `after` so many more operations.

        Faults: None (healthy), "gone" (EHOSTDOWN), "error" (EIO), "hang", "stale" (ESTALE), "full" (ENOSPC on writes),
        "link lost" (links are made, and answered with EIO), "link refused" (no hard links).
        """
        told: dict[str, Any] = {}
        if delay is not None:
            told["delay"] = delay
        if fault != "":
            told |= {"fault": fault, "after": after}
        self._ask({"set": told})

    def crash(self) -> None:
        """The server crashes: what was written and not synced is lost."""
        self._ask({"crash": True})

    def operations(self, *, reset: bool = True) -> dict[str, int]:
        """How many operations of each kind came since the last time; those that nobody waits for left out."""
        counts: dict[str, int] = self._ask({"counts": reset})
        return {kind: count for kind, count in sorted(counts.items()) if kind not in UNCOUNTED}

    def at_once(self) -> int:
        """How many operations were delayed at the same time, at most, since the last time."""
        most: int = self._ask({"at once": True})
        return most

    @contextlib.contextmanager
    def failing(self, fault: str) -> Iterator[None]:
        """The share with a fault, healthy again afterwards."""
        self.set(fault=fault)
        try:
            yield
        finally:
            self.set(fault=None)

    def _ask(self, question: dict[str, Any]) -> Any:
        assert self._control is not None
        with self._lock:
            self._control.sendall(json.dumps(question).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                part = self._control.recv(65536)
                if not part:
                    raise OSError(f"The process that serves {self.point} ended.")
                answer += part
        return json.loads(answer)


# In the process of the mount


class Weather:
    """What the share is like now, and what was asked of it."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.fault: str | None = None
        self.after = 0
        self.counts: Counter[str] = Counter()
        self.under_way = self.at_once = 0
        self.changed = threading.Condition()
        self.made: dict[int, str] = {}

    def travel(self, kind: str) -> None:
        """One operation on its way: counted, delayed, and failed or held as the weather has it."""
        import mfusepy  # noqa: PLC0415

        with self.changed:
            self.counts[kind] += 1
            delay = self.delay
            self.under_way += 1
            self.at_once = max(self.at_once, self.under_way)
        if delay and kind not in UNCOUNTED:
            time.sleep(delay)
        with self.changed:
            self.under_way -= 1
            if self.after > 0 and kind not in UNCOUNTED:
                self.after -= 1
                return
            while self.fault == "hang":
                self.changed.wait()
            code = {"gone": errno.EHOSTDOWN, "error": errno.EIO, "stale": errno.ESTALE}.get(self.fault or "")
            if code is None and self.fault == "full" and kind in {"write", "create"}:
                code = errno.ENOSPC
            if code is None and self.fault == "link refused" and kind == "link":
                code = errno.EPERM
        if code is not None and kind not in UNCOUNTED:
            raise mfusepy.FuseOSError(code)

    def just_made(self, path: str) -> None:
        """The kernel's one request asks libfuse for the new file's attributes as well: the next look is part of it."""
        self.made[threading.get_native_id()] = path

    def is_part(self, path: str) -> bool:
        """Whether this look at `path` belongs to the request that this thread has just served."""
        # By the thread's number: a thread of libfuse has no Python state that would outlive one call
        return self.made.pop(threading.get_native_id(), None) == path


def serve() -> None:
    """The process of a mount: serves until it is unmounted or its parent is gone."""
    import mfusepy  # noqa: PLC0415

    _, _, folder, point, control, cache_seconds = sys.argv
    weather = Weather()
    unsynced: dict[int, tuple[Path, int]] = {}
    operations = _operations(mfusepy, folder, weather, unsynced)
    threading.Thread(
        target=_listen, args=(socket.socket(fileno=int(control)), weather, unsynced, point), daemon=True
    ).start()
    options: dict[str, Any] = {"big_writes": True} if mfusepy.fuse_version_major == 2 else {}
    mfusepy.FUSE(
        operations,
        point,
        foreground=True,
        nothreads=False,
        fsname="bdc-test-share",
        attr_timeout=float(cache_seconds),
        entry_timeout=float(cache_seconds),
        **options,
    )


def _listen(control: socket.socket, weather: Weather, unsynced: dict[int, tuple[Path, int]], point: str) -> None:
    for line in control.makefile("rb"):
        question = json.loads(line)
        answer: Any = None
        with weather.changed:
            for name, value in question.get("set", {}).items():
                setattr(weather, name, value)
            weather.changed.notify_all()
            if "counts" in question:
                answer = dict(weather.counts)
                if question["counts"]:
                    weather.counts.clear()
            if "at once" in question:
                answer, weather.at_once = weather.at_once, 0
            if "crash" in question:
                _lose(unsynced)
        control.sendall(json.dumps(answer).encode() + b"\n")
    # The parent is gone without unmounting
    with weather.changed:
        weather.fault = "gone"
        weather.changed.notify_all()
    subprocess.run(["umount", "-l", point], capture_output=True, check=False)
    os._exit(0)


def _lose(unsynced: dict[int, tuple[Path, int]]) -> None:
    """Cut off what was not synced, from whatever name the file has by now."""
    for path, size in unsynced.values():
        with contextlib.suppress(OSError):
            os.truncate(path, size)
    unsynced.clear()


def _operations(mfusepy: Any, folder: str, weather: Weather, unsynced: dict[int, tuple[Path, int]]) -> Any:  # noqa: C901
    """The pass-through. A class made here, since its base comes with libfuse."""

    def at(path: str) -> Path:
        return Path(folder + path)

    def attributes(found: os.stat_result) -> dict[str, Any]:
        names = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks", "st_blksize")
        times = {name: getattr(found, f"{name}_ns") for name in ("st_atime", "st_mtime", "st_ctime")}
        return {name: getattr(found, name) for name in names} | times

    class PassThrough(mfusepy.Operations):  # type: ignore[misc]
        use_ns = True

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            if not weather.is_part(path):
                weather.travel("getattr")
            return attributes(at(path).lstat())

        def opendir(self, path: str) -> int:
            weather.travel("opendir")
            at(path).stat()
            return 0

        def readdir(self, path: str, fh: int) -> list[str]:
            weather.travel("readdir")
            return [".", "..", *(entry.name for entry in at(path).iterdir())]

        def releasedir(self, path: str, fh: int) -> int:
            weather.travel("releasedir")
            return 0

        def open(self, path: str, flags: int) -> int:
            weather.travel("open")
            return os.open(at(path), flags & ~os.O_EXCL & ~os.O_CREAT)

        def create(self, path: str, mode: int, fi: Any = None) -> int:
            weather.travel("create")
            weather.just_made(path)
            # The kernel asked for the name just before; another mount may have made it since
            descriptor = os.open(
                at(path), os.O_RDWR | os.O_CREAT | (fi & os.O_EXCL if isinstance(fi, int) else 0), mode
            )
            if os.fstat(descriptor).st_size == 0:
                unsynced[descriptor] = (at(path), 0)
            return descriptor

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            weather.travel("read")
            return os.pread(fh, size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            weather.travel("write")
            unsynced.setdefault(fh, (at(path), os.fstat(fh).st_size))
            return os.pwrite(fh, data, offset)

        def truncate(self, path: str, length: int, fh: int | None = None) -> int:
            weather.travel("truncate")
            weather.just_made(path)
            os.truncate(at(path), length)
            return 0

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            weather.travel("fsync")
            unsynced.pop(fh, None)
            return 0

        def flush(self, path: str, fh: int) -> int:
            weather.travel("flush")
            return 0

        def release(self, path: str, fh: int) -> int:
            weather.travel("release")
            if fh in unsynced:  # closed and not synced: lost by a crash all the same
                unsynced[-1 - len(unsynced)] = unsynced.pop(fh)
            os.close(fh)
            return 0

        def link(self, target: str, source: str) -> int:
            weather.travel("link")
            weather.just_made(target)
            at(target).hardlink_to(at(source))
            for known, size in list(unsynced.values()):
                if known == at(source):
                    unsynced[-1 - len(unsynced)] = (at(target), size)
            if weather.fault == "link lost":
                raise mfusepy.FuseOSError(errno.EIO)
            return 0

        def unlink(self, path: str) -> int:
            weather.travel("unlink")
            at(path).unlink()
            return 0

        def rename(self, old: str, new: str) -> int:
            weather.travel("rename")
            at(old).rename(at(new))
            return 0

        def mkdir(self, path: str, mode: int) -> int:
            weather.travel("mkdir")
            weather.just_made(path)
            at(path).mkdir(mode)
            return 0

        def rmdir(self, path: str) -> int:
            weather.travel("rmdir")
            at(path).rmdir()
            return 0

        def chmod(self, path: str, mode: int) -> int:
            weather.travel("chmod")
            weather.just_made(path)
            at(path).chmod(mode)
            return 0

        def chown(self, path: str, uid: int, gid: int) -> int:
            weather.travel("chown")
            weather.just_made(path)
            os.chown(at(path), uid, gid)
            return 0

        def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
            weather.travel("utimens")
            weather.just_made(path)
            os.utime(at(path), ns=times or (time.time_ns(), time.time_ns()))
            return 0

        def statfs(self, path: str) -> dict[str, int]:
            weather.travel("statfs")
            found = os.statvfs(at(path))
            names = (
                "f_bavail",
                "f_bfree",
                "f_blocks",
                "f_bsize",
                "f_favail",
                "f_ffree",
                "f_files",
                "f_flag",
                "f_frsize",
            )
            return {name: getattr(found, name) for name in (*names, "f_namemax")}

    return PassThrough()
