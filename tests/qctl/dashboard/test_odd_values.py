"""Numbers and shapes that no worker sends: every screen is drawn all the same."""

from __future__ import annotations

import contextlib
import io
import time
from collections import Counter
from typing import Any

from qcore import App
from qcore.brokers.contract.records import Member
from qcore.control.client import Answers
from qcore.control.commands.registry import find
from qctl.cli.session import Globals
from qctl.commands.doctor.checks import clock_skew
from qctl.commands.metrics.collector import Collector
from qctl.dashboard.screens.keys import Dashboard
from qctl.dashboard.sources.live import LiveSource
from qctl.dashboard.views.views import VIEWS
from qctl.fleet.facts import Facts
from qctl.output.replies import write
from qctl.output.writer import Output
from tests.qctl.dashboard.test_dashboard import event, play, screen_text

NONSENSE = (10**400, -(10**400), -1, 0, 1e300, -1e300, "x", "", None, True, [], {}, [10**400], {"a": 10**400})
FIELDS = "retries runtime queue args result exception eta expires root_id seq clock pid utcoffset".split()
ABOUT = ("id", "name", "time_start", "args")
WORDS = "sent received started retried failed succeeded revoked rejected x".split()
KINDS = [f"task-{kind}" for kind in WORDS]
ASKED = ("active", "reserved", "scheduled", "active_queues")


def answers(replies: dict[str, Any], info: Any = None) -> Answers:
    members = {node: Member(node, time.time(), True, info[node]) for node in info or ()}
    return Answers(replies, [], [], [], None, 0.0, members=members)


def stats_of(bad: Any) -> Any:
    return {
        "total": {"proj.add": bad},
        "pool": {"max-concurrency": bad},
        "prefetch_count": bad,
        "pid": bad,
        "uptime": bad,
        "rusage": {"maxrss": bad},
        "state": bad,
        "task_events": bad,
    }


def test_every_screen_is_drawn(memory_url: str) -> None:
    feed, now = LiveSource(App("watched", broker=memory_url)), time.time()
    workers = {f"w{number:02}@host": bad for number, bad in enumerate(NONSENSE)}
    for node, bad in workers.items():
        beat = {"type": "worker-heartbeat", "hostname": node, "timestamp": now}
        feed.fold([{**beat, "loadavg": [bad] * 3}])
        feed.fold([{**beat, **dict.fromkeys(("freq", "active", "processed", "pid", "loadavg", "seq"), bad)}])
        about = dict.fromkeys(FIELDS, bad)
        feed.fold([event(kind, f"{kind} {node}", node=node, **about) for kind in KINDS])
    fair = {
        name: answers({n: [dict.fromkeys(ABOUT, bad), bad] for n, bad in workers.items()}) for name in ASKED
    }
    taken = {n: {"taken": {"celery": [bad, bad]}} for n, bad in workers.items()}
    fair["active_queues"] = answers({n: [{"name": "celery"}, bad] for n, bad in workers.items()}, taken)
    unfair = {name: answers(workers) for name in ASKED}
    for turn, stats in enumerate((stats_of, lambda _: stats_of(1), lambda bad: bad, stats_of)):
        told = answers({n: stats(bad) for n, bad in workers.items()})
        feed.learn(told, [], unfair if turn == 2 else fair, now + turn)
    shown = []

    async def script(window: Dashboard, pilot: Any) -> None:
        window._answer = lambda words, place: ""  # type: ignore[method-assign]
        for view in VIEWS:
            await pilot.press(view.key, "G", "enter", "escape")
        await pilot.press("2", "g")
        for _ in workers:
            await pilot.press("enter", "escape", "j")
        for key in "wsdfmruc":
            await pilot.press("s", key, "escape")
        await pilot.press("2")
        await pilot.pause()
        shown.extend(screen_text(window))

    play(feed, script, (200, 40))
    assert sum("@host" in line for line in shown) >= len(workers)


def test_commands_go_on_too(memory_url: str) -> None:
    app, now = App("watched", broker=memory_url), time.time()
    collector = Collector(app)
    members, said = {}, io.StringIO()
    for number, bad in enumerate(NONSENSE):
        members[f"w{number}@host"] = Member(f"w{number}@host", now, True, {"at": bad})
        collector.fold([event("task-succeeded", f"u{number}", name="proj.add", runtime=bad)])
    ahead = Member("ahead@host", now, True, {"at": now + 3600, "host": "h"})
    active = {node: [{"id": "u", "time_start": bad}] for node, bad in zip(members, NONSENSE, strict=True)}

    with contextlib.redirect_stdout(said):
        write(Output(Globals()), find("active"), answers(active))
    facts = Facts(now, {**members, "ahead@host": ahead}, [], {}, {}, {}, [], Counter(), [], True, 0.0, True)

    assert said.getvalue().count("@host") == len(NONSENSE)
    assert "ahead@host" in [symptom.about for symptom in clock_skew(facts)]
    assert "qcore" in collector.text()
