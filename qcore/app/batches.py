"""Many calls in few round trips: of signatures, or of one task with many tuples of arguments.

In:  signatures; or a task, tuples of arguments and the options that all calls share.  Out: published
messages, and the handles of their results.
Before this: app.py (send_many).  After this: wire/copies.py, App.send_messages().
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from qcore.app.sending import RoutingApp, key_of
from qcore.base.keywords import check_call_of_many
from qcore.base.times import new_id
from qcore.brokers.contract.records import Message
from qcore.errors import EncodeError, MessageTooLarge
from qcore.signals import before_task_publish
from qcore.tasks.request import current_request
from qcore.tasks.result import AsyncResult
from qcore.tasks.signature import SendPlan, Signature, collecting
from qcore.tasks.task import Task
from qcore.wire import identity
from qcore.wire.copies import Copies, can_copy

#: what one round trip carries at most; more would keep other clients of the broker waiting
MESSAGES_AT_ONCE, BYTES_AT_ONCE = 1000, 4 * 1024 * 1024
#: options that name one call
_OF_ONE = ("task_id", "idempotency_key")


class BatchApp(RoutingApp, Protocol):
    """An app that has tasks: what send() needs of an app."""

    @property
    def tasks(self) -> Mapping[str, Task]: ...

    def _send_once(self, message: Message, key: str, task_id: str, retry: bool | None) -> str: ...


def _send_signatures(app: BatchApp, signatures: Iterable[Signature]) -> list[AsyncResult]:
    """Publish these calls in one round trip; each with an idempotency_key in its own."""
    messages: list[Message] = []
    found: list[AsyncResult] = []
    for sig in signatures:
        args, kwargs, options = sig.merged()
        check_call_of_many(options)
        task_id = options.get("task_id") or identity.make()
        message = app.message(sig.task, args, kwargs, task_id, options, app.tasks.get(sig.task))
        key = key_of(options)
        if key is None:
            messages.append(message)
        else:
            task_id = app._send_once(message, key, task_id, options.get("retry"))
        found.append(AsyncResult(task_id, app=app, task_name=sig.task))
    app.send_messages(messages)
    return found


def send(
    app: BatchApp,
    calls: Iterable[Signature] | Task | str,
    argument_tuples: Iterable[Sequence[Any]] | None,
    kwargs: dict[str, Any],
    options: dict[str, Any],
) -> list[AsyncResult]:
    """Publish them: see App.send_many()."""
    if argument_tuples is not None and isinstance(calls, str | Task):
        return _send_copies(app, calls, list(argument_tuples), kwargs, options)
    if argument_tuples is not None or isinstance(calls, str | Task) or kwargs or options:
        raise TypeError("send_many() takes signatures alone, or a task (or its name) and tuples of arguments")
    return _send_signatures(app, calls)


def _send_copies(
    app: BatchApp, name_or_task: str | Task, given: list[Any], kwargs: dict[str, Any], options: dict[str, Any]
) -> list[AsyncResult]:
    check_call_of_many(options)
    for option in _OF_ONE:
        if options.get(option) is not None:
            raise TypeError(f"the option {option} names one call; send_many() sends many")
    name = name_or_task if isinstance(name_or_task, str) else name_or_task.name
    task = app.tasks.get(name)  # which also completes the options of all tasks
    if isinstance(name_or_task, Task):
        task = name_or_task
    if task is not None:
        task._check_limits(options)
    calls = _arguments(name, task, given, kwargs)
    if task is not None and app.conf.task_always_eager:
        return [task.apply(*call, **options) for call in calls]
    ids = identity.make_many(len(calls))
    messages = _messages(app, name, task, calls, ids, options) if calls else []
    plan = collecting.get()
    if plan is not None and plan.app is app:
        plan.messages += messages
    else:
        for some in _portions(messages):
            app.send_messages(some, options)
    ignored = options.get("ignore_result")
    if ignored is None and task is not None:
        ignored = task.ignore_result
    found: list[AsyncResult] = [AsyncResult(task_id, None, name, app) for task_id in ids]
    for result in found:
        result.ignored = bool(ignored)
    if options.get("add_to_parent", True) and current_request() is not None:
        for result in found:
            app.adopt(result)
    return found


def _arguments(
    name: str, task: Task | None, given: list[Any], kwargs: dict[str, Any]
) -> list[tuple[Any, dict[str, Any]]]:
    """The arguments of each call, checked against the function. Raises TypeError that says which is wrong."""
    found = []
    for number, args in enumerate(given, 1):
        if not isinstance(args, list | tuple):
            raise TypeError(f"call {number} of {name}: its arguments are a tuple or list, not {args!r:.60}")
        try:
            found.append((args, kwargs) if task is None else task._sendable(args, kwargs))
        except TypeError as exc:
            raise TypeError(f"call {number} of {name}: {exc}") from exc
    return found


def _messages(
    app: BatchApp,
    name: str,
    task: Task | None,
    calls: list[tuple[Any, dict[str, Any]]],
    ids: list[str],
    options: dict[str, Any],
) -> list[Message]:
    """The messages of these calls. Raises EncodeError with the number of the call, MessageTooLarge."""
    plan, number = SendPlan(app), 0
    try:
        if _differ_in_arguments_only(app, name, task, options):
            mark, shown = new_id(), new_id()
            given = options if options.get("argsrepr") is not None else {**options, "argsrepr": shown}
            first = app.message(name, (), calls[0][1], mark, given, task)
            if (copies := Copies.of(first.raw, mark, shown, app.conf.task_repr_maxlevels)) is not None:
                place = first.queue, first.exchange, first.routing_key, first.priority, first.due_at
                for number, (task_id, (args, _)) in enumerate(zip(ids, calls, strict=True), 1):  # noqa: B007
                    plan.messages.append(Message(copies.message(task_id, args), *place))
                return plan.messages
        for number, (task_id, (args, kwargs)) in enumerate(zip(ids, calls, strict=True), 1):  # noqa: B007
            plan.add(name, args, kwargs, {**options, "task_id": task_id})
    except EncodeError as exc:
        raise EncodeError(f"call {number} of {name}: {exc}") from exc
    except MessageTooLarge as exc:
        raise MessageTooLarge(f"call {number} of {name}", exc.size, exc.most) from exc
    return plan.messages


def _differ_in_arguments_only(app: BatchApp, name: str, task: Task | None, options: dict[str, Any]) -> bool:
    """Whether nothing looks at each call: no router, signal, model, or method of a subclass."""
    if task is not None and (
        task.overrides_sending
        or task._dump_models is not None
        or getattr(task.shadow_name, "__func__", None) is not Task.shadow_name
    ):
        return False
    if app.overrides_sending or before_task_publish.receivers or app.routes.look_at_arguments:
        return False
    routed = app.routes.route(name, (), {}, options, task)
    own = options.get("serializer") or getattr(task, "serializer", None) or routed.get("serializer")
    return can_copy(own or app.conf.task_serializer)


def _portions(messages: list[Message]) -> Iterator[list[Message]]:
    """The messages in order, as many at once as one round trip carries."""
    some: list[Message] = []
    size = 0
    for message in messages:
        if len(some) == MESSAGES_AT_ONCE or (some and size + len(message.raw) > BYTES_AT_ONCE):
            yield some
            some, size = [], 0
        some.append(message)
        size += len(message.raw)
    if some:
        yield some
