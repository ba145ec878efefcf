"""The record of a failed task, for `qctl failed`.

In:  the InFlight delivery and the error of its last run.  Out: a FailedTask for the settlement.
A task that succeeds calls nothing in this file.
Before this: worker/settling/rules.py.  After this: brokers/X stores it in the step that ends the delivery.
"""

from __future__ import annotations

import time

from qcore.errors import Malformed
from qcore.wire import task as task_wire
from qcore.wire.failure import RETRY_OF, TEXT_BYTES, FailedTask, short, short_end
from qcore.wire.reprs import short_repr
from qcore.wire.task import TaskMessage
from qcore.worker.in_flight import InFlight


class FailedTaskRecorder:
    """Creates the failed-task records of one worker, which expire after `ttl_s` seconds; None: never."""

    def __init__(self, node: str, ttl_s: float | None) -> None:
        self._node, self._ttl_s = node, ttl_s

    def of(self, held: InFlight, error: tuple[str, str], traceback: str, runtime_s: float) -> FailedTask:
        """The record of this failed task. error: type and message of the exception."""
        message, delivery = held.message, held.delivery
        args, kwargs = _arguments(message)
        retry_of = message.headers.get(RETRY_OF)
        return FailedTask(
            task_id=message.id,
            name=message.task,
            queue=delivery.queue,
            worker=self._node,
            exc_type=error[0],
            exc_message=error[1],
            args=args,
            kwargs=kwargs,
            tries=message.retries + 1,
            failed_at=time.time(),
            runtime_s=runtime_s,
            root_id=message.root_id or "",
            retry_of=retry_of if isinstance(retry_of, str) else "",
            priority=message.priority,
            ttl_s=self._ttl_s,
            traceback=short_end(traceback),
            raw=delivery.raw,
        )


def _arguments(message: TaskMessage) -> tuple[str, str]:
    """args and kwargs as text: from the message's headers, else from its body; "" if that is malformed."""
    shown = message.headers.get("argsrepr"), message.headers.get("kwargsrepr")
    if isinstance(shown[0], str) and isinstance(shown[1], str):
        return short(shown[0], TEXT_BYTES), short(shown[1], TEXT_BYTES)
    try:
        body = task_wire.read_body(message)
    except Malformed:
        return "", ""
    return short(short_repr(tuple(body.args))), short(short_repr(body.kwargs))
