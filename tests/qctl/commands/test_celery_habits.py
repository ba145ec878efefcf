"""Commands that Celery's users type from habit: migrate, multi, logtool, upgrade, list, graph, shell,
amqp, and what `call` takes beyond theirs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qcore.brokers.registry import open_broker
from qctl import exit_codes
from tests.contracts.consuming import put, take, texts
from tests.qctl.cli.test_command_line import here, one_sentence, qctl
from tests.support.processes import Processes

LOG = """\
[2026-01-31 12:00:00,000: INFO/MainProcess] Task proj.add[a1] received
[2026-01-31 12:00:00,010: INFO/ForkPoolWorker-1] Task proj.add[a1] succeeded in 0.5s: 4
[2026-01-31 12:00:01,000: INFO/MainProcess] Task proj.fail[a2] received
[2026-01-31 12:00:01,100: ERROR/ForkPoolWorker-1] Task proj.fail[a2] raised unexpected: ValueError('boom')
Traceback (most recent call last):
  File "proj.py", line 3, in fail
ValueError: boom
[2026-01-31 12:00:02,000: INFO/MainProcess] Task proj.nap[a3] received
"""


def test_messages_are_migrated_to_another_kind_of_broker(sqlite_url: str, redis_url: str) -> None:
    source, target = open_broker(sqlite_url), open_broker(redis_url)
    put(source, "mails", "a", "b", "c")
    here("call", "proj.add", "--no-check", "-Q", "mails", "--countdown", "1h", "-b", sqlite_url)

    tried = here("migrate", sqlite_url, redis_url, "--dry-run", "-o", "json")
    refused = here("migrate", sqlite_url, redis_url)
    some = here("migrate", sqlite_url, redis_url, "-Q", "mails:post", "-n", "2", "--yes")
    rest = here("migrate", sqlite_url, redis_url, "-Q", "mails:post", "--yes", "-o", "json")
    same = here("migrate", sqlite_url, sqlite_url, "--yes")

    assert json.loads(tried.stdout)["items"][0] == {
        "source": "mails",
        "target": "mails",
        "moved": 0,
        "delayed": 0,
        "left": 0,
        "waited": 4,
    }
    assert refused.returncode == exit_codes.REFUSED
    assert "2 messages moved" in some.stderr
    assert [json.loads(rest.stdout)["items"][0][k] for k in ("moved", "delayed")] == [1, 1]
    assert texts(take(target.consumer(["post"]), 3)) == ["a", "b", "c"]
    # Where nobody of ours listens, Redis holds nothing back.
    assert target.administration.depth("post").ready == 1
    left = source.administration.depth("mails")
    assert (left.ready, left.delayed) == (0, 0)
    assert same.returncode == exit_codes.USAGE and one_sentence(same)


def test_only_messages_of_the_named_tasks_are_migrated(sqlite_url: str, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path}/other.db"
    for name in ("proj.add", "proj.mul", "proj.add"):
        here("call", name, "--no-check", "-Q", "mails", "-b", sqlite_url)

    done = here("migrate", sqlite_url, target, "-T", "proj.add", "--yes", "-o", "json")

    (item,) = json.loads(done.stdout)["items"]
    assert (item["moved"], item["left"]) == (2, 1)
    assert open_broker(sqlite_url).administration.depth("mails").ready == 1


def test_several_workers_are_started_restarted_and_stopped(sqlite_url: str, tmp_path: Path) -> None:
    env = {"XDG_STATE_HOME": str(tmp_path), "QCTL_BROKER_URL": sqlite_url}

    def multi(*words: str) -> dict[str, str]:
        done = qctl("multi", *words, "-o", "json", **env)
        return {i["node"].partition("@")[0]: i["state"] for i in json.loads(done.stdout)["items"]}

    try:
        started = multi("start", "w1", "w2", "-A", "tests.projects.proj", "-P", "solo", "-Q:w2", "mails")
        again = multi("start", "w1")
        restarted = multi("restart", "w1")
        asked = json.loads(here("inspect", "active_queues", "-o", "json", **env).stdout)["replies"]
    finally:
        stopped = multi("stopwait", "-t", "20")
    failed = qctl("multi", "start", "w3", "-A", "tests.projects.nosuch", **env)
    unknown = qctl("multi", "stop", "w9", **env)
    typo = qctl("multi", "start", "w1", "-A", "tests.projects.proj", "--cuncurrency", "2", **env)

    assert started == {"w1": "started", "w2": "started"}
    assert again == {"w1": "runs already"}
    assert restarted == {"w1": "started"}
    assert {n.partition("@")[0]: [q["name"] for q in v] for n, v in asked.items()} == {
        "w1": ["celery"],
        "w2": ["mails"],
    }
    assert stopped == {"w1": "stopped", "w2": "stopped"}
    assert failed.returncode == exit_codes.FAILED
    assert "there is no module 'tests.projects.nosuch'" in failed.stderr
    assert unknown.returncode == exit_codes.NOT_FOUND
    assert typo.returncode == exit_codes.USAGE and "did you mean '--concurrency'" in typo.stderr


def test_names_and_ranges_of_multi() -> None:
    names = here("multi", "names", "3", "--hostname", "h")
    line = here("multi", "get", "w2", "w1", "w2", "w3", "-c", "4", "-c:2-3", "8", "--hostname=h")
    files = here("multi", "expand", "%n-%h.log", "a", "b@x")

    assert names.stdout.split() == ["celery1@h", "celery2@h", "celery3@h"]
    assert line.stdout.startswith("qctl worker -n w2@h ") and line.stdout.endswith("-c 4 -c 8\n")
    assert files.stdout.splitlines()[1] == "b-x.log"


def test_a_log_is_counted_and_searched(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text(LOG)
    as_json = tmp_path / "json.log"
    as_json.write_text(
        json.dumps({"time": "t", "level": "INFO", "message": "Task proj.add[b1] received"}) + "\nnoise\n"
    )

    stats = json.loads(here("logtool", "stats", str(log), "-o", "json").stdout)["items"]
    errors = here("logtool", "errors", stdin=LOG)
    open_ = here("logtool", "incomplete", str(log), str(as_json), "-o", "name")

    assert [(i["task"], i["received"], i["succeeded"], i["failed"]) for i in stats] == [
        ("proj.add", 1, 1, 0),
        ("proj.fail", 1, 0, 1),
        ("proj.nap", 1, 0, 0),
    ]
    assert stats[0]["mean_s"] == 0.5
    assert errors.stdout.count("ValueError: boom") == 1 and "received" not in errors.stdout
    assert open_.stdout.split() == ["a3", "b1"]


def test_old_names_of_settings_are_written_anew(tmp_path: Path) -> None:
    file = tmp_path / "conf.py"
    before = "CELERYD_CONCURRENCY = 4\nCELERY_ACKS_LATE = True\nMY_OWN = 1\napp.conf.BROKER_URL = 'x'\n"
    file.write_text(before)

    shown = here("upgrade", "settings", str(file), "--dry-run")
    untouched = file.read_text()
    done = here("upgrade", "settings", str(file))

    assert "+worker_concurrency = 4" in shown.stdout and untouched == before
    assert done.returncode == exit_codes.OK
    assert file.read_text() == (
        "worker_concurrency = 4\ntask_acks_late = True\nMY_OWN = 1\napp.conf.broker_url = 'x'\n"
    )
    assert (tmp_path / "conf.py.orig").read_text() == before


def test_smaller_habits(redis_url: str, processes: Processes) -> None:
    processes.start_qcore_worker(redis_url, "-P", "solo", "-Q", "mails", name="w1@test")
    app = ("-A", "tests.projects.proj")

    bindings = json.loads(here("list", "bindings", "-o", "json", "-b", redis_url).stdout)["items"]
    graph = here("graph", "workers", "-b", redis_url)
    parts = here("graph", "bootsteps")
    names = qctl(*app, "shell", "--no-exec")
    typed = qctl(*app, "-b", redis_url, "shell", "-P", stdin="print(add.name)\n")
    patched = [
        qctl(
            *(*app, "-b", redis_url, "shell", "-P", f"--{library}"),
            stdin="import socket\nprint(socket.socket.__module__)\n",
        )
        for library in ("gevent", "eventlet")
    ]
    amqp = here("-b", redis_url, "amqp", "basic.get", "mails")

    assert {(b["queue"], b["workers"]) for b in bindings} == {("celery", 0), ("mails", 1)}
    assert '"mails" -> "w1@test"' in graph.stdout
    assert parts.stdout.startswith("digraph bootsteps {")
    assert "add " in names.stderr and names.stdout == ""
    assert "tests.projects.proj.add" in typed.stdout or "proj.add" in typed.stdout
    assert "gevent" in patched[0].stdout and "eventlet" in patched[1].stdout
    assert amqp.returncode == exit_codes.USAGE and "needs RabbitMQ" in amqp.stderr and one_sentence(amqp)


def test_call_reads_files_repeats_and_shows_its_message(sqlite_url: str, tmp_path: Path) -> None:
    args = tmp_path / "args.json"
    args.write_text("[2, 3]")
    url = ("-b", sqlite_url)

    many = here("call", "proj.add", "-a", f"@{args}", "--count", "3", "--no-check", *url)
    shown = here("call", "proj.add", "-a", "-", "--dry-run", "-o", "json", *url, stdin="[7]")
    missing = here("call", "proj.add", "-a", "@nosuch.json", *url)
    keyed = [here("call", "proj.add", "--idempotency-key", "k", "--no-check", *url).stdout for _ in "12"]

    assert len(set(many.stdout.split())) == 3
    message = json.loads(shown.stdout)
    assert (message["headers"]["task"], message["body"][0], message["queue"]) == ("proj.add", [7], "celery")
    assert missing.returncode == exit_codes.USAGE and "cannot read 'nosuch.json'" in missing.stderr
    assert keyed[0] == keyed[1]
    assert open_broker(sqlite_url).administration.depth("celery").ready == 4


@pytest.mark.parametrize("words", [("list",), ("graph",), ("logtool",), ("multi",), ("upgrade",)])
def test_a_group_without_a_command_shows_its_page(words: tuple[str, ...]) -> None:
    assert "Commands:" in here(*words).stdout
