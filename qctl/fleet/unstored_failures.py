"""Failures of Celery's workers: their messages are not stored, only their results are.

In:  an app, ids of stored failures by the broker.  Out: FailedTask records without message, newest first.
The result store is read only where Celery's workers are in the fleet, and at most MOST_RESULTS of it. A
result names its task only with Celery's result_extended.  Before this: fleet/failed_tasks.py.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from qcore.base.times import epoch
from qcore.errors import Unsupported
from qcore.wire.failure import FailedTask
from qctl.fleet.failure_kinds import kind_of, last_part
from qctl.output.text import count

if TYPE_CHECKING:
    from qcore.app.app import App
    from qcore.wire.result import ResultMeta

#: results that are read, in pages of AT_ONCE, and the longest time for it
MOST_RESULTS, AT_ONCE, MOST_S = 50_000, 1000, 3.0
#: frames of Celery's worker in a traceback; qcore's has a package `celery` too
_CELERY = re.compile(r"(?<!qcore)[/\\](?:celery|billiard)[/\\]\w+")


class Unstored(NamedTuple):
    """remark: why the list may lack some; empty when it is complete."""

    failures: list[FailedTask]
    remark: str = ""


def unstored_failures(app: App) -> Unstored:
    """What failed at Celery's workers and is not in the store of failed tasks."""
    others = app.broker.roster()[1]
    if not others:
        return Unstored([])
    workers = f"{count(len(others), 'Celery worker')} in this fleet"
    if not app.results.keeps:
        return Unstored([], f"{workers}: what failed there is unknown, since no result store is configured")
    found: dict[str, FailedTask] = {}
    seen, cursor, until = 0, "", time.monotonic() + MOST_S
    while True:
        try:
            ids, cursor = app.results.ids(cursor, AT_ONCE)
        except Unsupported:
            return Unstored(
                [], f"{workers}: what failed there is unknown, since this result store lists none"
            )
        metas = app.results.get(ids) if ids else []
        new = [_of(meta) for meta in metas if meta is not None and _failed_at_celery(meta)]
        for failure, kept in zip(new, _kept(app, new), strict=True):
            if not kept:
                found[failure.task_id] = failure
        seen += len(ids)
        if not cursor or seen >= MOST_RESULTS or time.monotonic() > until:
            break
    remark = f"only {seen:,} results were searched for failures of Celery's workers" if cursor else ""
    return Unstored(sorted(found.values(), key=lambda f: f.failed_at, reverse=True), remark)


def one_unstored(app: App, task_id: str) -> FailedTask | None:
    """The failure of a task at a Celery worker, from its result."""
    (meta,) = app.results.get([task_id]) if app.results.keeps else [None]
    return _of(meta) if meta is not None and _failed_at_celery(meta) else None


def _kept(app: App, failures: list[FailedTask]) -> list[bool]:
    try:
        kept = app.broker.failed_tasks.of([f.task_id for f in failures]) if failures else []
    except Unsupported:
        return [False] * len(failures)
    return [one is not None for one in kept]


def _failed_at_celery(meta: ResultMeta) -> bool:
    """Whether a worker of Celery failed it: qcore's store what fails there, unless somebody removed it."""
    return meta.status == "FAILURE" and _CELERY.search(meta.traceback or "") is not None


def _of(meta: ResultMeta) -> FailedTask:
    data = meta.result if isinstance(meta.result, dict) else {}
    name, module = str(data.get("exc_type") or ""), str(data.get("exc_module") or "")
    told = name if module in ("", "builtins") else f"{module}.{name}"
    kind = kind_of("", meta.traceback or "") if not name or name == "ExceptionWithTraceback" else told
    return FailedTask(
        task_id=meta.task_id,
        name=meta.name or "",
        queue=meta.queue or "",
        worker=meta.worker or "",
        exc_type=kind,
        exc_message=_message(data.get("exc_message"), last_part(kind)),
        args="" if meta.args is None else str(meta.args),
        kwargs="" if meta.kwargs is None else str(meta.kwargs),
        tries=(meta.retries or 0) + 1,
        failed_at=_time(meta.date_done),
        traceback=meta.traceback or "",
    )


def _message(told: Any, kind: str) -> str:
    """The text of the exception, as str() of it gives: its arguments are in the result."""
    if not isinstance(told, list | tuple):
        return "" if told is None else str(told)
    if len(told) != 1:
        return "" if not told else str(tuple(told))
    return repr(told[0]) if kind == "KeyError" else str(told[0])


def _time(text: str | None) -> float:
    try:
        return epoch(text) if text else 0.0
    except ValueError:
        return 0.0
