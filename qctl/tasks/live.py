"""Tasks that are somewhere now: at workers, in queues, among the failed. Records for filters.

In:  a session.  Out: records by id, the most certain last, so that it stands; and what was not looked at.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qcore.errors import Malformed, Unsupported
from qcore.wire import envelope

if TYPE_CHECKING:
    from qctl.filters import Filter
    from qctl.session import Session

#: messages of a queue that are looked at, and failed tasks
PEEK = 5_000
FAILED = 20_000
ASK_S = 1.0

Record = dict[str, Any]


def gather(session: Session, wanted: Filter) -> tuple[dict[str, Record], list[str]]:
    """Every task that can be seen now, and sentences about what could not be looked at."""
    found: dict[str, Record] = {}
    remarks: list[str] = []
    for record in (*_failed(session, wanted, remarks), *_waiting(session, remarks), *_held(session)):
        found[record["id"]] = {**found.get(record["id"], {}), **record}
    return found, remarks


def _waiting(session: Session, remarks: list[str]) -> Iterator[Record]:
    broker = session.broker
    if not broker.features.peek:
        remarks.append("this broker's queues cannot be looked into")
        return
    for queue in broker.queues():
        if broker.depth(queue).ready > PEEK:
            remarks.append(f"only the next {PEEK:,} messages of '{queue}' were looked at")
        for raw in broker.peek(queue, PEEK):
            if (record := _of_message(raw, queue, "queued")) is not None:
                yield record
        for due_at, raw in broker.delayed(queue, PEEK):
            if (record := _of_message(raw, queue, "delayed")) is not None:
                yield {**record, "due_at": due_at}


def _of_message(raw: bytes, queue: str, state: str) -> Record | None:
    try:
        found = envelope.decode(raw)
        body = envelope.body_value(found)
    except Malformed:
        return None
    headers = found.headers
    if not isinstance(headers.get("id"), str) or not isinstance(headers.get("task"), str):
        return None
    args, kwargs = (body[0], body[1]) if isinstance(body, list) and len(body) >= 2 else (None, None)
    retries = headers.get("retries")
    return {
        "id": headers["id"],
        "name": headers["task"],
        "state": state,
        "queue": queue,
        "args": args,
        "kwargs": kwargs,
        "tries": (retries if isinstance(retries, int) else 0) + 1,
        "root_id": headers.get("root_id"),
        "parent_id": headers.get("parent_id"),
    }


def _held(session: Session) -> Iterator[Record]:
    control = session.app.control
    for command, state in (("reserved", "reserved"), ("active", "running")):
        answers = control.ask(command, timeout_s=ASK_S)
        for node, reply in answers.replies.items():
            for task in reply if isinstance(reply, list) else ():
                if isinstance(task, dict) and isinstance(task.get("id"), str):
                    started = task.get("time_start")
                    info = task.get("delivery_info")
                    yield {
                        "id": task["id"],
                        "name": task.get("name"),
                        "state": state,
                        "worker": node,
                        "queue": info.get("routing_key") if isinstance(info, dict) else None,
                        "args": task.get("args"),
                        "kwargs": task.get("kwargs"),
                        "started_at": started,
                        "at": started or time.time(),
                        "runtime_s": time.time() - started if isinstance(started, int | float) else None,
                    }
        if not answers.replies:
            return


def _failed(session: Session, wanted: Filter, remarks: list[str]) -> Iterator[Record]:
    from qctl.failed import record, scan

    if wanted.hints.states is not None and "failed" not in wanted.hints.states:
        return
    try:
        for number, failure in enumerate(scan(session.broker, wanted)):
            if number >= FAILED:
                remarks.append(f"only the last {FAILED:,} failed tasks were looked at")
                return
            yield {**record(failure, wanted.needs_values), "ended_at": failure.failed_at}
    except Unsupported:
        remarks.append("this broker keeps no failed tasks")
