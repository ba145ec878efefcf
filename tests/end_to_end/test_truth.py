"""Every number that lists and the dashboard show of a mixed fleet is the number that was counted elsewhere.

Two qcore workers, two of Celery's, five queues. The truth is what the producer sent, what each run wrote into
the shop's log, and what lies in Redis; a cell that differs is named with what it shows and what is true.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis

from qcore import App, chord, signature
from qctl.dashboard.sources.live import LiveSource
from qctl.dashboard.state.snapshot import Snapshot
from tests.qctl.cli.test_command_line import here
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_for

#: node: its queues; those of qcore first
FLEET = {
    "q1@alpha": ("pay", "mails"),
    "q2@beta": ("celery", "sync"),
    "c1@gamma": ("mails", "sync"),
    "c2@delta": ("pay", "reports"),
}
QCORE = ("q1@alpha", "q2@beta")
TIMEOUT, KEY_ERROR = "tests.projects.shop.GatewayTimeout", "KeyError"
#: what is sent: task, queue, how many
SENT = (
    *(
        ("shop.sell", "pay", 40),
        ("shop.sell", "mails", 30),
        ("shop.sell", "sync", 20),
        ("shop.sell", "reports", 8),
    ),
    *(("shop.charge", "pay", 12), ("shop.charge", "mails", 12)),
    *(("shop.deploy", "sync", 10), ("shop.deploy", "reports", 5)),
    *(("shop.flaky", "mails", 6), ("shop.flaky", "sync", 4)),
)
CHORD, UNCONSUMED = 4, 7
#: due tomorrow; those of reports wait at a Celery worker, since it takes what has an ETA
TOMORROW = {"reports": 5, "celery": 3}
HOLDS = ("celery", "reports")


class Truth(NamedTuple):
    """What was counted outside of the tools."""

    url: str
    log: Path
    pids: dict[str, int]
    sent: dict[str, str]  # id: name
    redis: Any

    @property
    def runs(self) -> list[tuple[str, str, str, str]]:
        """(node, task, how it ended, id) of each run."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [tuple(line.split()) for line in lines]  # type: ignore[misc]

    def started_by(self, node: str) -> int:
        """How many runs a worker began: a held task writes a line when it begins and one when it is over."""
        return sum(run[0] == node and not (run[1] == "shop.hold" and run[2] == "done") for run in self.runs)

    def ended(self, word: str) -> list[tuple[str, str, str, str]]:
        return [run for run in self.runs if run[2] == word]

    def unacked(self) -> Counter[str]:
        """Messages that Celery's workers hold, by queue."""
        return Counter(json.loads(raw)[2] for raw in self.redis.hvals("unacked"))

    def ready(self, queue: str) -> int:
        return int(self.redis.llen(queue))


def start(processes: Processes, url: str, log: Path) -> dict[str, Process]:
    found = {}
    for node, queues in FLEET.items():
        words = ("-n", node, "-Q", ",".join(queues), "-c", "2", "-P", "threads", "-E", "-l", "WARNING")
        env = {"SHOP_LOG": str(log)}
        if node in QCORE:
            env["QCTL_RESULT_BACKEND"] = url
            found[node] = processes.qctl("-A", "tests.projects.shop", "-b", url, "worker", *words, env=env)
        else:
            env |= {"SHOP": "celery", "CELERY_BROKER_URL": url, "CELERY_RESULT_BACKEND": url}
            found[node] = processes.celery("-A", "tests.projects.shop", "worker", *words, env=env)
    return found


class Lists:
    """qctl's lists as JSON."""

    def __init__(self, url: str) -> None:
        self._env = {"QCTL_BROKER_URL": url, "QCTL_RESULT_BACKEND": url, "QCTL_TIMEOUT": "5"}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return here(*words, **self._env)

    def items(self, *words: str) -> list[dict[str, Any]]:
        done = self.run(*words, "-o", "json")
        assert done.stdout, (words, done.stderr)
        found: list[dict[str, Any]] = json.loads(done.stdout)["items"]
        return found


class Cells(dict[str, tuple[Any, Any]]):
    """Cells that do not show the truth: what they show, and what is true."""

    def exact(self, cell: str, shown: Any, truth: Any) -> None:
        if shown != truth or type(shown) is not type(truth):
            self[cell] = (shown, truth)

    def near(self, cell: str, shown: float | None, truth: float) -> None:
        """Of a number that is marked ~: within 2 percent."""
        if shown is None or abs(shown - truth) > 0.02 * truth:
            self[cell] = (shown, truth)


@pytest.mark.long
@pytest.mark.timeout(180)
def test_every_list_and_the_dashboard_show_what_was_counted(
    redis_url: str, processes: Processes, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    log, release = tmp_path / "shop.log", tmp_path / "release"
    started = start(processes, redis_url, log)
    client = App("client", broker=redis_url, backend=redis_url, set_as_current=False)
    request.addfinalizer(client.close)
    feed = LiveSource(client)
    request.addfinalizer(feed.stop)
    first = feed.take()
    feed.start()
    wait_for(lambda: feed.listening.is_set() and feed.take().up == len(FLEET), 90, "four workers are up")

    sent: dict[str, str] = {}
    for name, queue, number in SENT:
        for i in range(number):
            sent[client.send_task(name, () if name == "shop.flaky" else (i,), queue=queue).id] = name
    header = [signature("shop.sell", (i,), app=client, queue="celery") for i in range(CHORD)]
    total = chord(header, app=client)(signature("shop.total", app=client, queue="celery"))
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    due = [
        client.send_task("shop.sell", (0,), queue=queue, eta=tomorrow).id
        for queue, number in TOMORROW.items()
        for _ in range(number)
    ]
    unconsumed = [client.send_task("shop.sell", (0,), queue="newsletters").id for _ in range(UNCONSUMED)]
    holds = {client.send_task("shop.hold", (str(release),), queue=queue).id: queue for queue in HOLDS}
    truth = Truth(
        redis_url, log, {n: p.pid for n, p in started.items()}, sent, redis.Redis.from_url(redis_url)
    )

    ends = len(sent) + CHORD + 1
    wait_for(
        lambda: (
            len(truth.ended("done")) + len(truth.ended("failed")) == ends
            and len(truth.ended("began")) == len(holds)
            and truth.unacked() == {"reports": TOMORROW["reports"] + 1}
        ),
        60,
        "all has run that can",
    )
    assert total.get(timeout=30) == sum(range(CHORD))
    seen = ends + len(holds)
    wait_for(lambda: feed.take().counts.get("SUCCESS", 0) + feed.take().counts.get("FAILURE", 0) == ends)
    for _ in range(2):  # the second of these rounds of questions began when all was over
        as_of = feed.take().as_of
        feed.ask_soon()
        wait_for(lambda as_of=as_of: feed.take().as_of > as_of, what="the dashboard has asked everybody")
    at_rest = len(holds) + TOMORROW["reports"]
    wait_for(
        lambda: (
            sum(q.in_flight or 0 for q in feed.take().queues) == at_rest
            and all(q.consumers is not None for q in feed.take().queues)
        ),
        what="the dashboard has looked at the queues since",
    )
    picture, lists, wrong = feed.take(), Lists(redis_url), Cells()

    check_unknown(first, wrong)
    check_workers(lists, picture, truth, wrong)
    check_queues(lists, picture, truth, wrong)
    check_tasks(lists, picture, truth, wrong, due, unconsumed, holds, seen)
    check_failures(lists, picture, truth, wrong)
    check_metrics_and_doctor(lists, truth, wrong, processes)
    assert not wrong, "\n".join(f"{cell}: shows {a!r}, true is {b!r}" for cell, (a, b) in wrong.items())

    check_pause(lists, truth, client)
    release.touch()
    check_twin(lists, processes, redis_url, log)


def check_unknown(first: Snapshot, wrong: Cells) -> None:
    """Before anybody was asked nothing is known: no number is 0."""
    for name in ("events_per_s", "done_per_s"):
        wrong.exact(f"dashboard before the first answer: {name}", getattr(first, name), None)


def check_workers(lists: Lists, picture: Snapshot, truth: Truth, wrong: Cells) -> None:
    status = {item["node"]: item for item in lists.items("status")}
    listed = {item["node"]: item for item in lists.items("worker", "ls")}
    shown = {row.node: row for row in picture.workers}
    unacked = sum(truth.unacked().values())
    held = {"q1@alpha": 0, "q2@beta": 1, "c1@gamma": 0, "c2@delta": unacked}
    failed = Counter(run[0] for run in truth.ended("failed"))
    for found in (status, listed, shown):
        assert found.keys() == FLEET.keys()
    for node, queues in FLEET.items():
        began, runs = truth.started_by(node), sum(run[0] == node for run in truth.ended("began"))
        software = "qcore " if node in QCORE else "py-celery 5"
        for name, found in (("status", status), ("worker ls", listed)):
            wrong.exact(f"{name} {node} queues", found[node]["queues"], list(queues))
            wrong.exact(f"{name} {node} pid", found[node]["pid"], truth.pids[node])
            wrong.exact(f"{name} {node} software", (found[node]["software"] or "")[: len(software)], software)
        wrong.exact(f"status {node} state", status[node]["state"], "online")
        wrong.exact(f"worker ls {node} processed", listed[node]["processed"], began)
        wrong.exact(f"worker ls {node} slots", listed[node]["slots"], 2)
        wrong.exact(f"worker ls {node} slots_used", listed[node]["slots_used"], runs)
        wrong.exact(f"worker ls {node} held", listed[node]["held"], held[node])
        row = shown[node]
        wrong.exact(f"dashboard {node} state", row.state, "online")
        wrong.exact(f"dashboard {node} done", row.done, began)
        wrong.exact(f"dashboard {node} running", row.running, runs)
        wrong.exact(f"dashboard {node} slots", row.slots, 2)
        wrong.exact(f"dashboard {node} held", row.held, held[node])
        wrong.exact(f"dashboard {node} failed", row.failed, failed[node])
        wrong.exact(f"dashboard {node} missed", row.missed, 0)
        wrong.exact(f"dashboard {node} queues", row.queues, queues)
        wrong.exact(f"dashboard {node} pid", row.pid, truth.pids[node])
        wrong.exact(f"dashboard {node} software", row.software[: len(software)], software)


def check_queues(lists: Lists, picture: Snapshot, truth: Truth, wrong: Cells) -> None:
    listed = {item["queue"]: item for item in lists.items("queue", "ls")}
    shown = {row.name: row for row in picture.queues}
    names = {"newsletters", *(queue for queues in FLEET.values() for queue in queues)}
    assert listed.keys() == names == shown.keys()
    in_flight = truth.unacked() + Counter({"celery": 1})
    for queue in sorted(names):
        facts = {
            "ready": UNCONSUMED if queue == "newsletters" else 0,
            "delayed": TOMORROW["celery"] if queue == "celery" else 0,
            "in_flight": in_flight[queue],
            "consumers": sum(queue in queues for queues in FLEET.values()),
            "paused": False,
        }
        assert truth.ready(queue) == facts["ready"]
        for field, value in facts.items():
            wrong.exact(f"queue ls {queue} {field}", listed[queue][field], value)
            wrong.exact(f"dashboard queue {queue} {field}", getattr(shown[queue], field), value)
    # Celery's workers do not tell what they take: without a second look their queues' rates are unknown.
    for queue in ("pay", "mails", "sync", "reports"):
        wrong.exact(f"queue ls {queue} out_per_s", listed[queue]["out_per_s"], None)


def check_tasks(
    lists: Lists,
    picture: Snapshot,
    truth: Truth,
    wrong: Cells,
    due: list[str],
    unconsumed: list[str],
    holds: dict[str, str],
    seen: int,
) -> None:
    failed = {run[3] for run in truth.ended("failed")}
    expected = {*due, *unconsumed, *holds, *failed}
    items = {item["id"]: item for item in lists.items("task", "ls", "--most", "1000")}
    states = Counter(item["state"] for item in items.values())
    strangers = [item for one, item in items.items() if one not in expected]
    wrong.exact("task ls, beyond what there is", strangers, [])
    wrong.exact("task ls, missing", expected - set(items), set())
    wrong.exact("task ls running", states["running"], len(holds))
    wrong.exact("task ls delayed", states["delayed"], len(due))
    wrong.exact("task ls queued", states["queued"], len(unconsumed))
    wrong.exact("task ls failed", states["failed"], len(failed))
    for one in due:
        wrong.exact(f"task ls {one} due_at", (items[one]["due_at"] or "")[:10], _day(1))
    for one in due[TOMORROW["reports"] :]:
        wrong.exact(f"task ls {one} worker", items[one]["worker"], None)
    for one, queue in holds.items():
        wrong.exact(f"task ls {one} queue", items[one]["queue"], queue)

    check_dry_run(lists, truth, wrong, unconsumed[0], holds)
    counts = picture.counts
    done = {run[3] for run in truth.ended("done")}
    wrong.exact("dashboard succeeded", counts.get("SUCCESS"), len(done))
    wrong.exact("dashboard failed", counts.get("FAILURE"), len(failed))
    wrong.exact("dashboard running", counts.get("STARTED"), len(holds))
    # Of qcore's delayed tasks no event tells: no worker has received them.
    wrong.exact("dashboard received", counts.get("RECEIVED"), TOMORROW["reports"])
    wrong.near("dashboard tasks", picture.remembered, seen + TOMORROW["reports"])
    wrong.exact("dashboard lost events", picture.missed, 0)
    unnamed = [task.uuid for task in picture.tasks if not task.name]
    wrong.exact("dashboard tasks without a name", unnamed, [])


def check_dry_run(lists: Lists, truth: Truth, wrong: Cells, queued: str, holds: dict[str, str]) -> None:
    """A revoke that changes nothing tells where each task is."""
    over = truth.ended("done")[0][3]
    done = lists.run("task", "revoke", queued, *holds, over, "no-such-id", "--dry-run", "-o", "json")
    told = {item["id"]: item for item in json.loads(done.stdout)["items"]}
    wrong.exact("revoke --dry-run exit code", done.returncode, 4)
    wrong.exact("revoke --dry-run queued", told[queued]["done"], "would be removed from queue")
    wrong.exact("revoke --dry-run over", told[over]["done"], "already finished")
    wrong.exact("revoke --dry-run unknown", told["no-such-id"]["done"], "unknown id")
    workers = {"celery": "q2@beta", "reports": "c2@delta"}
    for one, queue in holds.items():
        wrong.exact(f"revoke --dry-run {queue} task", told[one]["task"], "shop.hold")
        wrong.exact(
            f"revoke --dry-run {queue} done", told[one]["done"], f"runs on {workers[queue]}, would go on"
        )
    alone = lists.run("task", "revoke", "no-such-id", "--dry-run")
    wrong.exact("revoke --dry-run of an unknown task, exit code", alone.returncode, 3)


def _day(ahead: int) -> str:
    return (datetime.now(UTC) + timedelta(days=ahead)).strftime("%Y-%m-%d")


def check_failures(lists: Lists, picture: Snapshot, truth: Truth, wrong: Cells) -> None:
    failed = truth.ended("failed")
    total = Counter({"shop.charge": TIMEOUT, "shop.deploy": KEY_ERROR}[run[1]] for run in failed)
    ours = Counter(
        {"shop.charge": TIMEOUT, "shop.deploy": KEY_ERROR}[run[1]] for run in failed if run[0] in QCORE
    )
    groups = {item["exception"]: item for item in lists.items("failed", "group")}
    assert groups.keys() == total.keys()
    for kind, number in total.items():
        wrong.exact(f"failed group {kind} count", groups[kind]["count"], number)
        wrong.exact(f"failed group {kind} stored", groups[kind]["stored"], ours[kind])
        wrong.exact(f"failed group {kind} retried", groups[kind]["retried"], 0)
    listed = {item["id"]: item for item in lists.items("failed", "ls", "--limit", "1000")}
    wrong.exact("failed ls ids", set(listed), {run[3] for run in failed})
    for node, name, _, one in failed:
        item = listed[one]
        wrong.exact(f"failed ls {one} stored", item["stored"], node in QCORE)
        wrong.exact(f"failed ls {one} worker", item["worker"], node if node in QCORE else None)
        wrong.exact(f"failed ls {one} name", item["name"], name if node in QCORE else None)

    rows = {(row.name, row.exc_type): row for row in picture.failures}
    names = {"shop.charge": TIMEOUT, "shop.deploy": KEY_ERROR}
    wrong.exact("dashboard groups of failures", set(rows), set(names.items()))
    for name, kind in names.items():
        row = rows.get((name, kind))
        if row is not None:
            wrong.near(f"dashboard failures {name} count", row.count, total[kind])
            wrong.exact(f"dashboard failures {name} stored", row.stored, ours[kind])
            wrong.exact(f"dashboard failures {name} exact", row.exact, total[kind] == ours[kind])


def check_metrics_and_doctor(lists: Lists, truth: Truth, wrong: Cells, processes: Processes) -> None:
    text = lists.run("metrics", "show").stdout
    found = dict(re.findall(r"^(\w+(?:\{[^}]*\})?) (\S+)$", text, re.MULTILINE))
    in_flight = truth.unacked() + Counter({"celery": 1})
    for queue in ("celery", "mails", "newsletters", "pay", "reports", "sync"):
        for state, number in (
            ("ready", UNCONSUMED if queue == "newsletters" else 0),
            ("delayed", TOMORROW["celery"] if queue == "celery" else 0),
            ("in_flight", in_flight[queue]),
        ):
            cell = f'qcore_queue_messages{{queue="{queue}",state="{state}"}}'
            wrong.exact(cell, found.get(cell), str(number))
        cell = f'qcore_queue_consumers{{queue="{queue}"}}'
        wrong.exact(cell, found.get(cell), str(sum(queue in queues for queues in FLEET.values())))
    for state, number in (("online", len(FLEET)), ("silent", 0)):
        wrong.exact(f"metrics workers {state}", found.get(f'qcore_workers{{state="{state}"}}'), str(number))
    stored = sum(run[0] in QCORE for run in truth.ended("failed"))
    wrong.exact("metrics failed tasks", found.get("qcore_failed_tasks"), str(stored))

    report = lists.items("doctor")
    about = {item["name"]: item for item in report}
    wrong.exact("doctor errors", [i["name"] for i in report if i["level"] == "error"], ["unconsumed-queue"])
    wrong.exact("doctor unconsumed", about["unconsumed-queue"]["what"].split()[0], str(UNCONSUMED))


def check_twin(lists: Lists, processes: Processes, url: str, log: Path) -> None:
    """Of two Celery workers of one name both are counted, and the name is named."""
    env = {"SHOP": "celery", "SHOP_LOG": str(log), "CELERY_BROKER_URL": url, "CELERY_RESULT_BACKEND": url}
    words = ("-n", "c1@gamma", "-Q", "sync", "-P", "solo", "-l", "WARNING")
    processes.celery("-A", "tests.projects.shop", "worker", *words, env=env)

    def told() -> bool:
        return any(item["twins"] for item in lists.items("status"))

    wait_for(told, 60, "the second one answers")
    status = {item["node"]: item for item in lists.items("status")}
    doctor = lists.run("doctor", "-o", "json")
    found = {item["name"]: item for item in json.loads(doctor.stdout)["items"]}

    assert {node: item["twins"] for node, item in status.items()} == {
        node: ["2 replied"] if node == "c1@gamma" else [] for node in FLEET
    }
    assert found["duplicate-name"]["about"] == "c1@gamma"
    assert found["pause-ignored"]["about"] == "pay"


def queues_of(inspect: Any, node: str) -> set[str]:
    """What a worker consumes by its own answer; empty when there is none."""
    return {queue["name"] for queue in (inspect.active_queues() or {}).get(node) or ()}


def check_pause(lists: Lists, truth: Truth, client: App) -> None:
    """A paused queue stays as it is, whichever workers consume it; and goes on when it is resumed."""
    before = len(truth.runs)

    paused = lists.run("queue", "pause", "pay")
    inspect = client.control.inspect(["c2@delta"], timeout=5)
    wait_for(lambda: queues_of(inspect, "c2@delta") == {"reports"}, what="the Celery worker has let go")
    wait_for(lambda: lists.items("queue", "ls")[3]["consumers"] == 1, what="the list shows it")
    while_paused = [client.send_task("shop.sell", (i,), queue="pay").id for i in range(20)]
    elsewhere = client.send_task("shop.sell", (0,), queue="reports")
    wait_for(lambda: truth.runs[-1][3] == elsewhere.id, what="the same worker goes on with its other queue")
    (listed,) = [item for item in lists.items("queue", "ls") if item["queue"] == "pay"]
    resumed = lists.run("queue", "resume", "pay")
    wait_for(lambda: len(truth.runs) == before + 1 + len(while_paused), what="all has run after the resume")

    assert (paused.returncode, resumed.returncode) == (0, 0), (paused.stderr, resumed.stderr)
    assert "c2@delta" in paused.stderr and "c2@delta" in resumed.stderr
    assert (listed["ready"], listed["paused"], listed["pause_ignored_by"]) == (20, True, [])
    bounded = lists.run("queue", "pause", "pay", "--for", "1h")
    assert bounded.returncode == 4 and "c2@delta still consumes pay" in bounded.stderr
    (listed,) = [item for item in lists.items("queue", "ls") if item["queue"] == "pay"]
    assert listed["pause_ignored_by"] == ["c2@delta"]
