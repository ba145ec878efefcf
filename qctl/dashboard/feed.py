"""Fetch: one thread listens to events, one asks the workers every two seconds.

In:  an app.  Out: Snapshots, made when take() is called. Answers of the fleet are the truth about who
is there; events say what happens in between. A broker that goes away is tried again until it is back.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from qcore.brokers.base import Broker, Member, open_broker
from qcore.errors import QcoreError, mask_url
from qcore.events.receiver import listen
from qcore.events.state import State
from qcore.events.table import TaskSeen
from qcore.wire.event import Event
from qctl.dashboard.looking import Looker
from qctl.dashboard.snapshot import EventRow, FailureRow, QueueRow, Snapshot, WorkerRow
from qctl.output.text import software

if TYPE_CHECKING:
    from qcore.app import App
    from qcore.control.bus import Answers

ASK_EVERY_S = 2.0
ASK_TIMEOUT_S = 1.0
RETRY_S = (0.5, 1.0, 2.0, 3.0)
RATE_WINDOW_S = 5.0
STALE_S = 4 * ASK_EVERY_S  # the broker hangs rather than refuses
GONE_AFTER_S = 300.0
LOG_SIZE = 1000


class Feed:
    """What the dashboard knows; start(), then take() as often as the screen is drawn, then stop()."""

    def __init__(self, app: App, max_tasks: int = 10_000) -> None:
        self.app = app
        self.listening = threading.Event()  # events that are sent from now on arrive
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._ask_now = threading.Event()
        self._state = State(max_tasks)
        self._rows: dict[str, TaskSeen] = {}  # copies that a snapshot may show
        self._changed: dict[str, None] = {}  # in the order of arrival
        self._answers: dict[str, dict[str, Any]] = {}  # node -> its stats
        self._silent: dict[str, float | None] = {}
        self._members: dict[str, Member] = {}
        self._asked, self._as_of = False, 0.0
        self._trouble: dict[str, str] = {}  # which thread -> what ails it
        self._tries = 0
        self._samples: deque[tuple[float, int, int]] = deque()
        self._log: deque[EventRow] = deque(maxlen=LOG_SIZE)
        self._numbers = itertools.count(1)
        self._done: Counter[str] = Counter()  # tasks that ended since the last look, by queue
        self._queues: tuple[QueueRow, ...] = ()
        self._failures: tuple[FailureRow, ...] = ()
        self._broker_facts: tuple[tuple[str, str], ...] = ()
        self._threads = [
            threading.Thread(target=self._keep_doing, args=(name, work), name=name, daemon=True)
            for name, work in (
                ("events", self._listen),
                ("ask", self._ask_forever),
                ("look", self._look_forever),
            )
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._ask_now.set()
        for thread in self._threads:
            thread.join(ASK_TIMEOUT_S * 2)

    def ask_soon(self) -> None:
        """Ask the fleet again without waiting for the next turn."""
        self._ask_now.set()

    def tell(self, command: str) -> None:
        """Send a control command to every worker, in the background."""

        def send() -> None:
            try:
                self.app.control.tell(command)
            except QcoreError as exc:
                with self._lock:
                    self._trouble["ask"] = str(exc)
            self.ask_soon()

        threading.Thread(target=send, daemon=True).start()

    def take(self) -> Snapshot:
        """The present picture."""
        now = time.time()
        with self._lock:
            state = self._state
            for uuid in self._changed:
                if uuid in state.tasks:
                    self._rows[uuid] = state.tasks[uuid]
            self._changed.clear()
            if len(self._rows) > len(state.tasks):
                self._rows = {u: r for u, r in self._rows.items() if u in state.tasks}
            events_per_s, done_per_s = self._rates(now)
            trouble = self._trouble.get("ask") or self._trouble.get("events") or ""
            if not trouble and self._asked and now - self._as_of > STALE_S:
                trouble = f"no answer for {now - self._as_of:.0f} s"
            return Snapshot(
                at=now,
                as_of=self._as_of,
                broker=mask_url(self.app.broker_url()),
                connected=not trouble and self._asked,
                trouble=trouble,
                tries=self._tries,
                workers=self._workers(now),
                tasks=tuple(reversed(self._rows.values())),
                events=state.events,
                events_per_s=events_per_s,
                done_per_s=done_per_s,
                forgotten=state.forgotten,
                asked=self._asked,
                queues=self._queues,
                failures=self._failures,
                log=tuple(reversed(self._log)),
                broker_facts=self._broker_facts,
            )

    # --- threads

    def _keep_doing(self, name: str, work: Any) -> None:
        """Run `work` again and again until stop(); what goes wrong is shown, never raised."""
        failed = 0
        while not self._stopped.is_set():
            try:
                work()
                failed = 0
            except Exception as exc:  # the picture must survive whatever the broker does
                with self._lock:
                    # The address is in the header already; the line needs the reason.
                    reason = getattr(exc, "reason", "") or str(exc) or type(exc).__name__
                    self._trouble[name] = mask_url(str(reason))
                    self._tries += 1
                self._stopped.wait(RETRY_S[min(failed, len(RETRY_S) - 1)])
                failed += 1

    def _listen(self) -> None:
        # A connection of its own: waiting for events must not hold up questions.
        broker: Broker = open_broker(self.app.broker_url(), self.app.broker_options())
        try:
            with listen(broker, exchange=self.app.conf.event_exchange) as batches:
                self.listening.set()
                for batch in batches:
                    self._recovered("events")
                    if self._stopped.is_set():
                        return
                    if batch:
                        self.fold(batch)
        finally:
            broker.close()

    def fold(self, batch: list[Event]) -> None:
        """Take events in."""
        now = time.time()
        with self._lock:
            self._state.fold(batch, now)
            for event in batch:
                self._log.append(EventRow(next(self._numbers), event))
                uuid = event.get("uuid")
                if isinstance(uuid, str):
                    self._changed[uuid] = None
                    if event["type"] in ("task-succeeded", "task-failed"):
                        seen = self._state.table.get(uuid)
                        self._done[(seen.queue if seen else "") or self._only_queue()] += 1

    def _ask_forever(self) -> None:
        while not self._stopped.is_set():
            control = self.app.control
            stats = control.ask("stats", timeout_s=ASK_TIMEOUT_S)
            members = control.known()
            active = control.ask("active", timeout_s=ASK_TIMEOUT_S) if stats.replies else None
            queues = control.ask("active_queues", timeout_s=ASK_TIMEOUT_S) if stats.replies else None
            self.learn(stats, members, active, queues)
            self._recovered("ask")
            self._ask_now.wait(ASK_EVERY_S)
            self._ask_now.clear()

    def _only_queue(self) -> str:
        """Celery's events name no queue; where there is one only, that is it."""
        return self._queues[0].name if len(self._queues) == 1 else ""

    def _look_forever(self) -> None:
        looker = Looker(self.app)
        while not self._stopped.is_set():
            with self._lock:
                done, self._done = self._done, Counter()
                consumers = Counter(q for a in self._answers.values() for q in a.get("queues") or ())
            queues, failures, facts = looker.queues(consumers, done), looker.failures(), looker.broker()
            with self._lock:
                self._queues, self._failures, self._broker_facts = queues, failures, facts
            self._recovered("look")
            self._stopped.wait(ASK_EVERY_S)

    def _recovered(self, name: str) -> None:
        with self._lock:
            if self._trouble.pop(name, None) is not None and not self._trouble:
                self._tries = 0

    # --- what the fleet said

    def learn(
        self, stats: Answers, members: list[Member], active: Answers | None, queues: Answers | None
    ) -> None:
        """Take the answers of one round in."""
        with self._lock:
            self._asked, self._as_of = True, time.time()
            self._members = {m.node: m for m in members}
            self._silent = {s.node: s.age_s for s in stats.silent}
            self._answers = {n: v for n, v in stats.replies.items() if isinstance(v, dict)}
            for node, value in (active.replies if active else {}).items():
                tasks = [t for t in value if isinstance(t, dict)] if isinstance(value, list) else []
                if node in self._answers:
                    self._answers[node] = {**self._answers[node], "running": len(tasks)}
                for task in tasks:
                    self._note_running(node, task)
            for node, value in (queues.replies if queues else {}).items():
                if node in self._answers and isinstance(value, list):
                    names = tuple(str(q.get("name")) for q in value if isinstance(q, dict))
                    self._answers[node] = {**self._answers[node], "queues": names}

    def _note_running(self, node: str, task: dict[str, Any]) -> None:
        """A task that began before we listened, or whose worker sends no events."""
        uuid, started = task.get("id"), task.get("time_start")
        if not isinstance(uuid, str):
            return
        seen = self._state.tasks.get(uuid)
        if seen is not None and seen.state not in ("PENDING", "RECEIVED"):
            return
        before = self._state.events, dict(self._state.counts)
        self._state.event(
            {
                "type": "task-started",
                "hostname": node,
                "timestamp": started if isinstance(started, int | float) else time.time(),
                "uuid": uuid,
                "name": task.get("name"),
                "args": task.get("args"),
                "kwargs": task.get("kwargs"),
            },
            time.time(),
        )
        self._state.events, self._state.counts = before  # nobody sent this event
        self._changed[uuid] = None

    def _workers(self, now: float) -> tuple[WorkerRow, ...]:
        seen = self._state.workers
        nodes = {*seen, *self._answers, *self._silent, *self._members}
        rows = (self._worker(node, now) for node in sorted(nodes))
        return tuple(r for r in rows if r.state != "gone" or (r.age_s or 0) < GONE_AFTER_S)

    def _worker(self, node: str, now: float) -> WorkerRow:
        stats = self._answers.get(node, {})
        seen = self._state.workers.get(node)
        member = self._members.get(node)
        pool = stats.get("pool") if isinstance(stats.get("pool"), dict) else {}
        assert isinstance(pool, dict)
        total = stats.get("total")
        done = sum(v for v in total.values() if isinstance(v, int)) if isinstance(total, dict) else None
        age = None if node in self._answers else self._silent.get(node)
        if age is None and node not in self._answers:
            last = max(seen.seen if seen else 0.0, member.seen_at if member else 0.0)
            age = now - last if last else None
        info = member.info if member else {}
        running = stats.get("running", seen.active if seen else None)
        return WorkerRow(
            node=node,
            state=self._state_of(node, now),
            running=running,
            slots=pool.get("max-concurrency"),
            done=done if done is not None else (seen.processed if seen else None),
            held=stats.get("prefetch_count"),
            load=seen.loadavg[0] if seen and seen.loadavg else None,
            age_s=0.0 if node in self._answers else age,
            queues=tuple(stats.get("queues") or info.get("queues") or ()),
            software=software(info) or (seen.software if seen else ""),
            pid=stats.get("pid") or (seen.pid if seen and seen.pid else None),
            missed=seen.missed if seen else 0,
            stats=stats,
        )

    def _state_of(self, node: str, now: float) -> str:
        seen, member = self._state.workers.get(node), self._members.get(node)
        if seen is not None and not seen.online:
            return "gone"
        if node in self._answers or (seen is not None and seen.is_alive(now) and node not in self._silent):
            return "online"
        if node in self._silent or (member is not None and member.alive):
            return "silent"
        return "gone"

    def _rates(self, now: float) -> tuple[float, float]:
        """Events and finished tasks per second over the last few seconds."""
        counts = self._state.counts
        done = sum(counts.get(kind, 0) for kind in ("task-succeeded", "task-failed"))
        self._samples.append((now, self._state.events, done))
        while len(self._samples) > 2 and self._samples[1][0] < now - RATE_WINDOW_S:
            self._samples.popleft()
        first = self._samples[0]
        span = now - first[0]
        if span < 0.2:
            return 0.0, 0.0
        return (self._state.events - first[1]) / span, (done - first[2]) / span
