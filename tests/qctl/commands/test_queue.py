"""`qctl queue`, `qctl quarantine` and `qctl dead` on a broker without workers, and one with."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qcore.brokers.base import Broker
from qcore.brokers.contract.records import Message, Settle, Settlement
from qcore.brokers.registry import open_broker
from qctl import exit_codes
from tests.contracts.consuming import message, put, take, text_of
from tests.qctl.cli.test_command_line import here


def items(*words: str, url: str) -> list[dict[str, Any]]:
    done = here(*words, "-o", "json", "-b", url)
    assert done.returncode == exit_codes.OK, done.stderr
    document = json.loads(done.stdout)
    assert document["version"] == 1 and document["schema"].startswith("qctl.")
    found: list[dict[str, Any]] = document["items"]
    return found


def set_aside(broker: Broker, reason: str, *raws: bytes) -> None:
    broker.publish([Message(raw, queue="mails") for raw in raws])
    consumer = broker.consumer(["mails"])
    held = take(consumer, len(raws))
    consumer.settle([Settlement(d, Settle.QUARANTINE, reason=reason) for d in held])
    consumer.close()


@pytest.fixture
def broker(sqlite_url: str) -> Broker:
    return open_broker(sqlite_url)


def test_a_queue_is_paused_and_resumed(broker: Broker, sqlite_url: str) -> None:
    put(broker, "mails", "a")

    (paused,) = items("queue", "pause", "mails", url=sqlite_url)
    listed = items("queue", "ls", url=sqlite_url)
    assert broker.administration.paused() == ["mails"]
    (resumed,) = items("queue", "resume", "mails", url=sqlite_url)

    counts = {"queue": "mails", "ready": 1, "delayed": 0, "in_flight": 0}
    assert paused.items() >= {**counts, "paused": True, "paused_until_at": None}.items()
    assert [q["paused"] for q in listed] == [True]
    assert resumed.items() >= {**counts, "paused": False, "paused_at": None}.items()
    assert broker.administration.paused() == []


def test_a_queue_that_is_not_there_cannot_be_paused(broker: Broker, sqlite_url: str) -> None:
    put(broker, "mails", "a")

    done = here("queue", "pause", "mail", "-b", sqlite_url)

    assert done.returncode == exit_codes.NOT_FOUND
    assert "'mails'" in done.stderr
    assert broker.administration.paused() == []


def test_messages_are_moved_after_a_question(broker: Broker, sqlite_url: str) -> None:
    put(broker, "mails", *"abcd")

    refused = here("queue", "move", "mails", "later", "-b", sqlite_url)
    same = here("queue", "move", "mails", "mails", "--yes", "-b", sqlite_url)
    dry = items("queue", "move", "mails", "later", "--dry-run", url=sqlite_url)
    some = items("queue", "move", "mails", "later", "--limit", "1", "--yes", url=sqlite_url)
    one = items("queue", "move", "mails", "later", "--id", "c", "--yes", url=sqlite_url)

    assert (refused.returncode, same.returncode) == (exit_codes.REFUSED, exit_codes.USAGE)
    assert "4 messages of mails would be moved to later" in refused.stderr
    assert dry == [{"source": "mails", "target": "later", "moved": 0, "waited": 4}]
    assert (some[0]["moved"], one[0]["moved"]) == (1, 1)
    assert [text_of(raw) for raw in broker.administration.peek("later")] == ["a", "c"]
    assert [text_of(raw) for raw in broker.administration.peek("mails")] == ["b", "d"]


def test_what_was_set_aside_is_replayed_or_removed(broker: Broker, sqlite_url: str) -> None:
    set_aside(broker, "not_json", b"one", b"two", b"three")
    three, two, one = (q.id for q in broker.administration.quarantined())

    refused = here("quarantine", "replay", one, "-b", sqlite_url)
    neither = here("quarantine", "rm", "--yes", "-b", sqlite_url)
    missing = here("quarantine", "rm", "999", "--yes", "-b", sqlite_url)
    replayed = items("quarantine", "replay", one, "--yes", url=sqlite_url)
    removed = items("quarantine", "rm", two, "--yes", url=sqlite_url)
    dry = items("quarantine", "rm", "--all", "--dry-run", url=sqlite_url)

    assert (refused.returncode, neither.returncode) == (exit_codes.REFUSED, exit_codes.USAGE)
    assert missing.returncode == exit_codes.NOT_FOUND
    assert replayed == [{"id": one, "queue": "mails", "reason": "not_json", "replayed": True}]
    assert removed == [{"id": two, "queue": "mails", "reason": "not_json", "deleted": True}]
    assert dry == [{"id": three, "queue": "mails", "reason": "not_json", "deleted": False}]
    assert broker.administration.peek("mails") == [b"one"]
    assert [q.raw for q in broker.administration.quarantined()] == [b"three"]


def test_the_dead_are_those_that_crashed_too_often(broker: Broker, sqlite_url: str) -> None:
    set_aside(broker, "not_json", b"junk")
    set_aside(broker, "crashed_too_often", message("a"), message("b"))
    junk = next(q.id for q in broker.administration.quarantined() if q.raw == b"junk")

    listed = items("dead", "ls", url=sqlite_url)
    other = here("dead", "show", junk, "-b", sqlite_url)
    shown = json.loads(here("dead", "show", listed[0]["id"], "-o", "json", "-b", sqlite_url).stdout)
    replayed = items("dead", "replay", "--all", "--yes", url=sqlite_url)

    assert {item["reason"] for item in listed} == {"crashed_too_often"} and len(listed) == 2
    assert {(item["task"], item["task_id"]) for item in listed} == {(None, "a"), (None, "b")}
    assert other.returncode == exit_codes.NOT_FOUND
    assert (shown["schema"], shown["queue"]) == ("qctl.dead.message", "mails")
    assert [item["replayed"] for item in replayed] == [True, True]
    assert [text_of(raw) for raw in broker.administration.peek("mails")] == ["a", "b"]
    assert [q.raw for q in broker.administration.quarantined()] == [b"junk"]


def test_a_broker_that_keeps_no_pauses_says_so(rabbit_url: str) -> None:
    done = here("queue", "pause", "mails", "-b", rabbit_url)

    assert done.returncode == exit_codes.FAILED
    assert "cannot pause a queue" in done.stderr and "cancel_consumer" in done.stderr
