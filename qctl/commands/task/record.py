"""`qctl task record`: write events to the history, batch by batch.

In:  events.  Out: rows of the history file.  A changed task is written at most once a second.
While the broker is unreachable the recorder retries. Periods in which no events arrived are stored as gaps.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from qcore.errors import BrokerError
from qctl import exit_codes
from qctl.commands.task.history import Gap, History, Step, path_for
from qctl.output.text import count

if TYPE_CHECKING:
    from qcore.wire.event import Event
    from qctl.cli.session import Session

#: tasks kept in memory until they have ended; the file holds the rest
REMEMBERED = 200_000
WRITE_S, FORGET_S = 1.0, 60.0
RETRY_S = (0.5, 1.0, 2.0, 5.0)
#: no gap is stored when a recorder starts within this time after the last one
SOON_S = 2.0


def record(session: Session, keep_s: float, most: int, duration_s: float | None) -> int:
    """Record until Ctrl-C or SIGTERM, or for `duration_s`; return the exit code."""
    session.patient = True
    recorder = Recorder(History(path_for(session.broker.place), write=True), keep_s, most)
    ends = None if duration_s is None else time.monotonic() + duration_s
    failed = 0
    try:
        with exit_codes.sigterm_like_ctrl_c():
            while True:
                try:
                    if _listen(session, recorder, ends):
                        break
                    failed = 0
                except BrokerError as exc:
                    if recorder.recorded_until is None:
                        raise  # the first connection failed: most likely a wrong address
                    if recorder.lose("the broker was unreachable"):
                        failed = 0
                        session.out.warn(f"{exc}; trying again")
                    time.sleep(RETRY_S[min(failed, len(RETRY_S) - 1)])
                    failed += 1
    except KeyboardInterrupt:
        pass
    finally:
        recorder.close()
    lost = f"; {recorder.missed} events were lost" if recorder.missed else ""
    session.out.note(f"{count(recorder.total, 'task')} in the history{lost}")
    return exit_codes.OK


def _listen(session: Session, recorder: Recorder, ends: float | None) -> bool:
    """Record until `ends` (monotonic) and return True; False when the events end. Raises BrokerDown."""
    from qcore.events.receiver import listen

    with listen(
        session.broker, exchange=session.app.conf.event_exchange, serializer=session.app.conf.event_serializer
    ) as batches:
        recorder.hear()
        session.out.note("recording; Ctrl-C ends")
        for batch in batches:
            recorder.take(batch)
            if ends is not None and time.monotonic() >= ends:
                return True
    return False


class Recorder:
    """Folds events into a state and writes the tasks that changed."""

    def __init__(self, history: History, keep_s: float, most: int) -> None:
        from qcore.events.state import State

        self._history, self._keep_s, self._most = history, keep_s, most
        self._state, self._changed = State(REMEMBERED), set[str]()
        self._write_at, self._forget_at = 0.0, time.monotonic()
        self._steps: list[Step] = []
        self._gap: Gap | None = None  # the gap that is still open
        self._missed_at, self._missed_reported = time.time(), 0
        #: epoch seconds of the last received events; None before the first subscription
        self.recorded_until: float | None = None
        self.total = 0

    @property
    def missed(self) -> int:
        """Number of events that workers numbered and that never arrived."""
        return sum(worker.missed for worker in self._state.workers.values())

    def hear(self) -> None:
        """Note that the subscription is open; store the time since the last subscription as a gap."""
        now = time.time()
        before = self._history.recorded_until if self.recorded_until is None else None
        if before is not None and now - before > SOON_S:
            self._history.note_gap(Gap(before, now, "nobody recorded"))
        if self._gap is not None:
            self._history.note_gap(self._gap._replace(until=now))
            self._gap = None
        self.recorded_until = now
        self._history.note_alive(now)

    def lose(self, why: str) -> bool:
        """Note that the subscription is lost; False when that was noted before."""
        if self._gap is not None:
            return False
        since = self.recorded_until or time.time()
        self._gap = Gap(since, since, why)
        return True

    def take(self, batch: list[Event]) -> None:
        """Fold these events; write and delete old tasks when due."""
        self._fold(batch)
        self._changed.update(uuid for e in batch if isinstance(uuid := e.get("uuid"), str))
        now = time.monotonic()
        if now >= self._write_at:
            self._write()
            self._write_at = time.monotonic() + WRITE_S
        if now >= self._forget_at:
            self._history.forget(self._most, time.time() - self._keep_s)
            self._forget_at = time.monotonic() + FORGET_S

    def _fold(self, batch: list[Event]) -> None:
        """Fold a batch; store the times of an ended attempt first, since the next one overwrites them."""
        start = 0
        for number, event in enumerate(batch):
            if event["type"] != "task-retried" or not isinstance(event.get("uuid"), str):
                continue
            self._state.fold(batch[start:number], time.time())
            start = number
            task = self._state.table.get(event["uuid"])
            times = [("received", task.received), ("started", task.started)] if task else []
            for what, at in (*times, ("retried", float(event["timestamp"]))):
                if at is not None:
                    self._steps.append(Step(event["uuid"], at, what, event["hostname"]))
        self._state.fold(batch[start:], time.time())

    def _write(self) -> None:
        if self._steps:
            self._history.note_steps(self._steps)
            self._steps.clear()
        if self._changed:
            table = self._state.table
            rows = (table.row(task_id) for task_id in self._changed)
            self._history.keep(table.task(row) for row in rows if row is not None)
            self._changed.clear()
        self.recorded_until = time.time()
        if self.missed > self._missed_reported:
            lost = self.missed - self._missed_reported
            self._history.note_gap(Gap(self._missed_at, self.recorded_until, f"{lost} events were lost"))
        self._missed_at, self._missed_reported = self.recorded_until, max(self.missed, self._missed_reported)
        self._history.note_alive(self.recorded_until)

    def close(self) -> None:
        """Write what is pending and close the file; `total` is then the number of tasks in it."""
        try:
            if self.recorded_until is not None and self._gap is None:
                self._write()
            self.total = len(self._history)
        finally:
            self._history.close()
