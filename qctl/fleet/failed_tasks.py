"""Failed tasks for commands: filter, show and retry them.

In:  a broker that keeps failed tasks, and a Filter.  Out: failed tasks page by page, records for filters,
published retries. Lists have what failed at Celery's workers too, from results.
After this: qctl/commands/failed.py.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from qctl.cli.bulk import Done, Item
from qctl.fleet.unstored_failures import unstored_failures
from qctl.output.text import stamp

if TYPE_CHECKING:
    from qcore.app.app import App
    from qcore.brokers.base import Broker
    from qcore.wire.failure import FailedTask
    from qctl.filters import Filter

PAGE = 500
#: what a result does not tell of a failure
_UNTOLD: dict[str, Any] = {"runtime_s": None, "tries": None, "root_id": None}


def scan(broker: Broker, wanted: Filter) -> Iterator[FailedTask]:
    """The failed tasks that match, newest first, without tracebacks and messages."""
    hints, cursor = wanted.hints, ""
    while True:
        page = broker.failed_tasks.page(hints.since, hints.until, PAGE, cursor, whole=wanted.needs_values)
        for failure in page.entries:
            if wanted.matches(record(failure, wanted.needs_values)):
                yield failure
        cursor = page.cursor
        if not cursor:
            return


class Listed(NamedTuple):
    """A failed task; stored: its message is in the store, so it can be retried. Otherwise only its result is
    known, and '' stands for what that does not tell."""

    failure: FailedTask
    stored: bool = True


def scan_all(app: App, wanted: Filter) -> tuple[Iterator[Listed], str]:
    """The failed tasks that match, newest first, with those that only their results tell of; and a remark on
    what may lack."""
    others = unstored_failures(app)
    hints = wanted.hints
    theirs = (
        Listed(one, False)
        for one in others.failures
        if (hints.since is None or one.failed_at >= hints.since)
        and (hints.until is None or one.failed_at <= hints.until)
        and wanted.matches(record(one, stored=False))
    )
    ours = map(Listed, scan(app.broker, wanted))
    return heapq.merge(ours, theirs, key=lambda one: -one.failure.failed_at), others.remark


def record(failure: FailedTask, values: bool = False, stored: bool = True) -> dict[str, Any]:
    """A record for filters. values: decode the arguments, which reads the message."""
    args: Any = failure.args
    kwargs: Any = failure.kwargs
    if values and stored:
        args, kwargs = arguments(failure)
    found = {
        "id": failure.task_id,
        "name": failure.name,
        "state": "failed",
        "queue": failure.queue,
        "worker": failure.worker,
        "exc": failure.exception,
        "args": args,
        "kwargs": kwargs,
        "runtime_s": failure.runtime_s,
        "tries": failure.tries,
        "at": failure.failed_at,
        "root_id": failure.root_id,
    }
    return found if stored else _known(found)


def _known(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a failure that only its result tells of: None for what that does not tell."""
    return {**{key: value if value != "" else None for key, value in fields.items()}, **_UNTOLD}


def arguments(failure: FailedTask) -> tuple[Any, Any]:
    """args and kwargs from the message; their printed form when the message is malformed."""
    from qcore.errors import Malformed
    from qcore.wire import task as task_wire

    try:
        body = task_wire.read_body(task_wire.read(failure.raw))
    except Malformed:
        return failure.args, failure.kwargs
    return body.args, body.kwargs


def item_of(failure: FailedTask, stored: bool = True) -> dict[str, Any]:
    """The printed fields of a failed task."""
    fields = {
        "id": failure.task_id,
        "name": failure.name,
        "queue": failure.queue,
        "worker": failure.worker,
        "exc_type": failure.exc_type,
        "exc_message": failure.exc_message,
        "args": failure.args,
        "kwargs": failure.kwargs,
        "tries": failure.tries,
        "failed_at": stamp(failure.failed_at),
        "runtime_s": round(failure.runtime_s, 6),
        "root_id": failure.root_id,
        "retry_of": failure.retry_of or None,
        "retried_as": failure.retried_as or None,
    }
    return {**(fields if stored else _known(fields)), "stored": stored}


def try_again(broker: Broker, items: Sequence[Item]) -> list[Done]:
    """Publish a retry of each failed task; return what became of each."""
    from qcore.brokers.contract.failed_tasks import RetryRequest
    from qcore.errors import Malformed
    from qcore.wire import identity
    from qcore.wire.failure import tried_again

    done: dict[str, Done] = {}
    tries: list[RetryRequest] = []
    found = broker.failed_tasks.of([item.id for item in items])
    for item, failure in zip(items, found, strict=True):
        if failure is None:
            done[item.id] = Done(item, "gone")
            continue
        task_id = identity.make()
        try:
            raw = tried_again(failure.raw, task_id)
        except Malformed as exc:
            done[item.id] = Done(item, "refused", {"reason": str(exc)})
            continue
        tries.append(RetryRequest(item.id, task_id, raw, failure.queue, failure.priority))
    owners = broker.failed_tasks.retry(tries) if tries else []
    by_id = {item.id: item for item in items}
    for one, owner in zip(tries, owners, strict=True):
        word = "retried" if owner == one.task_id else "already_retried" if owner else "gone"
        done[one.failed_id] = Done(by_id[one.failed_id], word, {"retried_as": owner or None})
    return [done[item.id] for item in items]


def forget(broker: Broker, items: Sequence[Item]) -> list[Done]:
    """Delete these failed tasks. The broker returns only a count, so the last items count as gone."""
    count = broker.failed_tasks.forget([item.id for item in items])
    return [Done(item, "deleted" if i < count else "gone") for i, item in enumerate(items)]
