"""The worker: create the pool and the services, start them in order, run the loop, stop them.

In:  an app and options (those of `qctl worker`).  Out: an exit code: 0 every delivery is settled, 3 a cold
shutdown returned running tasks, 1 the pool failed.
"""

from __future__ import annotations

import inspect
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from types import FrameType
from typing import TYPE_CHECKING, Any

from qcore.app.connections import consume
from qcore.app.queues import bind
from qcore.app.sources import traced
from qcore.base import provided
from qcore.base.crashpoints import crashpoint
from qcore.base.keywords import check_worker, user_options
from qcore.base.times import new_id, per_second
from qcore.control.authorization import Authorizer
from qcore.control.server import ControlServer
from qcore.errors import BrokerError, ColdShutdown, ConfigError, PoolBroken, mask_url
from qcore.events.sender import HEARTBEAT_S, EventSender
from qcore.pools.base import Pool, PoolSetup
from qcore.pools.prefork.spawned import is_spawned, serve_place
from qcore.pools.registry import pools
from qcore.results.registry import celery_backend
from qcore.settings import effects
from qcore.signals import (
    celeryd_after_setup,
    celeryd_init,
    worker_before_create_process,
    worker_init,
    worker_process_init,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)
from qcore.version import __version__
from qcore.wire.result import FAILURE
from qcore.worker.loop import Loop
from qcore.worker.outage import reach
from qcore.worker.process import log_setup, task_logs
from qcore.worker.process.options import (
    check_serializers,
    concurrency_of,
    debug_on_signal,
    is_spawning,
    node_name,
    queue_names,
    worker_command,
)
from qcore.worker.process.pidfile import PidFile
from qcore.worker.remote_control import RemoteControl, note
from qcore.worker.services.autoscale import Autoscaler, bounds, keepalive_s
from qcore.worker.services.base import (
    CONTROL,
    EVENTS,
    HEALTH,
    LEASE,
    Service,
    ShutdownStage,
    StepFailed,
    in_order,
)
from qcore.worker.services.broadcasts import Broadcasts, taken
from qcore.worker.services.lease import LeaseKeeper
from qcore.worker.services.ports import Ports
from qcore.worker.services.task_signals import TaskSignals
from qcore.worker.settling.chords import Chords
from qcore.worker.settling.failed_tasks import FailedTaskRecorder
from qcore.worker.settling.rules import SettlementRules

if TYPE_CHECKING:
    from qcore.app.app import App

log = logging.getLogger("qcore.worker")

#: messages that a worker holds with worker_prefetch_multiplier=0: it reads no more into its memory
UNLIMITED = 10_000

EXIT_SETTLED, EXIT_FAILED, EXIT_CUT_SHORT = 0, 1, 3


class Worker:
    """One worker process (and its children). See `qctl worker --help` for the options."""

    #: whether the output of its processes goes to the log, as the settings say
    redirects_output = True

    def __init__(
        self,
        app: App,
        *,
        hostname: str | None = None,
        pool: str | None = None,
        concurrency: int | str | None = None,
        autoscale: str | tuple[int, int] | None = None,
        queues: Sequence[str] | str | None = None,
        exclude_queues: Sequence[str] | str | None = None,
        loglevel: str | int = "WARNING",
        logfile: str | None = None,
        log_format: str | None = None,
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
        without_gossip: bool = False,
        drain_timeout: float | None = None,
        pidfile: str | None = None,
        health_port: str | int | None = None,
        metrics_port: str | int | None = None,
        beat: bool = False,
        scheduler: str | None = None,
        schedule_filename: str | None = None,
        pool_start_method: str | None = None,
        **others: Any,
    ) -> None:
        own = inspect.signature(type(self).__init__).parameters
        of_user = user_options(app, "worker")
        check_worker((name for name in others if name not in of_user), own)
        self._user_options = {name: value for name, value in others.items() if name in of_user}
        self.app, self._ports = app, Ports(health_port, metrics_port)
        conf = app.conf
        self.node = node_name(hostname)
        self.pid = os.getpid()
        self.instance = new_id()
        self.started_at, self._began = time.time(), time.monotonic()
        log_setup.check_format(log_format)
        self._log = (loglevel, logfile, log_format)
        self._given = {  # what steps get, by Celery's names
            "autoscale": autoscale,
            "beat": beat,
            "concurrency": concurrency,
            "heartbeat_interval": heartbeat_interval,
            "logfile": logfile,
            "loglevel": loglevel,
            "max_memory_per_child": max_memory_per_child,
            "max_tasks_per_child": max_tasks_per_child,
            "pool": pool,
            "prefetch_multiplier": prefetch_multiplier,
            "purge": purge,
            "schedule_filename": schedule_filename,
            "scheduler": scheduler,
            "soft_time_limit": soft_time_limit,
            "task_events": task_events,
            "time_limit": time_limit,
            "without_gossip": without_gossip,
            "without_heartbeat": without_heartbeat,
        }
        self._queues = queue_names(conf, queues, exclude_queues)
        if conf.worker_direct:
            self._queues = (*self._queues, f"{self.node}.dq2")
        self._purge, self._pidfile = purge, pidfile
        self._beat = (scheduler, schedule_filename) if beat else None
        for name, value in (("task_time_limit", time_limit), ("task_soft_time_limit", soft_time_limit)):
            if value is not None:
                conf[name] = value
        if include:
            conf["include"] = (*conf.include, *include)
        given = conf.worker_prefetch_multiplier if prefetch_multiplier is None else prefetch_multiplier
        self._multiplier = 1 if conf.worker_disable_prefetch else int(given)
        self._pool_kind = pools.get(pool or conf.worker_pool)
        self._bounds = bounds(autoscale, self._pool_kind.most) if autoscale else None
        if self._bounds is not None and not self._pool_kind.features.grow:
            raise ConfigError(f"the {self._pool_kind.name} pool cannot grow; --autoscale needs one that can")
        self._setup = PoolSetup(
            app=app,
            node=self.node,
            concurrency=self._bounds[1]
            if self._bounds is not None
            else concurrency_of(
                concurrency if concurrency is not None else conf.worker_concurrency,
                self._pool_kind.default_concurrency,
                self._pool_kind.most,
            ),
            accept=frozenset(conf.accept_content),
            max_tasks_per_child=max_tasks_per_child or conf.worker_max_tasks_per_child,
            max_memory_per_child_kib=max_memory_per_child or conf.worker_max_memory_per_child,
            strict_prefetch=self._multiplier == 1,
            extended=conf.result_extended and ("request" if celery_backend(conf.result_backend) else True),
            before_run=self._before_run,
            command=worker_command(),
            spawns=is_spawning(pool_start_method or conf.worker_pool_start_method),
        )
        self._drain_timeout_s = (
            drain_timeout if drain_timeout is not None else conf.worker_soft_shutdown_timeout or None
        )
        events_on = conf.worker_send_task_events if task_events is None else task_events
        every_s = None if without_heartbeat else (heartbeat_interval or HEARTBEAT_S)
        self.events = EventSender(app, self.node, self._event_facts, bool(events_on), every_s)
        self._guard = Authorizer(conf)
        self._has_remote_control = bool(conf.worker_enable_remote_control)
        self._interrupts, self._solo_running = 0, False

    # --- life

    def run(self) -> int:
        """Start, run until a shutdown is requested, stop. Returns the exit code. Raises ConfigError,
        and BrokerDown when the broker is unavailable at the start."""
        try:
            with log_setup.output_as_before():
                return self._run()
        except StepFailed:  # the log has its error
            return EXIT_FAILED

    def _run(self) -> int:
        app, is_child = self.app, is_spawned()
        options = {"loglevel": self._log[0], "logfile": self._log[1], "queues": list(self._queues)}
        if not is_child:
            celeryd_init.send(self.node, instance=self, conf=app.conf, options=options)
        log_setup.set_up(app.conf, *self._log)
        task_logs.keep(app, self.node)
        if not is_child:
            celeryd_after_setup.send(self.node, instance=self, conf=app.conf)
        app.import_modules()
        traced(app.conf)
        if is_child:
            serve_place(self._setup)
        check_serializers(app.conf, os.geteuid(), os.environ)
        if "warn_of_idle_patches" in provided:
            provided["warn_of_idle_patches"](self._pool_kind.name)
        worker_init.send(self)
        log_setup.redirect_output(app.conf, self.redirects_output)
        steps = self._steps()
        consume(app)
        reach(app)
        self._queues, broadcasts = taken(app, self._queues, self.node)
        for task in app.tasks.values():
            per_second(task.rate_limit)  # a malformed limit fails before anything starts
        for queue in self._queues if self._purge else ():
            app.broker.administration.purge(queue)
        app.close()
        effects.warn(app.conf.without_defaults(), log)
        with PidFile(self._pidfile):
            # The pool first: it forks, and a process with threads or connections must not fork.
            self.pool = self._pool_kind(self._setup)
            if steps is not None:
                steps.include()
            vars(app)["use_fast_trace_task"] = True
            worker_before_create_process.send(self.pool)
            self.pool.start()
            try:
                consumer = app.broker.consumer(self._queues, self.node)
            except BaseException:
                self.pool.stop()  # else its processes log that their parent ended
                raise
            bind(app, self._queues)
            most = self._bounds[0] if self._bounds else self._setup.concurrency
            self.prefetch_count = most * self._multiplier or UNLIMITED
            consumer.prefetch(self.prefetch_count)
            chords = Chords(app, app.results)
            rules = self._rules(chords)
            signals = TaskSignals(self.node, lambda: self._made_steps.consumer)
            self.loop = Loop(
                app,
                self.node,
                consumer,
                self.pool,
                app.results,
                self._ports.reporter(app, self.events, signals),
                rules,
                chords,
                self._drain_timeout_s,
            )
            if self._bounds is not None:
                self.loop.autoscaler = Autoscaler(self.pool, *self._bounds, keepalive_s())
            self.loop.admission.revoked.load(app.broker)
            self.keeper = LeaseKeeper(
                consumer, app.broker, self.node, self.instance, self._facts, self.loop.lease_lost
            )
            self.remote = RemoteControl(
                app, self.node, self.instance, self.loop, self.events, self.keeper, self._guard.refused
            )
            self.remote.elects = not self._given["without_gossip"]
            self.remote.as_consumer = lambda: self._made_steps.consumer
            for task in app.tasks.values():
                self.remote.set_rate_limit(task.name, task.rate_limit)
            # Leases before deliveries; remote control last: a worker that replies must be able to work.
            own: dict[str, Service] = {HEALTH: self.loop.pulse, LEASE: self.keeper, EVENTS: self.events}
            if self._has_remote_control:
                own[CONTROL] = ControlServer(app, self.remote, self._guard)
            own |= self._ports.services(self.loop, self.started_at)
            if broadcasts:
                own["broadcasts"] = Broadcasts(app, self.node, broadcasts)
            if self._beat is not None:
                from qcore.beat.service import BeatService

                own["beat"] = BeatService(app, *self._beat)
            if steps is not None:
                own["steps"], self.remote.more_stats = steps, steps.info
            wanted = in_order(own, self.remote)
            self._catch_signals()
            started: list[Any] = []
            try:
                for name, service in wanted.items():
                    self._start(name, service, is_own=name in own)
                    started.append(service)
                self._say_ready()
                if worker_ready.receivers:
                    worker_ready.send(self._made_steps.consumer)
                self.loop.run()
            except PoolBroken as exc:
                log.critical("%s; %d running task(s) returned to their queues", exc, self.loop.returned)
                return EXIT_FAILED
            finally:
                # Control and events run until the last settlement.
                self._stop_all(list(reversed(started)), consumer)
                worker_shutdown.send(self)
            if self.loop.returned:
                log.warning("cold shutdown: %d running task(s) returned to their queues", self.loop.returned)
            ended = EXIT_CUT_SHORT if self.loop.returned else EXIT_SETTLED
            return EXIT_FAILED if self.loop.gave_up() else ended

    def _steps(self) -> Any:
        """The service of the steps that the project adds (Celery's bootsteps); None without steps."""
        steps = getattr(self.app, "steps", None)
        if not steps or not (steps.get("worker") or steps.get("consumer")):
            return None
        return self._made_steps

    @cached_property
    def _made_steps(self) -> Any:
        from qcore.worker.services.steps import Steps

        return Steps(self, {**self._given, **self._user_options})

    def _rules(self, chords: Chords) -> SettlementRules:
        conf, failures = self.app.conf, None
        if conf.worker_store_failed and self.app.broker.features.failures:
            failures = FailedTaskRecorder(self.node, conf.seconds("failed_task_expires"))
        ttl_s, form = (conf.seconds("result_expires"), conf.result_ttl_s(FAILURE)), self.app.result_form
        return SettlementRules(ttl_s, conf.task_max_deliveries, failures, chords.consequences, form)

    def _stop_all(self, services: list[Any], consumer: Any) -> None:
        """Stop `services` in the given order, then close the consumer and the events. The order matters:
        a retired worker must not reply, and a closed consumer's lease must not be renewed."""
        self.pool.stop()
        task_logs.flush()
        for service in services:
            if service is not self.events:
                self._stop(service)
        try:
            crashpoint("before_leave")
            consumer.close()
            crashpoint("left")
        except BrokerError as exc:
            log.warning("held messages are returned when the lease ends: %s", exc)
        if self.events in services:
            self._stop(self.events)
        self.app.close()

    @staticmethod
    def _start(name: str, service: Any, is_own: bool) -> None:
        try:
            service.start()
        except Exception as exc:
            if is_own:
                raise
            raise ConfigError(f"the service '{name}' does not start: {exc}") from exc

    @staticmethod
    def _stop(service: Any) -> None:
        try:
            service.stop()
        except BrokerError as exc:
            log.debug("stopping: %s", exc)
        except Exception:  # a plug-in's error must not prevent the shutdown
            log.exception("a service did not stop: %r", service)

    def _before_run(self) -> None:
        """Called once in every process that runs tasks."""
        log_setup.redirect_output(self.app.conf, self.redirects_output)
        if self._pool_kind.sends_process_signals:
            debug_on_signal()
            worker_process_init.send(self.node)

    def _say_ready(self) -> None:
        url, weakened = mask_url(self.app.broker_url()), self.app.broker.weakened
        tasks = sum(not name.startswith("celery.") for name in self.app.tasks)
        print(
            f"qcore {__version__} worker {self.node}\n"
            f"  broker       {url}\n"
            f"{weakened and f'  caution      {weakened}{chr(10)}'}"
            f"  results      {_results_words(self.app)}\n"
            f"  concurrency  {self.pool.size} ({self.pool.name})\n"
            f"  queues       {', '.join(self._queues)}\n"
            f"  tasks        {tasks}\n"
            f"  control      {self._guard.words() if self._has_remote_control else 'off'}\n"
            f"  task events  {'on' if self.events.tasks_on else 'off (-E turns them on)'}\n"
            f"{self._celery_line()}{self.node} ready.",
            file=sys.__stderr__ or sys.stderr,
            flush=True,
        )

    @staticmethod
    def _celery_line() -> str:
        """A line of the banner, when the project imports Celery and gets qcore."""
        module = sys.modules.get("celery")
        if not str(getattr(module, "__file__", "")).startswith("<qcore"):
            return ""
        return "  celery       is qcore in this process (QCTL_CELERY=real uses the installed Celery)\n"

    # --- signals: TERM and the first INT cause a warm shutdown, QUIT and the second INT a cold one

    def _catch_signals(self) -> None:
        remap = os.environ.get("REMAP_SIGTERM") in ("SIGQUIT", "SIGINT")
        try:
            signal.signal(signal.SIGTERM, self._on_quit if remap else self._on_term)
        except ValueError:  # not in the main thread, which eventlet's `threading` does not know
            return
        signal.signal(signal.SIGINT, self._on_interrupt)
        signal.signal(signal.SIGQUIT, self._on_quit)
        signal.signal(signal.SIGHUP, self._on_term)
        debug_on_signal()
        # Python runs a handler only between bytecodes; the byte wakes a sleeping select.
        self.loop.install_wakeup_fd()

    def _on_term(self, signum: int, frame: FrameType | None) -> None:
        was_running = self.loop.stage == ShutdownStage.RUNNING
        self.loop.stop(ShutdownStage.WARM)  # first: a signal that arrives during the rest is the second one
        if was_running:
            note("worker: warm shutdown (running tasks finish; Ctrl-C or SIGQUIT stops at once)")
            self._announce(signum, "Warm", EXIT_SETTLED)

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        self._interrupts += 1
        if self.loop.stage == ShutdownStage.RUNNING and self._interrupts == 1:
            self._on_term(signum, frame)
        else:
            self._on_quit(signum, frame)

    def _on_quit(self, signum: int, frame: FrameType | None) -> None:
        was_warm = self.loop.stage < ShutdownStage.COLD
        self.loop.stop(ShutdownStage.COLD)
        if was_warm:
            note("worker: cold shutdown (running tasks are stopped and returned)")
            self._announce(signum, "Cold", EXIT_CUT_SHORT)
        if self.pool.name == "solo" and self.pool.running():
            raise ColdShutdown

    def _announce(self, signum: int, how: str, exitcode: int) -> None:
        worker_shutting_down.send(self.node, sig=signal.Signals(signum).name, how=how, exitcode=exitcode)

    # --- facts

    @property
    def pool_cls(self) -> type[Pool]:
        """The class of its pool, as receivers of signals read it."""
        return self._pool_kind

    @property
    def concurrency(self) -> int:
        """The number of slots that it starts with, as steps read it."""
        return self._setup.concurrency

    @property
    def hostname(self) -> str:
        """The node's name, as receivers of signals read it."""
        return self.node

    def _event_facts(self) -> dict[str, Any]:
        return {"active": len(self.pool.running()), "processed": sum(self.loop.total.values())}

    def _facts(self) -> dict[str, Any]:
        return {
            "pid": self.pid,
            "host": socket.gethostname(),
            "version": __version__,
            "queues": list(self.loop.consumer.queues),
            "pool": self.pool.name,
            "concurrency": self.pool.size,
            "started_at": self.started_at,
            "elects": not self._given["without_gossip"],
            "taken": self.loop.throughput.rates(),
            "at": time.time(),  # compared with the broker's clock, it reveals a wrong clock of this host
        }


def _results_words(app: App) -> str:
    if not app.results.keeps:
        return "not stored (set result_backend)"
    return "stored in the broker" if app.results.in_broker else mask_url(app.results.url)
