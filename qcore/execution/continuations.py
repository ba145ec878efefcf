"""What follows from a run: callbacks, the next link of a chain, errbacks, a chord's count.

In:  how a run ended and the `embed` of its message.  Out: messages to send, and what must be durable
before they are. Nothing is sent here: the settlement of the delivery does it (worker/settling/chords.py).
Before this: execution/run.py, or worker/settling/rules.py for runs that the parent ended.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from qcore.brokers.contract.records import Message
from qcore.tasks.signature import SendPlan, Signature, signature
from qcore.tasks.task import Task
from qcore.wire import result as result_wire
from qcore.wire.content import to_json
from qcore.wire.outcome import ChordPart, Preconditions, Send
from qcore.wire.task import TaskMessage

if TYPE_CHECKING:
    from qcore.tasks.request import Request
    from qcore.tasks.task import TaskApp

log = logging.getLogger("qcore.worker")
CO_VARARGS = 0x04


class Continuations(NamedTuple):
    """Messages to send, and what comes before them (None: nothing)."""

    messages: list[Message]
    before: Preconditions | None

    def sends(self) -> list[Send]:
        return [Send(m.raw, m.queue, m.exchange, m.routing_key, m.priority, m.due_at) for m in self.messages]


def succeeded(embed: dict[str, Any], value: Any, message: TaskMessage, app: TaskApp) -> Continuations:
    """The callbacks and the next link of the chain; a chord's member is counted."""
    plan = SendPlan(app)
    family = {"root_id": message.root_id or message.id, "parent_id": message.id}
    for link in embed.get("callbacks") or ():
        _emit(plan, link, value, family)
    chain = embed.get("chain")
    if chain:
        _emit(plan, chain[-1], value, {**family, "chain": chain[:-1]} if chain[:-1] else family)
    parts = _part(embed, message, result_wire.SUCCESS, value)
    return Continuations(plan.messages, _before(plan, [], parts))


def replaced(sig: Signature, app: TaskApp) -> Continuations:
    """The signature that takes a task's place, its id and its duties."""
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
    """The errbacks; the rest of the chain, which fails too; a chord's member is counted.

    error is the exception as data. With `live`, in the process that ran the task, errbacks that take
    more than an id are called at once with (request, exception, traceback); all others are sent.
    A task that was revoked has no errbacks called, as in Celery.
    """
    plan = SendPlan(app)
    if state != result_wire.REVOKED:
        _errbacks(plan, embed.get("errbacks"), message.id, message.root_id, live, traceback)
    results: list[tuple[str, bytes]] = []
    parts = _part(embed, message, state, error)
    for link in embed.get("chain") or ():
        fail_signature(link, state, error, results, parts, traceback=traceback)
    return Continuations(plan.messages, _before(plan, results, parts))


def body(sig: dict[str, Any], values: list[Any], part: ChordPart, app: TaskApp) -> Continuations:
    """A chord's body, called with the values of its members."""
    plan = SendPlan(app)
    _emit(plan, sig, values, {"root_id": part.root_id or part.task_id, "parent_id": part.task_id})
    return Continuations(plan.messages, _before(plan, [], []))


def body_failed(
    body: dict[str, Any], app: TaskApp, error: dict[str, Any], traceback: str, root_id: str | None
) -> Continuations:
    """A chord's body that will not run: it failed, and so did all that was to come after it."""
    plan = SendPlan(app)
    results: list[tuple[str, bytes]] = []
    parts: list[ChordPart] = []
    fail_signature(
        body, result_wire.FAILURE, error, results, parts, plan=plan, root_id=root_id, traceback=traceback
    )
    return Continuations(plan.messages, _before(plan, results, parts))


def fail_signature(
    sig: dict[str, Any],
    state: str,
    error: dict[str, Any],
    results: list[tuple[str, bytes]],
    parts: list[ChordPart],
    *,
    plan: SendPlan | None = None,
    root_id: str | None = None,
    traceback: str | None = None,
) -> None:
    """The results and parts that stand for a frozen signature which will not run; with a plan its
    errbacks are called too."""
    options = sig.get("options") or {}
    kind, kwargs = sig.get("subtask_type"), sig.get("kwargs") or {}
    inner: list[Any] = [*(options.get("chain") or ())]
    if kind == "chord":
        inner.append(kwargs.get("body"))
    elif kind in ("group", "chain"):
        inner += kwargs.get("tasks") or ()
    for one in inner:
        if isinstance(one, dict):
            fail_signature(one, state, error, results, parts, plan=plan, root_id=root_id, traceback=traceback)
    task_id = options.get("task_id")
    if kind in ("chord", "group", "chain") or not isinstance(task_id, str):
        return
    group = options.get("group_id")
    meta = result_wire.encode(
        task_id, state, error, now=time.time(), traceback=traceback, group_id=group if group else None
    )
    results.append((task_id, meta))
    if plan is not None:
        _errbacks(plan, options.get("link_error"), task_id, root_id)
    chord = options.get("chord")
    if isinstance(chord, dict) and group:
        entry = to_json([1, task_id, state, error])
        parts.append(ChordPart(group, task_id, options.get("group_index"), entry, to_json(chord), root_id))


def _emit(plan: SendPlan, link: Any, value: Any, options: dict[str, Any]) -> None:
    if isinstance(link, dict):
        sig = signature(link, app=plan.app)
        plan.app.adopt(sig.freeze())
        sig.emit(plan, (value,), None, options)


def _part(embed: dict[str, Any], message: TaskMessage, state: str, value: Any) -> list[ChordPart]:
    chord = embed.get("chord")
    if not chord or not message.group:
        return []
    index = message.headers.get("group_index")
    entry = to_json([1, message.id, state, value])
    index = index if isinstance(index, int) else None
    return [ChordPart(message.group, message.id, index, entry, to_json(chord), message.root_id)]


def _before(plan: SendPlan, results: list[tuple[str, bytes]], parts: list[ChordPart]) -> Preconditions | None:
    if plan.sizes or results or parts:
        return Preconditions(results, plan.sizes, parts)
    return None


def _errbacks(
    plan: SendPlan,
    links: Any,
    task_id: str,
    root_id: str | None,
    live: tuple[Request, BaseException] | None = None,
    traceback: str | None = None,
) -> None:
    for link in links if isinstance(links, list | tuple) else (links,):
        if not isinstance(link, dict):
            continue
        sig = signature(link, app=plan.app)
        if live is not None and wants_it_all(sig):
            try:
                sig(*live, traceback)
            except Exception:
                log.exception("the errback %s raised", sig.task)
            continue
        sig.freeze()
        sig.emit(plan, (task_id,), None, {"root_id": root_id or task_id, "parent_id": task_id})


def wants_it_all(sig: Signature) -> bool:
    """Celery's rule: a task of this process with more than one argument, not a bound one."""
    task = sig.app.tasks.get(sig.task)
    if not isinstance(task, Task) or task.bind:
        return False
    code = getattr(task.run, "__code__", None)
    if code is None:
        return False
    given = 0 if sig.immutable else len(sig.args)
    return bool(code.co_flags & CO_VARARGS) or code.co_argcount - given > 1
