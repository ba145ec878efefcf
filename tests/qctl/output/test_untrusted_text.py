"""What strangers wrote into names, arguments and errors: a terminal acts on none, programs get it all."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from qcore.brokers.contract.records import Message
from qcore.brokers.registry import open_broker
from qcore.control.client import Answers, Control
from qcore.events.recording import Recorder
from qcore.wire import task as task_wire
from qcore.wire.failure import FailedTask
from qctl import exit_codes
from tests.qctl.output.test_formats import run

#: colours and clearing, links, the clipboard, C1 controls, bell, return, other directions, nothing, markup
EVIL = (
    "a\x1b[2J\x1b[31m\x1b]8;;http://x\x1b\\l\x1b]8;;\x07\x1b]52;c;aGk=\x07"
    "\x9b31m\x9d0;t\x9c\x07\r\n\u202e\u2066\u200f\u200b\ufeff\x7f[red]b[/red]"
)
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
FOR_PEOPLE = ("table", "wide", "name", "csv", "tsv")
READERS: dict[str, Callable[[str], Any]] = {
    "json": json.loads,
    "ndjson": lambda text: [json.loads(line) for line in text.splitlines()],
    "yaml": lambda text: list(yaml.safe_load_all(text)),
}


class Place:
    """A broker with one evil task that waits and one that failed, and a recording of evil events."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder}/b.db"
        broker = open_broker(self.url)
        # A message whose task has such a name is refused by whoever reads it, and shown as what it is.
        raw = task_wire.build("proj.x", (EVIL,), {"k": EVIL}, task_id="evil-1", routing_key="mails")
        odd = task_wire.build(EVIL, (), {}, task_id="evil-5", routing_key="mails")
        broker.publish([Message(raw, queue="mails"), Message(odd, queue="mails")])
        failure = FailedTask(
            "evil-2", EVIL, "mails", EVIL, "E", EVIL, EVIL, EVIL, failed_at=time.time(), raw=raw
        )
        broker.failed_tasks.store([failure])
        broker.close()
        self.recording = str(folder / "events.jsonl")
        recorder = Recorder(self.recording)
        event = {"hostname": EVIL, "timestamp": time.time(), "uuid": "evil-3", "pid": 1, "clock": 1}
        more = {"name": EVIL, "args": EVIL, "kwargs": EVIL}
        failed = {"exception": EVIL, "traceback": EVIL}
        recorder.write(
            [
                {**event, "type": "task-received", "seq": 1, **more},  # type: ignore[list-item]
                {**event, "type": "task-failed", "seq": 2, **failed},  # type: ignore[list-item]
            ],
            time.time(),
        )
        recorder.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    yield Place(tmp_path_factory.mktemp("untrusted"))


@pytest.fixture
def evil_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of an evil name that runs an evil task."""
    task = {"id": "evil-4", "name": EVIL, "args": EVIL, "kwargs": EVIL, "time_start": time.time()}
    answers = Answers({EVIL: [task]}, [], [], [EVIL], None, 0.0)
    monkeypatch.setattr(Control, "ask", lambda *_, **__: answers)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from strings(key)
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


COMMANDS = [
    "task ls",
    "task show evil-1",
    "failed ls",
    "failed show evil-2",
    "queue peek mails",
    "inspect active",
    "events --dump --replay RECORDING --speed 0",
]


@pytest.mark.usefixtures("evil_fleet")
@pytest.mark.parametrize("words", COMMANDS)
def test_a_terminal_acts_on_nothing_and_a_program_gets_every_character(words: str, place: Place) -> None:
    command = [*words.replace("RECORDING", place.recording).split(), "-b", place.url, "-t", "0.2"]

    shown = {form: run(*command, "-o", form) for form in FOR_PEOPLE}
    read = {form: run(*command, "-o", form) for form in READERS}

    for form, (code, out, err) in {**shown, **read}.items():
        assert code == exit_codes.OK, (form, code, err)
        assert out, form
        assert not UNSAFE.findall(out + err), form
    assert "[red]" in "".join(out for _, out, _ in shown.values())
    for form, (_, out, _) in read.items():
        lines = form == "json" and command[0] == "events"
        found = set(strings(READERS["ndjson" if lines else form](out)))
        assert found & {EVIL, repr((EVIL,))}, form  # messages carry the repr of their arguments
