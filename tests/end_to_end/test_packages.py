"""Packages for Celery run unmodified on `qctl worker`, with Celery installed and without it.

The same client and the same assertions run on Celery's own worker too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.processes import ROOT, Process, Processes, run_python
from tests.support.waiting import wait_for

#: what projects import besides, and what does not import Celery
IMPORTED = {
    "with_sentry": ("sentry_sdk",),
    "with_telemetry": ("opentelemetry.instrumentation.instrumentor", "opentelemetry.sdk.trace.export"),
}


class Installation:
    """One way to run a project: whose worker, and whether Celery is installed. A client like its worker."""

    def __init__(self, kind: str, url: str, place: Path, folder: Path, processes: Processes) -> None:
        self.kind, self.processes, self.notes = kind, processes, place / "notes"
        self.notes.touch()
        self.env = {"PACKAGES_URL": url, "PACKAGES_NOTES": str(self.notes), "PYTHONPATH": str(ROOT)}
        self.python = [sys.executable]
        if kind == "without celery":
            self.python.append("-S")
            self.env["PYTHONPATH"] = f"{ROOT}{os.pathsep}{folder}"

    def worker(self, project: str, *options: str) -> Process:
        self.processes.also = IMPORTED.get(project, ())
        program = ("-m", "celery" if self.kind == "celery" else "qctl")
        words = ("-A", f"tests.projects.{project}", "worker", "-c", "1", "-n", "w@test", "-l", "INFO")
        started = self.processes.start(*self.python, *program, *words, *options, env=self.env, fresh=False)
        started.wait_output("w@test ready")
        return started

    def client(self, code: str) -> Any:
        """What a client process printed."""
        before = "" if self.kind == "celery" else "from qcore.celery import install; install()\n"
        done = run_python(
            *self.python[1:],
            *("-c", before + "import json\n" + code),
            env={**os.environ, **self.env},
            imports="celery" if self.kind == "celery" else "qctl",
            also=self.processes.also,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def lines(self) -> list[str]:
        return self.notes.read_text().splitlines()

    def records(self) -> list[Any]:
        return [json.loads(line) for line in self.lines()]


@pytest.fixture(params=["celery", "with celery", "without celery"])
def installation(
    request: pytest.FixtureRequest, redis_url: str, tmp_path: Path, without_celery: Path, processes: Processes
) -> Iterator[Installation]:
    yield Installation(request.param, redis_url, tmp_path, without_celery, processes)


def test_celery_is_installed_or_not(installation: Installation) -> None:
    code = "import importlib.util; print(importlib.util.find_spec('celery'))"
    found = subprocess.check_output(
        [*installation.python, "-c", code], env={**os.environ, **installation.env}, cwd=ROOT, text=True
    )

    assert (found.strip() == "None") is (installation.kind == "without celery")


def test_packages_that_lock(installation: Installation) -> None:
    worker = installation.worker("with_locks", "-P", "threads", "-c", "8")

    found = installation.client("""
import os
from tests.projects.with_locks import *
from celery_once import AlreadyQueued
from celery_singleton import DuplicateTaskError, clear_locks
first, second, other = alone.delay(1), alone.delay(1), alone.delay(2)
keyed = by_key.delay("k", 1)
try:
    by_key.delay("k", 2); duplicate = None
except DuplicateTaskError as exc:
    duplicate = exc.task_id == keyed.id
one = once.delay(1)
try:
    once.delay(1); queued = None
except AlreadyQueued as exc:
    queued = 0 < exc.countdown <= 3600
two = once.delay(2)
g1, g2 = graceful.delay(1, 1), graceful.delay(1, 2)
e1 = early.delay(1)
while "early 1" not in open(os.environ["PACKAGES_NOTES"]).read(): time.sleep(0.02)
e2 = early.delay(1)
open(os.environ["PACKAGES_NOTES"] + ".open", "w").close()
values = [r.get(timeout=60) for r in (first, second, other, keyed, one, two, g1, e1, e2)]
errors = []
for _ in range(2):  # the lock of a task that fails is released
    try: broken.delay().get(timeout=60)
    except KeyError as exc: errors.append(str(exc))
def again(call):  # a lock is released by a hook, which may run just after the result is there
    for _ in range(500):
        try: return call().get(timeout=60)
        except (AlreadyQueued, DuplicateTaskError): time.sleep(0.02)
more = [again(lambda: alone.delay(1)), again(lambda: once.delay(1)), again(lambda: by_key.delay("k", 3))]
print(json.dumps([first.id == second.id, duplicate, queued, [g2.id, g2.state], values, errors, more]))
""")

    assert found[:4] == [True, True, True, [None, "REJECTED"]]
    assert found[4] == [1, 1, 2, "k", 1, 2, 1, 1, 1]
    assert found[5:] == [["'broken'", "'broken'"], [1, 1, "k"]]
    runs = sorted(line for line in installation.lines() if not line.startswith("alone 1"))
    keyed = ["by key k 1", "by key k 3", "early 1", "early 1", "graceful 1 1 0"]
    assert runs == ["alone 2", *keyed, "once 1", "once 1", "once 2"]
    worker.term()
    assert worker.wait() == 0


def test_opentelemetry_traces_from_the_call_to_the_run(installation: Installation) -> None:
    worker = installation.worker("with_telemetry")

    installation.client("""
from celery import group
from tests.projects.with_telemetry import add, fail, flaky, grouped, instrument, outer
instrument()
group(grouped.s(n) for n in range(3)).delay().get(timeout=60)
values = [add.delay(1, 2).get(timeout=60), flaky.delay().get(timeout=60)]
outer.delay().get(timeout=60)
fail.delay().get(timeout=60, propagate=False)
print(json.dumps(values))
""")
    wait_for(lambda: sum(s["name"].startswith("run/") for s in installation.records()) == 9)
    worker.term()
    assert worker.wait() == 0

    spans = installation.records()
    by_id = {span["id"]: span for span in spans}
    found, groups = [], []
    for span in spans:
        parent = by_id[span["parent"]]["name"] if span["parent"] else "-"
        kept = groups if "grouped" in span["name"] else found
        kept.append([span["name"], span["kind"], parent, *(span[k] for k in ("status", "words", "events"))])
    # Those of a group may be inside one another; what comes after it is inside none of them.
    assert [one[2] for one in groups if one[1] == "CONSUMER"] == ["apply_async/grouped"] * 3
    assert sorted(found) == [
        ["apply_async/add", "PRODUCER", "-", "UNSET", None, []],
        ["apply_async/add", "PRODUCER", "run/outer", "UNSET", None, []],
        ["apply_async/fail", "PRODUCER", "-", "UNSET", None, []],
        ["apply_async/flaky", "PRODUCER", "-", "UNSET", None, []],
        ["apply_async/flaky", "PRODUCER", "run/flaky", "UNSET", None, []],
        ["apply_async/outer", "PRODUCER", "-", "UNSET", None, []],
        ["run/add", "CONSUMER", "apply_async/add", "UNSET", None, []],
        ["run/add", "CONSUMER", "apply_async/add", "UNSET", None, []],
        ["run/fail", "CONSUMER", "apply_async/fail", "ERROR", "'expected'", [["exception", "KeyError"]]],
        ["run/flaky", "CONSUMER", "apply_async/flaky", "UNSET", None, []],
        ["run/flaky", "CONSUMER", "apply_async/flaky", "UNSET", None, []],
        ["run/outer", "CONSUMER", "apply_async/outer", "UNSET", None, []],
    ]
    for span in spans:
        if span["parent"]:
            assert span["trace"] == by_id[span["parent"]]["trace"]


def test_one_trace_crosses_clients_and_workers_of_both_kinds(
    redis_url: str, tmp_path: Path, processes: Processes
) -> None:
    celerys = Installation("celery", redis_url, tmp_path, tmp_path, processes)
    theirs = celerys.worker("with_telemetry")
    ours = processes.start_qcore_worker(
        redis_url, "-c", "1", "-Q", "q", app="tests.projects.traced", env=celerys.env
    )

    celerys.client("""
from celery import chain
from tests.projects.with_telemetry import add, app, instrument
instrument()
@app.task(name="relay")
def relay(x): ...
print(json.dumps(chain(relay.s(1).set(queue="q"), add.s(2).set(queue="celery")).delay().get(timeout=60)))
""")
    ends = [f"run/{name}" for name in ("add", "add", "outer")]
    wait_for(lambda: sorted(s["name"] for s in celerys.records() if s["name"] in ends) == ends)
    for worker in (ours, theirs):
        worker.term()
        assert worker.wait() == 0

    spans = celerys.records()
    by_id = {span["id"]: span for span in spans}

    def path(span: Any) -> str:
        return (f"{path(by_id[span['parent']])} > " if span["parent"] else "") + span["name"]

    relay = "apply_async/relay > process relay"
    outer = f"{relay} > send outer > run/outer"
    step = f"{relay} > create add"
    assert len({span["trace"] for span in spans}) == 1
    assert sorted(map(path, spans)) == sorted(
        [
            *("apply_async/relay", relay, step, f"{step} > run/add"),
            *(f"{relay} > send outer", outer, f"{outer} > apply_async/add"),
            f"{outer} > apply_async/add > run/add",
        ]
    )


def test_sentry_captures_the_exceptions_of_tasks(installation: Installation) -> None:
    worker = installation.worker("with_sentry")

    installation.client("""
import sentry_sdk
from tests.projects.with_sentry import again, broken, expected, fine, wrapped
with sentry_sdk.start_transaction(name="request"):
    calls = [fine.delay(1), broken.delay(7), wrapped.delay(), expected.delay(), again.delay()]
for call in calls: call.get(timeout=60, propagate=False)
print(json.dumps([call.id for call in calls]))
""")
    worker.term()
    assert worker.wait() == 0

    records = installation.records()
    events = [r for r in records if r["kind"] == "event"]
    about = {r["extra"]["celery-job"]["task_name"]: r for r in events}
    kinds = {n: [v["type"] for v in r["exception"]["values"]] for n, r in about.items()}
    assert kinds == {"broken": ["ZeroDivisionError"], "wrapped": ["KeyError"], "again": ["ConnectionError"]}
    for event in events:
        assert event["exception"]["values"][-1]["mechanism"]["type"] == "celery"
        assert event["tags"]["celery_task_id"]
        assert event["transaction"] == event["extra"]["celery-job"]["task_name"]
    transactions = [r for r in records if r["kind"] == "transaction"]
    (request,) = (t for t in transactions if t["transaction"] == "request")
    runs = sorted(
        (t["transaction"], t["contexts"]["trace"]["op"], t["contexts"]["trace"]["status"])
        for t in transactions
        if t is not request
    )
    assert runs == [
        ("again", "queue.task.celery", "aborted"),
        ("again", "queue.task.celery", "internal_error"),
        ("broken", "queue.task.celery", "internal_error"),
        ("expected", "queue.task.celery", "internal_error"),
        ("fine", "queue.task.celery", "ok"),
        ("wrapped", "queue.task.celery", "internal_error"),
    ]
    traces = {t["contexts"]["trace"]["trace_id"] for t in transactions}
    assert traces == {request["contexts"]["trace"]["trace_id"]}
    assert {"kind": "flush"} in records
    if installation.kind != "celery":
        words = "sentry_sdk.integrations.celery has replaced kombu's Producer.publish(), which has no effect"
        assert worker.output().count(words) == 1


def test_sentry_in_the_other_pools(redis_url: str, tmp_path: Path, processes: Processes) -> None:
    workers = {}
    for pool in ("prefork", "threads", "solo", "gevent", "asyncio"):
        (tmp_path / pool).mkdir()
        installation = Installation("with celery", redis_url, tmp_path / pool, tmp_path, processes)
        workers[pool] = installation, installation.worker("with_sentry", "-P", pool, "-Q", pool)
    installation.client(f"""
from tests.projects.with_sentry import broken, fine, later
words = [(fine, (1,)), (broken, (7,)), (later, ())]
calls = [task.apply_async(args, queue=pool) for pool in {[*workers]} for task, args in words]
for call in calls: call.get(timeout=60, propagate=False)
print(json.dumps(None))
""")
    for pool, (installation, worker) in workers.items():
        worker.term()
        assert worker.wait() == 0

        events = [r for r in installation.records() if r["kind"] == "event"]
        found = [event["exception"]["values"][0]["type"] for event in events]
        coroutines = [] if pool == "asyncio" else ["LookupError"]
        assert sorted(found) == [*coroutines, "ZeroDivisionError"], pool  # one event for one failure
        frames = {e["transaction"]: e["exception"]["values"][-1]["stacktrace"]["frames"] for e in events}
        assert frames["broken"][-1]["function"] == "broken"
        assert frames["broken"][-1]["vars"] == {"x": "7"}
        assert ("no effect on coroutines" in worker.output()) is (pool == "asyncio")


BEAT_WITH_SENTRY = """
import datetime, os
from celery import Celery
from celery.beat import Service
from celery.schedules import crontab, schedule
from tests.projects.with_sentry import ToFile, sentry_sdk
from sentry_sdk.integrations.celery import CeleryIntegration

class CheckIns(ToFile):
    def capture_envelope(self, envelope):
        with open(os.environ["PACKAGES_NOTES"], "a") as out:
            for item in envelope.items:
                if item.type == "check_in":
                    out.write(json.dumps(item.payload.json, default=str) + "\\n")

sentry_sdk.init(
    dsn="http://key@localhost/1", transport=CheckIns, default_integrations=False,
    integrations=[CeleryIntegration(monitor_beat_tasks=True, exclude_beat_tasks=["quiet"])],
)
app = Celery("beat", broker=os.environ["PACKAGES_URL"])
long_ago = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
app.conf.beat_schedule = {
    "cron": {"task": "fine", "args": (1,), "schedule": crontab(minute="*/5"), "last_run_at": long_ago},
    "every": {"task": "fine", "args": (1,), "schedule": 7200.0, "last_run_at": long_ago},
    "quiet": {"task": "fine", "args": (1,), "schedule": 7200.0, "last_run_at": long_ago},
}
service = Service(app, scheduler_cls="celery.beat:Scheduler")
while service.scheduler.tick() == 0: pass
service.scheduler.close()
print(json.dumps(None))
"""


def test_sentry_checks_in_what_beat_publishes(installation: Installation, redis_url: str) -> None:
    installation.client(BEAT_WITH_SENTRY)

    with redis.Redis.from_url(redis_url) as client:
        found = [json.loads(raw)["headers"] for raw in client.lrange("celery", 0, -1)]
    slugs = [headers.get("sentry-monitor-slug") for headers in found]
    assert sorted(slugs, key=str) == [None, "cron", "every"]
    records = {record["monitor_slug"]: record for record in installation.records()}
    schedules = {slug: record["monitor_config"]["schedule"] for slug, record in records.items()}
    assert schedules == {
        "cron": {"type": "crontab", "value": "*/5 * * * *"},
        "every": {"type": "interval", "value": 2, "unit": "hour"},
    }
    for headers in found:
        if slug := headers.get("sentry-monitor-slug"):
            assert headers["sentry-monitor-check-in-id"] == records[slug]["check_in_id"]


def test_settings_of_packages_are_read_where_celery_reads_them(installation: Installation) -> None:
    found = installation.client("""
import sys, types
from celery import Celery
module = types.ModuleType("packages_config")
module.ONCE, module.singleton_backend_url, module.OF_ANOTHER = {"backend": "x"}, "redis://a", 3
module.CELERY_ONCE, module.CELERY_SINGLETON_LOCK_EXPIRY = {"backend": "y"}, 5
sys.modules["packages_config"] = module
plain, prefixed = Celery("a", broker="memory://"), Celery("b", broker="memory://")
plain.config_from_object("packages_config")
prefixed.config_from_object("packages_config", namespace="CELERY")
try: missing = plain.conf.NOBODY_HAS_IT
except AttributeError: missing = "AttributeError"
found = [plain.conf.ONCE, plain.conf.get("singleton_backend_url"), plain.conf.OF_ANOTHER]
found += [plain.conf.get("nobody_has_it", 7), missing]
print(json.dumps([*found, prefixed.conf.ONCE, prefixed.conf.get("singleton_lock_expiry")]))
""")

    assert found == [{"backend": "x"}, "redis://a", 3, 7, "AttributeError", {"backend": "y"}, 5]
