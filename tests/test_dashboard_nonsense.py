"""Numbers and shapes that no worker sends: every screen is drawn all the same."""

from __future__ import annotations

import time
from typing import Any

import pytest

from qcore import App
from qcore.brokers.base import Member
from qcore.control.bus import Answers
from qctl.dashboard.feed import Feed
from qctl.dashboard.screen import Dashboard
from qctl.dashboard.views import VIEWS
from tests.test_dashboard import event, play

NONSENSE = (10**400, -(10**400), -1, 0, 1e300, -1e300, "x", "", None, True, [], {}, [10**400], {"a": 10**400})
FIELDS = "retries runtime queue args result exception eta expires root_id seq clock pid utcoffset".split()
ANSWERS = ("active", "reserved", "scheduled", "active_queues")


def answers(reply: Any, info: Any = None) -> Answers:
    members = {"w1@host": Member("w1@host", time.time(), True, info)} if isinstance(info, dict) else {}
    return Answers({"w1@host": reply}, [], [], [], None, 0.0, members=members)


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


@pytest.mark.parametrize("bad", NONSENSE, ids=lambda bad: repr(bad)[:12])
def test_every_screen_is_drawn(bad: Any, memory_url: str) -> None:
    feed = Feed(App("watched", broker=memory_url))
    now = time.time()
    feed.fold([{"type": "worker-heartbeat", "hostname": "w1@host", "timestamp": now, "loadavg": [bad] * 3}])
    beat = dict.fromkeys(("freq", "active", "processed", "pid", "sw_ident", "loadavg", "seq"), bad)
    feed.fold([{"type": "worker-heartbeat", "hostname": "w1@host", "timestamp": now, **beat}])
    kinds = ("task-sent", "task-received", "task-started", "task-failed", "task-retried")
    feed.fold([event(kind, f"u{kind}", **dict.fromkeys(FIELDS, bad)) for kind in kinds])
    about = {"id": bad, "name": bad, "time_start": bad, "args": bad}
    for turn, stats in enumerate((stats_of(bad), stats_of(1), stats_of(bad), bad)):
        told = {name: answers([about, bad, {"name": bad}]) for name in ANSWERS}
        told["active_queues"] = answers([{"name": "celery"}], {"taken": {"celery": [bad, bad]}})
        feed.learn(answers(stats), [], told if turn < 2 else {n: answers(bad) for n in ANSWERS}, now + turn)

    async def script(window: Dashboard, pilot: Any) -> None:
        window._answer = lambda words: ""  # type: ignore[method-assign]
        for view in VIEWS:
            await pilot.press(view.key)
            await pilot.press("G", "enter", "escape", "s", "escape")
        for key in "sdfmruc":
            await pilot.press("2", "s", key, "escape")
        assert window.is_running

    play(feed, script, (200, 40))
