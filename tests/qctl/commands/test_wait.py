"""`qctl wait` and `qctl watch`: until, and whenever, something is so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qcore.brokers.registry import open_broker
from qctl import exit_codes
from tests.contracts.consuming import put
from tests.qctl.cli.test_command_line import here, one_sentence
from tests.support.processes import Processes


def test_waiting_ends_when_it_is_so(redis_url: str, processes: Processes) -> None:
    url = ("-b", redis_url)
    put(open_broker(redis_url), "celery", "a")

    late = here("wait", "depth=0", "-t", "0.3", *url)
    there = here("wait", "queue:celery", "ready=1", "delayed<=0", *url, "-o", "json")
    waiting = processes.qctl("wait", "workers>=1", "-t", "20", *url)
    processes.start_qcore_worker(redis_url, "-P", "threads", name="w1@test")
    task_id = here("call", "proj.add", "-a", "[2, 2]", *url).stdout.strip()
    done = here("wait", f"task:{task_id}", "state=succeeded,failed", "-t", "60", *url, "-o", "json")
    empty = here("wait", "queues", "depth=0", "--hold", "0.3", "-t", "60", *url)

    assert late.returncode == exit_codes.NOT_MET and one_sentence(late)
    assert "ready 1" in late.stderr
    assert json.loads(there.stdout)["met"] is True
    assert waiting.wait(60) == exit_codes.OK
    assert json.loads(done.stdout)["facts"] == {"state": "succeeded", "done": 1}
    assert empty.returncode == exit_codes.OK


def test_watching_runs_a_command_each_time(sqlite_url: str, tmp_path: Path) -> None:
    broker = open_broker(sqlite_url)
    put(broker, "mails", "a", "b")
    said = tmp_path / "said"

    alarm = here("watch", "--when", "queue:mails ready>1", "--fail", "-b", sqlite_url)
    watched = here(
        *(
            "watch",
            "--when",
            "queue:mails ready>1",
            "--exec",
            f"echo $QCTL_READY >> {said}",
            "--every",
            "0.1",
        ),
        *("-t", "0.5", "-b", sqlite_url, "-o", "ndjson"),
    )

    assert alarm.returncode == exit_codes.NOT_MET
    assert watched.returncode == exit_codes.OK
    assert [json.loads(line)["holds"] for line in watched.stdout.splitlines()] == [True]
    assert said.read_text() == "2\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        ("queue:mails", "a comparison is missing for queue"),
        ("queue:mails redy=0", "did you mean 'ready'"),
        ("workers online=many", "neither a number nor a time"),
        ("task:x state>failed", "compared with = or !="),
        ("depth", "is not FIELD=VALUE"),
    ],
)
def test_a_condition_that_cannot_be_read_is_one_sentence(text: str, words: str) -> None:
    done = here("wait", text)

    assert done.returncode == exit_codes.USAGE
    assert words in done.stderr and one_sentence(done)
