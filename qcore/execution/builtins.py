"""The built-in tasks of every app, with Celery's names; workflows are made of them.

In:  arguments that tasks/canvas.py, or a client of Celery's, puts into messages.  Out: results.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from qcore.brokers.contract.records import StoredResult
from qcore.errors import ChordError
from qcore.execution import continuations
from qcore.tasks.canvas import chord, group, signature
from qcore.tasks.decorators import make_task
from qcore.tasks.map_calls import chunks
from qcore.tasks.result import result_from_tuple
from qcore.tasks.task import Task
from qcore.wire import result as result_wire

if TYPE_CHECKING:
    from qcore.tasks.task import TaskApp


log = logging.getLogger("qcore.worker")


def _accumulate(*args: Any, **kwargs: Any) -> Any:
    """Return its arguments, or the one at `index`. The body of a chord that collects a group's results."""
    index = kwargs.get("index")
    return args[index] if index is not None else args


def _xmap(self: Task, task: dict[str, Any], it: list[Any]) -> list[Any]:
    """Call a task once for each item; returns the list of results."""
    function, args, kwargs = self._called(task)
    return [function(item, *args, **kwargs) for item in it]


def _xstarmap(self: Task, task: dict[str, Any], it: list[Any]) -> list[Any]:
    """Call a task once for each tuple of arguments; returns the list of results."""
    function, args, kwargs = self._called(task)
    return [function(*items, *args, **kwargs) for items in it]


def _chunks(self: Task, task: dict[str, Any], it: list[Any], n: int) -> Any:
    """Publish calls that each run a task for n tuples of arguments. Returns their group's result."""
    return chunks(signature(task, app=self.app), it, n, app=self.app).apply_async()


def _group(
    self: Task, tasks: list[Any], result: Any, group_id: str, partial_args: Any, add_to_parent: bool = True
) -> Any:
    """Publish the calls of a group. Returns its result as given."""
    for one in tasks:
        signature(one, app=self.app).clone(partial_args).apply_async(group_id=group_id, add_to_parent=False)
    return result


def _chain(*args: Any, **kwargs: Any) -> None:
    raise NotImplementedError("a chain is published as its steps, not as a task")


def _chord(self: Task, header: Any, body: Any, partial_args: Any = (), **options: Any) -> Any:
    """Publish a chord. Returns the result of its body."""
    tasks = header["kwargs"]["tasks"] if isinstance(header, dict) else header
    flow = chord(group([signature(one, app=self.app) for one in tasks]), signature(body, app=self.app))
    return flow.apply_async(partial_args)


def _unlock_chord(
    self: Task,
    group_id: str,
    callback: dict[str, Any],
    interval: float | None = None,
    max_retries: int | None = None,
    result: Any = None,
    **celerys: Any,
) -> None:
    """Publish the body of a chord once all its members have ended; until then retry. Clients of Celery send
    this task where the result store does not count the members."""
    app: Any = self.app
    members = app.GroupResult(group_id, [result_from_tuple(one, app) for one in result or ()])
    if not members.ready():
        wait = app.conf.result_chord_retry_interval if interval is None else interval
        self.retry(countdown=wait, max_retries=max_retries)
    try:
        values = members.join(timeout=app.conf.result_chord_join_timeout, disable_sync_subtasks=False)
    except Exception as exc:  # of a member: the body fails with it
        lost = next((one.id for one in members.results if one.failed()), None)
        error = ChordError(f"Dependency {lost} raised {exc!r}" if lost else repr(exc))
        _fail_body(app, callback, error)
        raise error from exc
    signature(callback, app=app).apply_async((values,))


def _fail_body(app: Any, body: dict[str, Any], error: Exception) -> None:
    """Store the failure of a chord's body and of what follows it, and publish their errbacks."""
    found = continuations.body_failed(body, app, result_wire.exception_data(error), "", None)
    if found.before is not None:
        ttl_s = app.conf.seconds("result_expires")
        app.results.store([StoredResult(one, meta, ttl_s) for one, meta in found.before.results])
        if found.before.parts:
            log.warning("the body %s failed; the chord that it is a member of is not told", body.get("task"))
    app.publish(found.messages)


def _backend_cleanup(self: Task) -> None:
    """Delete results older than result_expires, in a store where nothing expires by itself."""
    ttl_s = self.app.conf.seconds("result_expires")
    if ttl_s and self.app.results.expires_by_cleanup:
        self.app.results.cleanup(ttl_s)


_UNLOCK = {"max_retries": None, "ignore_result": True}
#: name, function, whether it gets the task, options
_TASKS: tuple[tuple[str, Any, bool, dict[str, Any]], ...] = (
    ("celery.accumulate", _accumulate, False, {}),
    ("celery.map", _xmap, True, {}),
    ("celery.starmap", _xstarmap, True, {}),
    ("celery.chunks", _chunks, True, {}),
    ("celery.group", _group, True, {}),
    ("celery.chain", _chain, False, {}),
    ("celery.chord", _chord, True, {}),
    ("celery.chord_unlock", _unlock_chord, True, _UNLOCK),
    ("celery.backend_cleanup", _backend_cleanup, True, {}),
)


def add_built_in(app: TaskApp) -> None:
    """Register the built-in tasks in `app`."""
    for name, function, bind, options in _TASKS:
        app.register_task(make_task(app, function, {"name": name, "bind": bind, "typing": False, **options}))
