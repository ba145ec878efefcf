"""django-celery-results runs unmodified: django-db and django-cache, beside Celery and without it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT, Processes, run_python

PROJECT = "tests.projects.library"
#: run by a client of the project: prints what each call gave
CLIENT = """
import json
from celery import chord, group
from celery.result import AsyncResult, GroupResult
from tests.projects.library.celery import app
from tests.projects.library.tasks import *

def outcome(result):
    try:
        return result.get(timeout=45)
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"

made = {
    "add": add.apply_async((1, 2), headers={"periodic_task_name": "nightly"}),
    "keywords": add.delay(x=1, y=2),
    "fail": fail.delay("no"),
    "parent": parent.delay(),
}
found = {name: outcome(result) for name, result in made.items()}
if CHORDS:
    made["chord"] = chord([add.s(i, i) for i in range(5)], total.s()).apply_async()
    found["chord"] = outcome(made["chord"])
    made["failed chord"] = chord([add.s(1, 1), fail.s("part")], total.s()).apply_async()
    found["failed chord"] = outcome(AsyncResult(made["failed chord"].id)).replace(
        made["failed chord"].parent[1].id, "MEMBER")
members = group(add.s(i, 1) for i in range(3)).apply_async()
members.save()
again = GroupResult.restore(members.id)
found["group"] = [r.id for r in again] == [r.id for r in members] and again.get(timeout=45)
members.delete()
found["deleted"] = GroupResult.restore(members.id)
found["children"] = [c.get(timeout=45) for c in AsyncResult(made["parent"].id).children]
found["states"] = {name: AsyncResult(result.id).state for name, result in made.items()}
found["meta"] = [app.backend.get_state(made["add"].id), app.backend.get_result(made["add"].id)]
found["traceback"] = 'raise ValueError(word, 3)' in app.backend.get_traceback(made["fail"].id)
made["add"].forget()
found["forgotten"] = AsyncResult(made["add"].id).state
made["rows"] = add.apply_async((7, 2), headers={"periodic_task_name": "nightly"})
made["rows"].get(timeout=45)
print(json.dumps([found, {name: result.id for name, result in made.items()}]))
"""
ROWS = """
import json, sys
import django
django.setup()
from django_celery_results.models import TaskResult, ChordCounter, GroupResult
ids = json.loads(sys.argv[1])
names = ("periodic_task_name task_name task_args task_kwargs status content_type content_encoding result "
         "meta").split()
rows = {n: TaskResult.objects.filter(task_id=i).values(*names, "traceback", "worker", "date_done").first()
        for n, i in ids.items()}
for row in rows.values():
    if row:
        row["traceback"] = bool(row["traceback"]) and "ValueError" in row["traceback"]
        row["worker"] = row["worker"] and row["worker"].partition("@")[2]
        row["date_done"] = row["date_done"] is not None
        row["meta"] = sorted(json.loads(row["meta"]))
print(json.dumps([rows, ChordCounter.objects.count(), GroupResult.objects.count()]))
"""

#: what the programs of a project with Django import
IMPORTED = (
    "django.core.cache.backends.db",
    "django.core.cache.backends.filebased",
    "django.core.management.commands.migrate",
    "django.db.backends.sqlite3.base",
)


@pytest.fixture
def environment(tmp_path: Path, redis_url: str) -> dict[str, str]:
    return {
        "LIBRARY_DATABASE": str(tmp_path / "library.db"),
        "LIBRARY_BROKER": redis_url,
        "DJANGO_SETTINGS_MODULE": f"{PROJECT}.settings",
        "PYTHONPATH": str(ROOT),
    }


def python(kind: str, env: dict[str, str], *words: str) -> str:
    no_site = ["-S"] if "LIBRARY_NO_SITE" in env else []
    imports = "celery" if kind == "celery" else "qctl"
    done = run_python(*no_site, *words, env={**os.environ, **env}, imports=imports, also=IMPORTED)
    assert done.returncode == 0, done.stderr
    return done.stdout


def what_happened(
    kind: str, env: dict[str, str], processes: Processes, chords: bool = True
) -> tuple[Any, Any]:
    """What a client saw, and the rows in the database, with Celery or with qcore on both sides."""
    install = "" if kind == "celery" else "from qcore.celery import install; install()\n"
    manage = "from django.core.management import execute_from_command_line as run"
    tables = "run(['', 'migrate', '-v', '0']); run(['', 'createcachetable'])"
    python(kind, env, "-c", f"{install}{manage}; {tables}")
    processes.also = IMPORTED
    words = ("-A", PROJECT, "worker", "-c", "2", "-n", "w1@test", "-l", "INFO")
    if kind == "celery":
        worker = processes.celery(*words, env=env)
    elif "LIBRARY_NO_SITE" in env:
        worker = processes.start(sys.executable, "-S", "-m", "qctl", *words, env=env, fresh=False)
    else:
        worker = processes.qctl(*words, env=env)
    worker.wait_output("w1@test ready")
    found, ids = json.loads(python(kind, env, "-c", f"{install}CHORDS = {chords}\n{CLIENT}"))
    worker.term()
    assert worker.wait() == 0, worker.output()
    return found, json.loads(python(kind, env, "-c", install + ROWS, json.dumps(ids)))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_django_db_has_the_same_rows_as_with_celery(
    environment: dict[str, str], processes: Processes, tmp_path: Path
) -> None:
    env = {**environment, "LIBRARY_RESULTS": "django-db"}
    theirs = what_happened("celery", env, processes)

    ours = what_happened("qcore", {**env, "LIBRARY_DATABASE": str(tmp_path / "ours.db")}, processes)

    assert ours[0] == theirs[0]
    for name, row in theirs[1][0].items():
        mine = ours[1][0][name]
        different = {key: (mine[key], row[key]) for key in row or () if mine[key] != row[key]}
        # Celery's traceback of a chord's error is "NoneType: None"; here it is the error.
        assert (name, different) == (name, {"traceback": (True, False)} if name == "failed chord" else {})
    assert ours[1][1:] == theirs[1][1:]
    assert ours[0]["chord"] == 20 and ours[0]["group"] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_django_db_runs_without_celery(
    environment: dict[str, str], processes: Processes, without_celery: Path
) -> None:
    path = f"{ROOT}{os.pathsep}{without_celery}"
    env = {**environment, "LIBRARY_RESULTS": "django-db", "PYTHONPATH": path, "LIBRARY_NO_SITE": "1"}

    found, (rows, counters, groups) = what_happened("qcore", env, processes)

    assert (found["add"], found["chord"], found["group"], found["traceback"]) == (3, 20, [1, 2, 3], True)
    assert found["failed chord"].startswith("ChordError: ValueError('part', 3)")
    assert rows["rows"]["task_args"] == '"(7, 2)"' and rows["rows"]["periodic_task_name"] == "nightly"
    assert (counters, groups) == (0, 0)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_django_cache_gives_the_same_results_as_with_celery(
    environment: dict[str, str], processes: Processes, tmp_path: Path
) -> None:
    env = {**environment, "LIBRARY_RESULTS": "django-cache"}
    theirs, _ = what_happened("celery", env, processes)

    ours, _ = what_happened("qcore", {**env, "LIBRARY_DATABASE": str(tmp_path / "ours.db")}, processes)

    # The broker has counted this chord, and names the member.
    assert ours.pop("failed chord") == "ChordError: Dependency MEMBER raised ValueError('part', 3)"
    assert theirs.pop("failed chord") == "ChordError: ValueError('part', 3)"
    assert ours == theirs
