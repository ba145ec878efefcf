"""Current tasks: held by workers, queued, or failed. Records for filters.

In:  a session.  Out: records by id, merged so that the most certain source wins; remarks on what was skipped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qcore.base.times import epoch
from qcore.errors import Malformed, Unsupported
from qcore.wire import envelope

if TYPE_CHECKING:
    from qctl.cli.session import Session
    from qctl.filters import Filter
    from qctl.fleet.tasks_at_workers import HeldTask

#: at most this number of messages per queue, and of failed tasks, is read
PEEK = 5_000
FAILED = 20_000

Record = dict[str, Any]


def gather(session: Session, wanted: Filter) -> tuple[dict[str, Record], list[str]]:
    """All current tasks by id, and remarks on what could not be read."""
    found: dict[str, Record] = {}
    remarks: list[str] = []
    for record in (*_failed(session, wanted, remarks), *_waiting(session, remarks), *_held(session, remarks)):
        known = {key: value for key, value in record.items() if value is not None}
        found[record["id"]] = {**record, **found.get(record["id"], {}), **known}
    return found, remarks


def _waiting(session: Session, remarks: list[str]) -> Iterator[Record]:
    broker = session.broker
    if not broker.features.peek:
        remarks.append("this broker cannot list the messages of a queue")
        return
    for queue in broker.administration.queues():
        if broker.administration.depth(queue).ready > PEEK:
            remarks.append(f"only the next {PEEK:,} messages of '{queue}' were searched")
        for raw in broker.administration.peek(queue, PEEK):
            if (record := _of_message(raw, queue, "queued")) is not None:
                yield record
        for due_at, raw in broker.administration.delayed(queue, PEEK):
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
    retries, due_at = headers.get("retries"), _epoch(headers.get("eta"))
    # What Celery sends with an ETA is in the list of the ready until a worker takes it.
    later = due_at is not None and due_at > time.time()
    return {
        "id": headers["id"],
        "name": headers["task"],
        "state": "delayed" if later else state,
        "due_at": due_at if later else None,
        "expires_at": _epoch(headers.get("expires")),
        "queue": queue,
        "args": args,
        "kwargs": kwargs,
        "tries": retries if isinstance(retries, int) else 0,  # runs so far
        "root_id": headers.get("root_id"),
        "parent_id": headers.get("parent_id"),
    }


def _epoch(text: object) -> float | None:
    try:
        return epoch(text) if isinstance(text, str) and text else None
    except ValueError:
        return None


def _held(session: Session, remarks: list[str]) -> Iterator[Record]:
    from qctl.fleet.tasks_at_workers import everything

    seen = everything(session.app)
    _name_silent(seen.silent, remarks)
    for held in seen.tasks:
        yield _of_held(held)


def _name_silent(silent: list[str], remarks: list[str]) -> None:
    if silent:
        remarks.append(f"not searched, because they did not answer: {', '.join(silent)}")


def _of_held(held: HeldTask) -> Record:
    started = held.started_at if held.state == "running" else None
    return {
        "id": held.id,
        "name": held.name or None,
        "state": held.state,
        "worker": held.worker or None,
        "queue": held.queue or None,
        "due_at": held.due_at,
        "args": held.args,
        "kwargs": held.kwargs,
        "started_at": started,
        "at": started,
        "runtime_s": time.time() - started if started is not None else None,
    }


def _failed(session: Session, wanted: Filter, remarks: list[str]) -> Iterator[Record]:
    from qctl.fleet.failed_tasks import record, scan_all

    if wanted.hints.states is not None and "failed" not in wanted.hints.states:
        return
    try:
        every, remark = scan_all(session.app, wanted)
        if remark:
            remarks.append(remark)
        for number, (failure, stored) in enumerate(every):
            if number >= FAILED:
                remarks.append(f"only the last {FAILED:,} failed tasks were searched")
                return
            yield {**record(failure, wanted.needs_values, stored), "ended_at": failure.failed_at}
    except Unsupported:
        remarks.append("this broker keeps no failed tasks")


# --- one task


def find(session: Session, task_id: str) -> tuple[list[tuple[str, Record]], list[str]]:
    """What is known now of one task, with all of its arguments: (source, record), the most certain source
    last; and remarks on what could not be read."""
    from qctl.fleet.tasks_at_workers import named

    found: list[tuple[str, Record]] = []
    remarks: list[str] = []
    try:
        (failure,) = session.broker.failed_tasks.of([task_id])
    except Unsupported:
        failure = None
    if failure is not None:
        from qctl.fleet.failed_tasks import record

        whole = {"ended_at": failure.failed_at, "traceback": failure.traceback or None}
        found.append(("failed tasks", {**record(failure, values=True), **whole}))
    found += [(f"queue {r['queue']}", r) for r in _waiting_of(session, task_id, remarks)]
    seen = named(session.app, [task_id])
    _name_silent(seen.silent, remarks)
    found += [
        (f"worker {held.worker}" if held.worker else f"queue {held.queue}", _of_held(held))
        for held in seen.tasks
        if held.id == task_id
    ]
    return found, remarks


def _waiting_of(session: Session, task_id: str, remarks: list[str]) -> Iterator[Record]:
    broker = session.broker
    if not broker.features.moves:
        yield from (record for record in _waiting(session, remarks) if record["id"] == task_id)
        return
    mark = task_id.encode()
    for queue in broker.administration.queues():
        for one in broker.administration.waiting(queue):
            if mark not in one.raw:
                continue
            state = "queued" if one.due_at is None else "delayed"
            record = _of_message(one.raw, queue, state)
            if record is not None and record["id"] == task_id:
                yield record if one.due_at is None else {**record, "due_at": one.due_at}
