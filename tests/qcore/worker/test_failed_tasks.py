"""Failed tasks as the worker keeps them, and the messages with which they are tried again."""

from __future__ import annotations

from qcore.wire import envelope
from qcore.wire.failure import RETRY_OF, short, short_end, tried_again


def test_a_message_that_is_tried_again_keeps_its_body_and_its_other_headers() -> None:
    head = {"id": "old", "retries": 4, "expires": "2020-01-01T00:00:00+00:00", "redelivered": True}
    same = {"task": "t", "group": "g", "group_index": 2, "root_id": "r", "mine": [1], "eta": None}
    raw = envelope.wrap(
        b'[[1, 2.50], {}, {"chain": null}]',
        exchange="",
        routing_key="q",
        headers={**head, **same},
        correlation_id="old",
        reply_to="me",
        priority=3,
    )

    before, after = envelope.decode(raw), envelope.decode(tried_again(raw, "new"))

    assert envelope.body_bytes(after) == envelope.body_bytes(before)
    assert after.headers == {"id": "new", "retries": 0, "expires": None, RETRY_OF: "old", **same}
    assert after.properties.correlation_id == "new"
    assert after.properties.delivery_tag != before.properties.delivery_tag
    assert (after.properties.reply_to, after.properties.priority) == ("me", 3)


def test_long_and_strange_texts_are_cut() -> None:
    assert short("x" * 2000) == "x" * 1021 + "..." and short("\ud800é" * 400).encode()
    assert len(short("é" * 2000).encode()) <= 1024
    assert short_end("a\n" * 20000).startswith("...") and len(short_end("é\n" * 20000).encode()) <= 16_384
