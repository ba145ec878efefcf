"""The result outbox: results that are stored before their deliveries are settled, also through an outage.

In:  settlements, as runs end.  Out: those that may be settled now. While the result store is unavailable
the others wait here in flight, and are tried again with a growing back-off; the loop claims nothing. An
outage therefore costs time, and no result, no task and no memory. The loop handles outages of the broker.
Before this: worker/settling/rules.py.  After this: brokers/X, settle().
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qcore.base.crashpoints import crashpoint
from qcore.brokers.contract.consumer import Consumer
from qcore.brokers.contract.records import Settle, Settlement, StoredResult
from qcore.errors import BrokerBusy, BrokerDown, BrokerError, BrokerFull
from qcore.results.base import ResultStore
from qcore.wire import result as result_wire
from qcore.worker.in_flight import InFlight
from qcore.worker.outage import Outage
from qcore.worker.services.reporting import report
from qcore.worker.settling.chords import Chords

if TYPE_CHECKING:
    from qcore.app.app import App

log = logging.getLogger("qcore.worker")

AWAY = (BrokerDown, BrokerFull, BrokerBusy)


class ResultOutbox:
    """Stores results outside the broker, chords, and the outcomes of tasks acknowledged early."""

    def __init__(self, app: App, results: ResultStore, chords: Chords) -> None:
        self._app, self._results, self._chords = app, results, chords
        self._inline = results.in_broker
        self._outage = Outage("the result store")
        self._held: list[Settlement] = []  # not settled: their deliveries are in flight
        self._records: list[Settlement] = []  # acknowledged early: only their outcomes must be stored

    def is_away(self) -> bool:
        return self._outage.since is not None

    def waits(self) -> bool:
        """Whether a settlement waits for the result store."""
        return bool(self._held or self._records)

    def left_s(self) -> float:
        """Seconds until the next try."""
        return self._outage.left_s()

    def down_for_s(self) -> float:
        return self._outage.down_for_s()

    def ready(self, batch: list[Settlement]) -> list[Settlement]:
        """Of these settlements and those that waited, the ones that may be settled now. Raises BrokerError
        only where the result store is the broker."""
        if self._inline:
            self._chords.before(batch)
            self._try_records()
            return batch
        free = [s for s in batch if s.result is None and s.before is None]
        self._held += [s for s in batch if s.result is not None or s.before is not None]
        if not self.waits() or (self.is_away() and self._outage.left_s()):
            return free
        held, self._held = self._held, []
        try:
            self._store(held)
            self._chords.before(held)
        except AWAY as exc:
            self._held = held
            self._outage.begins(exc)
            return free
        except BrokerError:
            held = self._one_by_one(held)
        self._try_records()
        if held:
            self._works()
        return free + held

    def _one_by_one(self, batch: list[Settlement]) -> list[Settlement]:
        """Store each settlement of a refused batch alone, so that one bad result does not delay the others.
        Returns those that may be settled."""
        done = []
        for settlement in batch:
            try:
                self._store([settlement])
                self._chords.before([settlement])
            except AWAY as exc:
                self._held.append(settlement)
                self._outage.begins(exc)
                continue
            except BrokerError as exc:
                log.error("a record that must precede a settlement was refused: %s", exc)
                settlement.result = settlement.before = None
            done.append(settlement)
        return done

    def _store(self, batch: Sequence[Settlement]) -> None:
        """Store the results, and remove them from the settlements: a second try must not store them again."""
        found = [s.result for s in batch if s.result is not None]
        if found and self._results.keeps:
            self._results.store(found)
        for settlement in batch:
            settlement.result = None
        crashpoint("stored_apart")

    def record(self, settlement: Settlement) -> None:
        """Record the outcome of a task acknowledged early: its result and the messages that follow. While the
        store is unavailable, the outcome waits."""
        self._records.append(settlement)
        if not (self.is_away() and self._outage.left_s()):
            self._try_records()

    def started(self, held: InFlight, pid: int, node: str, ttl_s: float | None) -> None:
        """Store the state STARTED, for tasks with track_started; on an error it is dropped."""
        meta = result_wire.encode(
            held.message.id,
            result_wire.STARTED,
            {"pid": pid, "hostname": node},
            now=time.time(),
            form=self._results.form,
        )
        try:
            if self._results.keeps and not self.is_away():
                self._results.store([StoredResult(held.message.id, meta, ttl_s)])
        except BrokerError as exc:
            log.debug("STARTED not stored: %s", exc)

    def _try_records(self) -> None:
        while self._records:
            settlement = self._records[0]
            try:
                if settlement.result is not None and self._results.keeps:
                    self._results.store([settlement.result])
                self._chords.before([settlement])
                if settlement.failure is not None:
                    self._app.broker.failed_tasks.store([settlement.failure])
                if settlement.sends:
                    self._app.broker.publish(settlement.sends)
            except AWAY as exc:
                self._outage.begins(exc)
                return
            except BrokerError as exc:
                log.error("an outcome of a task acknowledged early could not be recorded: %s", exc)
            del self._records[0]
            report([settlement], ())
            self._works()

    def _works(self) -> None:
        if self.is_away():
            self._outage.ends()
        self._outage.works()

    def give_up(self) -> list[Settlement]:
        """For a shutdown during an outage: returns settlements that return the waiting deliveries, flagged.
        The outcomes of tasks acknowledged early are lost; an error is logged."""
        if self._records:
            log.error("%d outcome(s) of tasks acknowledged early are lost", len(self._records))
            self._records.clear()
        held, self._held = self._held, []
        if held:
            log.error("%d outcome(s) could not be stored; these tasks return to their queues", len(held))
        return [Settlement(s.delivery, Settle.RETURN) for s in held]


def settle_individually(consumer: Consumer, batch: list[Settlement], exc: BrokerError) -> list[Settlement]:
    """Settle each delivery of a refused batch alone. Returns the settlements to try again.

    A message that the broker refuses, such as a callback to an exchange that does not exist, is dropped and
    an error is logged.
    """
    if len(batch) == 1:
        if not batch[0].sends:
            log.error("a delivery cannot be settled and stays in flight until this worker ends: %s", exc)
            return []
        log.error("a follow-up message of a task was not sent: %s", exc)
        batch[0].sends = ()
        return batch
    again: list[Settlement] = []
    for settlement in batch:
        try:
            report([settlement], consumer.settle([settlement]))
        except (BrokerDown, BrokerFull, BrokerBusy):
            again.append(settlement)
        except BrokerError as own:
            again += settle_individually(consumer, [settlement], own)
    return again
