"""The queues' screen: how fast messages come and go, and whether that is said by workers or only seen."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

from msgspec.structs import replace

from qcore import App
from qctl.dashboard.screens.keys import Dashboard
from qctl.dashboard.sources.broker_poll import BrokerPoll
from qctl.dashboard.sources.live import LiveSource
from qctl.dashboard.state.event_log import Ended
from qctl.dashboard.state.snapshot import QueueRow
from qctl.fleet.queue_rates import Taken
from tests.qctl.dashboard.test_dashboard import play, screen_text
from tests.support.processes import Processes
from tests.support.still import QUEUES, Still
from tests.support.waiting import wait_for


def test_rates_are_what_workers_say_or_what_events_add_up_to(redis_url: str, processes: Processes) -> None:
    processes.start_qcore_worker(redis_url, "-c", "1", "-Q", "ours", name="q1@test")  # without events
    processes.start_celery_worker(redis_url, redis_url, "-c", "1", "-E", "-Q", "theirs", name="c1@test")
    client = App("client", broker=redis_url, set_as_current=False)
    feed = LiveSource(client)
    feed.start()
    wait_for(lambda: feed.take().up == 2 and feed.listening.is_set())
    over, depth = threading.Event(), client.broker.administration.depth
    published, began = 0, time.monotonic()

    def publish() -> None:
        nonlocal published
        while not over.wait(0.1):
            if max(depth("ours").ready, depth("theirs").ready) > 20:
                continue  # so that what goes in comes out
            for queue in ("ours", "theirs", "nobodys"):
                for _ in range(4):
                    client.send_task("proj.add", (1, 2), queue=queue)
            published += 4

    thread = threading.Thread(target=publish)
    thread.start()

    def rows() -> dict[str, QueueRow]:
        return {row.name: row for row in feed.take().queues}

    def flows() -> bool:
        found, per_s = rows(), published / (time.monotonic() - began)
        return found.keys() >= {"ours", "theirs", "nobodys"} and all(
            per_s / 4 < (rate or 0) < per_s * 1.5
            for rate in (
                found["ours"].out_per_s,
                found["ours"].in_per_s,
                found["theirs"].out_per_s,
                found["theirs"].in_per_s,
                found["nobodys"].in_per_s,
            )
        )

    try:
        wait_for(flows, 60)
        found = rows()
    finally:
        over.set()
        thread.join()
        feed.stop()
        client.close()
    assert not found["ours"].seen and not found["theirs"].seen, "both have one queue only"
    assert (found["nobodys"].out_per_s, found["nobodys"].seen, found["nobodys"].consumers) == (0.0, False, 0)


def test_a_rate_that_nobody_can_know_is_not_shown(memory_url: str) -> None:
    client = App("client", broker=memory_url, set_as_current=False)
    client.send_task("proj.add", (1, 2), queue="named")
    client.send_task("proj.add", (1, 2), queue="other")
    looker, celerys = BrokerPoll(client), Taken({}, {"named", "other"})
    began = time.monotonic()
    looker.queues(Counter(), Ended(Counter()), celerys)
    at_least = time.monotonic()

    time.sleep(0.3)
    at_least = time.monotonic() - at_least
    named, other = looker.queues(Counter(), Ended(Counter({"named": 3}), frozenset({"other"}), 5), celerys)
    at_most = time.monotonic() - began

    slowest, fastest = 3 / at_most * 0.95, 3 / at_least * 1.05
    assert named.seen and slowest < (named.out_per_s or 0) < fastest and (named.in_per_s or 0) > slowest
    assert slowest * 5 / 3 < (looker.published_per_s or 0) < fastest * 5 / 3, "what ended was published"
    assert other.seen and (other.in_per_s, other.out_per_s) == (None, None)


def lines_of(text: str) -> tuple[str, str]:
    """The headings of the list, and its first row."""
    lines = text.splitlines()
    number = next(number for number, line in enumerate(lines) if "QUEUE" in line)
    return lines[number], lines[number + 1]


def test_a_number_is_never_cut_and_its_column_does_not_move_when_it_is_short_again() -> None:
    feed = Still(queues=(replace(QUEUES[0], ready=123_456_789),))
    seen: list[tuple[str, str]] = []

    async def script(window: Dashboard, pilot: Any) -> None:
        await pilot.pause()
        seen.append(lines_of("\n".join(screen_text(window))))
        feed.changes["queues"] = (replace(QUEUES[0], ready=7),)
        window.redraw()
        await pilot.pause()
        seen.append(lines_of("\n".join(screen_text(window))))

    play(feed, script, (80, 24), view="4")

    (wide, row), (heading, later) = seen
    assert " 123,456,789 " in row and " 7 " in later
    assert wide == heading


def test_a_queue_says_how_many_slots_it_has_and_who_fell_silent() -> None:
    seen: list[str] = []

    async def script(window: Dashboard, pilot: Any) -> None:
        await pilot.pause()
        seen.append("\n".join(screen_text(window)))

    play(Still(), script, (200, 50), view="4")

    row = next(line for line in seen[0].splitlines() if line.startswith("│ payments"))
    assert " 3/2 " in row and "1 pay1 1/2 0.2/s, pay2 silent" in row
    assert "newest " in seen[0] and " waited p50 " in seen[0] and " ran p50 " in seen[0]
