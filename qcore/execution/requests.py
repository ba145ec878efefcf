"""The request of a run, read from its message when the task first asks for it.

In:  a job and its message.  Out: a Request.
Before this: execution/run.py.  After this: tasks/request.py, which tasks read it through.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from qcore.errors import Malformed
from qcore.tasks.request import Request
from qcore.wire import task as task_wire
from qcore.wire.outcome import Job
from qcore.wire.task import Body, TaskMessage

log = logging.getLogger("qcore.worker")
_filling = threading.Lock()


class UnreadRequest(Request):
    """A request that nobody has looked at; the first use of an attribute makes it a Request. Most tasks use
    none, and to fill one takes a fifth of a short run."""

    def __init__(self, job: Job, message: TaskMessage, body: Body, node: str, eager: bool) -> None:
        object.__setattr__(self, "_source", (job, message, body, node, eager))

    def __getattribute__(self, name: str) -> Any:
        _fill(self)
        return getattr(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        _fill(self)
        setattr(self, name, value)

    def __delattr__(self, name: str) -> None:
        _fill(self)
        delattr(self, name)


def _fill(request: UnreadRequest) -> None:
    with _filling:
        if type(request) is UnreadRequest:  # else another thread has just filled it
            fields = object.__getattribute__(request, "__dict__")
            fields.update(request_fields(*fields.pop("_source")), unthrown=[], children=[])
            object.__setattr__(request, "__class__", Request)


def request_fields(job: Job, message: TaskMessage, body: Body, node: str, eager: bool) -> dict[str, Any]:
    """The attributes of a running task's request; each header is one."""
    embed, properties = body.embed, message.properties
    try:
        headers = message.headers
    except Malformed as exc:  # a number that Python cannot hold, in a header of the caller
        log.warning("the request of %s[%s] lacks its headers: %s", message.task, message.id, exc)
        headers = {}
    own = None
    if not task_wire.KNOWN_HEADERS.issuperset(headers):
        own = {k: v for k, v in headers.items() if k not in task_wire.KNOWN_HEADERS}
    info = properties.delivery_info or {}
    if own and "chain" in own:
        headers = {k: v for k, v in headers.items() if k != "chain"}  # a header of the caller
    return {
        **headers,
        "id": message.id,
        "task": message.task,
        "args": body.args,
        "kwargs": body.kwargs,
        "retries": message.retries,
        "group": message.group,
        "headers": own,
        "hostname": node,
        "time_limit": message.hard_s,
        "soft_time_limit": message.soft_s,
        "is_eager": eager,
        "reply_to": message.reply_to,
        "correlation_id": properties.correlation_id or message.id,
        "delivery_info": {
            "exchange": info.get("exchange", ""),
            "routing_key": info.get("routing_key", job.queue),
            "priority": message.priority,
            "redelivered": job.redelivered,
        },
        "redelivered": job.redelivered,
        "deliveries": job.deliveries,
        "called_directly": False,
        "callbacks": embed.get("callbacks"),
        "errbacks": embed.get("errbacks"),
        "_chain": embed.get("chain"),
        "chord": embed.get("chord"),
    }
