"""Queued messages for filters and for people.

In:  Waiting records from the broker.  Out: records for filters, items, samples, lines of a file.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qctl.cli.bulk import sample
from qctl.output.text import stamp

if TYPE_CHECKING:
    from qcore.brokers.base import Broker
    from qcore.brokers.contract.administration import Waiting
    from qctl.filters import Filter


def record(one: Waiting, values: bool = False) -> dict[str, Any]:
    """A record for filters. values: decode the arguments, which reads the body. A malformed message has only
    its queue, its state and a `problem`."""
    from qcore.errors import Malformed
    from qcore.wire import task as task_wire

    found: dict[str, Any] = {
        "id": None,
        "name": None,
        "state": "queued" if one.due_at is None else "delayed",
        "queue": one.queue,
        "due_at": one.due_at,
    }
    try:
        message = task_wire.read(one.raw)
        args, kwargs = message.headers.get("argsrepr"), message.headers.get("kwargsrepr")
        if values or args is None:
            body = task_wire.read_body(message)
            args, kwargs = body.args, body.kwargs
    except Malformed as exc:
        return {**found, "problem": str(exc)}
    # What Celery sends with an ETA is in the list of the ready until a worker takes it.
    if one.due_at is None and message.eta is not None and message.eta > time.time():
        found |= {"state": "delayed", "due_at": message.eta}
    return {
        **found,
        "id": message.id,
        "name": message.shown_name,
        "args": args,
        "kwargs": kwargs,
        "tries": message.retries,  # runs so far
        "root_id": message.root_id or message.id,
        "eta": message.eta,
    }


def matching(
    broker: Broker, queue: str, wanted: Filter, values: bool = False
) -> Iterator[tuple[Waiting, dict[str, Any]]]:
    """Queued messages that match, each with its record. values: decode the arguments in any case."""
    if wanted.hints.queues is not None and queue not in wanted.hints.queues:
        return
    if wanted.hints.states is not None and not wanted.hints.states & {"queued", "delayed"}:
        return
    for one in broker.administration.waiting(queue):
        found = record(one, values or wanted.needs_values)
        if wanted.is_all or wanted.matches(found):
            yield one, found


def item(one: Waiting, found: dict[str, Any], raw: bool) -> dict[str, Any]:
    """The printed fields of a message."""
    eta = found.get("eta")
    fields = {
        "id": found["id"],
        "name": found["name"],
        "queue": one.queue,
        "state": found["state"],
        "args": found.get("args"),
        "kwargs": found.get("kwargs"),
        "priority": one.priority,
        "eta_at": None if eta is None else stamp(eta),
        "due_at": None if found.get("due_at") is None else stamp(found["due_at"]),
        "redelivered": one.returns > 0,
        "size_bytes": len(one.raw),
        "problem": found.get("problem"),
    }
    return {**fields, "raw": base64.b64encode(one.raw).decode()} if raw else fields


def sample_of(one: Waiting, found: dict[str, Any]) -> str:
    """One line that describes a message."""
    arguments = f"{found.get('args')} {found.get('kwargs')}" if found["id"] else repr(one.raw[:60])
    return sample(found["id"] or "no task", found["name"] or "", arguments)
