"""Which queues there are; words about one that is not."""

from __future__ import annotations

from qctl import exits
from qctl.params import nearest
from qctl.session import current


def refuse_unknown(queue: str) -> None:
    """Stop when there is nothing of that name at the broker."""
    broker = current().broker
    known = {*broker.queues(), *broker.paused()}
    if queue in known or not known:
        return
    depth = broker.depth(queue)
    if not depth.ready and not depth.delayed:
        raise exits.Stop(exits.NOT_FOUND, f"no queue named '{queue}'{nearest(queue, known)}")
