"""Which workers are there: replied, silent or gone, two of one name, and three ways of nobody."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from qcore.worker.services.lease import FORGET_AFTER, DuplicateNameDetector
from qctl import exit_codes
from tests.faults import FULL
from tests.qctl.cli.test_command_line import here
from tests.support.processes import Processes
from tests.support.redis_server import free_port
from tests.support.waiting import wait_for

#: a heartbeat is a third of it; long enough for a busy machine to see a dead worker before it is forgotten
LEASE = {"QCTL_LEASE": "9"}


def states(url: str, *words: str, timeout: str = "0.3") -> dict[str, dict[str, Any]]:
    done = here("status", "-t", timeout, "-o", "json", *words, QCTL_BROKER_URL=url)
    return {i["node"]: i for i in json.loads(done.stdout)["items"]}


@pytest.mark.parametrize("kind", ["redis", "sqlite"] if FULL else ["redis"])
def test_a_killed_worker_goes_from_silent_to_gone(
    kind: str, request: pytest.FixtureRequest, processes: Processes
) -> None:
    url = request.getfixturevalue(f"{kind}_url")
    worker = processes.start_qcore_worker(url, "-c", "1", "-P", "threads", name="w1@test", env=LEASE)
    assert states(url, timeout="60")["w1@test"]["state"] == "online"

    worker.kill9()
    first = states(url)
    wait_for(lambda: not states(url), what="the dead worker to be listed no more")
    every = states(url, "--all")
    named = here("status", "-d", "w1@test", QCTL_BROKER_URL=url)

    assert first["w1@test"]["state"] == "silent"
    assert every["w1@test"]["state"] == "gone"
    assert 0 < every["w1@test"]["age_s"] < 90
    assert every["w1@test"]["pid"] == worker.pid
    assert named.returncode == exit_codes.NOT_FOUND
    assert "w1@test is gone: last heartbeat" in named.stderr


def test_two_workers_of_one_name_are_said_on_both_sides(redis_url: str, processes: Processes) -> None:
    old, new = (
        processes.start_qcore_worker(redis_url, "-c", "1", "-P", "threads", name="w1@test", env=LEASE)
        for _ in range(2)
    )

    for one, other in ((old, new), (new, old)):
        one.wait_output(rf"another worker is also named w1@test \(process {other.pid} on ")
    ping = here("inspect", "ping", "-t", "60", QCTL_BROKER_URL=redis_url)
    wait_for(lambda: len(states(redis_url, timeout="60")["w1@test"]["twins"]) == 2, what="both are announced")
    status = here("status", "-t", "60", QCTL_BROKER_URL=redis_url)

    assert "more than one worker is called w1@test" in ping.stderr
    assert str(old.pid) in status.stderr and str(new.pid) in status.stderr
    assert "online, twice" in status.stdout
    assert ping.returncode == status.returncode == exit_codes.OK


def test_a_successor_of_a_killed_worker_is_no_second_one() -> None:
    """What its first announcement replaces may be a dead worker's; a second time it is somebody alive."""
    dead, alive = {"instance": "dead"}, {"instance": "alive", "pid": 7, "host": "h"}
    twin = DuplicateNameDetector("w1@test", "mine")

    twin.look(dead)
    after_start = twin.facts
    twin.look({"instance": "mine"})
    twin.look(alive)
    found = twin.facts
    for _ in range(FORGET_AFTER):
        twin.look({"instance": "mine"})

    assert after_start == {}
    assert found == {"pid": 7, "host": "h"}
    assert twin.facts == {}


@pytest.mark.parametrize("scheme", ["redis", "amqp", "sqlite"])
def test_a_broker_that_is_away_is_said_with_its_address(scheme: str, tmp_path: Path) -> None:
    port = free_port()
    place = f"127.0.0.1:{port}"
    url = f"{scheme}://{place}/" if scheme != "sqlite" else f"sqlite:///{tmp_path}/a-file/qcore.sqlite3"
    (tmp_path / "a-file").write_text("this is no directory")

    began = time.monotonic()
    done = here("inspect", "ping", "-t", "90", QCTL_BROKER_URL=url)

    assert time.monotonic() - began < 45  # it did not try again until the time-out
    assert done.returncode == exit_codes.UNAVAILABLE
    assert (place if scheme != "sqlite" else "a-file") in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("kind", ["redis", "sqlite", "rabbit"])
def test_an_empty_fleet_and_a_wrong_name_are_told_apart(kind: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(f"{kind}_url")

    nobody = here("inspect", "ping", "-t", "0.3", QCTL_BROKER_URL=url)
    wrong = here("inspect", "ping", "-t", "0.3", "-d", "ghost@host", QCTL_BROKER_URL=url)

    assert nobody.returncode == exit_codes.NO_ANSWER
    assert "no worker is online" in nobody.stderr
    assert wrong.returncode == (exit_codes.NOT_FOUND if kind != "rabbit" else wrong.returncode)
    assert wrong.stderr != nobody.stderr
