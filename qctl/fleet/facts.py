"""Collect the facts that `qctl doctor` checks: the broker, its queues, and the workers' replies.

In:  an app.  Out: Facts.  After this: commands/doctor/checks.py.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from qcore.app.schedules import Scheduled, scheduled
from qcore.brokers.contract.administration import Depth, Pause
from qcore.brokers.contract.diagnosis import Symptom
from qcore.brokers.contract.records import Member
from qcore.errors import ConfigError, Malformed, Unsupported
from qcore.settings.effects import without_effect
from qcore.wire import envelope
from qctl.fleet import schedules

if TYPE_CHECKING:
    from qcore.app.app import App
    from qcore.control.client import SilentWorker

log = logging.getLogger("qctl.fleet")

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
#: decisions of an entry that are read
MISSES = 10
#: queues that are read
MOST_QUEUES = 200


class EntryFact(msgspec.Struct, frozen=True):
    """One entry of the schedule."""

    name: str
    task: str
    status: str  # of fleet/schedules.py
    problem: str = ""  # why it is not published
    queue: str | None = None  # where its task goes; None: unknown, since the routes of its project are
    source: str | None = None  # the app that declares it; None: people added it
    just_missed: int = 0  # instants that were missed since it was last published


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
    entries: list[EntryFact] = []
    schedulers: list[Member] = []
    #: settings without effect that the app sets
    without_effect: list[str] = []
    #: names that more than one worker uses: their processes, as far as they are known
    twins: dict[str, list[str]] = {}
    #: how many answered; several of one name count separately
    workers: int = 0
    #: the nodes of a cluster and the one that has the data, in one sentence; '' elsewhere
    cluster: str = ""

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
    twins: dict[str, list[str]] = {}
    workers = 0
    for command, arguments in QUESTIONS:
        answers = app.control.ask(command, arguments, destination, ASK_S)
        replies[command] = answers.replies
        silent = silent or answers.silent
        twins, workers = {**twins, **answers.twins}, max(workers, answers.count)
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
        twins=twins,
        workers=workers,
        replies=replies,
        depths={queue: broker.administration.depth(queue) for queue in queues},
        waiting={queue: _names(app, queue) for queue in queues} if broker.features.peek else {},
        paused=broker.administration.pauses(),
        quarantined=Counter(q.reason for q in _quarantined(app)),
        symptoms=broker.diagnosis.symptoms(),
        keeps_results=app.results.keeps,
        round_trip_s=round_trip_s,
        cluster=broker.diagnosis.cluster(),
        networked=broker.features.multi_host,
        **_schedule(app),
        without_effect=without_effect(app.conf.without_defaults()),
    )


def _schedule(app: App) -> dict[str, Any]:
    """The entries of the schedule and its schedulers; nothing where no entries are kept."""
    try:
        store = app.schedules.store
        now, stored = store.clock()[0], store.entries()
    except (ConfigError, Unsupported):
        return {}
    entries = []
    for one in stored:
        try:
            entries.append(_entry(app, scheduled(one), now))
        except Malformed as exc:
            entries.append(EntryFact(one.name, "", schedules.BROKEN, exc.detail, source=one.source))
    return {"entries": entries, "schedulers": store.schedulers()}


def _entry(app: App, found: Scheduled, now: float) -> EntryFact:
    entry, missed = found.entry, 0
    _, status, problem = schedules.next_of(app, found, now)
    for record in app.schedules.store.history(entry.name, MISSES) if found.state.missed else ():
        if record.outcome != "missed":
            break
        missed += record.count
    return EntryFact(entry.name, entry.task, status, problem or "", _queue(app, found), found.source, missed)


def _queue(app: App, found: Scheduled) -> str | None:
    """Where the task of an entry goes; None: unknown. Only the project that declares an entry knows its
    routes, and only the broker what becomes of an exchange."""
    entry = found.entry
    options = dict(entry.options)
    if not options.get("queue") and app.main and found.source == app.main:
        task = app.tasks.get(entry.task)
        for name in ("queue", "exchange", "routing_key"):
            options[name] = options.get(name) or getattr(task, name, None)
        if not any(map(options.get, ("queue", "exchange", "routing_key"))):
            try:
                options |= app.routes.route(entry.task, entry.args, entry.kwargs, entry.options)
            except Exception as exc:  # of the project's function
                log.warning("the route of the schedule entry '%s' is unknown: %r", entry.name, exc)
                return None
            if not options.get("exchange") and not options.get("routing_key"):
                options["queue"] = options.get("queue") or app.conf.task_default_queue
    queue = options.get("queue")
    return queue if isinstance(queue, str) and not options.get("exchange") else None


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
