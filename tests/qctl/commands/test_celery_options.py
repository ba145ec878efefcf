"""Options of Celery's commands, where they stand in Celery: --config, --loader, settings behind `--`,
--executable, and cameras as daemons."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import celery
import pytest

from qcore.celery.app import Celery as OurCelery
from qctl import exit_codes
from qctl.main import main
from tests.qctl.cli.test_command_line import one_sentence, qctl
from tests.support.processes import READY, Processes, run_python
from tests.support.waiting import wait_for

BOTH = pytest.mark.parametrize("kind", [OurCelery, celery.Celery], ids=["qcore", "celery"])

PROJECT = """\
import pathlib
from celery.loaders.base import BaseLoader

HERE = pathlib.Path(__file__).parent

class Noting(BaseLoader):
    def note(self, what):
        with (HERE / "notes").open("a") as file:
            file.write(f"{what}\\n")

    def read_configuration(self, env="CELERY_CONFIG_MODULE"):
        return {**super().read_configuration(env), "task_default_priority": 4}

    def on_worker_init(self): self.note("worker_init")
    def on_worker_shutdown(self): self.note("worker_shutdown")
    def on_worker_process_init(self): self.note("process_init")
    def on_task_init(self, task_id, task): self.note(f"task_init {task_id} {task.name}")
    def on_process_cleanup(self): self.note("cleanup")
"""
TASKS = """\
from celery import shared_task

@shared_task
def add(x, y):
    return x + y
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "loading_project.py").write_text(PROJECT)
    (tmp_path / "loading_tasks.py").write_text(TASKS)
    (tmp_path / "loading_config.py").write_text(
        "task_default_queue = 'of_config'\nimports = ('loading_tasks',)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("CELERY_CONFIG_MODULE", "CELERY_LOADER", "CELERY_SKIP_CHECKS", "CELERY_BROKER_URL"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return tmp_path


@BOTH
def test_a_variable_names_the_configuration_of_an_app_that_names_none(
    kind: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_CONFIG_MODULE", "loading_config")

    without, own = kind("a", set_as_current=False), kind("b", set_as_current=False)
    own.config_from_object({"task_default_queue": "own"})

    assert without.conf.task_default_queue == "of_config"
    assert own.conf.task_default_queue == "own"
    assert own.conf.imports == ()


@BOTH
def test_a_variable_names_the_loader(kind: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "celeryconfig.py").write_text("task_default_queue = 'usual'\n")

    monkeypatch.setenv("CELERY_LOADER", "default")
    usual = kind("a", set_as_current=False)
    assert (type(usual.loader).__name__, usual.conf.task_default_queue) == ("Loader", "usual")
    sys.modules.pop("celeryconfig", None)

    chosen = kind("b", loader="app", set_as_current=False)
    assert (type(chosen.loader).__name__, chosen.conf.task_default_queue) == ("AppLoader", "celery")


def test_a_configuration_and_a_loader_make_a_worker(
    place: Path, sqlite_url: str, processes: Processes
) -> None:
    worker = processes.qctl(
        *("--config", "loading_config", "--loader", "loading_project.Noting", "--skip-checks"),
        *("-b", sqlite_url, "--workdir", str(place), "worker", "-P", "solo", "-l", "INFO", "-n", "w@test"),
        *("--", "worker.prefetch_multiplier=7", ".cancel_long_running_tasks_on_connection_loss=1"),
    )
    worker.wait_output(READY)

    sent = qctl(
        *("-b", sqlite_url, "call", "loading_tasks.add", "-a", "[2, 2]", "-Q", "of_config", "--wait"),
        "--no-check",
    )
    found = qctl("-b", sqlite_url, "inspect", "conf", "-o", "json")
    worker.term()

    assert worker.wait() == exit_codes.OK
    assert sent.stdout.split()[-1] == "4", sent.stderr
    for text in ('"task_default_priority": 4', '"worker_prefetch_multiplier": 7'):
        assert text in found.stdout
    notes = (place / "notes").read_text().splitlines()
    assert [note.split()[0] for note in notes] == [
        *("worker_init", "process_init", "task_init", "cleanup", "worker_shutdown"),
    ]
    assert notes[2].endswith("loading_tasks.add")


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("worker.prefetch_multiplyer=3", "no setting named"),
        ("worker.prefetch_multiplier=(list)x", "is no list"),
        ("worker.prefetch_multiplier=often", "takes int"),
        ("thing", "'thing' is no setting"),
    ],
)
def test_a_word_that_is_no_setting_is_one_sentence(word: str, sentence: str, sqlite_url: str) -> None:
    done = qctl("-A", "tests.projects.proj", "-b", sqlite_url, "worker", "--", word)

    assert done.returncode == exit_codes.USAGE
    assert sentence in done.stderr and one_sentence(done)


def test_a_configuration_that_cannot_be_imported_is_one_sentence(sqlite_url: str) -> None:
    done = qctl("--config", "no_such_config", "-b", sqlite_url, "worker")

    assert done.returncode in (exit_codes.USAGE, exit_codes.BAD_CONFIG)
    assert "no_such_config" in done.stderr and one_sentence(done)


@pytest.mark.parametrize("words", [("worker",), ("beat",), ("events", "--dump", "--for", "0.01s")])
def test_a_command_runs_with_another_python(words: tuple[str, ...], tmp_path: Path, sqlite_url: str) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    before = ("-A", "tests.projects.proj", "-b", sqlite_url)

    done = qctl(*before, *words, "--executable", str(python), "-q")

    assert done.stdout.split()[:2] == ["-m", "qctl"]
    assert "--executable" not in done.stdout and str(python) not in done.stdout
    assert done.stdout.split()[2:6] == list(before)


@pytest.mark.parametrize("words", [("worker",), ("beat",), ("events", "--record", "x.ndjson", "--for", "1s")])
def test_a_setting_names_the_python(words: tuple[str, ...], tmp_path: Path, sqlite_url: str) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho by "$@"\nexec {sys.executable} "$@" --no-such-option\n')
    python.chmod(0o755)
    (tmp_path / "with_python.py").write_text(
        f"from celery import Celery\napp = Celery('x', {words[0]}_executable={str(python)!r})\n"
    )

    done = qctl("-A", "with_python", "-b", sqlite_url, "--workdir", str(tmp_path), *words)

    assert done.stdout.split()[:5] == ["by", "-m", "qctl", "-A", "with_python"], done.stderr
    assert done.returncode == exit_codes.USAGE and "--no-such-option" in done.stderr


def test_a_python_that_is_not_there_is_one_sentence(sqlite_url: str) -> None:
    done = qctl("-A", "tests.projects.proj", "-b", sqlite_url, "beat", "--executable", "no-such-python")

    assert done.returncode == exit_codes.USAGE
    assert "there is no program 'no-such-python'" in done.stderr


CAMERA = """\
import os, pathlib
from celery.events.snapshot import Polaroid

class Camera(Polaroid):
    def on_shutter(self, state):
        pathlib.Path("shot").write_text(str(os.getsid(0)))
"""


def test_a_camera_runs_in_the_background(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "shooting.py").write_text(CAMERA)
    pidfile, log = tmp_path / "cam.pid", tmp_path / "cam.log"

    done = qctl(
        *("-A", "tests.projects.proj", "-b", sqlite_url, "--workdir", str(tmp_path), "events"),
        *("-c", "shooting.Camera", "-F", "0.1", "-D", "-l", "INFO", "-f", str(log)),
        *("--pidfile", str(pidfile), "--umask", "027"),
        PYTHONPATH=f"{os.environ.get('PYTHONPATH', '')}{os.pathsep}{tmp_path}",
    )
    assert done.returncode == exit_codes.OK, done.stderr
    shot = tmp_path / "shot"
    wait_for(lambda: shot.exists() and shot.read_text() != "")
    pid = int(pidfile.read_text())

    assert int(shot.read_text()) == pid != os.getsid(0)
    assert shot.stat().st_mode & 0o777 == 0o640
    os.kill(pid, 15)
    wait_for(lambda: not pidfile.exists(), what="it has stopped")


def test_a_fake_fork_stays_in_the_foreground(tmp_path: Path, sqlite_url: str, processes: Processes) -> None:
    log, pidfile = tmp_path / "worker.log", tmp_path / "worker.pid"

    worker = processes.start_qcore_worker(
        *(sqlite_url, "-P", "solo", "-D", "-f", str(log), "--pidfile", str(pidfile)),
        ready=False,
        env={"C_FAKEFORK": "1"},
    )
    wait_for(lambda: log.exists() and "ready." in log.read_text())

    assert int(pidfile.read_text()) == worker.pid
    worker.term()
    assert worker.wait() == exit_codes.OK


def test_a_dashboard_has_no_background(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-b", "memory://", "events", "--dump", "--detach"]) == exit_codes.USAGE
    assert "need --camera or --record" in capsys.readouterr().err


@pytest.mark.parametrize("program", ["celery", "qctl"])
def test_global_options_before_the_command_have_the_same_effect(program: str, place: Path) -> None:
    (place / "global_project.py").write_text(
        "from celery import Celery\napp = Celery('g', set_as_current=False)\n"
    )
    results = f"file://{place}"
    words = [
        *("--workdir", str(place), "-A", "global_project", "--broker=redis://h:1/2", "-q", "--no-color"),
        *("--result-backend", results, "--config", "loading_config", "--skip-checks", "report"),
    ]

    done = run_python("-m", program, *words)

    assert done.returncode == 0, done.stderr
    assert f"settings -> transport:redis results:{results}" in done.stdout
    assert re.search("^task_default_queue: 'of_config'$", done.stdout, re.MULTILINE)
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("program", ["celery", "qctl"])
def test_the_task_of_a_result_must_be_known(program: str, place: Path, redis_url: str) -> None:
    (place / "named_project.py").write_text(
        f"from celery import Celery\napp = Celery('n', broker={redis_url!r}, backend={redis_url!r})\n"
        "@app.task(name='named.add')\ndef add(): ...\n"
    )
    celery.Celery(broker=redis_url, backend=redis_url, set_as_current=False).backend.mark_as_done("an-id", 7)
    words = ("-m", program, "--workdir", str(place), "-A", "named_project", "result", "an-id", "--task")

    known, unknown = run_python(*words, "named.add"), run_python(*words, "named.ad")

    assert (known.returncode, known.stdout.split()) == (0, ["7"]), known.stderr
    assert unknown.returncode != 0
    assert "named.ad" in unknown.stderr and unknown.stdout == ""
