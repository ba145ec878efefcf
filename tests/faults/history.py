"""What happened to each task, written by those who saw it, and a verdict on it.

In:  lines `<event> <id> <flag> <pid> <time>` that processes append to one file.
Out: a Verdict: lost, duplicated, unflagged, late, each with the shortest story that shows it.

    published   its publish returned            unsure     its publish may have happened
    started     a run began; the flag says that the broker called it redelivered
    finished    a run ended
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple


def note(path: str | Path, event: str, ident: str, flag: bool = False) -> None:
    """Append a line; short writes with O_APPEND are not torn, whoever else writes."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, f"{event} {ident} {int(flag)} {os.getpid()} {time.time():.6f}\n".encode())
    finally:
        os.close(fd)


def note_all(path: str | Path, event: str, idents: Iterable[str]) -> None:
    """The same for many, in one write."""
    now, pid = time.time(), os.getpid()
    with open(path, "a") as file:
        file.write("".join(f"{event} {ident} 0 {pid} {now:.6f}\n" for ident in idents))


class Event(NamedTuple):
    kind: str
    ident: str
    flag: bool
    pid: int
    at: float

    def __str__(self) -> str:
        words = f"{self.at % 1000:8.3f} {self.kind}"
        if self.kind == "started":
            words += " redelivered" if self.flag else " as new"
        return f"{words} in {self.pid}"


class Task(NamedTuple):
    """All that is known of one id."""

    published: list[Event]
    started: list[Event]
    finished: list[Event]
    unsure: list[Event]

    def story(self) -> list[str]:
        events = [*self.published, *self.unsure, *self.started, *self.finished]
        return [str(e) for e in sorted(events, key=lambda e: e.at)]


class History:
    """A file of events, read again by every call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._rest = b""
        self._tasks: dict[str, Task] = {}

    @property
    def tasks(self) -> dict[str, Task]:
        """By id; what was added since the last look is read."""
        if self.path.exists():
            with open(self.path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
            self._offset += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._enter(line.decode())
        return self._tasks

    def _enter(self, line: str) -> None:
        kind, ident, flag, pid, at = line.split()
        task = self._tasks.get(ident)
        if task is None:
            task = self._tasks[ident] = Task([], [], [], [])
        getattr(task, kind).append(Event(kind, ident, flag == "1", int(pid), float(at)))

    def count(self, kind: str) -> int:
        """How many ids have such an event."""
        return sum(bool(getattr(task, kind)) for task in self.tasks.values())

    def runs(self) -> int:
        return sum(len(task.started) for task in self.tasks.values())

    def all_finished(self) -> bool:
        """Whether every published id has finished at least once."""
        return all(task.finished for task in self.tasks.values() if task.published)

    def verdict(self, late_after_s: float | None = None) -> Verdict:
        return Verdict(self.tasks, late_after_s)


class Verdict:
    """What went wrong, by id."""

    def __init__(self, tasks: dict[str, Task], late_after_s: float | None = None) -> None:
        self.tasks = tasks
        self.lost = {i for i, t in tasks.items() if t.published and not t.finished}
        self.duplicated = {i for i, t in tasks.items() if len(t.started) > 1}
        self.finished_twice = {i for i, t in tasks.items() if len(t.finished) > 1}
        # In the order in which they started: the first run may be new, no other.
        self.unflagged = {
            i for i, t in tasks.items() if not all(e.flag for e in sorted(t.started, key=lambda e: e.at)[1:])
        }
        self.late = (
            {
                i
                for i, t in tasks.items()
                if t.published and t.started and t.started[0].at - t.published[0].at > late_after_s
            }
            if late_after_s is not None
            else set()
        )
        self.reruns = sum(len(t.started) - 1 for t in tasks.values() if t.started)

    def stories(self, idents: Collection[str], most: int = 3) -> str:
        """The shortest stories of these ids."""
        chosen = sorted((self.tasks[i].story() for i in idents), key=len)[:most]
        names = sorted(idents, key=lambda i: len(self.tasks[i].story()))[:most]
        return "\n".join(
            f"{name}:\n    " + "\n    ".join(story) for name, story in zip(names, chosen, strict=True)
        )

    def require(
        self, most_reruns: int | None = None, *, may_be_unflagged: Collection[str] = (), late: bool = False
    ) -> None:
        """Nothing lost, every re-run flagged, not more re-runs than could be."""
        assert not self.lost, f"{len(self.lost)} lost\n{self.stories(self.lost)}"
        unflagged = self.unflagged - set(may_be_unflagged)
        assert not unflagged, f"{len(unflagged)} ran again without a flag\n{self.stories(unflagged)}"
        if most_reruns is not None:
            assert self.reruns <= most_reruns, f"{self.reruns} re-runs\n{self.stories(self.duplicated)}"
        if late:
            assert not self.late, f"{len(self.late)} late\n{self.stories(self.late)}"

    def __str__(self) -> str:
        return (
            f"{len(self.tasks)} tasks: {len(self.lost)} lost, {self.reruns} re-runs of "
            f"{len(self.duplicated)}, {len(self.unflagged)} unflagged, {len(self.late)} late"
        )
