"""A project that extends its worker in Celery's way: steps, options, a pool, a result backend, commands.

    qctl -A project worker -P project:Threads --greeting hello

It says nothing of qcore and runs on Celery's worker too: `celery -A project worker …`.
"""

from __future__ import annotations

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import click
from celery import Celery, bootsteps
from celery.backends.base import KeyValueStoreBackend
from celery.concurrency.base import BasePool, apply_target
from celery.signals import user_preload_options
from celery.worker.control import control_command, inspect_command
from kombu import Consumer, Exchange, Queue

app = Celery("project", broker=os.environ["BROKER"])
app.conf.result_backend = "project:TableBackend"


@app.task(name="project.add")
def add(x, y):
    return x + y


# --- options

app.user_options["worker"].add(click.Option(["--greeting"], default="hi", help="How the worker greets."))
app.user_options["preload"].add(click.Option(["--zone"], default="north", help="The zone of this command."))


@user_preload_options.connect
def choose_zone(app, options, **_):
    app.zone = options["zone"]


# --- steps


class Greeter(bootsteps.StartStopStep):
    """Greets when the worker starts and stops, and every second between."""

    requires = ("celery.worker.components:Timer",)

    def __init__(self, worker, greeting="hi", **options):
        super().__init__(worker, **options)
        self.greeting = greeting

    def start(self, worker):
        self._say(f"{self.greeting} from {worker.hostname} in the {worker.app.zone}")
        self.entry = worker.timer.call_repeatedly(1.0, self._say, ("still here",))

    def stop(self, worker):
        self.entry.cancel()
        self._say("goodbye")

    def _say(self, words):
        print(words, flush=True)


class Letters(bootsteps.ConsumerStep):
    """Receives messages that are no tasks, from a queue of their own."""

    queue = Queue("letters", Exchange("post"), routing_key="letter")

    def get_consumers(self, channel):
        return [Consumer(channel, queues=[self.queue], callbacks=[self.received], accept=["json"])]

    def received(self, body, message):
        print(f"a letter: {body['text']}", flush=True)
        message.ack()


app.steps["worker"].add(Greeter)
app.steps["consumer"].add(Letters)


# --- a pool


class Threads(BasePool):
    """A pool of threads: target is called in one, and callback with what it returned."""

    def on_start(self):
        self.executor = ThreadPoolExecutor(self.limit)

    def on_stop(self):
        self.executor.shutdown()

    def on_apply(self, target, args=(), kwargs=None, callback=None, accept_callback=None, **_):
        return self.executor.submit(apply_target, target, args, kwargs, callback, accept_callback)


# --- a result backend


class TableBackend(KeyValueStoreBackend):
    """Keeps results in a table of an SQLite file."""

    def _run(self, statement, *values):
        connection = sqlite3.connect(os.environ["RESULTS"], timeout=10)
        try:
            with connection:
                connection.execute("CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, value BLOB)")
                return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def get(self, key):
        rows = self._run("SELECT value FROM results WHERE key = ?", _text(key))
        return rows[0][0] if rows else None

    def mget(self, keys):
        return [self.get(key) for key in keys]

    def set(self, key, value):
        self._run("INSERT OR REPLACE INTO results VALUES (?, ?)", _text(key), value)

    def delete(self, key):
        self._run("DELETE FROM results WHERE key = ?", _text(key))


def _text(key):
    return key.decode() if isinstance(key, bytes) else key


# --- control commands


@inspect_command()
def zone(state):
    """The zone that the worker was started with."""
    return state.app.zone


@control_command(args=[("name", str)], signature="<zone>")
def move(state, name):
    """Move the worker to another zone."""
    state.app.zone = name
    return {"ok": f"{state.hostname} is in the {name}"}
