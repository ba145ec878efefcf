"""Results as messages to their caller: rpc://, through the broker, as Celery's rpc backend does it.

In:  messages in the process's own queue, named in `reply_to`.  Out: ResultMeta; nothing is stored.
Options: `broker` (the open Broker), `result_expires_s` and `result_persistent`. Only the process that
sent a task can read its result; received results stay in this process, the oldest are dropped first.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from qcore.base.times import new_id
from qcore.brokers.base import Broker
from qcore.brokers.contract.consumer import Consumer
from qcore.brokers.contract.records import Message, Settlement, StoredResult
from qcore.brokers.contract.subscription import Subscription
from qcore.brokers.registry import open_broker
from qcore.brokers.shared.fork_hooks import tell_after_fork
from qcore.errors import BrokerDown, ConfigError, Malformed, MessageTooLarge
from qcore.results.base import ResultStore
from qcore.wire import envelope
from qcore.wire.content import MAX_WIRE_BYTES, type_of
from qcore.wire.result import FAILURE, READY_STATES, ResultMeta, encode, exception_data, meta_of
from qcore.wire.result_form import is_refused

EXPIRES_S = 86400.0
KEPT = 10_000
POLL_S = 0.05
SLICE_S = 0.5  # how long one thread reads for all threads before another takes over
TRANSIENT, PERSISTENT = 1, 2


class RpcStore(ResultStore):
    """One reply queue per process."""

    shared = False

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        super().__init__(url, options)
        broker = self.options.get("broker") or self.options.get("broker_url")
        if broker is None:
            raise ConfigError("rpc:// results travel through the broker; the store was opened without one")
        self._broker: Broker = open_broker(broker) if isinstance(broker, str) else broker
        self._expires_s = float(self.options.get("result_expires_s") or EXPIRES_S)
        self._delivery_mode = PERSISTENT if self.options.get("result_persistent") else TRANSIENT
        self._start()
        tell_after_fork(self)

    def _start(self) -> None:
        self._changed = threading.Condition()
        self._reading = False
        self._metas: OrderedDict[str, ResultMeta] = OrderedDict()
        self._name = new_id()
        self._queue: Subscription | None = None

    def after_fork(self) -> None:
        """In a child: it is a separate caller, with a queue of its own."""
        self._start()

    # --- the worker's side

    def store(self, results: Sequence[StoredResult]) -> None:
        """Does nothing; reply() creates the message that brings a result to its caller."""

    def reply(self, result: StoredResult, reply_to: str, correlation_id: str) -> Message | None:
        if not reply_to:
            return None
        raw = self._wrapped(result.meta, reply_to, correlation_id)
        if len(raw) > MAX_WIRE_BYTES:  # base64 makes it larger, and the caller would wait for ever
            error = exception_data(
                MessageTooLarge(f"the result of {result.task_id}", len(raw), MAX_WIRE_BYTES)
            )
            meta = encode(result.task_id, FAILURE, error, now=time.time(), form=self.form)
            raw = self._wrapped(meta, reply_to, correlation_id)
        return Message(raw, queue=reply_to)

    def _wrapped(self, meta: bytes, reply_to: str, correlation_id: str) -> bytes:
        mime, encoding = type_of(self.form.serializer)
        return envelope.wrap(
            meta,
            exchange="",
            routing_key=reply_to,
            content_type=mime,
            content_encoding=encoding,
            correlation_id=correlation_id,
            delivery_mode=self._delivery_mode,
        )

    # --- the caller's side

    def reply_to(self) -> str | None:
        """The name of the queue, which exists when this returns."""
        self._open()
        return self._name

    def _open(self) -> Subscription:
        with self._changed:
            if self._queue is None:
                opener = getattr(self._broker, "open_replies", None)
                if opener is not None:
                    self._queue = opener(self._name, self._expires_s)
                else:
                    self._queue = ConsumedReplies(
                        self._broker.consumer([self._name], f"results@{os.getpid()}")
                    )
            return self._queue

    def get(self, task_ids: Sequence[str]) -> list[ResultMeta | None]:
        self._read(0.0)
        with self._changed:
            return [self._metas.get(task_id) for task_id in task_ids]

    def wait(self, task_id: str, timeout_s: float | None) -> ResultMeta | None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._changed:
                found = self._metas.get(task_id)
            if found is not None and found.status in READY_STATES:
                return found
            left = SLICE_S if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return None
            self._read(min(left, SLICE_S))

    def _read(self, timeout_s: float) -> None:
        """Read received results, waiting up to timeout_s seconds; one thread reads for all."""
        queue = self._open()
        with self._changed:
            if self._reading:
                self._changed.wait(timeout_s)
                return
            self._reading = True
        try:
            raw = queue.get(timeout_s)
            while raw is not None:
                self._keep(raw)
                raw = queue.get(0)
        except BrokerDown:
            with self._changed:
                # The queue keeps its name: the next request opens it again.
                self._queue = None
            queue.close()
            raise
        finally:
            with self._changed:
                self._reading = False
                self._changed.notify_all()

    def _keep(self, raw: bytes) -> None:
        try:
            found = envelope.decode(raw)
            body = self.form.read(envelope.body_bytes(found), found.content_type, found.content_encoding)
            task_id = found.properties.correlation_id or body["task_id"]
            meta = meta_of(body, task_id)
        except Malformed as exc:
            if not is_refused(exc) or not (task_id := found.properties.correlation_id):
                return  # not a result, so no caller waits for it
            # Whoever waits for it would wait for ever.
            meta = ResultMeta(task_id, FAILURE, exception_data(exc))
        except (KeyError, TypeError):
            return
        with self._changed:
            known = self._metas.get(task_id)
            if known is not None and known.is_ready:
                return  # a late 'started' or a second run changes nothing
            self._metas[task_id] = meta
            while len(self._metas) > KEPT:
                self._metas.popitem(last=False)
            self._changed.notify_all()

    def forget(self, task_ids: Sequence[str]) -> int:
        with self._changed:
            return sum(self._metas.pop(task_id, None) is not None for task_id in task_ids)

    def close(self) -> None:
        with self._changed:
            queue, self._queue = self._queue, None
        if queue is not None:
            queue.close()


class ConsumedReplies(Subscription):
    """The reply queue on brokers where it is an ordinary queue."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def get(self, timeout_s: float | None) -> bytes | None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            for delivery in self._consumer.claim(1):
                self._consumer.settle([Settlement(delivery)])
                return delivery.raw
            self._consumer.renew()
            left = POLL_S if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(left, POLL_S))

    def close(self) -> None:
        self._consumer.close()
