"""`qctl check`: what differs in a Celery project, read from its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qctl import exit_codes
from qctl.commands.doctor import installation
from qctl.main import main
from tests.support.processes import ROOT

#: a line of a project for each difference; the words behind `#!` are the level and the name of its finding
SEEDED = """\
import celery as c
from celery import Celery, shared_task
from celery.utils.threads import LocalStack  #! error celery.utils.threads
from celery.utils.time import get_local_zone as Zone  #! error celery.utils.time.get_local_zone
from celery.signals import task_internal_error  #! note celery.signals.task_internal_error
import celery.contrib.sphinx  #! error celery.contrib.sphinx
app = Celery("proj", broker="mongodb://host/0",  #! different broker
             backend="riak://host/0")  #! error backend
app.conf.result_backend = "s3://"  #! note result_backend
app.conf.worker_concurency = 4  #! error worker_concurency
app.conf.update(
    worker_timer="x",  #! different worker_timer
    CELERY_ACKS_LATE=True,  #! note CELERY_ACKS_LATE
    broker_transport_options=dict(sep=1,
    ack_emulation=False),  #! different broker_transport_options['ack_emulation']
    accept_content=["json", "pickle"],  #! note accept_content
)
app.conf["task_time_limit"] = "soon"  #! error task_time_limit
print(c.bootstrap)  #! error celery.bootstrap
@shared_task(max_retires=3)  #! error task(max_retires=)
def add(x, y): ...
add.apply_async((1, 2), immediate=True)  #! different apply_async(immediate=)
add.apply_async((1, 2), coutdown=5)  #! error apply_async(coutdown=)
app.send_task("add", (1, 2), {}, 5)  #! error send_task
app.control.pool_restart(modules=["proj"])  #! different pool_restart
"""
PROCFILE = """\
web: gunicorn proj.wsgi
worker: celery -A proj worker -P eventlet --autoscale 4,0
other: env A=1 python -m celery -A proj worker -s file  #! different celery worker -s
same: celery -A proj worker -c 4 -Q celery -l INFO
"""


def check(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, list[dict[str, Any]]]:
    code = main(["check", *map(str, words), "-o", "json"])
    return code, json.loads(capsys.readouterr().out)["items"]


def seeded(file: Path) -> set[tuple[str, int, str, str]]:
    lines = enumerate(file.read_text().splitlines(), 1)
    words = ((number, line.partition("#! ")[2].partition(" ")) for number, line in lines if "#! " in line)
    return {(file.name, number, level, name) for number, (level, _, name) in words}


def places(items: list[dict[str, Any]]) -> set[tuple[str, int, str, str]]:
    return {(Path(i["file"]).name, i["line"], i["level"], i["name"]) for i in items}


def test_every_seeded_difference_is_found_at_its_line_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "proj.py").write_text(SEEDED)
    (tmp_path / "Procfile").write_text(PROCFILE)
    (tmp_path / "Dockerfile").write_text('CMD ["celery", "-A", "proj", "worker", "-s", "file"]\n')

    code, items = check(capsys, tmp_path)

    expected = seeded(tmp_path / "proj.py") | seeded(tmp_path / "Procfile")
    assert len(expected) >= 20
    assert places(items) == expected | {("Dockerfile", 1, "different", "celery worker -s")}
    assert code == exit_codes.FAILED
    assert all(item["what"] for item in items)


@pytest.mark.parametrize(
    "name", ["blog", "etl.py", "mailer.py", "service.py", "shop", "extension", "proj.py", "quotes.py"]
)
def test_an_example_that_runs_the_same_has_no_difference(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, items = check(capsys, ROOT / "examples" / name)

    assert code == exit_codes.OK
    assert [i for i in items if i["level"] != "note"] == []
    assert {i["name"] for i in items} <= {"task_acks_late"}


def test_the_projects_of_the_tests_give_what_is_true(capsys: pytest.CaptureFixture[str]) -> None:
    code, items = check(capsys, ROOT / "tests" / "projects")

    assert code == exit_codes.OK  # all of them start
    assert {(n, name) for n, _, level, name in places(items) if level == "different"} == {
        ("hasty.py", "broker_transport_options['visibility_timeout']"),
        ("hasty.py", "broker_transport_options['unacked_restore_interval']"),
        ("hasty.py", "broker_transport_options['unacked_restore_throttle']"),
    }


def test_settings_are_found_wherever_a_project_has_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "base.py").write_text("CELERY_WORKER_TIMER = 'x'\nDEBUG_TOOLBAR_SORT = 1\n")
    (tmp_path / "site" / "settings.py").write_text(
        "from .base import *\nCELERY_BEAT_SCHEDULE = {'a': {'task': 't', 'schedule': 1, 'argz': ()}}\n"
    )
    (tmp_path / "django.py").write_text(
        "import os\nfrom celery import Celery\n"
        "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site.settings')\napp = Celery('x')\n"
        "app.config_from_object('django.conf:settings', namespace='CELERY')\n"
    )
    (tmp_path / "plain.py").write_text(
        "import celeryconf\nfrom celery import Celery\n"
        "app = Celery('y')\napp.config_from_object(celeryconf)\n"
    )
    (tmp_path / "celeryconf.py").write_text("worker_timer = 'x'\ntask_serialiser = 'json'\n")
    (tmp_path / "classes.py").write_text(
        "from celery import Celery\nclass Config:\n    worker_lost_wait = 3\n"
        "app = Celery('z')\napp.config_from_object(Config)\n"
    )

    _, items = check(capsys, tmp_path)

    assert {(n, line, level) for n, line, level, name in places(items) if name not in ("broker_url",)} >= {
        ("base.py", 1, "different"),
        ("settings.py", 2, "error"),
        ("celeryconf.py", 1, "different"),
        ("celeryconf.py", 2, "different"),
        ("classes.py", 3, "different"),
    }


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9\n")
    (tmp_path / "nul.py").write_bytes(b"a = 1\0\n")
    (tmp_path / "deep.py").write_text("x = " + "(" * 500 + ")" * 500)
    (tmp_path / "good.py").write_text("import celery.bin.amqp\n")

    code, items = check(capsys, tmp_path)

    assert code == exit_codes.FAILED
    assert sorted((Path(i["file"]).name, i["name"]) for i in items) == [
        ("broken.py", "not read"),
        ("deep.py", "not read"),
        ("good.py", "celery.bin.amqp"),
        ("latin.py", "not read"),
        ("nul.py", "not read"),
    ]


def test_an_import_that_the_program_can_miss_is_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.py").write_text(
        "from typing import TYPE_CHECKING\ntry:\n    from celery.task import task\nexcept ImportError:\n"
        "    task = None\nif TYPE_CHECKING:\n    from celery.worker.strategy import default\n"
    )

    code, items = check(capsys, tmp_path / "a.py")

    assert code == exit_codes.OK
    assert places(items) == {("a.py", 3, "note", "celery.task")}


def test_old_names_are_written_anew_where_nothing_else_reads_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = "CELERYD_CONCURRENCY = 4  # ä\nBROKER_URL = 'redis://h'\nMY_OWN = 1\n"
    (tmp_path / "celeryconfig.py").write_text(before)
    (tmp_path / "app.py").write_text(
        "from celery import Celery\napp = Celery('x')\napp.conf.update({'CELERY_ACKS_LATE': 1 > 0})\n"
    )
    read = "CELERY_TASK_RESULT_EXPIRES = 4\nCELERY_TIMEZONE = 'UTC'\nprint(CELERY_TIMEZONE)\n"
    (tmp_path / "used.py").write_text(read)
    (tmp_path / "two.py").write_text("from celery import Celery\nCelery('y').config_from_object('used')\n")

    main(["check", str(tmp_path), "--write", "--dry-run"])
    shown = capsys.readouterr().out
    untouched = (tmp_path / "celeryconfig.py").read_text()
    main(["check", str(tmp_path), "--write"])
    said = capsys.readouterr()

    assert "+worker_concurrency = 4" in shown and untouched == before
    after = "worker_concurrency = 4  # ä\nbroker_url = 'redis://h'\nMY_OWN = 1\n"
    assert (tmp_path / "celeryconfig.py").read_text() == after
    assert (tmp_path / "celeryconfig.py.orig").read_text() == before
    assert "{'task_acks_late': 1 > 0}" in (tmp_path / "app.py").read_text()
    assert (tmp_path / "used.py").read_text() == read
    assert "old names of settings stay in this file: 'CELERY_TIMEZONE' is used in" in said.err


def test_no_finding_shows_a_password(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.py").write_text(
        "from celery import Celery\napp = Celery('a', backend=['redis://:hunter2@h/0'])\n"
        "app.conf.update(load('redis://:hunter2@h/0'))\napp.config_from_object(of('redis://:hunter2@h'))\n"
    )
    (tmp_path / "Procfile").write_text("worker: celery -b redis://:hunter2@h/0 --loader=x worker -s file\n")

    for form in ("table", "json"):
        main(["check", str(tmp_path), "-o", form])
        said = capsys.readouterr()
        assert "hunter2" not in said.out + said.err
        assert "backend" in said.out and "load(" in said.out and "worker -s" in said.out


def test_a_project_that_is_not_there_is_not_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "/no/such/project"]) == exit_codes.NOT_FOUND
    assert capsys.readouterr().err.startswith("qctl: no file or directory '/no/such/project'")


def test_doctor_local_names_packages_that_settings_need_and_another_qcore(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "needy.py").write_text(
        "from qcore import App\napp = App('needy', set_as_current=False)\n"
        "app.conf.update(result_backend='db+sqlite:///x', task_compression='brotli')\n"
    )
    monkeypatch.setenv("QCTL_CONFIG", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(installation, "find_spec", lambda name: None if name == "brotli" else name)
    recorded = [(tmp_path / "a.py", True), (tmp_path / "b.py", False)]
    monkeypatch.setattr(installation, "_recorded", lambda: iter(recorded))

    code = main(["-A", "needy", "doctor", "--local", "-o", "json"])
    items = json.loads(capsys.readouterr().out)["items"]
    foreign = list(installation.foreign_packages(lambda: {"qcore": ["qctl", "quantum-core"]}))

    assert code == exit_codes.NOT_MET
    assert [(i["name"], i["about"]) for i in items] == [
        ("package", str(tmp_path / "b.py")),
        ("extra", "task_compression"),
    ]
    assert items[1]["what"].endswith(
        "needs the package brotli, which is not installed: pip install 'qctl[brotli]'"
    )
    assert foreign[0][1].startswith("the distribution quantum-core has a package 'qcore' too; remove it")
