"""Publish a simulated fleet to a broker: events at their time, replies to control requests.

In:  a broker's URL and a Fleet.  Out: what its workers would publish, announce and reply.  Before this:
fleet_events.py.  `python -m qctl.commands.demo.fleet_publisher URL` is a process of its own; it prints
`ready`, and a summary as JSON when it ends: after --for seconds, or on SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from qcore.brokers.base import Broker
from qcore.brokers.registry import open_broker
from qcore.errors import BrokerError, Malformed
from qcore.version import __version__
from qcore.wire import control, event
from qctl.commands.demo.fleet_events import KINDS, SLOTS, Fleet, Job, Worker

BEGAN = time.monotonic()
ANNOUNCE_EVERY_S = 10.0
NAP_S = 0.004  # events that fall due meanwhile are published together


class FleetPublisher:
    """A fleet at a broker: a connection to publish, one to reply, and a subscription per worker."""

    def __init__(self, fleet: Fleet, url: str, options: dict[str, Any] | None = None) -> None:
        self.fleet = fleet
        self.messages = self.events = 0  # published so far
        self._url, self._options = url, options
        self._stopped = threading.Event()
        self._answering = threading.Thread(target=self._answer, name="demo-answers", daemon=True)
        self._heard = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def run(self, seconds: float | None = None, on_ready: Callable[[], None] = lambda: None) -> None:
        """Publish until stop(), or for `seconds` of events. Raises BrokerDown."""
        broker = open_broker(self._url, self._options)
        try:
            self._announce(broker)
            self._answering.start()
            self._heard.wait(10.0)
            on_ready()
            self._speak(broker, seconds)
        finally:
            self._stopped.set()
            self._answering.join(2.0)
            for worker in self.fleet.workers:
                broker.retire(worker.node)
            broker.close()

    def _speak(self, broker: Broker, seconds: float | None) -> None:
        self.fleet.since = time.time()
        announce_at = self.fleet.since + ANNOUNCE_EVERY_S
        for turn in self.fleet.turns(float("inf") if seconds is None else seconds):
            while turn.at > (now := time.time()):
                if self._stopped.wait(max(turn.at - now, NAP_S)):
                    return
            if turn.at >= announce_at:
                announce_at += ANNOUNCE_EVERY_S
                self._announce(broker)
            key = event.routing_key(turn.events[0]["type"]) if turn.is_beat else event.BATCH_KEY
            sent: Any = turn.events[0] if turn.is_beat else turn.events
            broker.broadcast(event.EXCHANGE, key, event.encode(sent, turn.node, key))
            self.messages += 1
            self.events += len(turn.events)
            if self._stopped.is_set():
                return

    def _announce(self, broker: Broker) -> None:
        for worker in self.fleet.workers:
            if worker.silent:
                continue
            info = {
                "pid": worker.pid, "host": "demo", "version": __version__, "pool": "prefork",
                "queues": _queues(), "concurrency": SLOTS, "started_at": self.fleet.since or time.time(),
                "instance": f"demo-{worker.pid}",
            }  # fmt: skip
            broker.announce(worker.node, info, ANNOUNCE_EVERY_S * 3)

    def _answer(self) -> None:
        broker = open_broker(self._url, self._options)
        # Clients count subscriptions, so each worker has one; the requests of one of them suffice.
        subscriptions = [broker.subscribe(control.EXCHANGE, "", w.node) for w in self.fleet.workers]
        self._heard.set()
        try:
            while not self._stopped.is_set():
                raw = subscriptions[0].get(0.2)
                if raw is None:
                    continue
                for subscription in subscriptions[1:]:
                    while subscription.get(0.0) is not None:
                        pass
                try:
                    self._reply(broker, control.decode_request(raw))
                except (Malformed, BrokerError):
                    continue
        finally:
            for subscription in subscriptions:
                subscription.close()
            broker.close()

    def _reply(self, broker: Broker, request: control.Request) -> None:
        if request.reply_key is None:
            return
        exchange = request.reply_exchange or control.REPLY_EXCHANGE
        for worker in self.fleet.workers:
            if worker.silent or not request.is_for(worker.node):
                continue
            value = self._value(request.method, worker)
            reply = control.Reply(worker.node, value, request.ticket, instance=f"demo-{worker.pid}")
            broker.reply(
                exchange, request.reply_key, control.encode_reply(reply, exchange, request.reply_key)
            )

    @staticmethod
    def _value(method: str, worker: Worker) -> Any:
        answer = ANSWERS.get(method)
        return (
            {"error": "this is a simulated worker; it accepts no commands"}
            if answer is None
            else answer(worker)
        )


def _queues() -> list[str]:
    return sorted({queue for _, queue, _, _ in KINDS})


def _task(worker: Worker, job: Job, runs: bool) -> dict[str, Any]:
    return {
        "id": job.task_id, "name": job.name, "type": job.name, "args": job.args, "kwargs": job.kwargs,
        "hostname": worker.node, "time_start": job.at if runs else None, "acknowledged": runs,
        "delivery_info": {"exchange": "", "routing_key": job.queue, "priority": 0, "redelivered": False},
        "worker_pid": worker.pid + 1 if runs else None,
    }  # fmt: skip


def _stats(worker: Worker) -> dict[str, Any]:
    return {
        "total": dict(worker.total), "pid": worker.pid, "clock": worker.seq,
        "uptime": int(
            time.monotonic() - BEGAN if worker.started_at is None else time.time() - worker.started_at
        ),
        "pool": {"implementation": "demo", "max-concurrency": SLOTS, "processes": []},
        "prefetch_count": SLOTS * 4, "broker": {"transport": "demo"},
        "rusage": {"maxrss": 61_440},
    }  # fmt: skip


ANSWERS: dict[str, Callable[[Worker], Any]] = {
    "ping": lambda worker: {"ok": "pong"},
    "stats": _stats,
    "active": lambda worker: [_task(worker, job, True) for job in list(worker.running)],
    "reserved": lambda worker: [_task(worker, job, False) for job in list(worker.held)],
    "active_queues": lambda worker: [{"name": name, "routing_key": name} for name in _queues()],
    "registered": lambda worker: sorted(kind[0] for kind in KINDS),
    "scheduled": lambda worker: [],
    "revoked": lambda worker: [],
    "clock": lambda worker: {"clock": worker.seq},
    "enable_events": lambda worker: {"ok": "task events already enabled"},
}


def _end_with_us(speaker: FleetPublisher) -> None:
    sys.stdin.read()
    speaker.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="Publish events of a simulated fleet.")
    parser.add_argument("url")
    parser.add_argument("--workers", type=int, default=20)
    parser.add_argument("--rate", type=float, default=200.0, help="events a second")
    parser.add_argument("--for", dest="seconds", type=float, help="end after this many seconds")
    parser.add_argument("--with-us", action="store_true", help="end when standard input is closed")
    given = parser.parse_args()
    fleet = Fleet(given.workers, given.rate, has_incident=given.with_us)
    speaker = FleetPublisher(fleet, given.url)
    signal.signal(signal.SIGTERM, lambda *_: speaker.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the terminal: the parent process decides
    schedule = backlog = None
    if given.with_us:
        from qctl.commands.demo.fleet_incident import Backlog
        from qctl.commands.demo.fleet_schedule import FleetSchedule

        threading.Thread(target=_end_with_us, args=(speaker,), daemon=True).start()
        schedule, backlog = FleetSchedule(given.url), Backlog(given.url)
        schedule.start()
        backlog.start()
    try:
        speaker.run(given.seconds, lambda: print("ready", flush=True))
    finally:
        if schedule is not None and backlog is not None:
            schedule.stop()
            backlog.stop()
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "events": speaker.events,
        "messages": speaker.messages,
        "cpu_s": round(used.ru_utime + used.ru_stime, 3),
        "took_s": round(time.time() - fleet.since, 3),
        "ended": fleet.ended,
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
