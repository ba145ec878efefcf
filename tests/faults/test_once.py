"""A call with an idempotency key is one task, however often its sender has to try."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from qcore.app.app import App
from qcore.brokers.redis.delivery_scripts import PUBLISH_ONCE
from qcore.brokers.registry import open_broker
from qcore.errors import Unsupported
from tests.contracts.consuming import text_of
from tests.faults import size
from tests.faults.proxy import proxied

pytestmark = [pytest.mark.timeout(180)]

KEYS = size(100, 500)


def app_at(url: str) -> App:
    policy = {"max_retries": 5, "interval_start": 0, "interval_step": 0.01}
    return App("proj", broker=url, task_publish_retry_policy=policy, set_as_current=False)


def test_a_lost_answer_and_a_retry_enqueue_once(redis_url: str) -> None:
    app = app_at(redis_url)
    app.send_task("proj.add", (0, 0), idempotency_key="first")  # the server knows the script
    with proxied(redis_url, "redis") as proxy:
        unsure = app_at(proxy.url)
        # Of two answers one is lost: that of the first try of each key.
        proxy.cut("down", f"evalsha:{PUBLISH_ONCE.sha}", every=2, times=KEYS)
        unsure.send_task("proj.add", (0, 0), idempotency_key="first")
        results = [unsure.send_task("proj.add", (i, i), idempotency_key=f"k{i}") for i in range(KEYS)]
        cuts = proxy.counts()["cut"]
        unsure.close()

    ids = [text_of(raw) for raw in app.broker.administration.peek("celery", KEYS + 10)]
    assert cuts == KEYS
    assert ids[1:] == [r.id for r in results]
    app.close()


WRITER = """
import sys
from qcore import App
app = App("proj", broker=sys.argv[1])
for i in range(int(sys.argv[2])):
    print(app.send_task("proj.add", (i, i), idempotency_key=f"k{i}").id, flush=True)
"""


def test_a_writer_that_is_killed_and_starts_again_enqueues_once(sqlite_url: str) -> None:
    keys = size(40, 500)
    told: list[str] = []
    while len(told) < keys:
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, sqlite_url, str(keys)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        seen = []
        for line in writer.stdout:
            seen.append(line.strip())
            if len(seen) == len(told) + max(1, keys // 8):
                os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        assert seen[: len(told)] == told
        told = seen

    broker = open_broker(sqlite_url)
    assert [text_of(raw) for raw in broker.administration.peek("celery", keys * 2)] == told
    broker.close()


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
def test_the_second_call_is_the_first_task(kind: str, request: pytest.FixtureRequest) -> None:
    app = app_at(request.getfixturevalue(f"{kind}_url"))

    @app.task(name="proj.add")
    def add(x: int, y: int) -> int:
        return x + y

    first = add.apply_async((1, 2), idempotency_key="order 17", countdown=None)
    again = add.apply_async((3, 4), idempotency_key="order 17", queue="elsewhere")
    others = app.send_many([add.s(1, 1).set(idempotency_key="order 17"), add.s(2, 2)])

    assert first.id == again.id == others[0].id != others[1].id
    assert [text_of(raw) for raw in app.broker.administration.peek("celery")] == [first.id, others[1].id]
    assert b'"idempotency_key":"order 17"' in app.broker.administration.peek("celery")[0]
    assert app.broker.administration.depth("elsewhere").ready == 0
    app.close()


@pytest.mark.parametrize(("key", "error"), [(17, TypeError), ("", ValueError), ("x" * 513, ValueError)])
def test_a_key_is_some_text(key: object, error: type[Exception], memory_url: str) -> None:
    with pytest.raises(error, match="idempotency_key"):
        app_at(memory_url).send_task("proj.add", (1, 2), idempotency_key=key)


def test_rabbitmq_says_that_it_keeps_no_keys(rabbit_url: str) -> None:
    app = app_at(rabbit_url)

    with pytest.raises(Unsupported, match="cannot keep idempotency keys"):
        app.send_task("proj.add", (1, 2), idempotency_key="x")
    app.close()
