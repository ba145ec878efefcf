"""From a call to a message: its content and its destination, from options, routes and settings.

In:  a task name, arguments, options.  Out: a Message.
Before this: app.py (send_task).  After this: wire/task.py writes the bytes, brokers/X publish them.
"""

from __future__ import annotations

import binascii
import importlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from qcore.app.queues import QueueTable
from qcore.app.routing import Routes
from qcore.base.keywords import ROUTED, unknown_to_calls
from qcore.base.times import iso, when
from qcore.brokers.contract.records import Message, confirm_within_s
from qcore.errors import BrokerDown
from qcore.settings.config import Config
from qcore.signals import announced, before_task_publish
from qcore.tasks.interface import SendingApp
from qcore.tasks.request import current_request
from qcore.tasks.signature_members import as_list
from qcore.tasks.task import Task
from qcore.wire import content, envelope
from qcore.wire import event as event_wire
from qcore.wire import task as task_wire


class RoutingApp(SendingApp, Protocol):
    """An app with routes and queues: what message() needs of an app."""

    @property
    def routes(self) -> Routes: ...

    @property
    def queue_table(self) -> QueueTable: ...


KEY_HEADER = "idempotency_key"
MOST_KEY_BYTES = 512


def key_of(options: Mapping[str, Any]) -> str | None:
    """The validated idempotency key of a call; None without one. Raises TypeError, ValueError."""
    key = options.get("idempotency_key")
    if key is None:
        return None
    if not isinstance(key, str):
        raise TypeError(f"an idempotency_key is text, not {type(key).__name__}")
    if not 0 < len(key.encode("utf-8", "surrogatepass")) <= MOST_KEY_BYTES:
        raise ValueError(f"an idempotency_key has 1 to {MOST_KEY_BYTES} bytes")
    return key


_DELIVERY_MODES = {1: 1, 2: 2, "transient": 1, "persistent": 2}


def message(
    app: RoutingApp,
    name: str,
    args: Any,
    kwargs: dict[str, Any],
    task_id: str,
    options: dict[str, Any],
    task: Task | None = None,
    is_sent: bool = True,
) -> Message:
    """The message of a call, with its destination; options as in App.send_task(). is_sent: False for one that
    is run in this process, of which no signal tells.

    Raises TypeError for arguments that cannot be serialised.
    """
    if not isinstance(args, list | tuple):
        raise TypeError(f"args of {name} must be a list, not {type(args).__name__}")
    if not isinstance(kwargs, Mapping):
        raise TypeError(f"kwargs of {name} must be an object, not {type(kwargs).__name__}")
    conf = app.conf
    now = time.time()

    registered = task if task is not None else app.tasks.get(name)
    is_routed = options.get("router") is ROUTED
    routed = {} if is_routed else app.routes.route(name, args, kwargs, options, registered)

    def option(key: str) -> Any:
        value = options.get(key)
        if value is None and registered is not None:
            value = getattr(registered, key, None)
        return routed.get(key) if value is None and routed else value

    kind = options.get("exchange_type") or routed.get("exchange_type")  # not of the task, as in Celery
    place = app.queue_table.destination(option("queue"), option("exchange"), option("routing_key"), kind)
    queue, exchange, key = (place.routing_key, "", "") if not place.exchange else ("", *place[:2])
    priority = option("priority")
    if priority is None:
        caller = current_request()
        if caller is not None and conf.task_inherit_parent_priority:
            priority = (caller.delivery_info or {}).get("priority")
        if priority is None:
            priority = conf.task_default_priority
    eta, countdown, expires = options.get("eta"), options.get("countdown"), option("expires")
    due_at = now + countdown if countdown else (when(eta, now) if eta is not None else None)
    expires_at = when(expires, now) if expires is not None else None
    ignore = option("ignore_result")
    if ignore is None and task is not None:  # by name alone the worker's setting decides, as in Celery
        ignore = conf.task_ignore_result
    parent = current_request()
    embed = None
    if options.get("link") or options.get("link_error") or options.get("chain") or options.get("chord"):
        embed = {
            "callbacks": as_list(options.get("link")) or None,
            "errbacks": as_list(options.get("link_error")) or None,
            "chain": options.get("chain"),
            "chord": options.get("chord"),
        }
    own_mode = place.queue.delivery_mode if place.queue is not None else None
    mode = _DELIVERY_MODES.get(option("delivery_mode") or own_mode or conf.task_default_delivery_mode)
    if mode is None:
        raise ValueError(f"the delivery_mode of {name} is 1 ('transient') or 2 ('persistent')")
    stamped, stamps = options.get("stamped_headers"), options.get("stamps")
    if stamped and stamps is None:
        stamps = {key: options[key] for key in stamped if key in options}
    announce = announced(name, place, priority) if is_sent and before_task_publish.receivers else None
    if exchange and place.queue is not None:
        queue, exchange, key = app.queue_table.reachable(app, place)
    raw = task_wire.build(
        name,
        args,
        dict(kwargs),
        task_id=task_id,
        exchange=exchange,
        routing_key=queue or key,
        protocol=conf.task_protocol,
        serializer=option("serializer") or conf.task_serializer,
        compression=option("compression") or conf.task_compression,
        priority=priority or 0,
        eta=iso(due_at) if due_at is not None else None,
        expires=iso(expires_at) if expires_at is not None else None,
        expiration_ms=str(max(int((expires_at - now) * 1000), 0)) if expires_at is not None else None,
        retries=options.get("retries") or 0,
        time_limit=options.get("time_limit"),
        soft_time_limit=options.get("soft_time_limit"),
        root_id=options.get("root_id") or (parent.root_id or parent.id if parent else None),
        parent_id=options.get("parent_id") or (parent.id if parent else None),
        group_id=options.get("group_id"),
        group_index=options.get("group_index"),
        shadow=options.get("shadow")
        or (task.shadow_name(args, kwargs, options) if task is not None else None),
        ignore_result=None if ignore is None else bool(ignore),
        reply_to=options.get("reply_to") or app.reply_to(),
        embed=embed,
        headers=_headers(options, routed),
        stamped_headers=options.get("stamped_headers"),
        stamps=stamps,
        delivery_mode=mode,
        argsrepr=options.get("argsrepr"),
        kwargsrepr=options.get("kwargsrepr"),
        repr_levels=conf.task_repr_maxlevels,
        properties={name: options[name] for name in unknown_to_calls(options) if name not in (stamps or ())},
        before=announce,
    )
    return Message(
        raw=raw,
        queue=queue,
        exchange=exchange,
        routing_key=key,
        priority=priority or 0,
        due_at=due_at if due_at is not None and due_at > now else None,
    )


def publish_through(app: RoutingApp, messages: Sequence[Message], options: Mapping[str, Any]) -> None:
    """Publish over the caller's producer or connection, objects of kombu (options of a call)."""
    producer = options.get("producer")
    if producer is None:
        producer = importlib.import_module("kombu").Producer(options["connection"])
    for message in messages:
        found = envelope.decode(message.raw)
        properties = found.properties
        producer.publish(
            binascii.a2b_base64(found.body),
            exchange=message.exchange,
            routing_key=message.routing_key or message.queue,
            content_type=found.content_type,
            content_encoding=found.content_encoding,
            headers=found.headers,
            priority=message.priority,
            delivery_mode=properties.delivery_mode,
            correlation_id=properties.correlation_id,
            reply_to=properties.reply_to,
            expiration=int(properties.expiration) / 1000 if properties.expiration else None,
            retry=bool(options.get("retry", app.conf.task_publish_retry)),
            retry_policy={**app.conf.task_publish_retry_policy, **(options.get("retry_policy") or {})},
            timeout=options.get("timeout"),
            confirm_timeout=options.get("confirm_timeout"),
        )


def _headers(options: dict[str, Any], routed: dict[str, Any]) -> Any:
    """The caller's headers, else those of the route, with the idempotency key if there is one."""
    key, headers = options.get("idempotency_key"), options.get("headers")
    if headers is None and routed:
        headers = routed.get("headers")
    return headers if key is None else {**(headers or {}), KEY_HEADER: key}


def publish_sent_event(app: RoutingApp, message: Message) -> None:
    """Publish the task-sent event of a message."""
    found = task_wire.read(message.raw, content.ANYTHING)
    head = found.headers
    queue = message.queue or None
    event = {
        "type": "task-sent",
        "hostname": task_wire.origin(),
        "utcoffset": 0,
        "pid": os.getpid(),
        "clock": app.tick_clock(),
        "timestamp": time.time(),
        "uuid": found.id,
        "name": found.task,
        "args": head.get("argsrepr"),
        "kwargs": head.get("kwargsrepr"),
        **{k: head.get(k) for k in ("root_id", "parent_id", "retries", "eta", "expires")},
        "queue": queue,
        "exchange": message.exchange,
        "routing_key": message.routing_key or queue,
    }
    key = event_wire.routing_key("task-sent")
    raw = event_wire.encode(event, task_wire.origin(), key, app.conf.event_serializer)
    app.broker.broadcast(app.conf.event_exchange, key, raw)


Published = TypeVar("Published")


def retried(
    publish: Callable[[], Published],
    conf: Config,
    retry: bool | None,
    own: Mapping[str, Any] | None = None,
) -> Published:
    """Call publish() until it succeeds, and return its result; raises its last BrokerDown after the retries
    of task_publish_retry_policy. retry: overrides the setting task_publish_retry unless it is None; own:
    items that override those of the policy, and `confirm_timeout`, the seconds of one try."""
    if own is None or "confirm_timeout" not in own:
        return _retried(publish, conf, retry, own)
    token = confirm_within_s.set(own["confirm_timeout"])
    try:
        return _retried(publish, conf, retry, own)
    finally:
        confirm_within_s.reset(token)


def policy_of(options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The retry policy of a call with these options, and how long the broker may take to confirm a try."""
    own: Mapping[str, Any] | None = options.get("retry_policy")
    wait_s = options.get("confirm_timeout") or options.get("timeout")
    return own if wait_s is None else {**(own or {}), "confirm_timeout": float(wait_s)}


def _retried(
    publish: Callable[[], Published], conf: Config, retry: bool | None, own: Mapping[str, Any] | None
) -> Published:
    try:
        return publish()
    except BrokerDown:
        if not (conf.task_publish_retry if retry is None else retry):
            raise
    policy = {"max_retries": 3, "interval_start": 0, "interval_max": 1, "interval_step": 0.2}
    policy.update(conf.task_publish_retry_policy)
    policy.update(own or {})
    wait = float(policy["interval_start"] or 0)
    tries = policy["max_retries"]
    attempt = 0
    while True:
        attempt += 1
        time.sleep(wait)
        wait = min(wait + float(policy["interval_step"]), float(policy["interval_max"]))
        try:
            return publish()
        except BrokerDown:
            if tries is not None and attempt >= tries:
                raise
