"""The same lines of a client, with a worker of Celery and one of qcore, see the same."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import celery
import pytest
from celery.exceptions import TaskRevokedError
from kombu.exceptions import OperationalError

from qcore.celery.app import Celery
from qcore.errors import BrokerDown
from tests.faults.proxy import proxied
from tests.support.processes import Processes, run_python
from tests.support.waiting import wait_for

PROJECT = """
import os, signal, time
from celery import Celery, Task
from celery.worker.control import Panel

app = Celery("same", broker=os.environ.get("BROKER", os.environ["PLACE"]), backend=os.environ["PLACE"])
app.conf.update(result_expires=9000, result_failure_expires=600, worker_lost_wait=0.1)
app.conf.update(worker_cancel_long_running_tasks_on_connection_loss=True, worker_send_task_events=True)


@app.task(name="same.add")
def add(x, y):
    return x + y


@app.task(name="same.total")
def total(numbers):
    return sum(numbers)


@app.task(name="same.more", bind=True)
def more(self, lazy):
    sig = self.add_to_chord(add.s(10, 10), lazy=lazy)
    if lazy:
        sig.delay()
    return 1


class Bound(Task):
    seen = []

    @classmethod
    def bind(cls, app):
        found = super().bind(app)
        cls.seen = [*cls.seen, found is app, cls.serializer]
        return found


@app.task(name="same.bound", bind=True, base=Bound)
def bound(self):
    return [self.seen[:2], self.app.use_fast_trace_task]


def dies(self, times):
    if self.request.retries < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return self.request.retries


retried = {"bind": True, "retry_on_worker_lost": True, "default_retry_delay": 0}
late = app.task(dies, name="same.late", acks_late=True, reject_on_worker_lost=True, max_retries=1, **retried)
early = app.task(dies, name="same.early", acks_late=False, max_retries=0, **retried)


@app.task(name="same.cut", bind=True, acks_late=True)
def cut(self, path):
    if os.path.exists(path):
        return self.request.delivery_info["redelivered"]
    open(path, "x").close()
    time.sleep(100)


@app.task(name="same.hold", acks_late=False)
def hold(path):
    open(f"{path}/begun", "x").close()
    while not os.path.exists(f"{path}/go"):
        time.sleep(0.02)
    open(f"{path}/done", "x").close()


@Panel.register
def named(state, number):
    about = Panel.meta["named"]
    return [Panel.data["ping"](state), about.type, about.alias, Panel.data["named"] is named, number]


@app.task(name="same.fail")
def fail(*args):
    raise ValueError("no")
"""
CLIENT = """
import json, time
from celery import chain, chord, group
from celery.worker.control import Panel
from same import *

def ended(result):
    result.get(timeout=60, propagate=False)
    return result

def kept(result):
    left = app.backend.client.ttl(app.backend.get_key_for_task(result.id))
    return "short" if 0 < left <= 600 else "long" if left <= 9000 else "for ever"

found = {}
"""
LINES = {
    "failures expire": """
found["of tasks"] = [kept(ended(task.delay(1, 2))) for task in (add, fail)]
last = ended(chain(fail.si(), add.si(1, 1)).apply_async())
found["of a chain"] = [kept(last), kept(last.parent)]
found["of a chord"] = kept(ended(chord([add.s(1, 1), fail.s()], add.s(1)).apply_async()))
""",
    "names that programs call": """
found["run of a chord"] = chord([add.s(1)], total.s()).run(group(add.s(1), add.s(2)), total.s(), (4,)).get(60)
made = chord([add.s(1)], total.s(), app=app)
result = made.run(group(add.s(), add.s()), total.s(), (4, 5), task_id="an-id")
found["its id"] = [result.id, result.get(60), type(result.parent).__name__, len(result.parent)]
found["grown"] = [chord([add.s(1, 1), more.s(lazy)], total.s()).apply_async().get(60) for lazy in (0, 1)]
try:
    add.add_to_chord(add.s(1, 1))
except ValueError:
    found["outside"] = "ValueError"
found["bound"] = bound.delay().get(60)
found["here"] = [bound.seen, app.use_fast_trace_task]
(reply,) = app.control.broadcast("named", arguments={"number": 3}, reply=True, limit=1, timeout=60)
(found["panel"],) = reply.values()
found["meta"] = [[*Panel.meta[name][:4], Panel.meta[name].variadic] for name in COMMANDS]
found["data"] = [callable(Panel.data[name]) for name in ("dump_tasks", *COMMANDS)]
found["missing"] = ["nothing" in Panel.data, "dump_tasks" in Panel.meta]
""",
    "processes that die": """
for task in (late, early):
    result = task.delay(1)
    value = result.get(timeout=60, propagate=False)
    found[task.name] = [result.state, value if task is late else type(value).__name__]
""",
}
COMMANDS = (
    "revoke terminate ping stats objgraph memdump conf query_task registered rate_limit time_limit "
    "add_consumer pool_grow shutdown"
).split()
KINDS = ("celery", "qcore")


@pytest.fixture(scope="module")
def environments(
    module_redis_url: str, module_processes: Processes, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, str]]:
    """Those of the clients, one for each kind of worker, which runs."""
    folder, found = tmp_path_factory.mktemp("same"), {}
    (folder / "same.py").write_text(PROJECT)
    path = os.pathsep.join((str(folder), os.environ.get("PYTHONPATH", "")))
    for database, kind in enumerate(KINDS, 1):
        place = module_redis_url.rpartition("/")[0] + f"/{database}"
        found[kind] = {"PYTHONPATH": path, "PLACE": place}
        start = module_processes.celery if kind == "celery" else module_processes.qctl
        words = ("-A", "same", "worker", "-c", "1", "-n", f"{kind}@same", "-l", "INFO", "--without-mingle")
        worker = start(*words, env=found[kind])
        worker.wait_output("ready")
        assert "mingle:" not in worker.output()
    return found


def seen_by(kind: str, env: dict[str, str], lines: str) -> Any:
    install = "" if kind == "celery" else "from qcore.celery import install; install()\n"
    imports = "celery" if kind == "celery" else "qctl"
    text = install + CLIENT + f"COMMANDS = {COMMANDS}\n" + lines + "print(json.dumps(found))"
    done = run_python("-c", text, env={**os.environ, **env}, imports=imports)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", LINES)
def test_the_same_lines_see_the_same(environments: dict[str, dict[str, str]], name: str) -> None:
    theirs, ours = (seen_by(kind, environments[kind], LINES[name]) for kind in KINDS)

    assert ours == theirs


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_is_cancelled_when_the_connection_to_the_broker_is_lost(
    kind: str, rabbit_url: str, redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "same.py").write_text(PROJECT)
    events: list[dict[str, Any]] = []

    def told_of(task_id: str) -> list[str]:
        return [e["type"] for e in list(events) if e.get("uuid") == task_id]

    path = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    start = processes.celery if kind == "celery" else processes.qctl
    with proxied(rabbit_url, "plain") as proxy, celery.Celery(broker=rabbit_url, backend=redis_url) as app:
        env = {"PYTHONPATH": path, "PLACE": redis_url, "BROKER": proxy.url}
        worker = start("-A", "same", "worker", "-c", "1", "-n", f"{kind}@same", "-l", "INFO", env=env)
        worker.wait_output("ready")
        with app.connection() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": events.append})
            ear = threading.Thread(target=receiver.capture, daemon=True)
            ear.start()
            wait_for(lambda: bool(events), what="a heartbeat")

            result = app.send_task("same.cut", (str(tmp_path / "first"),))
            wait_for((tmp_path / "first").exists)
            proxy.reset()
            assert result.get(timeout=60) is True

            result = app.send_task("same.cut", (str(tmp_path / "second"),))
            wait_for(lambda: "task-started" in told_of(result.id), what="events are sent again")
            worker.term(signal.SIGQUIT)
            wait_for(lambda: "task-cancelled" in told_of(result.id), what="the event")

            assert told_of(result.id) == ["task-received", "task-started", "task-cancelled"]
            receiver.should_stop = True
            ear.join()


@pytest.mark.parametrize(("broker", "is_busy"), [("redis", False), ("redis", True), ("rabbit", True)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_that_may_not_connect_again_ends_when_its_tasks_have(
    kind: str,
    broker: str,
    is_busy: bool,
    redis_url: str,
    request: pytest.FixtureRequest,
    processes: Processes,
    tmp_path: Path,
) -> None:
    (tmp_path / "same.py").write_text(PROJECT)
    path = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    start = processes.celery if kind == "celery" else processes.qctl
    url: str = request.getfixturevalue(f"{broker}_url")
    with proxied(url, "plain") as proxy, celery.Celery(broker=url, backend=redis_url) as app:
        env = {"PYTHONPATH": path, "PLACE": redis_url, "BROKER": proxy.url}
        words = ("worker", "-c", "1", "-n", "w@same", "-l", "INFO", "--", "broker.connection_retry=0")
        worker = start("-A", "same", *words, env=env)
        worker.wait_output("ready")
        if is_busy:
            app.send_task("same.hold", (str(tmp_path),))
            wait_for((tmp_path / "begun").exists)

        proxy.reset()
        if is_busy:
            assert worker.is_running
            (tmp_path / "go").touch()

        assert worker.wait() == 1
        assert "broker_connection_retry" in worker.output()
        assert (tmp_path / "done").exists() == is_busy


@pytest.mark.parametrize("option", ["timeout", "confirm_timeout"])
def test_a_publish_ends_when_the_broker_does_not_confirm_it_in_time(option: str, rabbit_url: str) -> None:
    for kind in (celery.Celery, Celery):
        with proxied(rabbit_url, "plain") as proxy:
            app: Any = kind("times", broker=proxy.url, set_as_current=False)
            app.conf.update(broker_transport_options={"confirm_publish": True})
            app.send_task("same.add", (1, 1), **{option: 30})
            proxy.hole(1.5, "down")

            with pytest.raises((OperationalError, BrokerDown)):  # without the option, it waits until then
                app.send_task("same.add", (1, 1), retry=False, **{option: 0.3})

            app.send_task("same.add", (1, 1))
            app.close()


@pytest.mark.parametrize("option", ["--statedb={}", "worker.state_db={}"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_revoked_stays_so_when_a_worker_with_statedb_starts_again(
    kind: str, option: str, redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "same.py").write_text(PROJECT)
    path = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    start = processes.celery if kind == "celery" else processes.qctl
    words = ("-A", "same", "worker", "-c", "1", "-l", "INFO", "--without-mingle")
    words += (*(["--"] if "." in option else []), option.format(tmp_path / "db"))
    app = celery.Celery(broker=redis_url, backend=redis_url, set_as_current=False)

    for is_first in (True, False):
        worker = start(*words, env={"PYTHONPATH": path, "PLACE": redis_url})
        worker.wait_output("ready")
        if is_first:
            assert app.control.revoke("an-id", reply=True, timeout=60, limit=1)
            worker.term()
            assert worker.wait() == 0
    result = app.send_task("same.add", (1, 1), task_id="an-id")

    with pytest.raises(TaskRevokedError):
        result.get(timeout=60)
