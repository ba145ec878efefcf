"""The worker: put the services together, start them in order, run the loop, stop them.

In:  an app and options (those of `qctl worker`).  Out: an exit code: 0 everything settled, 3 runs
were cut short and returned, 1 it could not go on.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from qcore.errors import BrokerError, ConfigError, mask_url
from qcore.events.sender import HEARTBEAT_S, EventSender
from qcore.pools.base import PoolSetup, pools
from qcore.version import __version__
from qcore.wire.outcome import End
from qcore.worker import logs
from qcore.worker.consumer import ColdStop, Loop, Stage
from qcore.worker.keeper import Keeper
from qcore.worker.limits import Bucket, per_second
from qcore.worker.mailbox import Mailbox
from qcore.worker.say import Say
from qcore.worker.settle import Rules

if TYPE_CHECKING:
    from qcore.app import App

log = logging.getLogger("qcore.worker")

EXIT_SETTLED, EXIT_FAILED, EXIT_CUT_SHORT = 0, 1, 3
REVOKED_MOST = 50_000


class Worker:
    """One worker process (and its children). See `qctl worker --help` for the options."""

    def __init__(
        self,
        app: App,
        *,
        hostname: str | None = None,
        pool: str | None = None,
        concurrency: int | str | None = None,
        queues: Sequence[str] | str | None = None,
        exclude_queues: Sequence[str] | str | None = None,
        loglevel: str | int = "WARNING",
        logfile: str | None = None,
        task_events: bool | None = None,
        time_limit: float | None = None,
        soft_time_limit: float | None = None,
        max_tasks_per_child: int | None = None,
        max_memory_per_child: int | None = None,
        prefetch_multiplier: int | None = None,
        include: Sequence[str] = (),
        purge: bool = False,
        heartbeat_interval: float | None = None,
        without_heartbeat: bool = False,
        drain_timeout: float | None = None,
        pidfile: str | None = None,
        **_: Any,
    ) -> None:
        self.app = app
        conf = app.conf
        self.node = node_name(hostname)
        self.pid = os.getpid()
        self.started_at = time.time()
        self._log = (loglevel, logfile)
        self._queues = _queue_names(conf, queues, exclude_queues)
        self._purge, self._pidfile = purge, pidfile
        for name, value in (("task_time_limit", time_limit), ("task_soft_time_limit", soft_time_limit)):
            if value is not None:
                conf[name] = value
        if include:
            conf["include"] = (*conf.include, *include)
        self._multiplier = max(int(prefetch_multiplier or conf.worker_prefetch_multiplier), 1)
        self._setup = PoolSetup(
            app=app,
            node=self.node,
            concurrency=_concurrency(concurrency if concurrency is not None else conf.worker_concurrency),
            accept=frozenset(conf.accept_content),
            max_tasks_per_child=max_tasks_per_child or conf.worker_max_tasks_per_child,
            max_memory_per_child_kib=max_memory_per_child or conf.worker_max_memory_per_child,
            strict_prefetch=self._multiplier == 1,
            before_run=self._before_run,
        )
        self._pool_kind = pools.get(pool or conf.worker_pool)
        self._drain_timeout_s = drain_timeout
        events_on = conf.worker_send_task_events if task_events is None else task_events
        beat = None if without_heartbeat else (heartbeat_interval or HEARTBEAT_S)
        self.events = EventSender(app, self.node, self._event_facts, bool(events_on), beat)
        self._interrupts = 0
        self._solo_running = False

    # --- life

    def run(self) -> int:
        """Start, run until told to stop, stop. The exit code. Raises ConfigError, BrokerDown."""
        app = self.app
        logs.set_up(app.conf, *self._log)
        app.import_modules()
        app.broker.check()
        for task in app.tasks.values():
            per_second(task.rate_limit)  # a bad one is said before anything starts
        if self._purge:
            for queue in self._queues:
                app.broker.purge(queue)
        app.close()
        with _PidFile(self._pidfile):
            # The pool first: it forks, and no fork may happen once there are threads or connections.
            self.pool = self._pool_kind(self._setup)
            self.pool.start()
            consumer = app.broker.consumer(self._queues, self.node)
            consumer.prefetch(self._setup.concurrency * self._multiplier)
            self.loop = Loop(
                app,
                self.node,
                consumer,
                self.pool,
                app.results,
                Say(self.events),
                Rules(app.conf.seconds("result_expires"), app.conf.task_max_deliveries),
                self._drain_timeout_s,
            )
            for task in app.tasks.values():
                self.set_rate_limit(task.name, task.rate_limit)
            self.loop.revoked.update(app.broker.revoked(REVOKED_MOST))
            self.keeper = Keeper(consumer, app.broker, self.node, self._facts)
            # Leases before deliveries; the bus after both, so that what answers can also work.
            services: list[Any] = [self.keeper, self.events]
            if app.conf.worker_enable_remote_control:
                services.append(Mailbox(app, self))
            self._catch_signals()
            started = []
            try:
                for service in services:
                    service.start()
                    started.append(service)
                self._say_ready()
                self.loop.run()
            finally:
                # Control and events stay up until the last settle; leases end last.
                self._stop_all(list(reversed(started)), consumer)
            if self.loop.returned:
                log.warning("cold shutdown: %d running task(s) returned to their queues", self.loop.returned)
                return EXIT_CUT_SHORT
            return EXIT_SETTLED

    def _stop_all(self, services: list[Any], consumer: Any) -> None:
        self.pool.stop()
        try:
            consumer.close()
        except BrokerError as exc:
            log.warning("what was held is returned when its lease ends: %s", exc)
        for service in services:
            try:
                service.stop()
            except BrokerError as exc:
                log.debug("stopping: %s", exc)
        self.app.close()

    def _before_run(self) -> None:
        """In every process that runs tasks."""
        logs.redirect_output(self.app.conf)

    def _say_ready(self) -> None:
        url = mask_url(self.app.broker_url())
        tasks = sum(not name.startswith("celery.") for name in self.app.tasks)
        print(
            f"qcore {__version__} worker {self.node}\n"
            f"  broker       {url}\n"
            f"  results      {_results_words(self.app)}\n"
            f"  concurrency  {self.pool.size} ({self.pool.name})\n"
            f"  queues       {', '.join(self._queues)}\n"
            f"  tasks        {tasks}\n"
            f"  task events  {'on' if self.events.tasks_on else 'off (-E turns them on)'}\n"
            f"{self.node} ready.",
            file=sys.stderr,
            flush=True,
        )

    # --- signals: TERM and the first INT stop warm, QUIT and the second INT cold

    def _catch_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        remap = os.environ.get("REMAP_SIGTERM") in ("SIGQUIT", "SIGINT")
        signal.signal(signal.SIGTERM, self._on_quit if remap else self._on_term)
        signal.signal(signal.SIGINT, self._on_interrupt)
        signal.signal(signal.SIGQUIT, self._on_quit)
        signal.signal(signal.SIGHUP, self._on_term)
        # Python runs a handler only between bytecodes; the byte wakes a sleeping select.
        signal.set_wakeup_fd(self.loop._wake_w, warn_on_full_buffer=False)

    def _on_term(self, signum: int, frame: FrameType | None) -> None:
        if self.loop.stage == Stage.RUNNING:
            _note("worker: warm shutdown (running tasks finish; Ctrl-C or SIGQUIT stops at once)")
        self.loop.stop(Stage.WARM)

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        self._interrupts += 1
        if self.loop.stage == Stage.RUNNING:
            self._on_term(signum, frame)
        else:
            self._on_quit(signum, frame)

    def _on_quit(self, signum: int, frame: FrameType | None) -> None:
        if self.loop.stage < Stage.COLD:
            _note("worker: cold shutdown (running tasks are stopped and returned)")
        self.loop.stop(Stage.COLD)
        if self.pool.name == "solo" and self.pool.running():
            raise ColdStop

    # --- what the control commands see and do (control/commands/base.py: WorkerView)

    def clock(self) -> int:
        return self.app._clock

    def queues(self) -> list[str]:
        return list(self.loop.consumer.queues)

    def active(self) -> list[dict[str, Any]]:
        held = self.loop.held
        return [
            held[r.number].info(self.node, r.since, r.pid) for r in self.pool.running() if r.number in held
        ]

    def reserved(self) -> list[dict[str, Any]]:
        running = {r.number for r in self.pool.running()}
        return [h.info(self.node, None, None) for n, h in list(self.loop.held.items()) if n not in running]

    def scheduled(self) -> list[dict[str, Any]]:
        from qcore.worker.scheduled import scheduled

        return scheduled(self.app.broker, self.queues(), self.node)

    def revoked(self) -> list[str]:
        return sorted(self.loop.revoked)

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
            "uptime": int(time.time() - self.started_at),
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
            "prefetch_count": len(self.loop.held),
            "rusage": {f: getattr(usage, f"ru_{f}") for f in fields},
            "events_dropped": self.events.dropped,
            "leases_lost": self.keeper.leases_lost,
            "messages_reaped": self.keeper.reaped,
        }

    def call(self, what: str, **arguments: Any) -> Any:
        """One of the worker's verbs, by name."""
        verb = getattr(self, f"_do_{what}", None)
        if verb is None:
            raise ValueError(f"the worker has no verb '{what}'")
        return verb(**arguments)

    def _do_enable_events(self) -> str:
        if self.events.tasks_on:
            return "task events already enabled"
        self.events.tasks_on = True
        return "task events enabled"

    def _do_disable_events(self) -> str:
        if not self.events.tasks_on:
            return "task events already disabled"
        self.events.tasks_on = False
        return "task events disabled"

    def _do_heartbeat(self) -> None:
        self.events.heartbeat()

    def _do_shutdown(self) -> None:
        _note("worker: warm shutdown (asked for by remote control)")
        self.loop.stop(Stage.WARM)

    def _do_revoke(self, task_ids: list[str], store: bool = True) -> None:
        if store:
            self.app.broker.revoke(task_ids)
        revoked = self.loop.revoked
        revoked.update(task_ids)
        while len(revoked) > REVOKED_MOST:
            revoked.pop()

    def _do_terminate(self, task_ids: list[str], signal: str | int = "TERM") -> str:
        signum = _signal_number(signal)
        if not self.pool.features.terminate:
            raise ValueError(f"the {self.pool.name} pool cannot stop a running task")
        self._do_revoke(task_ids)
        held = {h.message.id: n for n, h in list(self.loop.held.items())}
        numbers = {r.number for r in self.pool.running()}
        found = [i for i in task_ids if held.get(i) in numbers]

        def kill() -> None:
            for task_id in found:
                self.pool.kill(held[task_id], End.TERMINATED, signum)

        self.loop.call_soon(kill)
        return f"terminate: {', '.join(found)}" if found else "terminate: tasks unknown"

    def _do_rate_limit(self, task_name: str, rate_limit: str | float) -> str:
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
            self.loop.buckets.pop(task_name, None)
        else:
            self.loop.buckets[task_name] = Bucket(rate)

    def _do_time_limit(self, task_name: str, soft: float | None, hard: float | None) -> str:
        task = self.app.tasks.get(task_name)
        if task is None:
            raise ValueError("unknown task")
        if hard and not self.pool.features.hard_limit:
            raise ValueError(f"the {self.pool.name} pool has no hard time limits")
        task.soft_time_limit, task.time_limit = soft or None, hard or None
        return "time limits set successfully"

    def _do_pool_grow(self, n: int) -> None:
        self._resize("grow", n)

    def _do_pool_shrink(self, n: int) -> None:
        self._resize("shrink", n)

    def _resize(self, verb: str, n: int) -> None:
        if not isinstance(n, int) or not 0 < n <= 1000:
            raise ValueError(f"{verb} takes a number from 1 to 1000, not {n!r:.40}")
        if not self.pool.features.grow:
            raise ValueError(f"the {self.pool.name} pool cannot {verb}")
        if verb == "shrink" and n >= self.pool.size:
            raise ValueError(f"Can't shrink pool: it has {self.pool.size} and one must stay")
        self.loop.call_soon(lambda: getattr(self.pool, verb)(n))

    def _do_add_consumer(self, queue: str) -> str:
        if queue in self.queues():
            return f"already consuming from '{queue}'"
        self._set_queues([*self.queues(), queue])
        return f"add consumer {queue}"

    def _do_cancel_consumer(self, queue: str) -> str:
        if queue not in self.queues():
            raise ValueError(f"not consuming from '{queue}'")
        self._set_queues([q for q in self.queues() if q != queue])
        return f"no longer consuming from {queue}"

    def _set_queues(self, queues: list[str]) -> None:
        self.loop.call_soon(lambda: self.loop.set_queues(queues))

    # --- facts

    def _event_facts(self) -> dict[str, Any]:
        return {"active": len(self.pool.running()), "processed": sum(self.loop.total.values())}

    def _facts(self) -> dict[str, Any]:
        return {
            "pid": self.pid,
            "host": socket.gethostname(),
            "version": __version__,
            "queues": self.queues(),
            "pool": self.pool.name,
            "concurrency": self.pool.size,
            "started_at": self.started_at,
        }


# --- names and numbers -------------------------------------------------------------------------


def node_name(hostname: str | None) -> str:
    """`name@host`, with Celery's abbreviations: %h the host, %n its name, %d its domain."""
    host = socket.gethostname()
    name, _, domain = host.partition(".")
    text = (hostname or "celery@%h").replace("%h", host).replace("%n", name).replace("%d", domain)
    if "@" not in text:
        text = f"{text}@{host}"
    if any(not c.isprintable() or c.isspace() for c in text):
        raise ConfigError(f"a worker's name must not hold spaces or control characters: {text!r}")
    return text


def _queue_names(conf: Any, queues: Any, exclude: Any) -> tuple[str, ...]:
    def names(value: Any) -> list[str]:
        if not value:
            return []
        if isinstance(value, str):
            return [q.strip() for q in value.split(",") if q.strip()]
        return [q if isinstance(q, str) else q.name for q in value]

    found = names(queues) or names(conf.task_queues) or [conf.task_default_queue]
    without = set(names(exclude))
    left = tuple(dict.fromkeys(q for q in found if q not in without))
    if not left:
        raise ConfigError("no queue is left to consume from")
    return left


def _concurrency(value: int | str | None) -> int:
    if value is None:
        return os.cpu_count() or 1
    try:
        number = int(value)
    except ValueError:
        raise ConfigError(f"the concurrency is a number, not '{value}'") from None
    if not 1 <= number <= 512:
        raise ConfigError(f"the concurrency is a number from 1 to 512, not {number}")
    return number


def _signal_number(name: str | int) -> int:
    """The signal to send to a child. Children ignore the signals that stop a whole worker, so that
    a supervisor's TERM to the group stays warm; an operator's TERM therefore kills."""
    if isinstance(name, int):
        number = name
    else:
        text = name.upper()
        found = getattr(signal, text if text.startswith("SIG") else f"SIG{text}", None)
        if not isinstance(found, signal.Signals):
            raise ValueError(f"no signal named '{name}'")
        number = int(found)
    ignored = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
    return int(signal.SIGKILL) if number in ignored else number


def _results_words(app: App) -> str:
    if not app.results.keeps:
        return "none kept (set result_backend)"
    if getattr(app.results, "broker", None) is not None:
        return "kept by the broker"
    return mask_url(app.results.url)


def _note(text: str) -> None:
    """A line on stderr that is safe in a signal handler."""
    os.write(2, f"{text}\n".encode())


class _PidFile:
    """Holds the pid while the worker lives; a file left by a dead process is taken over."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path else None

    def __enter__(self) -> None:
        if self._path is None:
            return
        for _ in range(2):
            try:
                fd = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
            except FileExistsError:
                self._clear_stale()
                continue
            except OSError as exc:
                raise ConfigError(f"cannot write the pid file '{self._path}': {exc.strerror}") from exc
            os.write(fd, f"{os.getpid()}\n".encode())
            os.close(fd)
            return
        raise ConfigError(f"cannot take over the pid file '{self._path}'")

    def _clear_stale(self) -> None:
        assert self._path is not None
        try:
            pid = int(self._path.read_text().strip() or 0)
        except (OSError, ValueError):
            pid = 0
        if pid and Path(f"/proc/{pid}").exists():
            raise ConfigError(f"a worker is running with pid {pid} (pid file '{self._path}')")
        self._path.unlink(missing_ok=True)

    def __exit__(self, *exc: object) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
