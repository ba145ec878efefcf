"""What /proc says: the processes of a tree, their CPU time and their memory; and the machine's size."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


def tree(roots: Iterable[int]) -> list[int]:
    """These processes and everything they started, parents first."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    todo = list(roots)
    while todo:
        pid = todo.pop(0)
        found.append(pid)
        todo += children.get(pid, [])
    return found


def running(pids: Iterable[int]) -> list[int]:
    """Those that have not ended; one that only waits to be asked for its exit code has."""
    return [pid for pid in pids if (fields := _stat(pid)) and fields[0] != "Z"]


def cpu_s(pids: Iterable[int]) -> float:
    """CPU time so far, of all threads, in the kernel's ticks of 10 ms. A process that is gone counts 0."""
    return sum(TICK_S * (int(f[11]) + int(f[12])) for pid in pids if (f := _stat(pid)))


def pss_mib(pids: Iterable[int]) -> float:
    """Proportional set size: shared pages are divided among those who share them."""
    found = 0
    for pid in pids:
        try:
            lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        found += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return found / 1024


def _stat(pid: int) -> list[str] | None:
    """Fields after the command's name: state, parent, …; None when the process is gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None


def size() -> str:
    """Cores, processor, memory, kernel: one line."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in (PROC / "cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({model}), {total:.1f} GiB, {platform.system()} {platform.release()}"
