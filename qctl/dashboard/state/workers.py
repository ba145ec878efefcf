"""The workers: their replies, the broker's announcements, and their events, merged.

In:  replies to `stats`, `active` and `active_queues`.  Out: a WorkerRow for each.  Replies take precedence;
heartbeats fill the time between them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from qcore.events.state import State, WorkerSeen
from qcore.wire.event import moment
from qctl.dashboard.state.snapshot import WorkerRow
from qctl.fleet import queue_rates
from qctl.fleet.worker_facts import HELD, count_of, held_of, total_of
from qctl.output.text import software

if TYPE_CHECKING:
    from qcore.brokers.contract.records import Member
    from qcore.control.client import Answers

GONE_AFTER_S = 300.0
#: seconds after its last lost event until a worker no longer counts as one that loses them
LOST_SHOWN_S = 900.0


class Began(NamedTuple):
    """Number of tasks that a worker had started at a time (epoch seconds), and the recent rate per second."""

    total: int
    at: float
    per_s: float | None = None


class Fleet:
    """The workers. Not thread-safe."""

    def __init__(self) -> None:
        self._answers: dict[str, dict[str, Any]] = {}  # node -> its stats
        self._silent: dict[str, float | None] = {}
        self._members: dict[str, Member] = {}
        self._began: dict[str, Began | None] = {}
        self._queues: dict[str, tuple[str, ...]] = {}  # as last told, also by workers that are silent now
        self._lost: dict[str, tuple[int, float]] = {}  # by node: missed events, and when that last grew
        self.asked, self.as_of = False, 0.0
        self.taken: queue_rates.Taken | None = (
            None  # claim rates of the queues, announced by workers; None: not queried yet
        )

    def __len__(self) -> int:
        return len(self._answers)

    def learn(
        self,
        state: State,
        stats: Answers,
        members: list[Member],
        answers: Mapping[str, Answers],
        asked_at: float,
    ) -> list[str]:
        """Fold the replies of one round, and correct the tasks by them.

        answers: replies to `active`, `reserved`, `scheduled`, `active_queues`; asked_at: epoch seconds,
        before the first query. Returns the ids of tasks that ended without an event.
        """
        self.asked, self.as_of = True, time.time()
        self._members = {m.node: m for m in members}
        self._silent = {s.node: s.age_s for s in stats.silent}
        self._answers = {n: v for n, v in stats.replies.items() if isinstance(v, dict)}
        self._began = {n: _began(self._began.get(n), total_of(v), asked_at) for n, v in self._answers.items()}
        if "active_queues" in answers:
            self.taken = self._taken(answers["active_queues"])
        replies = {
            name: {n: _tasks(v) for n, v in answer.replies.items()} for name, answer in answers.items()
        }
        for node, tasks in replies.get("active", {}).items():
            if node in self._answers:
                self._answers[node] = {**self._answers[node], "running": len(tasks)}
            for task in tasks:
                _note_running(state, node, task)
        for node, queues in replies.get("active_queues", {}).items():
            if node in self._answers:
                names = tuple(str(q.get("name")) for q in queues)
                self._queues[node] = names
                self._answers[node] = {**self._answers[node], "queues": names}
        if answers:
            self._queues = {n: q for n, q in self._queues.items() if n in self._answers or n in self._silent}
            for node, one in self._answers.items():
                self._answers[node] = {**one, "held": self._held(node, one, replies)}
        _learn_names(state, replies)
        return _repaired(state, replies, asked_at, self._members)

    def _held(
        self, node: str, stats: Mapping[str, Any], replies: Mapping[str, Mapping[str, list[dict[str, Any]]]]
    ) -> int | None:
        """Messages that the worker has. Celery's prefetch_count is the limit, which grows by each task with
        an ETA."""
        if node in self._members:
            return count_of(stats.get("prefetch_count"))
        return held_of([replies.get(name, {}).get(node) for name in HELD])

    def _taken(self, answers: Answers) -> queue_rates.Taken:
        """Announced claim rates; for Celery's workers, which announce none, the start rate of those with a
        single queue."""
        per_s, others = queue_rates.taken(answers).per_s, set[str]()
        for node, queues in answers.replies.items():
            names, began = {str(q.get("name")) for q in _tasks(queues)}, self._began.get(node)
            if queue_rates.counts_of(answers, node) is not None:
                continue
            if len(names) == 1 and began is not None and began.per_s is not None:
                (name,) = names
                per_s[name] = per_s.get(name, 0.0) + began.per_s
            else:
                others |= names
        return queue_rates.Taken(per_s, others)

    def consumers(self) -> Counter[str] | None:
        """Number of workers by consumed queue; None: they were not asked yet."""
        if self.taken is None:
            return None
        return Counter(q for answer in self._answers.values() for q in answer.get("queues") or ())

    @property
    def queues_of(self) -> Mapping[str, tuple[str, ...]]:
        """The queues that each worker told last."""
        return self._queues

    def is_ours(self, node: str) -> bool:
        """Whether it is a worker of qcore, as it announced."""
        return node in self._members

    def celery_consumers(self, queue: str) -> tuple[str, ...]:
        """The Celery workers that consume the queue."""
        nodes = (n for n in self._answers if n not in self._members and queue in self._queues.get(n, ()))
        return tuple(sorted(nodes))

    def rows(self, seen: Mapping[str, WorkerSeen], now: float) -> tuple[WorkerRow, ...]:
        nodes = {*seen, *self._answers, *self._silent, *self._members}
        lag = _own_lag(seen.values())
        rows = (self._row(node, seen.get(node), now, lag) for node in sorted(nodes))
        return tuple(r for r in rows if r.state != "gone" or (r.age_s or 0) < GONE_AFTER_S)

    def _row(self, node: str, seen: WorkerSeen | None, now: float, lag: float) -> WorkerRow:
        stats = self._answers.get(node, {})
        member = self._members.get(node)
        pool = stats.get("pool") if isinstance(stats.get("pool"), dict) else {}
        assert isinstance(pool, dict)
        done, began = total_of(stats), self._began.get(node)
        age = None if node in self._answers else self._silent.get(node)
        if age is None and node not in self._answers:
            last = max(seen.seen if seen else 0.0, member.seen_at if member else 0.0)
            age = now - last if last else None
        info = member.info if member else {}
        return WorkerRow(
            node=node,
            state=self._state_of(node, seen, now),
            running=stats.get("running", seen.active if seen else None),
            slots=count_of(pool.get("max-concurrency")),
            done=done if done is not None else (seen.processed if seen else None),
            exact=bool(stats),
            held=count_of(stats.get("held")),
            load=seen.loadavg[0] if seen and seen.loadavg else None,
            age_s=0.0 if node in self._answers else age,
            queues=tuple(stats.get("queues") or info.get("queues") or self._queues.get(node, ())),
            software=software(info) or (seen.software if seen else ""),
            pid=count_of(stats.get("pid")) or (seen.pid if seen and seen.pid else None),
            missed=self._missed_lately(node, seen, now),
            stats=stats,
            per_s=began.per_s if began else None,
            failed=seen.failed if seen else 0,
            skew_s=seen.skew_s + lag if seen is not None and seen.skew_s is not None else None,
            left=seen is not None and not seen.online,
        )

    def _missed_lately(self, node: str, seen: WorkerSeen | None, now: float) -> int:
        missed = seen.missed if seen is not None else 0
        before, at = self._lost.get(node, (0, now))
        if missed != before:
            at = now
        self._lost[node] = missed, at
        return missed if now - at < LOST_SHOWN_S else 0

    def _state_of(self, node: str, seen: WorkerSeen | None, now: float) -> str:
        member = self._members.get(node)
        if seen is not None and not seen.online:
            return "gone"
        if node in self._answers or (seen is not None and seen.is_alive(now) and node not in self._silent):
            return "online"
        if node in self._silent or (member is not None and member.alive):
            return "silent"
        return "gone"


def _own_lag(seen: Iterable[WorkerSeen]) -> float:
    """How late the events are that arrive here, as far as all workers seem late; of a single one nobody can
    tell whether it is late or its clock is wrong."""
    late = [-worker.skew_s for worker in seen if worker.online and worker.skew_s is not None]
    return max(min(late), 0.0) if len(late) > 1 else 0.0


def _began(before: Began | None, total: int | None, at: float) -> Began | None:
    """The rate between two replies, averaged with the previous rate."""
    if total is None or before is None:
        return None if total is None else Began(total, at)
    if at <= before.at:
        return before
    rate = max(total - before.total, 0) / (at - before.at)
    return Began(total, at, rate if before.per_s is None else (rate + before.per_s) / 2)


def _tasks(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _repaired(
    state: State,
    replies: Mapping[str, Mapping[str, list[dict[str, Any]]]],
    asked_at: float,
    ours: Container[str],
) -> list[str]:
    """The ids of tasks that are open by their events, but that no worker holds: events may be lost. ours:
    workers of qcore, which list what waits in the broker as scheduled."""
    from qcore.events.repair import HeldTasks, repair

    kinds = [replies.get(name, {}) for name in ("active", "reserved", "scheduled")]
    answered = set.intersection(*(set(kind) for kind in kinds))
    held = []
    for number, kind in enumerate(kinds):
        for node, tasks in kind.items():
            for task in tasks:
                about = task.get("request", task)
                if isinstance(about, dict) and isinstance(about.get("id"), str):
                    if number == 2 and node in ours and state.table.row(about["id"]) is None:
                        continue  # it waits in the broker, and no worker has received it
                    held.append(HeldTasks(about["id"], node, number == 0, name=str(about.get("name") or "")))
    lost: list[str] = []

    def ends(ids: Sequence[str]) -> dict[str, str]:
        lost.extend(ids)
        return {}

    repair(state, held, sorted(answered), asked_at, ends)
    return lost


def _learn_names(state: State, replies: Mapping[str, Mapping[str, list[dict[str, Any]]]]) -> None:
    """Name the tasks of which only a later event than task-received was heard: the answers name them."""
    table = state.table
    for kind in HELD:
        for tasks in replies.get(kind, {}).values():
            for task in tasks:
                about = task.get("request", task)
                uuid, name = (about.get("id"), about.get("name")) if isinstance(about, dict) else (None, None)
                seen = table.get(uuid) if isinstance(uuid, str) and isinstance(name, str) else None
                if seen is not None and not seen.name:
                    table.name(seen.uuid, str(name))


def _note_running(state: State, node: str, task: dict[str, Any]) -> None:
    """Add a task that started before the subscription, here again after another worker was lost, or whose
    worker sends no events."""
    uuid, started = task.get("id"), moment(task.get("time_start"))
    if not isinstance(uuid, str):
        return
    seen = state.tasks.get(uuid)
    if seen is not None and seen.state not in ("PENDING", "RECEIVED"):
        moved = seen.state == "STARTED" and seen.worker != node
        if not moved or started is None or started <= (seen.started or 0.0):
            return
    before = state.events, dict(state.counts)
    state.event(
        {
            "type": "task-started",
            "hostname": node,
            "timestamp": time.time() if started is None else started,
            "uuid": uuid,
            "name": task.get("name"),
            "args": task.get("args"),
            "kwargs": task.get("kwargs"),
        },
        time.time(),
    )
    state.events, state.counts = before  # the synthetic event does not count
