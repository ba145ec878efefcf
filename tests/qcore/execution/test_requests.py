"""The request that is read from its message when a task first uses it."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from qcore.execution.requests import UnreadRequest
from qcore.tasks.request import Request
from qcore.wire import task as task_wire
from qcore.wire.outcome import Job


def unread(**options: Any) -> Request:
    raw = options.pop("raw", None) or task_wire.build("t.add", (1, 2), {"c": 3}, task_id="one", **options)
    message = task_wire.read(raw)
    return UnreadRequest(Job(1, raw, queue="q"), message, task_wire.read_body(message), "w@h", False)


@pytest.mark.parametrize(
    "use",
    [
        lambda request: request.id,
        vars,
        copy.copy,
        dir,
        lambda request: request.get("mine"),
        lambda request: setattr(request, "note", 1),
        lambda request: request.update(note=1),
        lambda request: request.links(),
    ],
)
def test_any_use_makes_it_a_request_with_everything_in_it(use: Callable[[Any], object]) -> None:
    request = unread(headers={"mine": "x"}, routing_key="q", priority=3, group_id="g")
    assert isinstance(request, Request)

    use(request)

    assert type(request) is Request
    assert (request.id, request.args, request.kwargs, request.group) == ("one", [1, 2], {"c": 3}, "g")
    assert (request.hostname, request.mine, request.headers) == ("w@h", "x", {"mine": "x"})  # type: ignore[attr-defined]
    assert request.delivery_info == {"exchange": "", "routing_key": "q", "priority": 3, "redelivered": False}
    assert (request.children, request.unthrown, request.callbacks) == ([], [], None)
    assert "_source" not in vars(request)


def test_what_a_task_sets_first_stays() -> None:
    request = unread()

    request.retries = 7
    del request.kwargs

    assert (request.retries, request.kwargs, request.id) == (7, None, "one")


def test_two_threads_that_use_it_first_get_the_same() -> None:
    def use(request: Request, start: threading.Barrier, found: list[Any]) -> None:
        start.wait()
        found.append(request.children)

    for _ in range(200):
        found: list[Any] = []
        both = unread(), threading.Barrier(2), found
        threads = [threading.Thread(target=use, args=both) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 2 and found[0] is found[1]


def test_headers_with_a_number_beyond_python_s_are_left_out_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    raw = task_wire.build("t.add", (1, 2), {}, task_id="one", headers={"big": 1})
    request = unread(raw=raw.replace(b'"big":1', b'"big":1e999'))

    with caplog.at_level(logging.WARNING, "qcore.worker"):
        assert request.id == "one" and request.headers is None

    assert "lacks its headers" in caplog.text
