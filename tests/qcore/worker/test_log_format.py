"""`qctl worker --log-format`: JSON with the fields of records, a formatter of the project, refused values."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import use_span

from qcore import App
from qcore.errors import ConfigError
from qcore.worker.process import log_setup
from tests.support.processes import Processes


class Shout(logging.Formatter):
    """A formatter as projects write it."""

    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage().upper()


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """What was logged to stderr; the loggers are as before afterwards."""
    root, tasks = logging.getLogger(), logging.getLogger(log_setup.TASK_LOGGER)
    before = root.handlers[:], root.level, tasks.handlers[:], tasks.propagate
    yield lambda: capsys.readouterr().err
    root.handlers[:], tasks.handlers[:] = before[0], before[2]
    root.setLevel(before[1])
    tasks.propagate = before[3]


def conf(**settings: Any) -> Any:
    return App("logs", broker="memory://", set_as_current=False, **settings).conf


def test_json_has_the_fields_of_a_record_and_the_ids_of_the_span(shown: Callable[[], str]) -> None:
    log_setup.set_up(conf(), "INFO", None, "json")
    span = TracerProvider().get_tracer("test").start_span("one")
    log = logging.getLogger("shop")

    with use_span(span):
        log.info("paid %s", 7, extra={"order": 7, "prices": [1.5], "odd": {1, 2}})
    log.info("done")

    inside, outside = map(json.loads, shown().splitlines())
    assert {k: inside[k] for k in ("message", "level", "logger", "order", "prices", "odd")} == {
        "message": "paid 7",
        "level": "INFO",
        "logger": "shop",
        "order": 7,
        "prices": [1.5],
        "odd": "{1, 2}",
    }
    context = span.get_span_context()
    ids = {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
    assert ids.items() <= inside.items()
    assert set(outside) == {"time", "level", "logger", "pid", "message"}


@pytest.mark.parametrize(
    ("setting", "option", "line"),
    [
        ("json", "text", "INFO/MainProcess] paid"),
        ("%(message)s!", "text", "paid!"),
        ("json", f"{__name__}:Shout", "PAID"),
        (f"{__name__}:Shout", None, "PAID"),
    ],
)
def test_the_option_precedes_the_setting(
    setting: str, option: str | None, line: str, shown: Callable[[], str]
) -> None:
    log_setup.set_up(conf(worker_log_format=setting), "INFO", None, option)

    logging.getLogger("shop").info("paid")

    assert shown().strip().endswith(line)


@pytest.mark.parametrize(
    "option", ["xml", "nowhere.at_all:Class", "json:NoSuch", "logging:Handler", "io:BytesIO"]
)
def test_a_format_that_cannot_be_used_is_refused(option: str) -> None:
    with pytest.raises(ConfigError) as raised:
        log_setup.check_format(option)
        log_setup.set_up(conf(), "INFO", None, option)

    assert option in str(raised.value)


def test_lines_about_a_task_carry_its_name_and_id(sqlite_url: str, processes: Processes) -> None:
    app = App("lines", broker=sqlite_url, set_as_current=False)
    worker = processes.start_qcore_worker(sqlite_url, "-P", "solo", "--log-format", "json")
    call = app.send_task("proj.add", (1, 1))
    call.get(timeout=60)
    worker.wait_output("succeeded in")
    app.close()

    entries = [json.loads(line) for line in worker.output().splitlines() if line.startswith("{")]
    (ended,) = (e for e in entries if "succeeded in" in e["message"])
    assert (ended["task_name"], ended["task_id"], ended["queue"]) == ("proj.add", call.id, "celery")
    assert ended["runtime_s"] >= 0
