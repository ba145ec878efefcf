"""What no process would read is refused where it is made."""

from __future__ import annotations

import pytest

from qcore.app.app import App
from qcore.brokers.contract.records import StoredResult
from qcore.errors import MessageTooLarge
from qcore.results.registry import results
from qcore.wire import result
from qcore.wire.content import MAX_WIRE_BYTES


def test_a_call_that_no_worker_would_read_is_not_sent() -> None:
    app = App("x", broker="memory://too-large", set_as_current=False)

    with pytest.raises(MessageTooLarge, match=r"the message of t\[i\] has \d+ bytes, and at most 16777216"):
        app.send_task("t", ("x" * MAX_WIRE_BYTES,), task_id="i")

    assert app.broker.administration.depth("celery").ready == 0


def test_a_result_that_no_caller_would_read_is_an_error() -> None:
    with pytest.raises(MessageTooLarge, match=r"the result of i has \d+ bytes"):
        result.encode("i", "SUCCESS", "x" * MAX_WIRE_BYTES, now=1e9)


def test_of_an_exception_that_is_too_large_the_caller_gets_the_reason() -> None:
    data = result.exception_data(ValueError("x" * MAX_WIRE_BYTES))

    meta = result.decode(result.encode("i", "FAILURE", data, now=1e9), "i")

    assert meta.status == "FAILURE"
    assert isinstance(result.exception_from(meta.result), MessageTooLarge)


def test_a_result_that_is_too_large_as_a_message_reaches_its_caller_as_a_failure() -> None:
    app = App("x", broker="memory://")
    caller = results.get("rpc")("rpc://", {"broker": app.broker})
    meta = result.encode("i", "SUCCESS", "x" * (MAX_WIRE_BYTES - 1000), now=1e9)

    message = caller.reply(StoredResult("i", meta), caller.reply_to() or "", "i")
    assert message is not None
    app.broker.publish([message])

    found = caller.wait("i", 20)
    assert found and found.status == "FAILURE"
    assert isinstance(result.exception_from(found.result), MessageTooLarge)
    caller.close()
