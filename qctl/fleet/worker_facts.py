"""What workers say of themselves, the same for qcore's and Celery's.

In:  an app and the replies to `stats`.  Out: WorkerFacts by node; None: the worker does not tell.
Celery's stats lack queues, what it runs and holds, and its version: for those workers four more queries.
Before this: `qctl status`, `qctl worker ls`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from qcore.wire.event import finite_number
from qctl.fleet.celery_workers import queue_names
from qctl.output.text import software

if TYPE_CHECKING:
    from qcore.app.app import App
    from qcore.control.client import Answers

_VERSION = re.compile(r"software -> celery:([\w.+!-]+)")
#: queries whose replies are lists of tasks that a Celery worker has and has not acknowledged
HELD = ("active", "reserved", "scheduled")


class WorkerFacts(NamedTuple):
    """One worker; None and () for what it does not tell."""

    state: str = "running"  # or draining
    software: str | None = None
    version: str | None = None
    pid: int | None = None
    pool: str | None = None
    slots: int | None = None
    running: int | None = None
    held: int | None = None  # messages that it has and has not acknowledged, running ones too
    processed: int | None = None  # tasks that it started, retries too
    queues: tuple[str, ...] | None = None  # None: unknown
    uptime_s: float | None = None


def facts_of(app: App, stats: Answers, timeout_s: float) -> dict[str, WorkerFacts]:
    """The facts of each worker that answered; a worker that refused has none."""
    told = {n: v for n, v in stats.replies.items() if isinstance(v, dict) and set(v) != {"error"}}
    found = {}
    for node, one in told.items():
        member = stats.members.get(node)
        found[node] = _of(one, member.info if member is not None else {})
    theirs = sorted(node for node, one in told.items() if "queues" not in one)
    if theirs:
        found.update(_of_celery(app, {node: found[node] for node in theirs}, timeout_s))
    return found


def total_of(stats: Mapping[str, Any]) -> int | None:
    """The number of tasks that a worker started, from its stats; None: it does not tell."""
    total = stats.get("total")
    return sum(count_of(v) or 0 for v in total.values()) if isinstance(total, dict) else None


def count_of(value: object) -> int | None:
    """A count in a reply; None for anything else: any client may have written the reply."""
    found = finite_number(value)
    return None if found is None or found < 0 else int(found)


def _of(stats: Mapping[str, Any], info: Mapping[str, Any]) -> WorkerFacts:
    found = stats.get("pool")
    pool: Mapping[str, Any] = found if isinstance(found, dict) else {}
    queues = stats.get("queues")
    name = str(pool.get("implementation") or "").partition(":")[0].rpartition(".")[2]
    version = stats.get("version")
    return WorkerFacts(
        state=str(stats.get("state") or "running"),
        software=software(info) or (f"qcore {version}" if version else None),
        version=str(version) if version else None,
        pid=count_of(stats.get("pid")),
        pool=name or None,
        slots=count_of(pool.get("max-concurrency")),
        running=count_of(stats.get("active")),
        # Celery's prefetch_count is a limit, which each task with an ETA raises; qcore's is what it holds.
        held=count_of(stats.get("prefetch_count")) if isinstance(queues, list) else None,
        processed=total_of(stats),
        queues=tuple(map(str, queues)) if isinstance(queues, list) else None,
        uptime_s=finite_number(stats.get("uptime")),
    )


def _of_celery(app: App, known: dict[str, WorkerFacts], timeout_s: float) -> dict[str, WorkerFacts]:
    nodes = sorted(known)
    replies = {
        name: app.control.ask(name, None, nodes, timeout_s).replies
        for name in (*HELD, "active_queues", "report")
    }
    return {
        node: one._replace(
            running=_length(replies["active"].get(node)),
            held=held_of([replies[name].get(node) for name in HELD]),
            queues=_names(replies["active_queues"].get(node)),
            version=(version := _version(replies["report"].get(node))),
            software=f"py-celery {version}" if version else one.software,
        )
        for node, one in known.items()
    }


def held_of(lists: list[Any]) -> int | None:
    """The number of tasks in the replies to HELD; None: one is missing. A task is counted once: it may pass
    from one list to the next between the queries."""
    if not all(isinstance(one, list) for one in lists):
        return None
    ids = {str(about.get("id")) for tasks in lists for task in tasks if (about := _about(task))}
    return len(ids)


def _about(task: Any) -> Mapping[str, Any] | None:
    if not isinstance(task, Mapping):
        return None
    inner = task.get("request")
    return inner if isinstance(inner, Mapping) else task


def _length(reply: Any) -> int | None:
    return len(reply) if isinstance(reply, list) else None


def _names(reply: Any) -> tuple[str, ...] | None:
    return tuple(queue_names(reply)) if isinstance(reply, list) else None


def _version(reply: Any) -> str | None:
    words = reply.get("ok") if isinstance(reply, Mapping) else None
    found = _VERSION.search(words) if isinstance(words, str) else None
    return found[1] if found else None
