"""`qctl task record`: from events to the history, a batch at a time.

In:  events.  Out: rows of the history file.  A task is written when it has changed, at most once a second.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from qctl import exits
from qctl.output.text import count
from qctl.tasks.history import History, path_for

if TYPE_CHECKING:
    from qctl.session import Session

#: tasks that are remembered until they have ended; the file has the rest
REMEMBERED = 200_000
WRITE_S, FORGET_S = 1.0, 60.0


def record(session: Session, keep_s: float, most: int, duration_s: float | None) -> int:
    """Until Ctrl-C, or for duration_s; the exit code."""
    from qcore.events.receiver import listen
    from qcore.events.state import State

    session.patient = True
    state, changed = State(REMEMBERED), set[str]()
    history = History(path_for(session.broker.place), write=True)
    ends = None if duration_s is None else time.monotonic() + duration_s
    write_at, forget_at, written = 0.0, time.monotonic(), 0

    def write() -> int:
        rows = (state.table.index.get(task_id) for task_id in changed)
        number = history.keep(state.table.task(row) for row in rows if row is not None)
        changed.clear()
        return number

    try:
        with listen(session.broker, exchange=session.app.conf.event_exchange) as batches:
            session.out.note("recording; Ctrl-C ends")
            for batch in batches:
                state.fold(batch, time.time())
                changed.update(uuid for e in batch if isinstance(uuid := e.get("uuid"), str))
                now = time.monotonic()
                if changed and now >= write_at:
                    written += write()
                    write_at = now + WRITE_S
                if now >= forget_at:
                    history.forget(most, time.time() - keep_s)
                    forget_at = now + FORGET_S
                if ends is not None and now >= ends:
                    break
    except KeyboardInterrupt:
        pass
    finally:
        written += write()
        total = len(history)
        history.close()
    missed = sum(w.missed for w in state.workers.values())
    lost = f"; {missed} events never arrived" if missed else ""
    session.out.note(f"{count(total, 'task')} in the history{lost}")
    return exits.OK
