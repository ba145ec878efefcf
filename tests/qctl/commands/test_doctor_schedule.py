"""`qctl doctor` on the schedule: seeded faults are found by name, and what it says fixes them."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from typing import Any

import pytest

from qcore import App
from qcore.brokers.contract.diagnosis import Symptom
from qcore.brokers.contract.records import Member
from qcore.brokers.contract.schedules import Firing
from qcore.wire.schedule import HistoryRecord
from qctl import exit_codes
from qctl.commands.doctor.schedule_checks import CHECKS, MOST
from qctl.fleet.facts import EntryFact, Facts, gather
from tests.qctl.cli.test_command_line import here
from tests.support.processes import Processes


def facts(entries: list[EntryFact], schedulers: list[Member] | None = None, **registered: list[str]) -> Facts:
    """A fleet with these entries; registered: the tasks of each worker, which consumes `celery`."""
    replies: dict[str, dict[str, Any]] = {
        "stats": {node: {} for node in registered},
        "registered": dict(registered),
        "active_queues": {node: [{"name": "celery"}] for node in registered},
    }
    running = [Member("beat@a", 1.0, True, {"clock": 0.1})] if schedulers is None else schedulers
    return Facts(
        1.0, {}, [], replies, {}, {}, [], Counter(), [], True, 0.0, entries=entries, schedulers=running
    )


def found(known: Facts) -> dict[str, Symptom]:
    return {symptom.name: symptom for check in CHECKS for symptom in check(known)}


def test_what_is_well_is_no_finding() -> None:
    well = EntryFact("poll", "shop.poll", "on", queue="celery")

    assert found(facts([well], w1=["shop.poll"])) == {}
    assert found(facts([], schedulers=[])) == {}
    assert found(facts([EntryFact("off", "gone", "paused", queue="nobodys")], schedulers=[], w1=["a"])) == {}
    assert found(facts([EntryFact("poll", "shop.poll", "on")], w1=[])) == {}, "it does not tell its tasks"


@pytest.mark.parametrize(
    ("name", "entry", "fix"),
    [
        ("schedule-task", EntryFact("e", "shop.pol", "on"), "qctl schedule edit e --task shop.poll"),
        ("schedule-task", EntryFact("e e", "x", "code"), "qctl schedule pause 'e e'"),
        ("schedule-queue", EntryFact("e", "shop.poll", "on", queue="far"), "qctl control add_consumer far"),
        ("schedule-never-due", EntryFact("e", "shop.poll", "ended"), "qctl schedule rm e"),
        ("schedule-never-due", EntryFact("e", "shop.poll", "ended", source="shop"), "qctl schedule pause e"),
        ("schedule-missed", EntryFact("e", "shop.poll", "on", just_missed=3), "qctl schedule run e"),
    ],
)
def test_each_fault_comes_with_its_command(name: str, entry: EntryFact, fix: str) -> None:
    symptoms = found(facts([entry], w1=["shop.poll"]))

    assert {one: symptom.fix for one, symptom in symptoms.items()} == {name: fix}


def test_entries_without_a_scheduler_are_an_error() -> None:
    gone = Member("beat@a", 1.0, False, {})

    symptom = found(facts([EntryFact("e", "t", "on")], [gone]))["no-scheduler"]

    assert (symptom.level, symptom.fix) == ("error", "qctl -A APP beat")


def test_a_scheduler_with_a_wrong_clock_is_named() -> None:
    members = [
        Member("beat@a", 1.0, True, {"clock": -90.0, "host": "a"}),
        Member("beat@b", 1.0, True, {"clock": "x"}),
    ]

    symptom = found(facts([], members))["scheduler-clock"]

    assert symptom.about == "beat@a" and "90 s behind" in symptom.what


def test_ten_thousand_faults_are_few_lines() -> None:
    entries = [EntryFact(f"e{n}", "nowhere", "on") for n in range(10_000)]

    lines = [symptom for check in CHECKS for symptom in check(facts(entries, w1=["shop.poll"]))]

    assert len(lines) == MOST + 1 and lines[-1].what.startswith(f"{10_000 - MOST} more schedule entries")


def test_facts_tell_what_was_missed_and_where_tasks_go(memory_url: str) -> None:
    app = App("shop", broker=memory_url, set_as_current=False)
    app.conf.task_routes = {"shop.far": "far"}
    add = app.schedules.add
    add("gone", "shop.poll", "30s", ends_at=1.0)
    add("there", "shop.poll", "30s", options={"queue": "there"})
    add("unknown", "shop.far", "30s")
    store = app.schedules.store
    store.declare(
        "shop", {"routed": b'{"name":"routed","task":"shop.far","spec":{"kind":"interval","every_s":9}}'}
    )
    missed = HistoryRecord(1, "missed", 1, count=4)
    store.fire([Firing("routed", 0, 5, records=(HistoryRecord(1, "sent", 1), missed), missed=4)])
    store.declare("torn", {"torn": b"[1"})

    known = {entry.name: entry for entry in gather(app).entries}

    assert {name: entry.queue for name, entry in known.items()} == {
        "gone": None,
        "there": "there",
        "unknown": None,
        "routed": "far",
        "torn": None,
    }
    assert known["routed"].just_missed == 4 and known["gone"].status == "ended"
    assert known["torn"].status == "broken" and known["torn"].problem


def test_a_seeded_schedule_is_found_and_mended(redis_url: str, processes: Processes) -> None:
    def symptoms() -> dict[str, Any]:
        done = here("doctor", "-b", redis_url, "-o", "json")
        return {item["name"]: item for item in json.loads(done.stdout)["items"]}

    app = App("client", broker=redis_url, set_as_current=False)
    app.schedules.add("typo", "periodic.wrte", "1h")
    app.schedules.add("far", "periodic.write", "1h", options={"queue": "far"})
    app.schedules.add("over", "periodic.write", "1h", ends_at=1.0)
    processes.start_qcore_worker(redis_url, "-P", "threads", app="tests.projects.scheduled", name="w1@test")
    assert "no-scheduler" in symptoms()
    beat = processes.qctl("-A", "tests.projects.scheduled", "-b", redis_url, "beat")
    beat.wait_output("Ready")

    (scheduler,) = app.schedules.store.schedulers()
    assert abs(scheduler.info["clock"]) < 2.0, "both are on this host"

    seen = symptoms()

    assert {"schedule-task", "schedule-queue", "schedule-never-due"} <= seen.keys()
    assert not {"no-scheduler", "scheduler-clock"} & seen.keys()
    for name in ("schedule-task", "schedule-queue", "schedule-never-due"):
        words = shlex.split(seen[name]["fix"])[1:]
        done = here(*words, "-b", redis_url, *(["--yes"] if "rm" in words else []))
        assert done.returncode == exit_codes.OK, done.stderr
    assert not {"schedule-task", "schedule-queue", "schedule-never-due"} & symptoms().keys()
    app.close()
