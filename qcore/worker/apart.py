"""Settlements that the broker refuses together: one by one, so that one does not hold up the others."""

from __future__ import annotations

import logging

from qcore.brokers.base import Consumer, Settlement
from qcore.errors import BrokerBusy, BrokerDown, BrokerError, BrokerFull
from qcore.worker.say import report

log = logging.getLogger("qcore.worker")


def settle_apart(consumer: Consumer, batch: list[Settlement], exc: BrokerError) -> list[Settlement]:
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
            again += settle_apart(consumer, [settlement], own)
    return again
