"""The operations of a worker that remote control calls.

In:  calls from the control thread.  Out: facts, or the text of a reply.
Changes of the pool or the consumer run in the loop's thread; all others run at once.
Before this: control/commands/*, which check the arguments.  After this: the loop and the pool.
"""

from __future__ import annotations

import logging
import os
import posix
import resource
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import to_builtins

from qcore.app.sources import load_modules
from qcore.base.times import epoch_of, iso, per_second
from qcore.brokers.base import Broker
from qcore.brokers.contract.queues import Binding, QueueDefinition
from qcore.brokers.contract.records import Delivery
from qcore.errors import ConfigError, Malformed, Unsupported
from qcore.events.sender import EventSender
from qcore.tasks.task import Task
from qcore.version import __version__
from qcore.wire import task as task_wire
from qcore.wire.outcome import End
from qcore.worker.in_flight import InFlight
from qcore.worker.intake.rate_limits import TokenBucket
from qcore.worker.loop import Loop
from qcore.worker.services.autoscale import bounds
from qcore.worker.services.base import ShutdownStage
from qcore.worker.services.lease import LeaseKeeper

if TYPE_CHECKING:
    from qcore.app.app import App

log = logging.getLogger("qcore.worker")


class RemoteControl:
    """The worker as control commands see it (control/commands/base.py: WorkerView). Its methods are called
    from the control thread."""

    def __init__(
        self,
        app: App,
        node: str,
        instance: str,
        loop: Loop,
        events: EventSender,
        lease: LeaseKeeper,
        refused: Mapping[str, int],
    ) -> None:
        """instance: a random id of this start of the worker; refused: unauthorized requests by reason."""
        self.app, self.node, self.instance, self.pid = app, node, instance, os.getpid()
        self.started_at, self._began = time.time(), time.monotonic()
        self.loop, self.pool, self.events = loop, loop.pool, events
        self._lease, self._refused = lease, refused
        self._queues = list(
            loop.consumer.queues
        )  # as they are after the changes that the loop has not made yet
        self._before_drain: list[str] | None = None  # the queues to consume after a drain; None: not draining
        self._resizing = threading.Lock()
        self.elects = True  # takes part in elections
        self.more_stats: Callable[[], dict[str, Any]] = dict  # what the steps of a project add
        self.as_consumer: Callable[[], Any] = lambda: None  # the consumer as steps get it
        self.request_clock = 0
        self._size_change = 0  # accepted changes of the pool's size that the loop has not made yet

    def queues(self) -> list[str]:
        """The queues that the worker consumes."""
        return list(self._queues) if self.loop.stage == ShutdownStage.RUNNING else []

    # --- what an app's own commands read, as of Celery's worker

    @property
    def hostname(self) -> str:
        return self.node

    @property
    def consumer(self) -> Any:
        return self.as_consumer()

    # --- what commands read

    def clock(self) -> int:
        return self.app.clock_value

    def active(self) -> list[dict[str, Any]]:
        held = self.loop.held
        return [
            held[r.number].info(self.node, r.since, r.pid) for r in self.pool.running() if r.number in held
        ]

    def reserved(self) -> list[dict[str, Any]]:
        running = {r.number for r in self.pool.running()}
        return [h.info(self.node, None, None) for n, h in list(self.loop.held.items()) if n not in running]

    def stacks(self, ids: list[str]) -> dict[str, Any]:
        """The stacks of running tasks, of those with these ids or of all, the longest running ones first."""
        held, wanted = self.loop.held, set(ids)
        running = sorted((r for r in self.pool.running() if r.number in held), key=lambda r: r.since)
        if wanted:
            running = [r for r in running if (one := held.get(r.number)) and one.message.id in wanted]
        chosen = {r.number: r for r in running[:STACKS_MOST]}
        infos = {n: one for n in chosen if (one := held.get(n)) is not None}
        tasks = [
            {
                "id": infos[stack.number].message.id,
                "name": infos[stack.number].message.shown_name,
                "worker_pid": chosen[stack.number].pid,
                "time_start": epoch_of(chosen[stack.number].since),
                **{k: v for k, v in to_builtins(stack).items() if k != "number"},
            }
            for stack in self.pool.stacks(list(infos), self.loop.call_soon)
        ]
        return {"tasks": tasks, "left_out": len(running) - len(tasks)}

    def scheduled(self) -> list[dict[str, Any]]:
        return scheduled(self.app.broker, self.queues(), self.node)

    def revoked(self) -> list[str]:
        return sorted(self.loop.admission.revoked.ids)

    def stats(self) -> dict[str, Any]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        fields = (
            "utime stime maxrss ixrss idrss isrss minflt majflt nswap inblock oublock msgsnd msgrcv "
            "nsignals nvcsw nivcsw"
        ).split()
        broker = self.app.broker.info()
        return {
            "total": {name: count for name, count in dict(self.loop.total).items() if count},
            "pid": self.pid,
            "clock": str(self.clock()),
            "uptime": int(time.monotonic() - self._began),
            "pool": self.pool.info(),
            "broker": {
                "insist": False,
                "connect_timeout": self.app.conf.broker_connection_timeout,
                "transport_options": {},
                "login_method": None,
                "uri_prefix": None,
                "heartbeat": self.app.conf.broker_heartbeat,
                "failover_strategy": "round-robin",
                "alternates": [],
                "credential_provider": None,
                **broker,
            },
            **({"autoscaler": self.loop.autoscaler.info()} if self.loop.autoscaler else {}),
            "prefetch_count": len(self.loop.held),
            "task_events": self.events.tasks_on,
            "rusage": {f: getattr(usage, f"ru_{f}") for f in fields},
            "events_dropped": self.events.dropped,
            "leases_lost": self._lease.leases_lost,
            "messages_reaped": self._lease.reaped,
            "stale_settle_total": self.loop.stale,
            "state": "draining" if self._before_drain is not None else "running",
            "active": len(self.pool.running()),
            "queues": self.queues(),
            "version": __version__,
            "control_refused_total": dict(self._refused),
            **self.more_stats(),
        }

    # --- what commands change

    def enable_events(self) -> str:
        if self.events.tasks_on:
            return "task events already enabled"
        self.events.tasks_on = True
        return "task events enabled"

    def disable_events(self) -> str:
        if not self.events.tasks_on:
            return "task events already disabled"
        self.events.tasks_on = False
        return "task events disabled"

    def heartbeat(self) -> None:
        self.events.heartbeat()

    def hold_election(self, id: str, topic: str, action: Any) -> None:
        """Take part in an election; the worker that wins publishes `action`, a signature. The broker decides,
        for each request anew, however often an id is used."""
        if not self.elects:
            return None
        self.events.send("worker-elect", id=id, topic=topic, action=action, cver=1)
        for _ in range(self._candidates()):
            self.events.send("worker-elect-ack", id=id)
        if not self.app.broker.elect(f"{id} {self.request_clock}", ELECTION_S):
            return log.info("another worker is elected for %r", id)
        log.info("this worker won the election %r", id)
        if topic != "task":
            return log.error("the election %r has the unknown topic %r; the only one is 'task'", id, topic)
        try:
            self.app.signature(action).apply_async()
        except Exception:  # what a client sent may be no signature
            log.exception("the call of the election %r is not published", id)

    def _candidates(self) -> int:
        """How many workers take part in elections, as far as the broker knows; Celery's all do."""
        members, foreign = self.app.broker.roster()
        others = [one for one in members if one.node != self.node and one.alive]
        return 1 + len(foreign) + len([one for one in others if one.info.get("elects", True)])

    def shutdown(self) -> None:
        note("worker: warm shutdown (asked for by remote control)")
        self.loop.stop(ShutdownStage.WARM)

    def revoke(self, task_ids: list[str], store: bool = True) -> None:
        if store:
            self.app.broker.revoke(task_ids)
        self.loop.admission.revoked.add(task_ids)

    def unrevoke(self, task_ids: list[str]) -> None:
        self.loop.admission.revoked.discard(task_ids)

    def load_revoked(self, broker: Broker) -> None:
        """Load the ids that were revoked while this worker had no subscription; raises BrokerError."""
        self.loop.admission.revoked.load(broker)

    def revoke_stamps(self, stamps: dict[str, Any], terminate: bool, signal: str | int | None) -> str:
        if terminate:
            self._ending_signal(signal)
        wanted = {k: set(map(str, v)) if isinstance(v, list) else {str(v)} for k, v in stamps.items()}
        for key, values in wanted.items():
            self.loop.admission.revoked_stamps.setdefault(key, set()).update(values)
        if not terminate:
            return f"headers {stamps} flagged as revoked, but not terminated"
        ids = [
            h.message.id
            for h in list(self.loop.held.values())
            if self.loop.admission.has_revoked_stamp(h.message)
        ]
        return self.terminate(ids, signal) if ids else f"headers {stamps} were not terminated"

    def terminate(self, task_ids: list[str], signal: str | int | None = None) -> str:
        signum = self._ending_signal(signal)
        self.revoke(task_ids)
        held = {h.message.id: n for n, h in list(self.loop.held.items())}
        numbers = {r.number for r in self.pool.running()}
        found = [i for i in task_ids if held.get(i) in numbers]

        def kill() -> None:
            for task_id in found:
                self.pool.kill(held[task_id], End.TERMINATED, signum)

        self.loop.call_soon(kill)
        return f"terminate: {', '.join(found)}" if found else "terminate: tasks unknown"

    def _ending_signal(self, name: str | int | None) -> int:
        """The signal to send; raises ValueError if it ends no task or the pool cannot send it."""
        signum = signal_number(name)
        if not self.pool.features.terminate:
            raise ValueError(f"the {self.pool.name} pool cannot stop a running task")
        if signum == SOFT and not self.pool.features.soft_signal:
            raise ValueError(f"the {self.pool.name} pool cannot send the signal USR1 to a task; use KILL")
        return signum

    def rate_limit(self, task_name: str, rate_limit: str | float | None) -> str:
        if task_name not in self.app.tasks:
            raise ValueError("unknown task")
        try:
            rate = per_second(rate_limit)
        except ValueError as exc:
            raise ValueError(f"Invalid rate limit string: {exc}") from None
        self.app.tasks[task_name].rate_limit = rate_limit if rate else None
        self.set_rate_limit(task_name, rate_limit)
        return "new rate limit set successfully" if rate else "rate limit disabled successfully"

    def set_rate_limit(self, task_name: str, limit: Any) -> None:
        rate = None if self.app.conf.worker_disable_rate_limits else per_second(limit)
        if rate is None:
            self.loop.admission.buckets.pop(task_name, None)
        else:
            self.loop.admission.buckets[task_name] = TokenBucket(rate)

    def time_limit(self, task_name: str, soft: float | None, hard: float | None) -> str:
        task = self.app.tasks.get(task_name)
        if task is None:
            raise ValueError("unknown task")
        if hard and not self.pool.features.hard_limit:
            raise ValueError(f"the {self.pool.name} pool has no hard time limits")
        task.soft_time_limit, task.time_limit = soft or None, hard or None
        return "time limits set successfully"

    def start_drain(self) -> str:
        if self._before_drain is not None:
            return "already draining"
        self._before_drain = self._queues
        self._consume([])
        self.loop.call_soon(self.loop.give_back_waiting)
        return "draining"

    def resume(self) -> str:
        queues, self._before_drain = self._before_drain, None
        if queues is None:
            return "it was not draining"
        self._consume([*queues, *self._queues])  # queues that were added while draining stay
        return f"taking tasks from {', '.join(self._queues)}"

    def _consume(self, queues: list[str]) -> None:
        self._queues = queues = list(dict.fromkeys(queues))
        self.loop.call_soon(lambda: self.loop.set_queues(queues))

    def pool_restart(self, modules: list[str] | None = None, reload: bool = False) -> None:
        """modules, reload: as of load_modules(). Raises ValueError when that fails or is not allowed."""
        names = [*self.app.conf.imports, *self.app.conf.include] if reload and modules is None else modules
        if (names or reload) and not self.app.conf.worker_pool_restarts:
            raise ValueError("Pool restarts not enabled: set worker_pool_restarts to load modules")
        try:
            load_modules(self.app, names or (), reload)
        except Exception as exc:  # of the user's modules
            log.exception("a module was not loaded; the pool is not restarted")
            raise ValueError(f"a module was not loaded: {type(exc).__name__}: {exc}") from exc

        def restart() -> None:
            self.pool.modules.update(dict.fromkeys(names or (), reload))
            self.pool.restart()

        self.loop.call_soon(restart)

    def pool_grow(self, n: int) -> None:
        self._resize("grow", n, n)

    def pool_shrink(self, n: int) -> None:
        self._resize("shrink", n, -n)

    def _resize(self, verb: str, n: int, change: int) -> None:
        if not 0 < n <= 1000:
            raise ValueError(f"{verb} takes a number from 1 to 1000, not {n!r:.40}")
        if not self.pool.features.grow:
            raise ValueError(f"the {self.pool.name} pool cannot {verb}")
        with self._resizing:
            size = self.pool.size + self._size_change
            if size + change < 1:
                raise ValueError(f"Can't shrink pool: it has {size} and one must stay")
            if size + change > type(self.pool).most:
                raise ValueError(f"Can't grow pool: it has {size}, and {type(self.pool).most} is the most")
            self._size_change += change
        self.loop.call_soon(lambda: self._resize_now(verb, n, change))

    def _resize_now(self, verb: str, n: int, change: int) -> None:
        with self._resizing:
            self._size_change -= change
            try:
                getattr(self.pool, verb)(n)
            except ValueError as exc:  # the autoscaler has changed the size meanwhile
                log.warning("pool_%s has no effect: %s", verb, exc)

    def autoscale(self, most: int, least: int) -> None:
        scaler = self.loop.autoscaler
        if scaler is None:
            raise ValueError("Autoscale not enabled")  # Celery's words
        try:
            upper, lower = bounds((most, least), type(self.pool).most)
        except ConfigError as exc:
            raise ValueError(str(exc)) from None
        self.loop.call_soon(lambda: scaler.change(upper, lower))

    def add_consumer(self, queue: str, binding: tuple[str, str, str] | None = None) -> str:
        """binding: exchange, its type and the routing key; None to consume the queue without a binding.
        Raises ValueError where the broker cannot bind."""
        if binding is not None:
            wanted = Binding(*binding)
            try:
                self.app.broker.bind(queue, wanted)
            except (Unsupported, ConfigError) as exc:
                raise ValueError(str(exc)) from None
            self.app.queue_table.keep(QueueDefinition(queue, wanted, (wanted,), {}))
        if queue in self._queues:
            return f"already consuming from '{queue}'"
        self._consume([*self._queues, queue])
        return f"add consumer {queue}"

    def cancel_consumer(self, queue: str) -> str:
        self._consume([q for q in self._queues if q != queue])
        return f"no longer consuming from {queue}"


#: signals that end a task, SOFT by raising SoftTimeLimitExceeded in it, as in Celery
ENDING = {name: int(signal.Signals[f"SIG{name}"]) for name in "TERM INT QUIT HUP KILL ABRT USR1 USR2".split()}
SOFT = ENDING["USR1"]


def signal_number(name: str | int | None) -> int:
    """The number of the signal to send to a child. `name` is a name with or without SIG, or a number; None
    is TERM. Raises ValueError for a signal that does not end a task. Children ignore the signals that stop
    a worker, so that a supervisor's TERM to the process group causes a warm shutdown; for those four
    signals the result is therefore KILL."""
    text = "TERM" if name is None else str(name).upper().removeprefix("SIG")
    number = ENDING.get(text, int(text) if text.isascii() and text.isdecimal() else 0)
    if number not in ENDING.values() or isinstance(name, bool):
        raise ValueError(f"{name!r:.40} is not a signal that ends a task; use one of {', '.join(ENDING)}")
    ignored = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
    return int(signal.SIGKILL) if number in ignored else number


def note(text: str) -> None:
    """Write a line to stderr without locks: safe in a signal handler."""
    posix.write(2, f"{text}\n".encode())  # that of `os` waits where eventlet has patched it


SHOWN_MOST = 1000
#: stacks in one reply
STACKS_MOST = 200
#: how late a worker may receive the request of an election and still find it decided
ELECTION_S = 3600.0


def scheduled(broker: Broker, queues: Sequence[str], node: str) -> list[dict[str, Any]]:
    """Delayed tasks in the format of Celery's `inspect scheduled`, by eta, at most 1,000 for each queue."""
    found = []
    for queue in queues:
        for due_at, raw in broker.administration.delayed(queue, SHOWN_MOST):
            try:
                message = task_wire.read(raw)
            except Malformed:
                continue
            held = InFlight(Delivery(0, queue, raw), message, Task(), late=True)
            found.append({"eta": iso(due_at), "priority": 6, "request": held.info(node, None, None)})
    return sorted(found, key=lambda entry: str(entry["eta"]))
