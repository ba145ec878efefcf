"""`qctl task logs`: what a task logged, on each broker that keeps it, and while it runs."""

from __future__ import annotations

import json

import pytest

from qcore import App
from qcore.brokers.contract.task_logs import TASKS
from qcore.brokers.registry import open_broker
from qctl import exit_codes
from tests.qctl.cli.test_command_line import here
from tests.support.processes import Processes
from tests.support.waiting import wait_for


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_tasks_lines_are_shown_and_followed(
    kind: str, pool: str, request: pytest.FixtureRequest, processes: Processes
) -> None:
    url = request.getfixturevalue(f"{kind}_url")
    processes.start_qcore_worker(url, "-c", "2", "-P", pool, name="w1@test", backend=url)
    client = App("client", broker=url, backend=url, set_as_current=False)
    follows = processes.qctl(
        "-b", url, "--result-backend", url, "task", "logs", "-f", client.send_task("proj.chatty", (5, 0.2)).id
    )
    done, quiet = client.send_task("proj.chatty", (3,)), client.send_task("proj.add", (1, 2))
    assert done.get(timeout=60) == 3 and quiet.get(timeout=60) == 3
    wait_for(lambda: len(client.broker.task_logs.of(done.id)) == 5)

    shown = here("-b", url, "task", "logs", done.id)
    said = json.loads(here("-b", url, "task", "logs", done.id, "-o", "json").stdout)
    nothing = here("-b", url, "--result-backend", url, "task", "logs", quiet.id)
    nobody = here("-b", url, "task", "logs", "no-such-id")

    assert [line["level"] for line in said["items"]] == ["INFO"] * 3 + ["WARNING", "ERROR"]
    assert said["items"][0]["text"] == "step 0 \x1b[31m of 3" and said["items"][0]["worker"] == "w1@test"
    assert said["items"][4]["text"].endswith("KeyError: 'lost'")
    assert "step 2 \\x1b[31m of 3" in shown.stdout and "\x1b" not in shown.stdout
    assert (nothing.returncode, nothing.stdout) == (exit_codes.OK, "")
    assert "logged nothing" in nothing.stderr
    assert nobody.returncode == exit_codes.NOT_FOUND
    assert follows.wait() == exit_codes.OK
    text = follows.output()
    assert [text.count(f"step {n} ") for n in range(5)] == [1] * 5
    assert "it went wrong" in text
    client.close()


@pytest.mark.parametrize("kind", ["redis", "sqlite", "memory"])
def test_so_many_lines_of_so_many_tasks_are_kept(kind: str, request: pytest.FixtureRequest) -> None:
    broker = open_broker(request.getfixturevalue(f"{kind}_url"), {})
    many = {f"t{number}": [b"%d" % number] for number in range(TASKS + 600)}
    for name in many:
        if int(name[1:]) % 500 == 0:
            broker.task_logs.append({n: many[n] for n in list(many)[int(name[1:]) : int(name[1:]) + 500]}, 3)
    broker.task_logs.append({"last": [b"1", b"2"]}, 3)
    broker.task_logs.append({"last": [b"3", b"\xff"]}, 3)

    assert broker.task_logs.of("last") == [b"2", b"3", b"\xff"]
    assert broker.task_logs.of(f"t{TASKS + 599}") == [b"%d" % (TASKS + 599)]
    assert broker.task_logs.of("t0") == [] and broker.task_logs.of("never") == []
    broker.close()
