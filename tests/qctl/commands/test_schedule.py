"""`qctl schedule`: each verb, in formats for people and programs, and what it says to bad input."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from qcore import App
from qcore.schedules import crontab
from qcore.wire import schedule as wire
from qctl import exit_codes
from tests.qctl.output.test_formats import run as qctl


@pytest.fixture
def app(sqlite_url: str) -> App:
    return App("shop", broker=sqlite_url, set_as_current=False)


def run(*words: str, url: str, code: int = exit_codes.OK) -> str:
    found, out, err = qctl("schedule", *words, "-b", url)
    assert found == code, err
    return (out if code == exit_codes.OK else err).strip()


def items(*words: str, url: str) -> list[dict[str, Any]]:
    document = json.loads(run(*words, "-o", "json", url=url))
    assert document["version"] == 1 and document["schema"].startswith("qctl.schedule")
    found: list[dict[str, Any]] = document.get("items", [document])
    return found


def declare(app: App, **entries: dict[str, Any]) -> None:
    """What a scheduler of the project does at its start."""
    from qcore.app.schedule_entries import declared

    app.conf.beat_schedule = entries
    raws = {name: wire.encode(one.entry) for name, one in declared(app).items()}
    app.schedules.store.declare(app.main or "", raws)


def test_an_entry_is_added_listed_changed_and_deleted(sqlite_url: str) -> None:
    (added,) = items("add", "poll", "proj.poll", "every", "30s", "-a", "[1]", "-Q", "slow", url=sqlite_url)
    assert added["schedule"] == "every 30 seconds" and added["status"] == "on"
    assert (added["args"], added["queue"], added["source"]) == ([1], "slow", None)

    (edited,) = items("edit", "poll", "--schedule", "*/5 * * * mon-fri", "--overlap", "skip", url=sqlite_url)
    assert edited["schedule"] == "every 5 minutes on weekdays (UTC)"
    assert edited["overlap_policy"] == "skip" and edited["queue"] == "slow"
    night = ("edit", "poll", "--schedule", "30 2 * * *", "--timezone", "Europe/Berlin", "--dst", "each")
    (edited,) = items(*night, url=sqlite_url)
    assert edited["dst_policy"] == "each"
    assert "daylight saving: each" in run("show", "poll", "-o", "table", url=sqlite_url)
    (edited,) = items("edit", "poll", "--priority", "3", url=sqlite_url)
    assert edited["options"] == {"queue": "slow", "priority": 3}

    assert run("rm", "poll", url=sqlite_url, code=exit_codes.REFUSED).endswith("give --yes to do it")
    assert [one["name"] for one in items("rm", "poll", "--yes", url=sqlite_url)] == ["poll"]
    assert items("ls", url=sqlite_url) == []


def test_an_edit_of_a_declared_entry_is_an_override_that_can_be_dropped(app: App, sqlite_url: str) -> None:
    declare(app, nightly={"task": "shop.report", "schedule": crontab(hour="4", minute="0")})

    (edited,) = items("edit", "nightly", "--schedule", "30 5 * * *", url=sqlite_url)
    assert (edited["edited"], edited["source"]) == (["spec"], "shop")
    assert "nightly *" in run("ls", "-o", "table", url=sqlite_url)
    declare(app, nightly={"task": "shop.report", "schedule": crontab(hour="4", minute="1"), "args": [2]})
    (kept,) = items("ls", url=sqlite_url)
    assert (kept["spec"]["minute"], kept["args"]) == ("30", [2])

    refused = run("rm", "nightly", "--yes", url=sqlite_url, code=exit_codes.BAD_CONFIG)
    assert "declared by the code of shop" in refused
    (reset,) = items("reset", "nightly", url=sqlite_url)
    assert (reset["edited"], reset["spec"]["minute"]) == ([], "1")
    declare(app)
    assert items("ls", url=sqlite_url) == []


def test_pause_and_resume(app: App, sqlite_url: str) -> None:
    declare(
        app, often={"task": "shop.poll", "schedule": 10.0}, off={"task": "t", "schedule": 9, "enabled": False}
    )

    (paused,) = items("pause", "often", url=sqlite_url)
    assert (paused["status"], paused["next_at"], paused["edited"]) == ("paused", None, ["enabled"])
    (resumed,) = items("resume", "often", url=sqlite_url)
    assert (resumed["status"], resumed["edited"]) == ("on", [])
    (enabled,) = items("resume", "off", url=sqlite_url)
    assert (enabled["status"], enabled["edited"]) == ("on", ["enabled"])


def test_a_run_by_hand_is_sent_and_in_the_history(app: App, sqlite_url: str) -> None:
    items("add", "poll", "proj.poll", "@daily", "-k", '{"x": 1}', url=sqlite_url)

    task_id = run("run", "poll", url=sqlite_url)

    (one,) = items("history", "poll", url=sqlite_url)
    assert (one["outcome"], one["task_id"], one["late_s"]) == ("by hand", task_id, None)
    (listed,) = items("ls", url=sqlite_url)
    assert (listed["runs"], listed["last_task_id"]) == (1, task_id)
    assert app.broker.administration.depth("celery").ready == 1
    shown = json.loads(run("show", "poll", "-o", "json", url=sqlite_url))
    assert (shown["name"], shown["last_state"]) == ("poll", "PENDING")


def test_an_entry_is_shown_to_people(app: App, sqlite_url: str) -> None:
    entry = {
        "task": "shop.report",
        "schedule": crontab(hour="4", minute="0"),
        "args": (1,),
        "kwargs": {"to": "a"},
    }
    declare(app, nightly={**entry, "options": {"queue": "slow"}, "deadline": 600, "note": "for the board"})
    run("edit", "nightly", "--jitter", "5s", url=sqlite_url)
    run("run", "nightly", url=sqlite_url)

    shown = dict(line.split(None, 1) for line in run("show", "nightly", url=sqlite_url).splitlines())

    assert shown["task"] == "shop.report(1, to='a')" and shown["schedule"] == "at 04:00 every day (UTC)"
    assert shown["status"].startswith("on, next in ") and "1 runs, 0 missed" in shown["counts"]
    assert shown["policies"] == "missed instants: once, overlap: run, jitter: 5.0s, deadline: 10m00s"
    assert shown["options"] == "queue='slow'" and shown["source"] == "the code of shop"
    assert shown["overridden"].startswith("jitter_s, by ") and shown["note"] == "for the board"


def test_the_next_instants_are_listed(sqlite_url: str) -> None:
    items("add", "dst", "t", "30 2 * * *", "--timezone", "Europe/Berlin", url=sqlite_url)
    items("add", "soon", "t", "every", "10s", "--start", "2090-01-01T00:00:00Z", url=sqlite_url)

    assert len(items("next", "dst", "-c", "3", url=sqlite_url)) == 3
    assert [one["at"] for one in items("next", "soon", "-c", "2", url=sqlite_url)] == [
        "2090-01-01T00:00:00.000Z",
        "2090-01-01T00:00:10.000Z",
    ]


def test_an_expression_is_explained(sqlite_url: str) -> None:
    (said,) = items("explain", "0 4 1 * *", "--timezone", "Europe/Berlin", "-c", "2", url=sqlite_url)

    assert said["words"] == "at 04:00 on the first of each month (Europe/Berlin)"
    assert len(said["next"]) == 2


@pytest.mark.parametrize("output", ["table", "json", "ndjson", "csv", "yaml", "name", "wide"])
def test_every_verb_has_every_format(output: str, app: App, sqlite_url: str) -> None:
    declare(app, nightly={"task": "shop.report", "schedule": crontab(hour="4", minute="0")})

    for words in (
        *(("add", "poll", "proj.poll", "every", "30s"), ("edit", "nightly", "--jitter", "5s"), ("ls",)),
        *(("run", "poll"), ("history", "poll"), ("next", "poll"), ("show", "poll"), ("pause", "poll")),
        *(("resume", "poll"), ("reset", "nightly"), ("explain", "@daily"), ("rm", "poll", "--yes")),
    ):
        assert run(*words, "-o", output, url=sqlite_url), words


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("show", "nightl"), exit_codes.NOT_FOUND, "did you mean"),
        (("add", "nightly", "t", "@daily"), exit_codes.BAD_CONFIG, "already"),
        (("add", "x", "t", "*/5 * * * mun-fri"), exit_codes.USAGE, "mun"),
        (("add", "x", "t", "61 * * * *"), exit_codes.USAGE, "61"),
        (("add", "x", "t", "@daily", "--timezone", "Europe/Berln"), exit_codes.BAD_CONFIG, "Europe/Berln"),
        (("add", "x", "t", "@daily", "--missed", "nver"), exit_codes.USAGE, "nver"),
        (("edit", "nightly"), exit_codes.USAGE, "nothing to change"),
        (("reset", "nightly"), exit_codes.BAD_CONFIG, "not declared"),
        (("explain", "every", "0s"), exit_codes.USAGE, "0 s"),
    ],
)
def test_bad_input_is_one_sentence(words: tuple[str, ...], code: int, said: str, sqlite_url: str) -> None:
    items("add", "nightly", "t", "@daily", url=sqlite_url)

    text = run(*words, url=sqlite_url, code=code)

    assert said in text and "Traceback" not in text


def test_an_error_names_the_position_in_the_expression(sqlite_url: str) -> None:
    said = run("explain", "*/5 * * * mon-fry", url=sqlite_url, code=exit_codes.USAGE)

    assert said.startswith("qctl: character 15 of '*/5 * * * mon-fry': ") and "did you mean" in said


def test_a_broker_without_entries_says_what_to_set() -> None:
    text = run("ls", url="amqp://127.0.0.1:1//", code=exit_codes.BAD_CONFIG)

    assert "schedule_store" in text


def test_an_entry_of_a_newer_version_is_refused_by_name(app: App, sqlite_url: str) -> None:
    app.schedules.store.edit("odd", msgspec.json.encode({"name": "odd", "task": 1, "spec": {}}))

    run("add", "even", "t", "@daily", url=sqlite_url)
    code, out, err = qctl("schedule", "ls", "-b", sqlite_url)

    assert code == exit_codes.PARTIAL
    assert "even" in out and "'odd'" in err and "qctl schedule rm odd" in err
    run("rm", "odd", "--yes", url=sqlite_url)
    assert [one["name"] for one in items("ls", url=sqlite_url)] == ["even"]
