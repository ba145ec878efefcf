"""What must be durable before deliveries are settled, and what happens while its store is away.

In:  settlements, as runs end.  Out: those that may be settled now. The rest stays here, held by this
worker, and is tried again later and later; meanwhile the loop claims nothing. So a store that is away
costs time, and no result, no task and no memory. The broker's own outages are the loop's (outage.py).
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
    """Results kept apart from the broker, chords, and the records of tasks acknowledged early."""

    def __init__(self, app: App, results: ResultStore, chords: Chords) -> None:
        self._app, self._results, self._chords = app, results, chords
        self._inline = results.in_broker
        self._outage = Outage("the result store")
        self._held: list[Settlement] = []  # not settled yet: their deliveries are ours
        self._records: list[Settlement] = []  # acknowledged before their run: only to be recorded

    def is_away(self) -> bool:
        return self._outage.since is not None

    def waits(self) -> bool:
        """Whether something waits here for the store."""
        return bool(self._held or self._records)

    def left_s(self) -> float:
        """Until the next try."""
        return self._outage.left_s()

    def down_for_s(self) -> float:
        return self._outage.down_for_s()

    def ready(self, batch: list[Settlement]) -> list[Settlement]:
        """Of these, and of those that waited, the ones that may be settled now. Raises BrokerDown when
        the results are the broker's own affair, and what the store itself refuses."""
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
        """The store is there and does not take something in it: that must not hold up the others.
        Those that may be settled."""
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
                log.error("what must be stored before a delivery is settled was refused: %s", exc)
                settlement.result = settlement.before = None
            done.append(settlement)
        return done

    def _store(self, batch: Sequence[Settlement]) -> None:
        """Result, then acknowledgement. Stored ones lose their result: a second try has less to do."""
        found = [s.result for s in batch if s.result is not None]
        if found and self._results.keeps:
            self._results.store(found)
        for settlement in batch:
            settlement.result = None
        crashpoint("stored_apart")

    def record(self, settlement: Settlement) -> None:
        """The delivery was acknowledged before the run: what is left are the result and what follows."""
        self._records.append(settlement)
        if not (self.is_away() and self._outage.left_s()):
            self._try_records()

    def started(self, held: InFlight, pid: int, node: str, ttl_s: float | None) -> None:
        """Store that a run has begun, for tasks that are tracked; nothing waits for it."""
        meta = result_wire.encode(
            held.message.id, result_wire.STARTED, {"pid": pid, "hostname": node}, now=time.time()
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
                    self._app.broker.store_failed_tasks([settlement.failure])
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
        """The worker leaves while the store is away: what ran goes back, flagged, to be run again."""
        if self._records:
            log.error("%d outcome(s) of tasks acknowledged early are lost", len(self._records))
            self._records.clear()
        held, self._held = self._held, []
        if held:
            log.error("%d outcome(s) could not be stored; those tasks go back to their queues", len(held))
        return [Settlement(s.delivery, Settle.RETURN) for s in held]


def settle_individually(consumer: Consumer, batch: list[Settlement], exc: BrokerError) -> list[Settlement]:
    """Settle each of a refused batch; those to try again in the next turn.

    The broker refuses something in it, such as a callback to a place that does not exist: that is left
    out, and said.
    """
    if len(batch) == 1:
        if not batch[0].sends:
            log.error("a delivery cannot be settled and stays in flight until this worker ends: %s", exc)
            return []
        log.error("a message that follows from a task was not sent: %s", exc)
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
