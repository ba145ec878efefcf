"""Group commit: threads that write at the same time share one transaction, and so one sync of the disk.

In:  functions that write, from several threads.  Out: what each returns, once its writes are on disk.
The first caller becomes the leader and commits at once. Callers that come meanwhile wait; one of them is the
next leader and commits what all of them write. Nobody waits for others to come, so a single caller loses
nothing.
Before this: broker.py (publish), consumer.py (settle).  After this: database.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from qcore.errors import BrokerBusy, BrokerDown, BrokerError

Work = Callable[[Any], Any]


class _Turn:
    """One caller: what it writes, and what has become of it."""

    __slots__ = ("error", "leads", "value", "woken", "work")

    def __init__(self, work: Work) -> None:
        self.work, self.value, self.leads = work, None, False
        self.error: Exception | None = None
        self.woken = threading.Lock()
        self.woken.acquire()


class GroupCommit:
    """The writers of one file in this process."""

    def __init__(self, commit: Callable[[Work], Any]) -> None:
        """commit: runs a function in a transaction that is on disk when it returns."""
        self._commit = commit
        self._lock = threading.Lock()
        self._waiting: list[_Turn] = []
        self._leader: int | None = None  # the thread that commits, or is about to

    def run(self, work: Work) -> Any:
        """work(connection) within a transaction, perhaps with the work of others. Returns its value when it
        is on disk; `work` may be called again after a rollback. Raises what `commit` and `work` raise."""
        here = threading.get_ident()
        if self._leader == here:  # a signal handler that interrupts the leader must not wait for it
            return self._commit(work)
        turn = _Turn(work)
        try:
            with self._lock:
                self._waiting.append(turn)
                if self._leader is None:
                    self._leader, turn.leads = here, True
            if not turn.leads:
                turn.woken.acquire()
            if turn.leads:
                self._lead(turn)
        except BaseException:
            self._give_up(turn)
            raise
        if turn.error is not None:
            raise turn.error
        return turn.value

    def _give_up(self, turn: _Turn) -> None:
        """This caller was interrupted: it neither writes nor leads, if it has not begun to."""
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
            if turn.leads:
                self._pass_on()

    def _pass_on(self) -> None:
        """Let one who waits lead; the lock is held."""
        if self._waiting:
            self._leader, self._waiting[0].leads = -1, True
            self._waiting[0].woken.release()
        else:
            self._leader = None

    def _lead(self, own: _Turn) -> None:
        with self._lock:
            turns, self._waiting = self._waiting, []
            self._leader, own.leads = threading.get_ident(), False
        is_written = False

        def write(db: Any) -> None:
            nonlocal is_written
            for turn in turns:
                turn.value = turn.work(db)
            is_written = True

        try:
            self._commit(write)
        except Exception as exc:
            for turn in turns:
                turn.error = exc
            if len(turns) > 1 and not isinstance(exc, BrokerBusy | BrokerDown):
                self._commit_each(turns)
        except BaseException:  # of this thread alone: an interrupt, a time-out of gevent
            turns.remove(own)
            if is_written:
                for turn in turns:
                    turn.error = BrokerError("the commit was interrupted; it may have taken effect")
            else:
                with self._lock:
                    self._waiting[:0] = turns
                turns = []
            raise
        finally:
            with self._lock:
                self._pass_on()
            for turn in turns:
                if turn is not own:
                    turn.woken.release()

    def _commit_each(self, turns: list[_Turn]) -> None:
        """What one of them writes was refused: the others must not be."""
        for turn in turns:
            try:
                turn.value = self._commit(turn.work)
                turn.error = None
            except Exception as exc:
                turn.error = exc
