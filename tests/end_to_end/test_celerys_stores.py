"""Stores of Celery's own classes, on servers: clients and workers of both kinds read the same results."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.cloud_servers import client_environment
from tests.support.processes import Process, Processes, run_python

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PROJECT = """
import json, os
from celery import Celery

app = Celery("stored", broker=os.environ["BROKER"])
app.conf.update(json.loads(os.environ["STORE"]))


@app.task(name="stored.add")
def add(x, y):
    return x + y


@app.task(name="stored.total")
def total(numbers):
    return sum(numbers)


@app.task(name="stored.fail")
def fail(word):
    raise ValueError(word, 3)
"""
#: what the clients of the stores import
IMPORTED = ("boto3", "s3transfer.manager")
CLIENT = """
import json, sys
from celery import chord, group
from celery.result import AsyncResult, GroupResult
from stored import add, app, fail, total

def outcome(result):
    try:
        return result.get(timeout=60)
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"

one, failed = add.delay(1, 2), fail.delay("no")
found = {"add": outcome(one), "fail": outcome(failed), "states": [one.state, failed.state]}
found["traceback"] = "raise ValueError(word, 3)" in failed.traceback
members = group(add.s(i, 1) for i in range(3)).apply_async()
members.save()
again = GroupResult.restore(members.id)
found["group"] = again.get(timeout=60)
members.delete()
found["deleted"] = GroupResult.restore(members.id)
if "chords" in sys.argv:
    found["chord"] = outcome(chord([add.s(i, i) for i in range(4)], total.s()).apply_async())
    part = chord([add.s(1, 1), fail.s("part")], total.s()).apply_async()
    words, cause = outcome(AsyncResult(part.id)), "ValueError('part', 3)"
    found["failed chord"] = cause if words.endswith(cause) else words
one.forget()
found["forgotten"] = one.state
found["backend"] = type(app.backend).__name__
print(json.dumps(found))
"""
EXPECTED = {
    "add": 3,
    "fail": "ValueError: ('no', 3)",
    "states": ["SUCCESS", "FAILURE"],
    "traceback": True,
    "group": [1, 2, 3],
    "deleted": None,
    "chord": 12,
    "failed chord": "ValueError('part', 3)",
    "forgotten": "PENDING",
}


@pytest.fixture(params=["s3", "dynamodb", "azureblockblob"])
def environment(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """That of the workers and clients, of one store each."""
    (tmp_path / "stored.py").write_text(PROJECT)
    settings: dict[str, Any] = {"result_backend": "s3://", "result_chord_retry_interval": 0.1}
    if request.param == "azureblockblob":
        settings["result_backend"] = request.getfixturevalue("azure_url")
        settings |= {"azureblockblob_container_name": "stored", "azureblockblob_base_path": "results-"}
    else:
        url = request.getfixturevalue("amazon_url")
        if request.param == "dynamodb":
            settings["result_backend"] = f"dynamodb://key:secret@us-east-1/{tmp_path.name}?ttl_seconds=900"
            settings |= {"dynamodb_endpoint_url": url, "result_compression": "gzip"}
        else:
            name = request.getfixturevalue("bucket")
            settings |= {"s3_bucket": name, "s3_endpoint_url": url, "s3_base_path": "results/"}
    more = client_environment()
    path = os.pathsep.join((str(tmp_path), more["PYTHONPATH"]))
    return {**more, "PYTHONPATH": path, "BROKER": redis_url, "STORE": json.dumps(settings)}


def start(kind: str, processes: Processes, env: dict[str, str]) -> Process:
    words = ("-A", "stored", "worker", "-c", "2", "-n", f"{kind}@stored", "-l", "INFO")
    processes.also = IMPORTED
    worker = (processes.celery if kind == "celery" else processes.qctl)(*words, env=env)
    worker.wait_output("ready")
    return worker


def run(env: dict[str, str], *words: str, imports: str = "qctl") -> str:
    done = run_python(*words, env={**os.environ, **env}, imports=imports, also=IMPORTED, timeout_s=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def seen_by(kind: str, env: dict[str, str], *words: str) -> Any:
    """What a client saw."""
    install = "" if kind == "celery" else "from qcore.celery import install; install()\n"
    imports = "celery" if kind == "celery" else "qctl"
    return json.loads(run(env, "-c", install + CLIENT, *words, imports=imports).splitlines()[-1])


def test_clients_of_both_kinds_and_qctl_get_the_results_of_a_worker(
    environment: dict[str, str], processes: Processes
) -> None:
    worker = start("qcore", processes, environment)
    qctl = ("-m", "qctl", "-A", "stored")

    for client in ("qcore", "celery"):
        found = seen_by(client, environment, "chords")

        assert found.pop("backend") in ("S3Backend", "DynamoDBBackend", "AzureBlockBlobBackend"), client
        assert found == EXPECTED, client
    called = run(environment, *qctl, "call", "stored.add", "-a", "[2, 3]", "-o", "json")
    assert "5" in run(environment, *qctl, "result", json.loads(called)["id"], "--wait")
    worker.term()
    assert worker.wait() == 0, worker.output()


def test_a_client_gets_the_results_of_a_worker_of_celerys_and_chords_of_both_kinds_end(
    environment: dict[str, str], processes: Processes
) -> None:
    start("celery", processes, environment)
    counts = "dynamodb" in environment["STORE"]  # in the store, as Celery's workers do

    found = seen_by("qcore", environment, *(["chords"] if counts else []))

    assert found.pop("backend")
    assert found == {k: v for k, v in EXPECTED.items() if counts or "chord" not in k}

    start("qcore", processes, environment)

    found = [seen_by("celery", environment, "chords") for _ in range(2)]

    assert [(one["chord"], one["failed chord"]) for one in found] == [
        (EXPECTED["chord"], EXPECTED["failed chord"])
    ] * 2
