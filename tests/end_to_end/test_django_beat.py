"""django-celery-beat runs unmodified: its DatabaseScheduler publishes what is in the database, with Celery
installed and without it. The same lines run on Celery."""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.end_to_end.test_django_results import IMPORTED, python
from tests.faults import FULL
from tests.support.processes import ROOT, Process, Processes
from tests.support.waiting import wait_for

PROJECT = "tests.projects.periodic"
INSTALL = "from qcore.celery import install; install()\n"
MIGRATE = "import sys; from django.core.management import execute_from_command_line as run; run(sys.argv)"
SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
BEAT = f"""
import logging
logging.basicConfig(level="INFO")
from {PROJECT}.celery import app
app.loader.import_default_modules()
app.finalize()
from celery.beat import Service
Service(app, max_interval=0.2, scheduler_cls="{SCHEDULER}").start()
"""
MODELS = f"""
import json, sys
from datetime import timedelta
from {PROJECT}.celery import app
from django.db import transaction
from django.utils.timezone import now
from django_celery_beat.models import *
def add(name, **fields):
    fields = {{"task": "periodic.note", "args": json.dumps([name]), **fields}}
    return PeriodicTask.objects.create(name=name, **fields)
second, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.SECONDS)
long_ago = now() - timedelta(days=3)
"""
ADD = """
berlin = CrontabSchedule.objects.create(minute="*", hour="*", timezone="Europe/Berlin")
past = ClockedSchedule.objects.create(clocked_time=now() - timedelta(seconds=5))
future = ClockedSchedule.objects.create(clocked_time=now() + timedelta(hours=1))
sun = SolarSchedule.objects.create(event="sunrise", latitude=52.5, longitude=13.4)
add("every second", interval=second, kwargs='{"k": 1}', headers='{"own": 2}', priority=3)
add("each minute", crontab=berlin, last_run_at=long_ago)
add("at that time", clocked=past, one_off=True)
add("later", clocked=future, one_off=True)
add("once", interval=second, one_off=True, expire_seconds=600)
add("off", interval=second, enabled=False)
add("not yet", interval=second, start_time=now() + timedelta(days=1))
add("not any more", interval=second, expires=now() - timedelta(days=1))
add("at sunrise", solar=sun, last_run_at=long_ago)
"""
CHANGE = """
with transaction.atomic():
    one = PeriodicTask.objects.get(name="every second")
    one.args = '["changed"]'
    one.save()
    off = PeriodicTask.objects.get(name="declared")
    off.enabled = False
    off.save()
    add("new", interval=second)
"""
ROWS = """
rows = PeriodicTask.objects.values_list("name", "enabled", "total_run_count", "last_run_at")
rows = {name: [enabled, count, last is not None] for name, enabled, count, last in rows}
report = CrontabSchedule.objects.get(minute="*/15")
print(json.dumps([rows, str(report), str(report.timezone)]))
"""


class Site:
    """A project with a database of its own, on Celery or on qcore."""

    def __init__(self, kind: str, url: str, folder: Path, packages: Path, processes: Processes) -> None:
        """packages: all that is installed, without Celery."""
        self.kind, self.url, self.processes = kind, url, processes
        processes.also = IMPORTED
        self.env = {
            "PERIODIC_DATABASE": str(folder / "periodic.db"),
            "PERIODIC_BROKER": url,
            "DJANGO_SETTINGS_MODULE": f"{PROJECT}.settings",
            "PYTHONPATH": str(ROOT),
        }
        if kind == "without celery":
            self.env["PYTHONPATH"] = f"{ROOT}{os.pathsep}{packages}"
            self.env["LIBRARY_NO_SITE"] = "1"  # python() leaves out site-packages
        self.before = "" if kind == "celery" else INSTALL
        python(self.kind, self.env, "-c", self.before + MIGRATE, "migrate", "-v", "0")

    def client(self, code: str) -> str:
        return python(self.kind, self.env, "-c", self.before + MODELS + code)

    def beat(self) -> Process:
        if self.kind == "celery":
            return self.processes.start(sys.executable, "-c", BEAT, env=self.env, imports="celery")
        no_site = ["-S"] if self.kind == "without celery" else []
        words = ("-A", f"{PROJECT}.celery", "beat", "-S", SCHEDULER, "--max-interval", "0.2", "-l", "INFO")
        return self.processes.start(sys.executable, *no_site, "-m", "qctl", *words, env=self.env, fresh=False)

    def messages(self) -> list[tuple[str, dict[str, Any], Any]]:
        """(name of the entry, headers, arguments) of all that was published, oldest first in each queue."""
        found = []
        with redis.Redis.from_url(self.url) as client:
            for queue in ("celery", "celery\x06\x163", "special"):
                for raw in reversed(client.lrange(queue, 0, -1)):
                    message = json.loads(raw)
                    args, kwargs, _ = json.loads(base64.b64decode(message["body"]))
                    headers = message["headers"]
                    found.append((headers["periodic_task_name"], headers, [args, kwargs, queue]))
        return found

    def count(self, name: str, wanted: Callable[[Any], bool] = lambda call: True) -> int:
        return sum(one == name and wanted(call) for one, _, call in self.messages())


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", ["celery", *(["with celery"] if FULL else []), "without celery"])
def test_what_is_in_the_database_is_published(
    kind: str, redis_url: str, tmp_path: Path, without_celery: Path, processes: Processes
) -> None:
    site = Site(kind, redis_url, tmp_path, without_celery, processes)
    site.client(ADD)

    beat = site.beat()
    due_now = ("each minute", "at that time", "once", "at sunrise")
    wait_for(lambda: all(site.count(name) for name in due_now), 100)
    wait_for(lambda: site.count("every second") > 2 and site.count("declared") > 2)
    site.client(CHANGE)
    wait_for(lambda: site.count("new"))
    declared = site.count("declared")
    wait_for(lambda: site.count("every second", lambda call: call[0] == ["changed"]) > 1)
    wait_for(lambda: site.count("new") > 2)
    assert site.count("declared") == declared
    beat.term(signal.SIGINT)
    assert beat.wait() == 0, beat.output()

    found = site.messages()
    names = {name for name, *_ in found}
    assert names == {"every second", "declared", "new", *due_now}
    assert [site.count(name) for name in ("at that time", "once")] == [1, 1]
    assert site.count("at sunrise") in (1, 2)  # the sun may rise during the test
    by_name = {name: (headers, call) for name, headers, call in reversed(found)}
    headers, call = by_name["every second"]
    assert call == [["every second"], {"k": 1}, "celery\x06\x163"]
    assert (headers["own"], headers["task"], headers["celery_beat_task"]) == (2, "periodic.note", True)
    assert by_name["declared"][1] == [["declared"], {}, "special"]
    assert by_name["once"][0]["expires"] and not by_name["new"][0]["expires"]

    rows, report, zone = json.loads(site.client(ROWS))
    enabled = {name: row[0] for name, row in rows.items()}
    off = ("off", "at that time", "once", "not any more", "declared")
    assert {name for name, is_on in enabled.items() if not is_on} == set(off)
    for name in ("new", "at sunrise"):  # one may be counted whose publishing the signal has stopped
        assert rows[name][1] - site.count(name) in (0, 1)
    assert rows["celery.backend_cleanup"][0] is True
    assert (report, zone) == ("*/15 7 * * mon-fri (m/h/dM/MY/d) Europe/Berlin", "Europe/Berlin")
    assert ("sending the due task new" in beat.output()) is (kind != "celery")
