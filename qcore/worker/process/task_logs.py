"""Task logs: log records of tasks, stored in the broker for `qctl task logs`.

In:  log records and redirected output of the process that runs a task.  Out: lines of JSON, which a thread
stores in the broker at most every FLUSH_S seconds, so that no task waits. A task that logs nothing costs
nothing. Lines that the broker does not take are dropped here; the worker's own log has them too.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
from typing import TYPE_CHECKING

from qcore.base.times import iso
from qcore.errors import BrokerError
from qcore.tasks.request import current_request
from qcore.wire.content import to_json

if TYPE_CHECKING:
    from qcore.app.app import App

FLUSH_S = 0.2
LONGEST = 1_000  # characters of a line
#: lines that wait for the next flush; beyond that the oldest tenth is dropped
MOST_WAITING = 10_000


class TaskLogHandler(logging.Handler):
    """Stores the log records of tasks, the newest `most` of each task."""

    def __init__(self, app: App, node: str, most: int) -> None:
        super().__init__()
        self._app, self._node, self._most = app, node, most
        self._numbers = itertools.count(1)
        self._waiting: list[tuple[str, bytes]] = []
        self._pid = 0
        self._wake = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        request = current_request()
        if request is None or not request.id:
            return
        if self._pid != os.getpid():
            self._begin()
        text = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            text += f"\n{logging.Formatter().formatException(record.exc_info)}"
        line = to_json(
            {
                "at": iso(record.created),
                "level": record.levelname,
                "text": _ends(text),
                "worker": self._node,
                # Identifies the line if the broker receives it twice.
                "line": f"{self._pid}.{next(self._numbers)}",
            }
        )
        self._waiting.append((request.id, line))
        if len(self._waiting) > MOST_WAITING:
            del self._waiting[: MOST_WAITING // 10]
        self._wake.set()

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore the error: a record that cannot be formatted must not stop a task."""

    def _begin(self) -> None:
        """Start the thread at the first line in this process; a forked child has no threads of its parent."""
        self._pid, self._waiting, self._wake = os.getpid(), [], threading.Event()
        threading.Thread(target=self._serve, name="lines", daemon=True).start()

    def _serve(self) -> None:
        pause = threading.Event()
        while True:
            self._wake.wait()
            pause.wait(FLUSH_S)
            self._wake.clear()
            self.flush()

    def flush(self) -> None:
        """Store the waiting lines in the broker."""
        if self._pid != os.getpid() or not self._waiting:
            return
        self.acquire()
        try:
            waiting, self._waiting = self._waiting, []
        finally:
            self.release()
        lines: dict[str, list[bytes]] = {}
        for task_id, line in waiting:
            lines.setdefault(task_id, []).append(line)
        try:
            self._app.broker.task_logs.append(lines, self._most)
        except BrokerError:
            pass


def _ends(text: str) -> str:
    """Cut the middle out of a long text; the last line of a traceback names the error."""
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]}\n(…)\n{text[-half:]}"


def keep(app: App, node: str) -> None:
    """Install the handler, if the settings ask for task logs and the broker can store them."""
    most = app.conf.task_log_lines
    if not most or not app.broker.features.lines or not app.conf.worker_hijack_root_logger:
        return
    keeper = TaskLogHandler(app, node, most)
    for logger in (logging.getLogger(), logging.getLogger("qcore.task")):
        logger.addHandler(keeper)


def flush() -> None:
    """Store the waiting lines; to be called before the process ends."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, TaskLogHandler):
            handler.flush()
