"""The continuations of a run: callbacks, the next step of a chain, errbacks, the count of a chord.

In:  the end of a run and the `embed` of its message.  Out: messages to publish, and the preconditions that
must be stored before them. The settlement of the delivery publishes them (worker/settling/chords.py).
Before this: execution/run.py, or worker/settling/rules.py for runs that the parent ended.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from qcore.brokers.contract.records import Message, StoredResult
from qcore.tasks.request import Request
from qcore.tasks.result import COLLECT
from qcore.tasks.signature import SendPlan, Signature, signature
from qcore.tasks.task import Task
from qcore.wire import result as result_wire
from qcore.wire.content import to_json
from qcore.wire.outcome import ChordPart, Preconditions, Send
from qcore.wire.result_form import ResultForm
from qcore.wire.task import TaskMessage, is_signature

if TYPE_CHECKING:
    from qcore.tasks.task import TaskApp

#: the header of a published errback that takes more than an id: {id, task, error, traceback} of what failed
ERRBACK = "errback_of"
log = logging.getLogger("qcore.worker")
CO_VARARGS = 0x04


class Continuations(NamedTuple):
    """Messages to publish, and the preconditions that must be stored before them (None: no precondition)."""

    messages: list[Message]
    before: Preconditions | None

    def sends(self) -> list[Send]:
        return [Send(m.raw, m.queue, m.exchange, m.routing_key, m.priority, m.due_at) for m in self.messages]


def succeeded(embed: dict[str, Any], value: Any, message: TaskMessage, app: TaskApp) -> Continuations:
    """After a success: the callbacks, the next step of the chain, and the count of a chord's member."""
    plan = SendPlan(app)
    family = {"root_id": message.root_id or message.id, "parent_id": message.id}
    for link in embed.get("callbacks") or ():
        _emit(plan, link, value, family)
    chain = embed.get("chain")
    if chain:
        rest = chain[:-1]
        _emit(plan, chain[-1], value, {**family, "chain": rest} if rest else family)
    parts = _part(embed, message, result_wire.SUCCESS, value, app.result_form)
    return Continuations(plan.messages, _before(plan, [], parts))


def replaced(sig: Signature, app: TaskApp) -> Continuations:
    """After Task.replace(): the messages of the replacement `sig`."""
    plan = SendPlan(app)
    sig.emit(plan)
    return Continuations(plan.messages, _before(plan, [], []))


def failed(
    embed: dict[str, Any],
    message: TaskMessage,
    app: TaskApp,
    state: str,
    error: dict[str, Any],
    traceback: str | None = None,
    live: tuple[Request, BaseException] | None = None,
) -> Continuations:
    """After a failure: the errbacks, failures for the rest of the chain, and the count of a chord's member.

    error is the exception in its stored form. With `live`, in the process that ran the task, errbacks that
    take more than an id are called at once with (request, exception, traceback); all others are published,
    and of those that take more than an id the header ERRBACK carries the failure (see errback_arguments).
    The errbacks of a revoked task are not called, as in Celery.
    """
    plan = SendPlan(app)
    if state != result_wire.REVOKED:
        failure = {"id": message.id, "task": message.task, "error": error, "traceback": traceback}
        _errbacks(plan, embed.get("errbacks"), failure, message.root_id, live)
    results: list[tuple[str, bytes]] = []
    parts = _part(embed, message, state, error, app.result_form)
    for link in filter(is_signature, embed.get("chain") or ()):
        fail_signature(link, state, error, results, parts, app.result_form, traceback=traceback)
    return Continuations(plan.messages, _before(plan, results, parts))


def body(sig: dict[str, Any], values: list[Any], part: ChordPart, app: TaskApp) -> Continuations:
    """The message of a chord's body, with the values of its members as the argument."""
    plan = SendPlan(app)
    _emit(plan, sig, values, {"root_id": part.root_id or part.task_id, "parent_id": part.task_id})
    return Continuations(plan.messages, _before(plan, [], []))


def body_failed(
    body: dict[str, Any], app: TaskApp, error: dict[str, Any], traceback: str, root_id: str | None
) -> Continuations:
    """The failures of a chord's body that will not run, and of all tasks after it; with their errbacks."""
    plan = SendPlan(app)
    results: list[tuple[str, bytes]] = []
    parts: list[ChordPart] = []
    fail_signature(
        *(body, result_wire.FAILURE, error, results, parts, app.result_form),
        plan=plan,
        root_id=root_id,
        traceback=traceback,
    )
    return Continuations(plan.messages, _before(plan, results, parts))


def stored(before: Preconditions, app: TaskApp) -> list[StoredResult]:
    """The results of tasks that will not run, with the times that their states are kept."""
    return [
        StoredResult(task_id, meta, app.conf.result_ttl_s(app.result_form.own(meta)["status"]))
        for task_id, meta in before.results
    ]


def fail_signature(
    sig: dict[str, Any],
    state: str,
    error: dict[str, Any],
    results: list[tuple[str, bytes]],
    parts: list[ChordPart],
    form: ResultForm,
    *,
    plan: SendPlan | None = None,
    root_id: str | None = None,
    traceback: str | None = None,
) -> None:
    """Add to `results` and `parts` the failures of a frozen signature that will not run; with a plan, also
    add its errbacks to the plan."""
    options = sig.get("options") or {}
    kind, kwargs = sig.get("subtask_type"), sig.get("kwargs") or {}
    first: list[Any] = []
    later: list[Any] = list(options.get("chain") or ())
    if kind == "chord":
        body, header = kwargs.get("body"), kwargs.get("header")
        first.append(body)
        (first if stands_for_group(sig) else later).append(header)
    elif kind == "group":
        first += kwargs.get("tasks") or ()
    elif kind == "chain":
        first += (kwargs.get("tasks") or ())[:1]
        later += (kwargs.get("tasks") or ())[1:]
    # As in Celery, errbacks of the tasks behind the first one are not called.
    for those, called in ((first, plan), (later, None)):
        for one in those:
            if isinstance(one, dict):
                fail_signature(
                    *(one, state, error, results, parts, form),
                    plan=called,
                    root_id=root_id,
                    traceback=traceback,
                )
    task_id = options.get("task_id")
    if kind in ("chord", "group", "chain") or not isinstance(task_id, str):
        return
    group = options.get("group_id")
    meta = result_wire.encode(
        *(task_id, state, error),
        now=time.time(),
        traceback=traceback,
        group_id=group if group else None,
        form=form,
    )
    results.append((task_id, meta))
    if plan is not None:
        failure = {"id": task_id, "task": sig.get("task"), "error": error, "traceback": traceback}
        _errbacks(plan, options.get("link_error"), failure, root_id)
    chord = options.get("chord")
    if isinstance(chord, dict) and group:
        entry = form.dumps([1, task_id, state, error])
        parts.append(ChordPart(group, task_id, options.get("group_index"), entry, to_json(chord), root_id))


def stands_for_group(sig: dict[str, Any]) -> bool:
    """Whether a signature is a group, or the chord that collects a group's results (see with_one_end)."""
    body = (sig.get("kwargs") or {}).get("body")
    collects = isinstance(body, dict) and body.get("task") == COLLECT
    return sig.get("subtask_type") == "group" or (sig.get("subtask_type") == "chord" and collects)


def _emit(plan: SendPlan, link: Any, value: Any, options: dict[str, Any]) -> None:
    if isinstance(link, dict):
        sig = signature(link, app=plan.app)
        plan.app.adopt(sig.freeze())
        sig.emit(plan, (value,), None, options)


def _part(
    embed: dict[str, Any], message: TaskMessage, state: str, value: Any, form: ResultForm
) -> list[ChordPart]:
    chord = embed.get("chord")
    if not chord or not message.group:
        return []
    index = message.headers.get("group_index")
    entry = form.dumps([1, message.id, state, value])
    index = index if isinstance(index, int) else None
    return [ChordPart(message.group, message.id, index, entry, to_json(chord), message.root_id)]


def _before(plan: SendPlan, results: list[tuple[str, bytes]], parts: list[ChordPart]) -> Preconditions | None:
    if plan.sizes or results or parts:
        return Preconditions(results, plan.sizes, parts, plan.headers)
    return None


def _errbacks(
    plan: SendPlan,
    links: Any,
    failure: dict[str, Any],
    root_id: str | None,
    live: tuple[Request, BaseException] | None = None,
) -> None:
    task_id = failure["id"]
    for link in links if isinstance(links, list | tuple) else (links,):
        if not isinstance(link, dict):
            continue
        sig = signature(link, app=plan.app)
        options: dict[str, Any] = {"root_id": root_id or task_id, "parent_id": task_id}
        if wants_it_all(sig):
            if live is not None:
                try:
                    sig(*live, failure["traceback"])
                except Exception:
                    log.exception("the errback %s raised", sig.task)
                continue
            options["headers"] = {**(sig.options.get("headers") or {}), ERRBACK: failure}
        if live is not None and live[0].is_eager:
            continue  # apply() calls it (execution/eager.py)
        sig.freeze()
        sig.emit(plan, (task_id,), None, options)


def errback_arguments(failure: Any, args: list[Any]) -> list[Any]:
    """The arguments of a published errback that takes (request, exception, traceback): they replace the id
    in `args`. The parent process, which counts chords and kills tasks, never calls code of the user."""
    if not isinstance(failure, dict) or not isinstance(failure.get("error"), dict) or not args:
        return args
    request = Request(id=failure.get("id"), task=failure.get("task"), called_directly=False)
    return [request, result_wire.exception_from(failure["error"]), failure.get("traceback"), *args[1:]]


def wants_it_all(sig: Signature) -> bool:
    """Whether an errback takes (request, exception, traceback). Celery's rule: it is a task of this app, not
    bound, and takes more than one argument."""
    task = sig.app.tasks.get(sig.task)
    if not isinstance(task, Task) or task.is_method:
        return False
    code = getattr(task.run, "__code__", None)
    if code is None:
        return False
    given = 0 if sig.immutable else len(sig.args)
    return bool(code.co_flags & CO_VARARGS) or code.co_argcount - given > 1
