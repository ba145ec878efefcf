"""Every option of Celery's worker is an option of ours, taken or refused in one sentence."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click
import pytest
from celery.bin.worker import worker as theirs
from click.testing import CliRunner

from qcore import App
from qctl.cli.global_options import GlobalOption
from qctl.commands.worker.command import command
from tests.support.processes import Processes
from tests.support.waiting import wait_for


def names_of(command: click.Command) -> set[str]:
    return {name for p in command.params if isinstance(p, click.Option) for name in p.opts}


def test_every_option_of_celerys_worker_is_known_here() -> None:
    unknown = names_of(theirs) - names_of(command) - {"--help", "-h"}

    assert not unknown


def test_the_help_shows_every_option_in_a_group() -> None:
    text = CliRunner().invoke(command, ["--help"]).output

    own = [p for p in command.params if isinstance(p, click.Option) and not isinstance(p, GlobalOption)]
    assert not [p.opts for p in own if not p.hidden and p.opts[-1] not in text]
    headings = [f"{heading}:" for heading in command.groups]
    assert [line for line in re.findall(r"^[A-Z].*:$", text, re.M) if line in headings] == headings


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--schedule", "x"], "--scheduler and --schedule need --beat (-B)"),
        (["--scheduler", "x"], "--scheduler and --schedule need --beat (-B)"),
        (["-O", "fast"], "no profile named 'fast'"),
        (["--pool-start-method", "spwan"], "did you mean 'spawn'"),
    ],
)
def test_what_is_not_here_is_refused_in_one_sentence(words: list[str], sentence: str) -> None:
    result = CliRunner().invoke(command, words)

    assert result.exit_code == 2
    assert sentence in result.output


def test_options_that_fingers_know_start_a_worker(redis_url: str, processes: Processes) -> None:
    worker = processes.start_qcore_worker(
        redis_url,
        *("-O", "fair", "--without-gossip", "--without-mingle", "--without-heartbeat", "-S", "state", "-T"),
        *("--discard", "--disable-prefetch", "--events", "--umask", "027", "--pool-start-method", "fork"),
    )

    worker.term()

    assert worker.wait() == 0


def test_without_prefetch_a_worker_holds_what_it_runs(redis_url: str, processes: Processes) -> None:
    found = {}
    for kind, number in (("celery", 5), ("qcore", 6)):
        url = f"{redis_url.removesuffix('/0')}/{number}"
        words = ("-c", "1", "--disable-prefetch", "--prefetch-multiplier", "4")
        if kind == "celery":
            worker = processes.start_celery_worker(url, url, *words)
        else:
            worker = processes.start_qcore_worker(url, *words, backend=url)
        app = App("client", broker=url, backend=url, set_as_current=False)
        inspect = app.control.inspect()
        for _ in range(3):
            app.send_task("proj.nap", (300,))
        active = wait_for(lambda inspect=inspect: next(iter((inspect.active() or {}).values()), None))  # type: ignore[misc]
        (reserved,) = (inspect.reserved() or {}).values()
        found[kind] = len(active), len(reserved), app.broker.administration.depth("celery").ready
        app.close()
        worker.kill9()

    assert found["qcore"] == found["celery"] == (1, 0, 2)


def test_a_detached_worker_runs_in_the_background(
    redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    pidfile, log = tmp_path / "worker.pid", tmp_path / "worker.log"

    starter = processes.start_qcore_worker(
        redis_url, "-c", "1", "-D", "--pidfile", str(pidfile), "-f", str(log), ready=False
    )
    assert starter.wait() == 0
    wait_for(lambda: log.exists() and "ready." in log.read_text())
    pid = int(pidfile.read_text())

    assert pid != starter.pid and os.getsid(pid) != os.getsid(0)
    os.kill(pid, 15)
    wait_for(lambda: not pidfile.exists(), what="it has stopped")


def test_a_user_that_does_not_exist_is_refused(redis_url: str, processes: Processes) -> None:
    worker = processes.start_qcore_worker(redis_url, "--uid", "nobody-of-that-name", ready=False)

    assert worker.wait() == 2
    assert "there is no user 'nobody-of-that-name'" in worker.output()
