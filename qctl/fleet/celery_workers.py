"""Celery workers and pauses: who consumes a queue, and telling them to stop and to go on.

In:  an app and the name of a queue.  Out: names of workers, and what each replied.
A pause is kept by the broker, and only workers of qcore look there. Celery's are told one by one, by
cancel_consumer and add_consumer; one that starts later is not told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from qcore.brokers.contract.administration import Pause

if TYPE_CHECKING:
    from qcore.app.app import App
    from qcore.control.client import Answers

ASK_S = 1.0


class Consumers(NamedTuple):
    """Celery workers that consume a queue; silent: those that did not answer, so nobody knows."""

    nodes: list[str]
    silent: list[str]


def consumers_of(app: App, queue: str) -> Consumers:
    """The Celery workers that consume the queue now."""
    others = app.broker.roster()[1]
    if not others:
        return Consumers([], [])
    answers = app.control.ask("active_queues", timeout_s=ASK_S)
    theirs = sorted(set(answers.replies) & set(others))
    found = [node for node in theirs if queue in queue_names(answers.replies[node])]
    return Consumers(found, [one.node for one in answers.silent if one.node in others])


def queue_names(reply: Any) -> list[str]:
    """The queues in a worker's reply to active_queues."""
    return [str(q.get("name")) for q in reply if isinstance(q, Mapping)] if isinstance(reply, list) else []


def tell(app: App, command: str, queue: str, nodes: Sequence[str]) -> dict[str, str]:
    """Tell workers to stop (cancel_consumer) or start (add_consumer) consuming; why, for each that did not
    comply."""
    if not nodes:
        return {}
    answers = app.control.ask(command, {"queue": queue}, sorted(nodes), ASK_S)
    failed = {node: "it is gone" for node in nodes if node in answers.unknown}
    for node in nodes:
        reply = answers.replies.get(node)
        if node not in failed and reply is None:
            failed[node] = "it did not answer"
        elif isinstance(reply, Mapping) and "error" in reply:
            failed[node] = str(reply["error"])
    return failed


def not_paused(pauses: Sequence[Pause], answers: Answers) -> dict[str, list[str]]:
    """By paused queue, the Celery workers that consume it all the same, from replies to active_queues."""
    paused = {pause.queue for pause in pauses}
    found: dict[str, list[str]] = {}
    for node, reply in sorted(answers.replies.items()) if paused else ():
        for queue in queue_names(reply) if node not in answers.members else ():
            if queue in paused:
                found.setdefault(queue, []).append(node)
    return found
