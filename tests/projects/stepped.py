"""A project with steps of the worker and of its consumer, options of its own, and foreign messages.

What is called is noted, a line of JSON each, in the file NOTES. It runs on Celery's worker and on qcore's.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
from celery import Celery, bootsteps
from celery.exceptions import WorkerShutdown
from celery.signals import user_preload_options, worker_ready
from kombu import Consumer, Exchange, Queue

URL = os.environ.get("BROKER", "redis://127.0.0.1:6379/0")
FAILS = os.environ.get("FAILS", "")
app = Celery("stepped", broker=URL)
app.conf.update(
    worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True, task_ignore_result=True
)

app.user_options["worker"].add(click.Option(("--colour",), default="grey", help="The colour of the notes."))
app.user_options["worker"].add(click.Option(("--fast",), is_flag=True, help="Be fast."))
app.user_options["beat"].add(click.Option(("--pace",), type=int, help="The pace."))
app.user_options["preload"].add(click.Option(("-Z", "--zone"), default="north", help="The zone."))


def note(*words: Any) -> None:
    with Path(os.environ["NOTES"]).open("a") as file:
        file.write(json.dumps(words) + "\n")


class Noted:
    """What each step notes."""

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        note(type(self).__name__, "made", {k: options.get(k) for k in ("colour", "fast")})

    def include_if(self, parent: Any) -> bool:
        note(type(self).__name__, "include_if", parent.hostname)
        return bool(super().include_if(parent))

    def create(self, parent: Any) -> Any:
        note(type(self).__name__, "create", parent.app.main)

    def _called(self, what: str) -> None:
        note(type(self).__name__, what)
        if f"{type(self).__name__}.{what}" == FAILS:
            raise ValueError(f"{FAILS} fails")

    def start(self, parent: Any) -> None:
        self._called("start")

    def close(self, parent: Any) -> None:
        self._called("close")

    def stop(self, parent: Any) -> None:
        self._called("stop")

    def terminate(self, parent: Any) -> None:
        self._called("terminate")

    def shutdown(self, parent: Any) -> None:
        self._called("shutdown")


class First(Noted, bootsteps.StartStopStep):
    requires = ("celery.worker.components:Pool", "celery.worker.components:Timer")

    def start(self, worker: Any) -> None:
        super().start(worker)
        self.ticks = 0
        self.tref = worker.timer.call_repeatedly(0.05, self.tick, (worker,), priority=10)
        worker.timer.call_after(0.01, note, ("timer", "call_after"))

    def tick(self, worker: Any) -> None:
        self.ticks += 1
        if self.ticks == 3:
            note("timer", "third tick", worker.hostname)

    def stop(self, worker: Any) -> None:
        self.tref.cancel()
        super().stop(worker)


class Second(Noted, bootsteps.StartStopStep):
    requires = (First,)
    label = "the second"

    def info(self, worker: Any) -> dict[str, Any]:
        return {"second": {"colour": "as it is"}}


class Third(Noted, bootsteps.StartStopStep):
    """A step whose work another object does."""

    requires = (Second,)

    class Thing:
        def start(self) -> None:
            note("Thing", "start")

        def stop(self) -> None:
            note("Thing", "stop")

    def create(self, worker: Any) -> Any:
        super().create(worker)
        return self.Thing()

    start = bootsteps.StartStopStep.start
    stop = bootsteps.StartStopStep.stop
    terminate = bootsteps.StartStopStep.terminate


class Off(Noted, bootsteps.StartStopStep):
    requires = (Third,)
    enabled = False


class Unstarted(Noted, bootsteps.Step):
    """A step without start and stop."""

    requires = (Off,)


class Beside(Noted, bootsteps.StartStopStep):
    requires = ("celery.worker.consumer:Connection",)

    def start(self, consumer: Any) -> None:
        super().start(consumer)
        note("Beside", "sees", consumer.controller.hostname, consumer.app.main)


class Foreign(bootsteps.ConsumerStep):
    requires = (Beside,)
    queue = Queue("foreign", Exchange("foreign-exchange"), "foreign-key")
    unanswered = Queue("unanswered", Exchange("foreign-exchange"), "unanswered-key", no_ack=True)

    def get_consumers(self, channel: Any) -> list[Any]:
        note("Foreign", "get_consumers")
        return [
            Consumer(channel, queues=[self.queue], callbacks=[self.received], accept=["json"]),
            Consumer(channel, queues=[self.unanswered], on_message=self.raw, no_ack=True),
        ]

    def received(self, body: Any, message: Any) -> None:
        note("Foreign", "received", body)
        if body["number"] < 0:
            raise OSError("no number is negative")
        message.ack()
        if body["number"] == 0:
            raise WorkerShutdown

    def raw(self, message: Any) -> None:
        note("Foreign", "raw", message.decode())


class Late(Noted, bootsteps.StartStopStep):
    requires = (Foreign,)


app.steps["worker"].update((Unstarted, Second, Off, First, Third))
app.steps["consumer"].update((Late, Foreign, Beside))


@user_preload_options.connect
def preloaded(options: Any = None, **_: Any) -> None:
    note("preload", {"zone": options.get("zone")})


@worker_ready.connect
def ready(**_: Any) -> None:
    note("ready")


@app.task(name="stepped.add")
def add(x: int, y: int) -> int:
    note("add", x + y)
    return x + y
