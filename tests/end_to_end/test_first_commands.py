"""The first things a user types, on each broker, as real processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.processes import ROOT, Processes, run_python
from tests.support.waiting import wait_for

EXAMPLES = ROOT / "examples"


class Shell:
    """Runs qctl in a directory, as a user does."""

    def __init__(self, home: Path, **env: str) -> None:
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("QCTL_", "CELERY_"))}
        self.env |= {"HOME": str(home), "XDG_STATE_HOME": str(home / "state"), **env}

    def qctl(
        self, *words: str, code: int | None = 0, timeout: float = 100
    ) -> subprocess.CompletedProcess[str]:
        ran = run_python("-m", "qctl", *words, cwd=EXAMPLES, env=self.env, timeout_s=timeout)
        assert code is None or ran.returncode == code, f"{words}: {ran.returncode}\n{ran.stdout}{ran.stderr}"
        assert "Traceback" not in ran.stderr
        return ran


@pytest.mark.parametrize("kind", ["embedded", "redis", "rabbit"])
def test_the_first_lines_a_user_types(
    kind: str, request: pytest.FixtureRequest, processes: Processes, tmp_path: Path
) -> None:
    url = "" if kind == "embedded" else request.getfixturevalue(f"{kind}_url")
    shell = Shell(tmp_path, QCTL_TIMEOUT="60", **({"QCTL_BROKER_URL": url} if url else {}))
    worker = processes.start(
        "sh", "-c", f"cd {EXAMPLES} && exec {sys.executable} -m qctl -A proj worker -n w1@host", env=shell.env
    )
    worker.wait_output("w1@host ready")

    called = shell.qctl("call", "proj.add", "-a", "[2,2]")
    assert re.fullmatch(r"[0-9a-f-]{36}\n", called.stdout)
    task_id = called.stdout.strip()
    if kind == "rabbit":
        told = shell.qctl("result", task_id, code=78).stderr
        assert "results are not stored" in told and "result_backend" in told and "guest:guest" not in told
    else:
        wait_for(lambda: shell.qctl("result", task_id, code=None).stdout == "4\n")

    nap_id = shell.qctl("call", "proj.nap", "-a", "[100]").stdout.strip()
    active = wait_for(
        lambda: json.loads(shell.qctl("inspect", "active", "--destination=w1@host", "-o", "json").stdout)[
            "replies"
        ]["w1@host"]
    )
    assert [task["name"] for task in active] == ["proj.nap"]
    shell.qctl("task", "revoke", nap_id, "--terminate", "--yes")
    assert "w1@host" in shell.qctl("status").stdout
    assert "task events enabled" in shell.qctl("control", "enable_events").stdout
    dump = processes.qctl("events", "--dump", "--limit", "60", env=shell.env)
    dump.wait_output("listening")
    shell.qctl("call", "proj.add", "-a", "[3,3]")
    dump.wait_output(r"task-succeeded\s+proj\.add")
    ended = shell.qctl("control", "shutdown", "--yes", code=None)
    # It asks for a second who is there, whatever the time-out is, which a busy worker may miss.
    assert ended.returncode == 0 or "w1@host is silent: no answer within 1 s" in ended.stderr
    assert worker.wait(60) == 0


def test_inspect_ping_ends_with_the_third_answer_and_names_a_stopped_worker(
    redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    shell = Shell(tmp_path, QCTL_BROKER_URL=redis_url)
    workers = [processes.start_qcore_worker(redis_url, "-c", "1", name=f"w{i}@test") for i in range(3)]

    started = time.monotonic()
    found = json.loads(shell.qctl("inspect", "ping", "--timeout", "90", "-o", "json").stdout)
    assert sorted(found["replies"]) == ["w0@test", "w1@test", "w2@test"]
    assert time.monotonic() - started < 45  # it did not wait for the time-out

    workers[1].stop()
    silent = shell.qctl("inspect", "ping", "--timeout", "3", code=4)
    assert "w1@test" in silent.stderr
    workers[1].cont()
    wait_for(lambda: shell.qctl("inspect", "ping", code=None).returncode == 0)
