"""What strangers wrote into names, ids, arguments and errors, in the worker's log: no line is forged."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from qcore import App
from qcore.brokers.contract.records import Message
from qcore.wire import task as task_wire
from tests.qctl.output.test_untrusted_text import EVIL, UNSAFE
from tests.support.processes import Processes
from tests.support.waiting import wait_for

FORGED = "[2026-01-01 00:00:00,000: INFO/MainProcess] Task forged"
TEXT = f"{EVIL}\x1b]0;title\x07\n{FORGED}\x85{FORGED}\u2028{FORGED}\r{FORGED}"
#: a name that is taken as one: no control characters of ASCII, but others
NAME = re.sub("[\x00-\x1f\x7f]", "", TEXT)[:200]
WAYS = ("print", "log", "raise", "logged", "retry", "reject", "return")


def messages(app: App) -> list[Message]:
    """Calls that bring the text into the log by every way."""
    made = []
    for number, way in enumerate(WAYS):
        call: dict[str, Any] = {"shadow": TEXT, "queue": "celery"}
        made.append(app.message("odd.loud", [TEXT, way], {}, f"loud-{number}-{NAME}", call))
    names = [(f"odd.no-{NAME}", "unknown-1"), (TEXT, "malformed-1"), ("odd.loud", f"\x1b{TEXT}")]
    for name, task_id in names:
        raw = task_wire.build(name, [TEXT], {}, task_id=task_id, routing_key="celery")
        made.append(Message(raw, queue="celery"))
    expired = {"shadow": TEXT, "queue": "celery", "expires": -10}
    made.append(app.message("odd.loud", [TEXT, "print"], {}, f"expired-{NAME}", expired))
    return made


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_text_of_strangers_forges_a_line_or_reaches_the_terminal(
    form: str, redis_url: str, processes: Processes
) -> None:
    app = App("loud", broker=redis_url, set_as_current=False)
    env = {"QCTL_LOG_FORMAT": "json"} if form == "json" else {}
    worker = processes.start_qcore_worker(redis_url, "-c", "1", app="tests.projects.odd", env=env)

    app.broker.publish(messages(app))
    last = app.send_task("odd.speak", ("that was all",))
    last.get(timeout=15)
    worker.wait_output("that was all")
    wait_for(lambda: len(app.broker.administration.quarantined()) == 3)
    worker.term()
    worker.wait()

    output = worker.log.read_bytes().decode()
    assert UNSAFE.findall(output) == []
    assert re.findall(r"(?m)^\[2026-01-01", output) == []
    if form == "json":
        records = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        assert any(TEXT in record["message"] for record in records)
    else:
        assert "Traceback (most recent call last):\n  File " in output
        assert "\\x1b]0;title" in output
