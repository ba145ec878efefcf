"""Control commands of a project: Celery's client and qctl get the same replies from both workers."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import celery
import pytest

from tests.support.processes import Processes, run_python
from tests.support.waiting import wait_for

APP = "tests.projects.commanded"
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("current_prefetch_count", {}),
    ("prefetch", {}),
    ("increase_prefetch_count", {"n": 3}),
    ("increase_prefetch_count", {}),
    ("current_prefetch_count", {}),
    ("whoami", {}),
    ("unlisted", {"words": ["a", "b"]}),
    ("old", {}),
    ("fails", {}),
]


def replies(kind: str, url: str, processes: Processes) -> list[Any]:
    """What Celery's client gets from this kind of worker, without the names of nodes."""
    start = processes.qctl if kind == "qcore" else processes.celery
    node = f"{kind}@test"
    worker = start("-A", APP, "worker", "-c", "2", "-P", "solo", "-n", node, env={"BROKER": url})
    with celery.Celery("client", broker=url, set_as_current=False) as client:

        def ask(name: str, arguments: dict[str, Any], timeout: float = 10.0) -> Any:
            found = client.control.broadcast(
                name, arguments=arguments, destination=[node], reply=True, timeout=timeout, limit=1
            )
            return found[0][node] if found else None

        wait_for(lambda: ask("ping", {}, 0.3), 60)
        answers = [ask(name, arguments) for name, arguments in REQUESTS]
    worker.term()
    assert worker.wait() == 0, worker.output()
    return [str(answer).replace(kind, "KIND") for answer in answers]


def test_celerys_client_gets_the_same_replies_from_both(redis_url: str, processes: Processes) -> None:
    theirs = replies("celery", redis_url, processes)
    ours = replies("qcore", redis_url, processes)

    assert ours == theirs


def qctl(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    return run_python("-m", "qctl", *words, env={**os.environ, "BROKER": url})


@pytest.mark.parametrize("words", [("-A", APP), ("-b",)])
def test_the_list_has_the_commands_of_the_app(
    words: tuple[str, ...], redis_url: str, processes: Processes
) -> None:
    if words == ("-b",):  # a client without the app asks the workers
        worker = processes.qctl("-A", APP, "worker", "-P", "solo", env={"BROKER": redis_url})
        worker.wait_output("ready")
        words = ("-b", redis_url)
    inspect = qctl(redis_url, *words, "inspect", "--list")
    control = qctl(redis_url, *words, "control", "--list")

    assert "current_prefetch_count" in inspect.stdout, inspect.stderr
    assert "Who this is" in inspect.stdout
    assert "unlisted" not in inspect.stdout
    assert "active" in inspect.stdout
    assert "increase_prefetch_count [N=1]" in control.stdout
    assert "pool_grow" in control.stdout
