"""Workflows of both clients, run by workers of both kinds, one of which is killed: each ends as it should."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import celery
import pytest

import qcore
from qcore.base.crashpoints import VARIABLE
from tests.qcore.tasks.test_workflows_as_celery import Kit
from tests.support.processes import Process, Processes, celery_env
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FLOWS = "tests.projects.flows"
#: of each client's
COPIES = 3


def workflows(kit: Kit) -> Iterator[tuple[Any, Any]]:
    """Each workflow, and its value or the class of the exception that it raises."""
    p, s = kit.package, kit.s
    two = [s("add", 1, 1), s("add", 2, 2)]
    yield s("add", 1, 1), 2
    yield p.chain(s("add", 1, 1), s("add", 3), s("mul", 10)), 50
    yield p.group(two), [2, 4]
    yield p.chord(two, s("total")), 6
    yield p.chain(p.group(two), s("total"), s("add", 1)), 7
    yield p.chain(s("add", 1, 1), p.group(s("add", 1), s("add", 2)), s("total")), 7
    yield p.chain(p.group(two), p.group(s("total"), s("total", 1)), s("total")), 13
    yield p.chord([p.chord(two, s("total")), s("add", 1, 1)], s("total")), 8
    yield p.chord([p.chain(s("add", 1, 1), s("add", 1)), s("replaced", 2)], s("total")), 33
    yield p.chain(s("add", 1, 1), s("fail"), s("add", 1)), "ValueError"
    yield p.chord([s("add", 1, 1), s("fail")], s("total")), "ValueError"
    yield p.chain(p.group(two), s("fail"), s("add", 1)), "ValueError"
    yield p.chain(s("replaced", 1), s("replaced")), 210


@pytest.fixture(params=["redis", "rabbit"])
def urls(request: pytest.FixtureRequest, redis_url: str) -> tuple[str, str]:
    """Of the broker and of the result store."""
    return (redis_url if request.param == "redis" else request.getfixturevalue("rabbit_url")), redis_url


CLIENTS = {"celery": (celery, celery.Celery), "qcore": (qcore, qcore.App)}


@pytest.fixture
def clients(urls: tuple[str, str]) -> Iterator[dict[str, Kit]]:
    apps = {
        name: (package, kind("client", broker=urls[0], backend=urls[1], set_as_current=False))
        for name, (package, kind) in CLIENTS.items()
    }
    yield {name: Kit(*both) for name, both in apps.items()}
    for _, app in apps.values():
        app.close()


def start(processes: Processes, urls: tuple[str, str], kind: str, *options: str, crash: str = "") -> Process:
    if kind == "qcore":
        env = {"QCTL_LEASE": "2", VARIABLE: crash}  # a killed worker's tasks run again after it
        options = ("-c", "2", *options)
        return processes.start_qcore_worker(urls[0], *options, app=FLOWS, backend=urls[1], env=env)
    env = {**celery_env(*urls), "FLOWS_CELERY": "1"}
    words = ("-A", FLOWS, "worker", "-c", "2", "-n", "c@mixed")
    worker = processes.celery(*words, "-l", "INFO", env=env)
    worker.wait_output("ready")
    return worker


@pytest.mark.parametrize("workers", [("celery",), ("qcore", "qcore"), ("qcore", "qcore", "celery")])
def test_every_workflow_ends_as_it_should(
    urls: tuple[str, str], clients: dict[str, Kit], processes: Processes, workers: tuple[str, ...]
) -> None:
    started = [start(processes, urls, kind) for kind in workers]
    sent = [
        (name, number, flow.apply_async(), value)
        for _ in range(COPIES)
        for name, client in clients.items()
        for number, (flow, value) in enumerate(workflows(client))
    ]

    if "qcore" in workers:
        wait_for(lambda: any(result.ready() for *_, result, _ in sent))
        started[0].kill9()

    found = []
    for name, number, result, value in sent:
        try:
            got = result.get(timeout=120)
        except Exception as exc:
            got = type(exc).__name__
        if got != value:
            found.append((name, number, got, value))
    assert not found


@pytest.mark.parametrize("name", CLIENTS)
def test_a_chord_goes_on_when_its_worker_dies_before_the_body_is_sent(
    urls: tuple[str, str], clients: dict[str, Kit], processes: Processes, name: str
) -> None:
    """The member that completed it is received again by a Celery worker."""
    client = clients[name]
    killed = start(processes, urls, "qcore", crash="chord_complete")
    result = client.package.chord([client.s("add", i, i) for i in (1, 2)], client.s("total")).apply_async()
    killed.wait()

    start(processes, urls, "celery")
    start(processes, urls, "qcore", "-Q", "other")  # returns what the killed one held

    assert result.get(timeout=60) == 6
