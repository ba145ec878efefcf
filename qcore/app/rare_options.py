"""Options of a single call that few projects use: a router of its own, another name for its route, a class
for its result, entities to declare first.

In:  send_task() with one of keywords.CALL_ALONE.  Out: the same call with usual options, and its handle. As
in Celery, the router's answer replaces the options of the message's place.
Before this: app.py. After this: app.py again, sending.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import cache
from importlib import import_module
from typing import Any

from qcore.base.keywords import CALL_ALONE, ROUTED
from qcore.tasks.result import AsyncResult

log = logging.getLogger("qcore.app")

#: options that a router does not get, as in Celery: those that send_task() reads itself
_NOT_OF_ROUTES = frozenset(
    "countdown eta task_id producer connection router result_cls expires publisher link link_error "
    "add_to_parent group_id group_index retries chord reply_to time_limit soft_time_limit root_id parent_id "
    "route_name shadow chain task_type replaced_task_nesting".split()
)


def send(
    app: Any, again: Callable[..., Any], name: str, args: Any, kwargs: Any, task: Any, options: dict[str, Any]
) -> AsyncResult[Any]:
    """Publish a call. again: send_task() for the usual options. Returns its handle, or one of result_cls.
    Raises TypeError for a router without route(), and as send_task()."""
    rare = {key: options.pop(key) for key in CALL_ALONE & options.keys()}
    if rare.get("publisher") is not None and options.get("producer") is None:
        options["producer"] = rare["publisher"]
    router, other_name, kind = (rare.get(key) for key in ("router", "route_name", "task_type"))
    if router is not None or other_name is not None or kind is not None:
        _route(app, router, other_name or name, args or (), kwargs or {}, kind or task, options)
    if rare.get("declare"):
        _declare(app, rare["declare"], options.get("producer"))
    result: AsyncResult[Any] = again(app, name, args, kwargs, task=task, **options)
    own_class = rare.get("result_cls")
    if own_class is None:
        return result
    made: AsyncResult[Any] = own_class(result.id)
    made.ignored = result.ignored
    return made


def _route(
    app: Any, router: Any, name: str, args: Any, kwargs: Any, task: Any, options: dict[str, Any]
) -> None:
    """Put what a router says into the options, or what the app's routes do, which are not asked again."""
    given = {key: value for key, value in options.items() if key not in _NOT_OF_ROUTES and value is not None}
    if router is None:
        found = {**app.routes.route(name, args, kwargs, given, task), **given}
    elif callable(getattr(router, "route", None)):
        found = dict(router.route(given, name, args, kwargs, task))
    else:
        raise TypeError(
            f"a router has a method route(options, name, args, kwargs, task_type), unlike {router!r:.80}"
        )
    for key in given.keys() - found.keys():
        del options[key]
    options.update(found, router=ROUTED)


def _declare(app: Any, entities: Iterable[Any], producer: Any) -> None:
    """Declare queues and exchanges of kombu on the broker."""
    hold: Any = getattr(app, "producer_or_acquire", None)
    if producer is None and (hold is None or not app.broker.features.exchanges):
        _say_once("it has no exchanges" if hold is not None else "it needs an app of celery.Celery")
        return
    declare: Any = import_module("kombu.common").maybe_declare
    with nullcontext(producer) if producer is not None else hold() as held:
        for entity in entities:
            declare(entity, held.channel)


@cache
def _say_once(why: str) -> None:
    log.warning("the option declare of a call has no effect on this broker: %s", why)
