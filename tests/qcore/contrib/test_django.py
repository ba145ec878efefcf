"""A Django project runs on both workers: set up before its tasks are imported, connections closed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT, Processes, run_python
from tests.support.waiting import wait_for

FILES = {
    "site_of_django/__init__.py": "from .celery import app as celery_app\n",
    "site_of_django/settings.py": """
import os
SECRET_KEY = "of a test"
INSTALLED_APPS = ["desk"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DESK"] + "/db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = True
CACHES = {"default": {"BACKEND": "desk.caches.Noted"}}
CELERY_BROKER_URL = os.environ["DESK_URL"]
CELERY_RESULT_BACKEND = os.environ["DESK_URL"]
if os.environ.get("DESK_REUSE"):
    CELERY_DB_REUSE_MAX = int(os.environ["DESK_REUSE"])
""",
    "site_of_django/celery.py": """
import os
from celery import Celery
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_of_django.settings")
app = Celery("site_of_django")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
""",
    "desk/__init__.py": "",
    "desk/notes.py": """
import os
def note(*words):
    with open(os.environ["DESK_NOTES"], "a") as out:
        out.write(" ".join(map(str, words)) + "\\n")
""",
    "desk/apps.py": """
from django.apps import AppConfig
from django.core import checks
from .notes import note
class Desk(AppConfig):
    name = "desk"
    def ready(self):
        note("ready")
        checks.register(lambda **about: note("checks") or [])
""",
    "desk/caches.py": """
from django.core.cache.backends.dummy import DummyCache
from .notes import note
class Noted(DummyCache):
    def close(self, **about):
        note("cache closed")
""",
    "desk/models.py": """
from django.db import models
class Order(models.Model):
    text = models.TextField()
""",
    "desk/tasks.py": """
from celery import Task, shared_task, signals
from django.apps import apps
from django.core.cache import cache
from django.db import connection
from django.db.backends.signals import connection_created
from .models import Order
from .notes import note

note("tasks imported", apps.ready)
connection_created.connect(lambda **about: note("connected"), weak=False)

@signals.worker_before_create_process.connect
def before_fork(**about):
    connection.ensure_connection()
    cache.get("x")
    note("the parent has a connection")

@signals.worker_init.connect
def after_the_fixup(**about):
    signals.worker_process_init.connect(in_the_child)

def in_the_child(**about):
    note("the child has one" if connection.connection else "the child has none")

@shared_task(bind=True)
def store(self, text):
    cache.get("x")
    note("open" if connection.connection else "closed", text)
    Order.objects.create(text=text)
    nested.apply(args=(text,))
    note("still open" if connection.connection else "closed by an eager task")
    return Order.objects.count()

@shared_task
def nested(text):
    Order.objects.count()

class Own(Task):
    pass

@shared_task(base=Own)
def own():
    pass
""",
}
CLIENT = """
import json, os, django
from site_of_django import celery_app
django.setup()
from django.core.management import call_command
call_command("migrate", run_syncdb=True, verbosity=0)
from django.db import transaction
from desk.tasks import nested, own, store
found = [store.delay(str(n)).get(timeout=60) for n in range(4)]
store.apply_async_on_commit(("after the commit",))
with transaction.atomic():
    store.delay_on_commit("committed")
try:
    with transaction.atomic():
        store.delay_on_commit("rolled back")
        raise KeyError
except KeyError:
    pass
nested.delay("last").get(timeout=60)
print(json.dumps([found, hasattr(own, "delay_on_commit"), celery_app.Task.__mro__[1].__name__]))
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "site"


def run(kind: str, code: str, site: Path, env: dict[str, str], fresh: bool = False) -> Any:
    """What a client process printed, with Celery or with qcore behind `import celery`; fresh: see Process."""
    before = "from qcore.celery import install; install()\n" if kind == "qcore" else ""
    done = run_python(
        *("-c", before + code),
        env={**os.environ, **env, "DESK_NOTES": os.devnull},
        cwd=site,
        imports="" if fresh else "qctl" if kind == "qcore" else "celery",
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def environment(url: str, site: Path, **more: str) -> dict[str, str]:
    path = f"{site}{os.pathsep}{ROOT}"
    return {"DESK": str(site), "DESK_NOTES": f"{site}/notes", "DESK_URL": url, "PYTHONPATH": path, **more}


def what_happened(
    kind: str, url: str, site: Path, processes: Processes, **more: str
) -> tuple[Any, list[str]]:
    """The client's answers, and what Django and the tasks noted in a worker with one child."""
    env = environment(url, site, **more)
    for left in ("notes", "db.sqlite3"):
        (site / left).unlink(missing_ok=True)
    words = ("-A", "site_of_django", "worker", "-c", "1", "-n", "w1@test", "-l", "INFO")
    worker = (processes.celery if kind == "celery" else processes.qctl)(*words, env=env)
    worker.wait_output("w1@test ready")
    found = run(kind, CLIENT, site, env)
    wait_for(lambda: (site / "notes").read_text().count("still open") == 6)
    worker.term()
    assert worker.wait() == 0
    return found, (site / "notes").read_text().splitlines()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("options", [{}, {"DESK_REUSE": "2"}], ids=["each its own", "reused"])
def test_a_django_project_does_the_same_on_both_workers(
    redis_url: str, site: Path, processes: Processes, options: dict[str, str]
) -> None:
    theirs = what_happened("celery", redis_url, site, processes, **options)
    ours = what_happened("qcore", redis_url, site, processes, **options)

    assert ours == theirs
    assert ours[0] == [[1, 2, 3, 4], False, "DjangoTask"]
    assert ours[1][:3] == ["ready", "checks", "tasks imported True"]
    assert "the child has none" in ours[1]
    assert ours[1].count("cache closed") > 6


def test_checks_are_skipped_on_request(redis_url: str, site: Path, processes: Processes) -> None:
    env = environment(redis_url, site)
    worker = processes.qctl("-A", "site_of_django", "worker", "-c", "1", "-n", "w1@test", "-T", env=env)
    worker.wait_output("w1@test ready")

    assert (site / "notes").read_text().splitlines()[:2] == ["ready", "tasks imported True"]


def test_a_project_that_cannot_be_set_up_ends_the_start(
    redis_url: str, site: Path, processes: Processes
) -> None:
    (site / "desk" / "models.py").write_text("raise RuntimeError('no models today')")

    worker = processes.qctl("-A", "site_of_django", "worker", env=environment(redis_url, site))

    assert worker.wait() != 0
    assert "qctl: Django cannot be set up: RuntimeError: no models today" in worker.output()


def test_a_django_that_cannot_be_imported_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "django.py").write_text("raise ImportError('not here')")
    code = (
        "import json, warnings\n"
        "with warnings.catch_warnings(record=True) as said:\n"
        "    warnings.simplefilter('always')\n"
        "    from celery import Celery; app = Celery('x', broker='memory://')\n"
        "print(json.dumps([[w.category.__name__, str(w.message)] for w in said"
        " if w.category.__name__ == 'FixupWarning']))\n"
    )
    env = {"DJANGO_SETTINGS_MODULE": "x.settings", "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}

    ours, theirs = (run(kind, code, tmp_path, env, fresh=True) for kind in ("qcore", "celery"))

    assert ours == theirs
    assert len(ours) == 1


def test_without_the_variable_django_is_not_imported(tmp_path: Path) -> None:
    code = (
        "import json, sys\n"
        "from celery import Celery; app = Celery('x', broker='memory://'); app.Task; app.import_modules()\n"
        "names = [m for m in sys.modules if m.split('.')[0] == 'django']\n"
        "names += [m for m in sys.modules if 'contrib' in m or m == 'qcore.celery.trace']\n"
        "print(json.dumps(names))\n"
    )
    env = {"DJANGO_SETTINGS_MODULE": "", "PYTHONPATH": str(ROOT)}

    assert run("qcore", code, tmp_path, env, fresh=True) == []


def test_fixups_of_the_app_replace_the_one_for_django(tmp_path: Path) -> None:
    code = (
        "import json\nfrom celery import Celery\n"
        "none = Celery('x', broker='memory://', fixups=[])\n"
        "one = Celery('y', broker='memory://', fixups=['celery.fixups.django:fixup'])\n"
        "print(json.dumps([hasattr(app.Task, 'delay_on_commit') for app in (none, one)]))\n"
    )
    env = {"DJANGO_SETTINGS_MODULE": "x.settings", "PYTHONPATH": str(ROOT)}

    assert run("qcore", code, tmp_path, env) == run("celery", code, tmp_path, env) == [False, True]
