"""The prefork pool: tasks run in child processes, one at a time in each.

In:  jobs.  Out: outcomes.  Each child has a socket of its own; frames of up to 16 jobs go in, each
outcome is sent at once. A child holds about 20 ms of work ahead. Jobs that wait
behind a slow task are taken back and given to a free child, or to the broker.
The parent never blocks on a write to a child, and records where every job is.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import mmap
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from qcore.base.crashpoints import crashpoint
from qcore.base.process_facts import resident_kib
from qcore.errors import PoolBroken
from qcore.pools.base import SLOW_S, STUCK_S, Pool, PoolFeatures, PoolSetup, Running, RuntimeEstimate
from qcore.pools.prefork.child import modules_pipe
from qcore.pools.prefork.child_handle import ChildHandle, ReplacementPace, end_idle, write_stats
from qcore.pools.prefork.child_stacks import ChildStacks
from qcore.pools.prefork.fork_server import ForkServer
from qcore.pools.prefork.slot import MAX_SLOTS, SLOTS_BYTES, Slot, StackPipe, token_pipe
from qcore.pools.prefork.spawned import child_main, memory_file, start_fork_server
from qcore.pools.stacks import Stack, in_order
from qcore.signals import worker_process_shutdown
from qcore.wire.outcome import RECV_BYTES, End, Job, Outcome, pack_jobs, unpack_outcome

FRAME_JOBS = 16
COLLECT_EVERY = 50_000  # allocations minus deallocations of objects
LOOK_EVERY_S = 1.0
#: how long the end of file of a child that was killed may take
BURY_S = 0.5
#: how long receivers of worker_process_shutdown may take
EXIT_S = 5.0
#: how often a token is tried for that the child has
TRIES = 100
#: how often children that have work are looked at for signs of life
WATCH_S = 0.25

log = logging.getLogger("qcore.worker")


class PreforkPool(Pool):
    """Run tasks in child processes."""

    name: ClassVar[str] = "prefork"
    features: ClassVar[PoolFeatures] = PoolFeatures(
        grow=True, terminate=True, soft_signal=True, soft_limit=True, hard_limit=True
    )

    sends_process_signals: ClassVar[bool] = True

    def __init__(self, setup: PoolSetup) -> None:
        super().__init__(setup)
        self._file = memory_file()
        self._memory = mmap.mmap(self._file, SLOTS_BYTES)
        self._children: dict[int, ChildHandle] = {}  # by slot
        self._by_fd: dict[int, ChildHandle] = {}
        self._wanted = min(setup.concurrency, MAX_SLOTS)
        self._outcomes: list[Outcome] = []
        self._unassigned: deque[Job] = deque()  # taken from dead or slow children, not yet given again
        self._next_look = self._next_watch = 0.0
        self._stopping = False
        self._replacement = ReplacementPace()
        self._stacks = ChildStacks(self._signal)

    # --- lifecycle

    def start(self) -> None:
        command, node, file = self.setup.command, self.setup.node, self._file

        def again(line: int) -> int:
            return start_fork_server(command, node, file, line)

        self._fork_server = ForkServer(child_main(self.setup, file, self._memory), again)
        # No user code runs here, and the loop's objects are freed by reference counting. With the default
        # thresholds the collector would scan all jobs in flight again and again, at the cost of a task.
        self._thresholds = gc.get_threshold()
        gc.freeze()
        gc.set_threshold(COLLECT_EVERY, 20, 50)
        for _ in range(self._wanted):
            self._fork()

    def _fork(self) -> None:
        index = next((i for i in range(MAX_SLOTS) if i not in self._children), None)
        if index is None:
            return  # children that are about to exit have all slots; the end of one starts another
        ours, theirs = socket.socketpair()
        token_r, token_w = token_pipe()
        slot = Slot(self._memory, index, token_r, token_w)
        slot.clear(is_ready=self._fork_server.is_loaded and not self.setup.spawns)
        stack_pipe, stack_w = StackPipe.open()
        inherited = [stack_w, *modules_pipe(self.modules)]
        self._fork_server.fork(index, [theirs.fileno(), token_r, token_w, *inherited])
        theirs.close()
        for descriptor in inherited:
            os.close(descriptor)
        ours.setblocking(False)
        pace = RuntimeEstimate(self.setup.strict_prefetch)
        if self.pace.typical_s is not None:
            pace.add_runtime(self.pace.typical_s)
        child = ChildHandle(index, ours, slot, pace, stack_pipe)
        self._children[index] = child
        self._by_fd[ours.fileno()] = child

    def stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        if worker_process_shutdown.receivers:
            end_idle(self._children.values(), EXIT_S)
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()
        self._fork_server.close()
        os.close(self._file)
        for child in self._children.values():
            child.sock.close()
        self._children.clear()

    # --- jobs in

    def room(self) -> int:
        if self._unassigned:
            return 0
        return sum(self._room_of(c) for c in self._children.values())

    def _room_of(self, child: ChildHandle) -> int:
        held = len(child.outstanding)
        if child.backlog or not child.is_open:
            return 0
        room = child.pace.depth - held
        if held and child.slot.current()[1] and time.monotonic() - child.slot.current()[1] > STUCK_S:
            return 0  # busy with something slow: nothing shall wait behind it
        limit = self.setup.max_tasks_per_child
        return min(room, limit - child.given) if limit else room

    def is_idle(self) -> bool:
        return any(not c.outstanding and c.is_open for c in self._children.values())

    def give(self, jobs: Sequence[Job]) -> None:
        waiting = deque(jobs)
        while waiting:
            free = [
                (len(c.outstanding), r, c) for c in self._children.values() if (r := self._room_of(c)) > 0
            ]
            if not free:
                self._unassigned.extend(waiting)
                return
            free.sort(key=lambda entry: entry[0])
            share = -(-len(waiting) // len(free))
            for _, room, child in free:
                count = min(room, share, FRAME_JOBS, len(waiting))
                if count > 0:
                    self._hand_over(child, [waiting.popleft() for _ in range(count)])

    def _hand_over(self, child: ChildHandle, jobs: list[Job]) -> None:
        for job in jobs:
            child.seq += 1
            job.seq = child.seq
        child.given += len(jobs)
        child.outstanding.extend(jobs)
        child.write(pack_jobs(jobs))

    # --- outcomes out

    def fds(self) -> list[int]:
        if self._stopping:
            return []
        return [self._fork_server.fileno(), *(fd for fd, c in self._by_fd.items() if not c.eof)]

    def blocked_fds(self) -> list[int]:
        return [fd for fd, c in self._by_fd.items() if c.backlog and not c.eof]

    def ready(self, fd: int) -> None:
        child = self._by_fd.get(fd)
        if child is not None:
            self._read(child)
            if child.backlog and not child.eof:
                child.flush()
        elif fd == self._fork_server.fileno():
            self._receive_from_fork_server()

    def _read(self, child: ChildHandle) -> bool:
        """Read its outcomes; returns whether there may be more."""
        try:
            data = child.sock.recv(RECV_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            child.eof = True
            self._reap_child(child)
            return False
        child.heard += 1
        for frame in filter(None, child.frames.feed(data)):  # an empty one: it has been started
            self._take(child, unpack_outcome(frame))
        self._retire_if_done(child)
        return True

    def _take(self, child: ChildHandle, outcome: Outcome) -> None:
        outstanding = child.outstanding
        while outstanding:
            # Outcomes arrive in the order of the jobs, so the first one is the right one.
            if outstanding.popleft().number == outcome.number:
                break
        if child.killed is not None:
            child.spare()
        child.pace.add_runtime(outcome.runtime_s)
        self.pace.add_runtime(outcome.runtime_s)
        self._outcomes.append(outcome)

    def _retire_if_done(self, child: ChildHandle) -> None:
        limit = self.setup.max_tasks_per_child
        if limit and child.given >= limit and not child.retiring:
            child.retiring = True
        if child.retiring and not child.outstanding and not child.eof:
            try:
                child.sock.shutdown(socket.SHUT_WR)  # the child reads the end of its input and exits
            except OSError:
                pass

    def _receive_from_fork_server(self) -> None:
        try:
            reports = self._fork_server.reports()
        except PoolBroken as exc:
            self._begin_again(exc)
            return
        for verb, one, two in reports:
            if verb == "born":
                self._children[one].pid = two
                if self._children[one].killed is not None:
                    self._signal(self._children[one], signal.SIGKILL)
            elif verb == "signalled":
                for child in self._children.values():
                    if child.pid == one:
                        child.signals -= 1
                        child.spare()
            else:
                for child in list(self._children.values()):
                    if child.pid == one:
                        child.status = two
                        # Its own children may hold its socket open, so no end of file is awaited.
                        while not child.eof and self._read(child):
                            pass
                        child.eof = True
                        self._reap_child(child)

    def _begin_again(self, exc: PoolBroken) -> None:
        """The fork server has died, and every child with it: another one, and what ran is lost. Raises
        PoolBroken when that happens too often."""
        self._fork_server.count_death(exc)
        log.error("%s, and its children with it; a new one is started", exc)
        children = list(self._children.values())
        for child in children:
            if child.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)  # where the kernel does not do it
        self._fork_server.start()
        for child in children:
            # What it said before its end counts; its end of file comes within milliseconds.
            while not child.eof and select.select([child.sock], [], [], BURY_S)[0]:
                self._read(child)
            child.eof = child.retiring = True
            child.status = child.status if child.status is not None else signal.SIGKILL
            self._reap_child(child)

    def _reap_child(self, child: ChildHandle) -> None:
        """When both its socket and the fork server have reported its end: settle all its jobs."""
        if not child.eof or child.status is None or child.dead:
            return
        child.dead = True
        crashpoint("child_buried")
        del self._children[child.index]
        self._by_fd.pop(child.sock.fileno(), None)
        child.close()
        started, since = child.slot.current()
        for job in child.outstanding:
            if job.seq > started:
                self._unassigned.append(job)  # it never started
                continue
            self._outcomes.append(child.lost(job, since))
        child.outstanding.clear()
        self._replacement.ended(child)
        self._replace()

    def _replace(self) -> None:
        if not self._stopping and time.monotonic() >= self._replacement.at:
            for _ in range(self._wanted - len(self._children)):
                self._fork()

    def collect(self) -> list[Outcome]:
        if self._unassigned:
            self._reassign()
        found, self._outcomes = self._outcomes, []
        return found

    def _reassign(self) -> None:
        waiting, self._unassigned = self._unassigned, deque()
        self.give(waiting)

    # --- fairness

    def tick(self) -> list[int]:
        now = time.monotonic()
        back: list[int] = []
        self._replace()
        if now >= self._next_watch:
            self._watch_over()
        idle = self.is_idle()
        for child in self._children.values():
            if len(child.outstanding) < 2 or child.eof:
                continue
            since = child.slot.current()[1]
            if not since or now - since < (SLOW_S if idle else STUCK_S):
                continue
            taken = self._take_back(child)
            if idle:
                self._unassigned.extend(taken)
            else:
                back.extend(job.number for job in taken)
        if self._unassigned:
            self._reassign()
            if not self.is_idle() and self._unassigned and self._all_slow(now):
                back.extend(job.number for job in self._unassigned)
                self._unassigned.clear()
        if now >= self._next_look:
            self._next_look = now + LOOK_EVERY_S
            self._look_after_memory()
        return back

    def _watch_over(self) -> None:
        """Take back the jobs that silent children have not started, and replace children that stay silent."""
        now = time.monotonic()
        self._next_watch = now + WATCH_S
        for child in self._children.values():
            if child.eof or not child.pid or child.is_responsive(now):
                continue
            taken = self._take_back(child)
            if taken:
                log.warning("the child process %d does not start its tasks; others get them", child.pid)
                self._unassigned.extend(taken)
            if child.is_gone(now):
                log.warning("the child process with pid %d does not respond; it is replaced", child.pid)
                child.silent_at = now  # the next kill, if it needs one, comes as much later
                self._signal(child, signal.SIGKILL)

    def _all_slow(self, now: float) -> bool:
        listening = [c for c in self._children.values() if c.silent_at is None]
        sinces = [c.slot.current()[1] for c in listening]
        return bool(self._children) and all(s and now - s > STUCK_S for s in sinces)

    def _take_back(self, child: ChildHandle) -> list[Job]:
        """Take back the jobs that wait in this child; they will not start there any more."""
        if not child.outstanding:
            return []
        # Up to the last job ever given: jobs taken back earlier may still be unread in the child.
        started = child.slot.take_back(child.seq)
        if started is None:
            return []
        taken = [job for job in child.outstanding if job.seq > started]
        for _ in taken:
            child.outstanding.pop()
        child.given -= len(taken)
        return taken

    def tick_s(self) -> float:
        if len(self._children) < self._wanted:
            return max(self._replacement.at - time.monotonic(), 0.005)
        if self._unassigned:
            return 0.005
        crowded = [c for c in self._children.values() if len(c.outstanding) > 1]
        if not crowded:
            return WATCH_S if any(c.outstanding for c in self._children.values()) else LOOK_EVERY_S
        return SLOW_S if self.is_idle() else STUCK_S

    def withdraw(self) -> list[int]:
        numbers = [job.number for job in self._unassigned]
        self._unassigned.clear()
        for child in self._children.values():
            for _ in range(TRIES):  # the token is held for microseconds, unless the child is stopped
                taken = self._take_back(child)
                if taken or not child.outstanding or child.slot.current()[0] >= child.outstanding[-1].seq:
                    break
            numbers.extend(job.number for job in taken)
        return numbers

    # --- inspect and change

    def busy(self) -> int:
        return len(self._unassigned) + sum(len(c.outstanding) for c in self._children.values())

    def running(self) -> list[Running]:
        found = []
        for child in list(self._children.values()):
            try:
                now = child.running()
            except RuntimeError:  # another thread changed the deque meanwhile: try again
                now = child.running()
            if now is not None:
                found.append(Running(now[0].number, now[1], child.pid))
        return found

    def stacks(self, numbers: Sequence[int], soon: Callable[[Callable[[], None]], None]) -> list[Stack]:
        found = {s.number: s for s in self._stacks.ask(list(self._children.values()), soon)}
        return in_order(numbers, found)

    def kill(self, number: int, end: End, signum: int) -> bool:
        for child in self._children.values():
            now = child.running()
            if now is None or now[0].number != number:
                continue
            # The token is held until the signal was sent and the job is over: what the child would begin
            # meanwhile must not get a signal that is meant for this one.
            if not any(child.slot.hold() for _ in range(TRIES)):
                return False
            now = child.running()
            if now is None or now[0].number != number:
                if child.killed is None:
                    child.slot.release()
                return False
            # A task survives SIGUSR1, if it wants to; a process that does not was lost.
            child.killed = (now[0].seq, End.LOST if signum == signal.SIGUSR1 else end)
            self._signal(child, signum)
            return True
        return False

    def _signal(self, child: ChildHandle, signum: int) -> None:
        if child.pid:
            child.signals += 1
            self._fork_server.signal(child.pid, signum)

    @property
    def size(self) -> int:
        return self._wanted

    def grow(self, n: int) -> None:
        if self._wanted + n > MAX_SLOTS:
            raise ValueError(f"the pool has {self._wanted} processes; {MAX_SLOTS} is the most")
        self._wanted += n
        for _ in range(n):
            self._fork()

    def shrink(self, n: int) -> None:
        if n > self._wanted:
            raise ValueError(f"the pool has {self._wanted} processes")
        self._wanted -= n
        # Idle ones first; a busy one exits after its task.
        leaving = sorted(
            (c for c in self._children.values() if not c.retiring), key=lambda c: len(c.outstanding)
        )
        for child in leaving[:n]:
            self._retire(child)

    def restart(self) -> None:
        for child in list(self._children.values()):
            self._retire(child)

    def _retire(self, child: ChildHandle) -> None:
        """Let it exit after its task; its waiting jobs go elsewhere."""
        child.retiring = True
        self._unassigned.extend(self._take_back(child))
        self._retire_if_done(child)

    def _look_after_memory(self) -> None:
        limit = self.setup.max_memory_per_child_kib
        if not limit:
            return
        for child in self._children.values():
            if child.pid and not child.retiring and resident_kib(child.pid) > limit:
                self._retire(child)

    def pids(self) -> list[int]:
        return [c.pid for c in list(self._children.values()) if c.pid]

    def info(self) -> dict[str, Any]:
        writes = write_stats(list(self._children.values()))
        return {**super().info(), "template": self._fork_server.pid, "writes": writes}
