"""What the system knows about processes: whether one runs, since when, whose it is, how large it is.

In:  a process id.  Out: facts.  On Linux they are read from /proc; elsewhere `ps` is asked, which takes some
milliseconds. This module is the only one that knows of either.
"""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple

PROC = "/proc"


def has_proc() -> bool:
    """Whether there is a /proc as Linux has it."""
    return os.path.exists(f"{PROC}/self/stat")  # noqa: PTH110 - pathlib takes longer to import than this file


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat behind the name; empty when there is no such process."""
    try:
        with open(f"{PROC}/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def _ps(pid: int, field: str) -> str:
    """One field of `ps`; empty when there is no such process, or no ps."""
    import subprocess

    try:
        done = subprocess.run(
            ["ps", "-o", f"{field}=", "-p", str(pid)], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def is_running(pid: int) -> bool:
    """Whether there is such a process and it has not ended; one that its parent has not fetched has."""
    if pid <= 0:
        return False
    if has_proc():
        fields = _stat(pid)
        return bool(fields) and fields[0] not in (b"Z", b"X")
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _ps(pid, "state").startswith("Z")


def is_zombie(pid: int) -> bool:
    """Whether the process has ended and its parent has not fetched it; False when that is unknown."""
    return _stat(pid)[:1] in ([b"Z"], [b"X"]) if has_proc() else _ps(pid, "state").startswith("Z")


def started(pid: int) -> str | None:
    """When a process was started, in the system's own words; None when it is gone."""
    if not has_proc():
        return _ps(pid, "lstart") or None
    fields = _stat(pid)
    return None if not fields or fields[0] in (b"Z", b"X") else fields[19].decode()


def command_line(pid: int) -> str:
    """The words of a process with a NUL or a blank between them; empty when it is gone or has none."""
    if not has_proc():
        return _ps(pid, "command")
    try:
        with open(f"{PROC}/{pid}/cmdline", "rb") as file:
            return file.read().decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def owner(pid: int) -> int | None:
    """The user id of a process; None when it is gone."""
    if not has_proc():
        printed = _ps(pid, "uid")
        return int(printed) if printed.isdecimal() else None
    try:
        return os.stat(f"{PROC}/{pid}").st_uid  # noqa: PTH116 - as above
    except OSError:
        return None


def resident_kib(pid: int) -> int:
    """Resident memory; 0 when the process is gone."""
    if not has_proc():
        printed = _ps(pid, "rss")
        return int(printed) if printed.isdecimal() else 0
    try:
        with open(f"{PROC}/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    except OSError:
        return 0


def boot_id() -> str:
    """An id that the kernel makes at each start of the system; empty when that cannot be determined."""
    try:
        with open(f"{PROC}/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def process_table() -> str:
    """Names the table that process ids of this host belong to; empty when that cannot be determined."""
    try:
        place = os.readlink(f"{PROC}/self/ns/pid")  # noqa: PTH115 - as above
    except OSError:
        return ""
    boot = boot_id()
    return f"{boot} {place}" if boot else ""


class ThreadActivity(NamedTuple):
    """What one thread has done so far."""

    state: str  # R: runs or could; S, D: waits in the kernel; T: stopped; Z: ended
    cpu_s: float
    waits: int  # how often it has left the processor by itself, to wait

    def is_blocked_since(self, before: ThreadActivity) -> bool:
        """Whether it did nothing but wait in the kernel, in one wait."""
        return self.state in ("S", "D") and self.waits == before.waits and self.cpu_s - before.cpu_s < 0.0005


def thread_activity(pid: int, thread: int) -> ThreadActivity | None:
    """The activity of a thread, by its system id; that of the main thread is the process id. None when it is
    gone, or where there is no /proc."""
    place = f"{PROC}/{pid}/task/{thread}"
    try:
        with open(f"{place}/status", "rb") as file:
            fields = dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
        with open(f"{place}/schedstat", "rb") as file:
            cpu_ns = int(file.read().split()[0])
        state, waits = fields[b"State"].split()[0].decode(), int(fields[b"voluntary_ctxt_switches"])
    except (OSError, KeyError, ValueError, IndexError):
        return None
    return ThreadActivity(state, cpu_ns / 1e9, waits)


def kernel_wait(pid: int, thread: int) -> str:
    """The kernel's function that a thread waits in, such as 'hrtimer_nanosleep'; empty when unknown."""
    try:
        with open(f"{PROC}/{pid}/task/{thread}/wchan") as file:
            found = file.read().strip()
    except OSError:
        return ""
    return "" if found == "0" else found


def sockets_belong_to_threads() -> bool:
    """Whether a socket works only in the thread that made it: gevent has replaced the module `socket`."""
    monkey: Any = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))
