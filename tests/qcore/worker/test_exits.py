"""Tasks that end oddly: every way out is an outcome, and none ends a process that others need."""

from __future__ import annotations

from typing import Any

import pytest

from qcore import App
from qcore.errors import WorkerLostError
from qcore.wire import result as result_wire
from tests.support.processes import Processes

#: what is raised, and what Celery stores for it
EXITS = [
    ("SystemExit", "WorkerLostError"),
    ("KeyboardInterrupt", "WorkerLostError"),
    ("GeneratorExit", "GeneratorExit"),
    ("Own", "Own"),
]


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "asyncio"])
def test_whatever_a_task_raises_is_its_outcome(pool: str, redis_url: str, processes: Processes) -> None:
    app = App("exits", broker=redis_url, set_as_current=False)
    processes.start_qcore_worker(redis_url, "-c", "1", "-P", pool, app="tests.projects.odd")
    pid = app.send_task("odd.speak", ("before",)).get(timeout=10)

    found: dict[str, Any] = {}
    for kind, _ in EXITS:
        for task in ("raise_it", "raise_async"):
            result = app.send_task(f"odd.{task}", (kind,))
            result.get(timeout=10, propagate=False)
            (meta,) = app.results.get([result.id])
            found[f"{task} {kind}"] = meta.result["exc_type"] if meta is not None else None
    after = app.send_task("odd.speak", ("after",)).get(timeout=10)

    assert found == {f"{task} {k}": e for k, e in EXITS for task in ("raise_it", "raise_async")}
    assert after == pid
    app.close()


@pytest.mark.parametrize("how", ["stream", "descriptor"])
def test_a_task_may_close_its_standard_output(how: str, redis_url: str, processes: Processes) -> None:
    app = App("closes", broker=redis_url, set_as_current=False)
    worker = processes.start_qcore_worker(redis_url, "-c", "1", app="tests.projects.odd")

    pid = app.send_task("odd.close_output", (how,)).get(timeout=10)

    assert app.send_task("odd.speak", ("still here",)).get(timeout=10) == pid
    worker.wait_output("still here")
    if how == "stream":
        worker.wait_output("part of a line in bytes")
    app.close()


@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt"])
@pytest.mark.parametrize("arguments", [[3], [], ["text", None]])
def test_no_stored_result_ends_the_program_that_asks_for_it(kind: str, arguments: list[Any]) -> None:
    stored = {"exc_type": kind, "exc_message": arguments, "exc_module": "builtins"}

    found = result_wire.exception_from(stored)

    assert isinstance(found, WorkerLostError)
    assert kind in str(found)
