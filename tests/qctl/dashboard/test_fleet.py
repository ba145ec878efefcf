"""Three qcore workers and one of Celery's on one Redis: what the dashboard shows when all is done."""

from __future__ import annotations

import time
from collections import Counter

from qcore import App
from qctl.dashboard.sources.live import LiveSource
from tests.support.processes import Processes
from tests.support.waiting import wait_for

QCORE = ("q1@test", "q2@test", "q3@test")
NODES = {*QCORE, "c1@test"}


def test_a_mixed_fleet_is_shown_as_it_was(redis_url: str, processes: Processes) -> None:
    for node in QCORE:
        processes.start_qcore_worker(
            redis_url, "-c", "1", "-P", "threads", "-E", name=node, backend=redis_url, ready=False
        )
    processes.start_celery_worker(
        redis_url, redis_url, "-c", "2", "-E", "--prefetch-multiplier", "1", name="c1@test"
    )
    client = App("client", broker=redis_url, backend=redis_url, set_as_current=False)
    feed = LiveSource(client)
    feed.start()
    wait_for(
        lambda: (
            feed.listening.is_set() and {w.node for w in feed.take().workers if w.state == "online"} == NODES
        )
    )
    since = time.time()
    sent = {
        name: [client.send_task(name, args) for _ in range(30)]
        for name, args in (
            ("proj.add", (2, 2)),
            ("proj.fail", ()),
            ("proj.flaky", ()),
            ("proj.nap", (0.1,)),
        )
    }
    dropped = [client.send_task("proj.nap", (9,), countdown=4) for _ in range(5)]
    client.control.revoke([r.id for r in dropped])
    results = {r.id: r for some in (*sent.values(), dropped) for r in some}

    def states() -> dict[str, str]:
        """As stored; but Celery stores the RETRY of a run after it sent the next one, which may have ended
        meanwhile: then as its events say."""
        shown = {t.uuid: t for t in feed.take().tasks}
        stored = {i: r.state for i, r in results.items()}
        late = {i for i, s in stored.items() if s == "RETRY" and i in shown and shown[i].worker == "c1@test"}
        return stored | {i: shown[i].state for i in late}

    wait_for(lambda: set(states().values()) <= {"SUCCESS", "FAILURE", "REVOKED"}, what="all have ended")

    def settled() -> bool:
        shown = {t.uuid: t for t in feed.take().tasks}
        if shown.keys() != results.keys() or not all(t.is_ready for t in shown.values()):
            return False
        # Celery tells of a retry after it sent the next run, which may have ended meanwhile.
        return all(shown[r.id].retries >= 2 for r in sent["proj.flaky"])

    wait_for(settled, 60)
    until = time.time()
    feed.ask_soon()

    def idle() -> bool:
        picture = feed.take()
        queues = {q.name: (q.ready, q.in_flight or 0) for q in picture.queues}
        return not any(w.running for w in picture.workers) and queues == {"celery": (0, 0)}

    wait_for(idle, what="the workers are idle and the queue is empty")
    picture = feed.take()
    stats = client.control.ask("stats", timeout_s=60).replies
    feed.stop()

    tasks = {t.uuid: t for t in picture.tasks}
    assert {i: t.state for i, t in tasks.items()} == states()
    assert {t.state for t in tasks.values()} == {"SUCCESS", "FAILURE", "REVOKED"}
    for task in tasks.values():
        assert task.worker in NODES
        if task.state == "REVOKED" and task.worker == "c1@test":
            continue  # Celery says nothing of what it takes from the queue and drops at once
        assert task.received is not None and task.ended is not None
        assert since - 1 <= task.received <= task.ended <= until + 1
        if task.state != "REVOKED":
            assert task.started is not None and task.received <= task.started <= task.ended
    assert all(tasks[r.id].runtime >= 0.1 and tasks[r.id].retries == 0 for r in sent["proj.nap"])  # type: ignore[operator]
    assert all("ValueError('boom')" in tasks[r.id].exception for r in sent["proj.fail"])
    assert all(tasks[r.id].retries == 2 for r in sent["proj.flaky"])
    # Who ran what, as the workers themselves counted it; a retry may go to another worker.
    once = Counter((t.worker, t.name) for t in tasks.values() if t.name in ("proj.add", "proj.fail"))
    assert once == Counter(
        {
            (node, name): value["total"][name]
            for node, value in stats.items()
            for name in ("proj.add", "proj.fail")
            if name in value["total"]
        }
    )
    assert len({t.worker for t in tasks.values()}) == 4
    shown = {w.node: w for w in picture.workers}
    assert [(n, shown[n].exact, shown[n].missed) for n in sorted(NODES)] == [
        (n, True, 0) for n in sorted(NODES)
    ]
    client.close()


def test_what_is_active_is_what_the_workers_say_after_a_kill_and_a_new_dashboard(
    redis_url: str, processes: Processes
) -> None:
    doomed = processes.start_qcore_worker(redis_url, "-c", "2", "-E", name="q1@test", env={"QCTL_LEASE": "1"})
    client = App("client", broker=redis_url, set_as_current=False)
    first = LiveSource(client)
    first.start()
    wait_for(first.listening.is_set)
    naps = [client.send_task("proj.nap", (30,)) for _ in range(2)]
    wait_for(lambda: [w.running for w in first.take().workers] == [2])
    doomed.kill9()
    processes.start_qcore_worker(redis_url, "-c", "3", "-E", name="q2@test", env={"QCTL_LEASE": "1"})
    wait_for(lambda: len((client.control.ask("active").replies or {}).get("q2@test", ())) == 2)
    first.ask_soon()
    second = LiveSource(client)
    second.start()

    for feed in (first, second):
        wait_for(
            lambda feed=feed: (
                {w.node: w.running for w in feed.take().workers if w.state == "online"} == {"q2@test": 2}
            )
        )
        picture = feed.take()
        assert picture.counts.get("STARTED") == 2
        assert {t.worker for t in picture.tasks if t.state == "STARTED"} == {"q2@test"}
        assert all(w.exact for w in picture.workers if w.node == "q2@test")
        assert min(n for w in picture.workers for n in (w.running or 0, w.done or 0, w.held or 0)) >= 0
        feed.stop()
    assert {t.uuid for t in second.take().tasks} == {n.id for n in naps}
    client.close()
