"""What comes again: joined to the run that is still going, or settled from the result that is stored.

In:  claimed deliveries.  Out: those that are to be run.
Where results and acknowledgements are two steps, a connection that ends between them brings back a
message whose work is done, or is being done right here. Such a message is redelivered, or it is a
continuation that we sent once more: then its header `redelivered` says so.
Before this: brokers/X claimed it.  After this: worker/intake/admission.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from qcore.brokers.contract.records import Delivery, Settle, Settlement, sent_again
from qcore.errors import BrokerError, ConfigError, Malformed
from qcore.execution import continuations
from qcore.results.base import ResultStore
from qcore.wire import result as result_wire
from qcore.wire import task as task_wire
from qcore.wire.result import ResultMeta
from qcore.wire.task import TaskMessage
from qcore.worker.in_flight import InFlight
from qcore.worker.services.reporting import TaskReporter

if TYPE_CHECKING:
    from qcore.app.app import App

log = logging.getLogger("qcore.worker")

#: how that header looks in an envelope that one of us wrote; read again properly when it is found
_MARK = b'"redelivered":true'

#: what two messages of the same attempt have in common
Attempt = tuple[str, str, int]


class Deduplicator:
    """Belongs to the loop, and is called by its thread. Does nothing for what comes the first time."""

    def __init__(
        self,
        app: App,
        results: ResultStore,
        add: Callable[[TaskMessage | None, Settlement], None],
        say: TaskReporter,
    ) -> None:
        """add queues a settlement; the message is given when its result may have a reader."""
        self._app, self._results, self._add, self._say = app, results, add, say
        self._on = bool(app.conf.worker_deduplicate_successful_tasks)
        # Where the result is stored in the step that acknowledges, what came again was not done.
        self._asks = results.keeps and results.shared and not results.in_broker

    def new(self, deliveries: Sequence[Delivery], held: Mapping[int, InFlight]) -> Sequence[Delivery]:
        """The deliveries that are to be run, in their order; the others are seen to here."""
        again = {d.number for d in deliveries if d.redelivered or _MARK in d.raw}
        if not again or not self._on:
            return deliveries
        messages = {d.number: message for d in deliveries if (message := _read(d)) is not None}
        done = self._done([messages[n].id for n in again if n in messages])
        going = {_attempt(h.message): h for h in held.values() if not h.acked}
        fresh: dict[Attempt | int, Delivery] = {}
        for delivery in deliveries:
            message = messages.get(delivery.number)
            attempt = _attempt(message) if message is not None else delivery.number
            if message is None or not (delivery.redelivered or message.headers.get("redelivered") is True):
                fresh[delivery.number if attempt in fresh else attempt] = delivery
                continue
            delivery.redelivered = True
            if attempt in going:
                self._join(going[attempt], delivery)
            elif message.id in done:
                self._add(message, self._settled(delivery, message, done[message.id]))
            else:
                copy = fresh.pop(attempt, None)
                if copy is not None:
                    self._add(None, Settlement(copy))  # this one stands for both
                fresh[attempt] = delivery
        return list(fresh.values())

    def _join(self, held: InFlight, delivery: Delivery) -> None:
        """It runs here: its outcome will settle the delivery that came now. The older one is gone
        from us, and settling it is refused; unless the broker has two copies, then it is one too many."""
        old, held.delivery = held.delivery, delivery
        self._add(None, Settlement(old))
        log.info("Task %s[%s] came again while it runs here", held.message.task, held.message.id)

    def _done(self, task_ids: list[str]) -> dict[str, ResultMeta]:
        """The stored successes among these."""
        if not self._asks or not task_ids:
            return {}
        try:
            found = zip(task_ids, self._results.get(task_ids), strict=True)
            return {i: m for i, m in found if m is not None and m.status == result_wire.SUCCESS}
        except BrokerError as exc:
            # Running it once more is allowed; holding it back until the store is there is not better.
            log.warning("whether redelivered tasks are done cannot be asked, so they run again: %s", exc)
            return {}

    def _settled(self, delivery: Delivery, message: TaskMessage, meta: ResultMeta) -> Settlement:
        """Its end, from its stored result. What follows from it may not have been sent, so it is sent
        now, and marked: whoever gets it looks whether that is done as well."""
        log.info("Task %s[%s] came again and is done: not run", message.task, message.id)
        settlement = Settlement(delivery, Settle.ACK)
        settlement.report = partial(self._say.was_done, message, meta.result)
        try:
            embed = task_wire.read_body(message, frozenset(self._app.conf.accept_content)).embed
            if any(embed.values()):
                found = continuations.succeeded(embed, meta.result, message, self._app)
                settlement.sends = tuple(map(sent_again, found.messages))
                settlement.before = found.before
        except (Malformed, ConfigError, TypeError) as exc:
            log.error("what follows from %s[%s] cannot be read: %s", message.task, message.id, exc)
        return settlement


def _read(delivery: Delivery) -> TaskMessage | None:
    try:
        return task_wire.read(delivery.raw)
    except Malformed:
        return None


def _attempt(message: TaskMessage) -> Attempt:
    return message.id, message.task, message.retries
