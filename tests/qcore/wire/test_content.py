"""Bodies as JSON, and back."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import kombu.serialization
import pytest

from qcore.errors import Malformed
from qcore.wire import content, envelope
from qcore.wire import task as task_wire


def read(chain: list[Any]) -> task_wire.Body:
    raw = task_wire.build("x", (), {}, task_id="i", embed={"chain": chain})
    return task_wire.read_body(task_wire.read(raw))


@pytest.mark.parametrize(
    "value", [1, "é", 1.5, float("nan"), float("-inf"), 2**70, datetime(2026, 1, 2), [{"a": {"b": None}}]]
)
def test_the_rest_of_a_chain_is_written_as_it_was_read(value: Any) -> None:
    chain = [{"task": "t", "args": [value]}, {"task": "t", "args": []}, {"task": "next", "args": [value]}]
    found = read(chain).embed["chain"]

    assert repr(list(found)) == repr(chain)
    assert [repr(found[place]) for place in (0, 1, -1)] == [repr(chain[place]) for place in (0, 1, -1)]
    assert content.to_json(found[:-1]) == content.to_json(chain[:-1])
    day = datetime(2026, 1, 2)
    assert content.to_json([day, found[:-1]]) == content.to_json([day, chain[:-1]])


@pytest.mark.parametrize("serializer", ["json", "yaml", "msgpack", "pickle", "own"])
def test_a_chain_that_was_read_is_written_by_any_serializer(
    serializer: str, request: pytest.FixtureRequest
) -> None:
    """Also by one for JSON that the project has registered."""
    chain = [{"task": "t", "args": [1]}, {"task": "next", "args": [2]}, {"task": "last", "args": [3]}]
    found = read(chain)
    if serializer == "own":
        kombu.serialization.register("own", json.dumps, json.loads, "application/x-own", "utf-8")
        request.addfinalizer(lambda: kombu.serialization.unregister("own"))

    raw = task_wire.build("x", (), {}, task_id="i", embed=found.embed, serializer=serializer)

    sent = envelope.decode(raw)
    body = kombu.serialization.loads(
        envelope.body_bytes(sent), sent.content_type, sent.content_encoding, accept={sent.content_type}
    )
    assert body[2]["chain"] == chain
    assert all(type(one) is dict for one in body[2]["chain"])


def test_what_is_told_before_publishing_has_a_chain_of_values() -> None:
    chain = [{"task": "t", "args": [1]}, {"task": "next", "args": [2]}]
    found = read(chain)
    told = list[Any]()

    def tell(head: dict[str, Any], body: Any, properties: dict[str, Any]) -> None:
        told.append(body[2]["chain"])

    task_wire.build("x", (), {}, task_id="i", embed=found.embed, before=tell)

    assert type(told[0]) is list
    assert told == [chain]


@pytest.mark.parametrize(
    "step",
    [
        b'{"task": 5}',
        b"5",
        b'{"task": "t", "args": ["\xff"]}',
        b'{"task": "t"',
        b"[" * 90_000 + b"]" * 90_000,
    ],
)
@pytest.mark.parametrize("is_next", [True, False])
def test_a_step_that_is_no_signature_is_malformed(step: bytes, is_next: bool) -> None:
    """A later step that is sound JSON is found when it is the next one."""
    good = b'{"task": "t", "args": []}'
    steps = [good, step] if is_next else [step, good]
    body = b'[[], {}, {"chain": [' + b", ".join(steps) + b"]}]"
    raw = envelope.wrap(body, exchange="", routing_key="q", headers={"id": "i", "task": "x"})
    message = task_wire.read(raw)

    if not is_next and step in (b"5", b'{"task": 5}'):
        assert len(task_wire.read_body(message).embed["chain"]) == 2
        return
    with pytest.raises(Malformed):
        task_wire.read_body(message)
