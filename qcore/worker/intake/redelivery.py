"""Redelivered messages: joined to a run in progress, or settled from the stored result.

In:  claimed deliveries.  Out: those to run.
Where a result and its acknowledgement are two steps, a lost connection between them causes a redelivery of
a task that is done or still runs on this worker. Such a message has the broker's redelivery flag, or the
header `redelivered`, which a continuation carries when it is sent a second time.
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

#: that header in the bytes of a qcore envelope: a cheap first test, confirmed on the parsed message
_MARK = b'"redelivered":true'

#: (task id, task name, retries): equal for two messages of the same attempt
Attempt = tuple[str, str, int]


class Deduplicator:
    """Removes duplicates of done and running tasks. Only the loop's thread calls it; a first delivery
    passes unchanged."""

    def __init__(
        self,
        app: App,
        results: ResultStore,
        add: Callable[[TaskMessage | None, Settlement], None],
        reporter: TaskReporter,
    ) -> None:
        """add queues a settlement; it gets the message too if the result may have to be sent to a caller."""
        self._app, self._results, self._add, self._reporter = app, results, add, reporter
        self._accept = frozenset(app.conf.accept_content)
        self._on = bool(app.conf.worker_deduplicate_successful_tasks)
        # Where one step stores the result and acknowledges, a redelivered task is never done.
        self._asks = results.keeps and results.shared and not results.in_broker

    def new(self, deliveries: Sequence[Delivery], held: Mapping[int, InFlight]) -> Sequence[Delivery]:
        """The deliveries to run, in their order; the others are settled or joined to their run."""
        again = {d.number for d in deliveries if d.redelivered or _MARK in d.raw}
        if not again or not self._on:
            return deliveries
        messages = {d.number: message for d in deliveries if (message := self._read(d)) is not None}
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
                    self._add(None, Settlement(copy))  # the redelivered one runs for both
                fresh[attempt] = delivery
        return list(fresh.values())

    def _join(self, held: InFlight, delivery: Delivery) -> None:
        """The task runs on this worker: its outcome settles the new delivery. The old one is acknowledged:
        the broker refuses that if its lease was lost, and drops the copy if it holds two."""
        old, held.delivery = held.delivery, delivery
        self._add(None, Settlement(old))
        log.info("Task %s[%s] was redelivered while it runs here", held.message.task, held.message.id)

    def _read(self, delivery: Delivery) -> TaskMessage | None:
        try:
            return task_wire.read(delivery.raw, self._accept)
        except Malformed:
            return None

    def _done(self, task_ids: list[str]) -> dict[str, ResultMeta]:
        """The stored results of those tasks among these that succeeded, by task id; without those that asked
        for a further attempt, since only another run can publish it."""
        if not self._asks or not task_ids:
            return {}
        try:
            found = zip(task_ids, self._results.get(task_ids), strict=True)
            return {i: m for i, m in found if m and m.status == result_wire.SUCCESS and not m.next_attempt}
        except (BrokerError, Malformed) as exc:
            # A second run is allowed (at-least-once), and better than a wait for the result store.
            log.warning("results of redelivered tasks cannot be read, so these tasks run again: %s", exc)
            return {}

    def _settled(self, delivery: Delivery, message: TaskMessage, meta: ResultMeta) -> Settlement:
        """Settle the delivery from its stored result. Its continuations may not have been published: they
        are published again with the header `redelivered`, so that their workers remove duplicates too."""
        log.info("Task %s[%s] was redelivered after its success: not run", message.task, message.id)
        settlement = Settlement(delivery, Settle.ACK)
        settlement.report = partial(self._reporter.was_done, message, meta.result)
        try:
            embed = task_wire.read_body(message, self._accept).embed
            if any(embed.values()):
                found = continuations.succeeded(embed, meta.result, message, self._app)
                settlement.sends = tuple(map(sent_again, found.messages))
                settlement.before = found.before
        except (Malformed, ConfigError, TypeError) as exc:
            log.error("the follow-up messages of %s[%s] cannot be read: %s", message.task, message.id, exc)
        return settlement


def _attempt(message: TaskMessage) -> Attempt:
    return message.id, message.task, message.retries
