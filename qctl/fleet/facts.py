"""Collect the facts that `qctl doctor` checks: the broker, its queues, and the workers' replies.

In:  an app.  Out: Facts.  After this: commands/doctor/checks.py.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from qcore.brokers.contract.administration import Depth, Pause
from qcore.brokers.contract.diagnosis import Symptom
from qcore.brokers.contract.records import Member
from qcore.errors import Malformed, Unsupported
from qcore.settings.effects import without_effect
from qcore.wire import envelope

if TYPE_CHECKING:
    from qcore.app.app import App
    from qcore.control.client import SilentWorker

ASK_S = 1.0
QUESTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("stats", {}),
    ("registered", {"builtins": True}),
    ("active_queues", {}),
    ("conf", {}),
    ("active", {}),
)
#: messages of each queue that are read for their task names
PEEK = 200
#: queues that are read
MOST_QUEUES = 200


class Facts(msgspec.Struct):
    """A snapshot of a fleet."""

    at: float
    members: dict[str, Member]
    silent: list[SilentWorker]
    #: replies by command and node: stats, registered, active_queues, conf, active
    replies: dict[str, dict[str, Any]]
    depths: dict[str, Depth]
    waiting: dict[str, Counter[str]]  # by queue: names of tasks among its next messages
    paused: list[Pause]
    quarantined: Counter[str]  # by reason
    symptoms: list[Symptom]
    keeps_results: bool
    round_trip_s: float
    #: whether other hosts can reach the broker
    networked: bool = False
    #: settings without effect that the app sets
    without_effect: list[str] = []

    @property
    def nodes(self) -> set[str]:
        """Workers that answered."""
        return set(self.replies["stats"])

    def consumers(self, queue: str) -> list[str]:
        """Workers that consume from the queue."""
        return [
            node
            for node, queues in self.replies["active_queues"].items()
            if isinstance(queues, list)
            and any(isinstance(q, dict) and q.get("name") == queue for q in queues)
        ]

    def registered(self, node: str) -> set[str]:
        lines = self.replies["registered"].get(node)
        return {str(line).split(" [")[0] for line in lines} if isinstance(lines, list) else set()


def gather(app: App) -> Facts:
    """Collect all facts. Raises BrokerDown."""
    broker = app.broker
    started = time.monotonic()
    broker.check()
    round_trip_s = time.monotonic() - started
    replies: dict[str, dict[str, Any]] = {}
    silent: list[SilentWorker] = []
    destination: list[str] | None = None
    for command, arguments in QUESTIONS:
        answers = app.control.ask(command, arguments, destination, ASK_S)
        replies[command] = answers.replies
        silent = silent or answers.silent
        if silent or answers.possibly_silent:
            destination = sorted(answers.replies)  # wait for silent workers once, not five times
        if not answers.replies:
            replies |= {name: {} for name, _ in QUESTIONS}
            break  # no worker is online: skip the other four queries
    queues = sorted(broker.administration.queues())[:MOST_QUEUES]
    return Facts(
        at=time.time(),
        members={m.node: m for m in broker.members()},
        silent=silent,
        replies=replies,
        depths={queue: broker.administration.depth(queue) for queue in queues},
        waiting={queue: _names(app, queue) for queue in queues} if broker.features.peek else {},
        paused=broker.administration.pauses(),
        quarantined=Counter(q.reason for q in _quarantined(app)),
        symptoms=broker.diagnosis.symptoms(),
        keeps_results=app.results.keeps,
        round_trip_s=round_trip_s,
        networked=broker.features.multi_host,
        without_effect=without_effect(app.conf.without_defaults()),
    )


def _quarantined(app: App) -> list[Any]:
    try:
        return list(app.broker.administration.quarantined(10_000))
    except Unsupported:
        return []


def _names(app: App, queue: str) -> Counter[str]:
    names: Counter[str] = Counter()
    for raw in app.broker.administration.peek(queue, PEEK):
        try:
            name = envelope.decode(raw).headers.get("task")
        except Malformed:
            continue
        if isinstance(name, str):
            names[name] += 1
    return names
