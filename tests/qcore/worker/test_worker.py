"""The worker from outside: real processes, real brokers, what it promises about tasks and its end."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qcore import App
from qcore.errors import SoftTimeLimitExceeded, TaskRevokedError, TimeLimitExceeded, WorkerLostError
from tests.support.processes import ROOT, Processes
from tests.support.waiting import wait_for

KINDS = ["sqlite", "redis", "rabbit"]
#: of a task that is cut short, and how soon its worker ends then, however busy the machine is
LONG_S, SOON_S = 100.0, 50.0


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def app(url: str) -> Iterator[App]:
    made = App("outside", broker=url, set_as_current=False)
    yield made
    made.close()


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def served(request: pytest.FixtureRequest, module_processes: Processes) -> Iterator[App]:
    """A client of a worker, w1@test, that serves all tests which leave it as it was."""
    url: str = request.getfixturevalue(f"module_{request.param}_url")
    module_processes.start_qcore_worker(url, "-c", "2", "-E", name="w1@test")
    app = App("served", broker=url, set_as_current=False)
    yield app
    app.close()


def active(app: App) -> list[dict[str, Any]]:
    found = app.control.inspect().active() or {}
    return [task for tasks in found.values() for task in tasks]


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


# --- ends


@pytest.mark.parametrize("kind", KINDS)
def test_term_lets_running_tasks_finish_and_returns_the_rest_at_once(
    kind: str, request: pytest.FixtureRequest, processes: Processes, tmp_path: Path
) -> None:
    url: str = request.getfixturevalue(f"{kind}_url")
    app = App("warm", broker=url, set_as_current=False)
    log, release = tmp_path / "log", tmp_path / "release"
    worker = processes.start_qcore_worker(url, "-c", "2", name="w1@test")
    for i in range(12):
        app.send_task("proj.hold", (str(log), str(i), str(release)), ignore_result=True)
    wait_for(lambda: len(lines(log)) == 2)

    worker.term()
    wait_for(lambda: app.broker.administration.depth("celery").ready == 10, what="unstarted tasks are back")
    assert worker.is_running and len(lines(log)) == 2
    release.touch()
    code = worker.wait()

    assert code == 0
    assert sum(line.startswith("done") for line in lines(log)) == 2
    assert app.broker.administration.depth("celery").ready == 10
    app.close()


def test_a_second_interrupt_stops_cold_and_returns_what_ran(
    app: App, url: str, processes: Processes, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    worker = processes.start_qcore_worker(url, "-c", "2")
    for i in range(4):
        app.send_task("proj.log_start", (str(log), str(i), LONG_S))
    wait_for(lambda: len(lines(log)) == 2)

    os.killpg(worker.pid, signal.SIGINT)  # as the terminal does: to the whole group
    worker.wait_output("warm shutdown")
    assert worker.is_running
    os.killpg(worker.pid, signal.SIGINT)
    code = worker.wait(SOON_S)

    assert code == 3
    assert app.broker.administration.depth("celery").ready == 4
    second = processes.start_qcore_worker(url, "-c", "2")
    wait_for(lambda: len(lines(log)) == 4)
    assert sorted(line.split()[1] for line in lines(log)) == ["False", "False", "True", "True"]
    second.kill9()


def test_an_interrupt_that_comes_while_the_first_is_handled_is_the_second(
    app: App, url: str, processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "hasty.py").write_text(
        "import os, signal, time\n"
        "from qcore import App, signals\n"
        "app = App('hasty')\n"
        "@app.task(name='hasty.nap')\n"
        "def nap(): time.sleep(600)\n"
        "@signals.worker_shutting_down.connect\n"
        "def again(how, **kwargs):\n"
        "    if how == 'Warm':\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
    )
    words = ("--workdir", str(tmp_path), "-A", "hasty", "-b", url, "worker", "-c", "1")
    worker = processes.qctl(*words)
    worker.wait_output(r"\bready\b")
    app.send_task("hasty.nap")
    wait_for(lambda: active(app))

    worker.term(signal.SIGINT)

    assert worker.wait(SOON_S) == 3


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGTERM])
def test_quit_stops_cold_at_once(number: int, app: App, url: str, processes: Processes) -> None:
    remapped = {"REMAP_SIGTERM": "SIGQUIT"} if number == signal.SIGTERM else {}
    worker = processes.start_qcore_worker(url, "-c", "1", env=remapped)
    app.send_task("proj.nap", (LONG_S,))
    wait_for(lambda: active(app))

    worker.term(number)

    assert worker.wait(SOON_S) == 3


def test_a_drain_timeout_turns_warm_into_cold(app: App, url: str, processes: Processes) -> None:
    worker = processes.start_qcore_worker(url, "-c", "1", "--drain-timeout", "0.5")
    app.send_task("proj.nap", (LONG_S,))
    wait_for(lambda: active(app))

    worker.term()

    assert worker.wait(SOON_S) == 3


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_the_other_pools_stop_as_well(pool: str, app: App, url: str, processes: Processes) -> None:
    worker = processes.start_qcore_worker(url, "-c", "2", "-P", pool)
    assert app.send_task("proj.add", (1, 2)).get(timeout=60) == 3
    app.send_task("proj.nap", (LONG_S,))
    wait_for(lambda: active(app))

    worker.term()
    worker.wait_output("warm shutdown")
    worker.term(signal.SIGINT)

    assert worker.wait(SOON_S) == 3
    assert app.broker.administration.depth("celery").ready == 1


def test_no_child_outlives_its_parent(redis_url: str, processes: Processes) -> None:
    app = App("orphans", broker=redis_url, set_as_current=False)
    worker = processes.start_qcore_worker(redis_url, "-c", "2")
    app.send_task("proj.nap", (LONG_S,))
    wait_for(lambda: active(app))
    pids = next(iter(app.control.inspect(timeout=60).stats().values()))["pool"]["processes"]

    os.kill(worker.pid, signal.SIGKILL)

    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), SOON_S)
    app.close()


# --- limits, revokes, times


def test_time_limits(served: App) -> None:
    soft = served.send_task("proj.nap", (20,), soft_time_limit=0.3)
    hard = served.send_task("proj.nap", (20,), time_limit=0.5)
    after = [served.send_task("proj.add", (i, 1)) for i in range(10)]

    with pytest.raises(SoftTimeLimitExceeded):
        soft.get(timeout=60)
    with pytest.raises(TimeLimitExceeded):
        hard.get(timeout=60)
    assert [r.get(timeout=60) for r in after] == list(range(1, 11))


def test_a_task_revoked_while_no_worker_runs_never_runs(
    app: App, url: str, processes: Processes, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    revoked = app.send_task("proj.log_start", (str(log), "revoked"))
    kept = app.send_task("proj.log_start", (str(log), "kept"))
    revoked.revoke()

    processes.start_qcore_worker(url, "-c", "1")

    assert kept.get(timeout=60) == "kept"
    with pytest.raises(TaskRevokedError):
        revoked.get(timeout=60)
    assert not any(line.startswith("revoked") for line in lines(log))


def test_terminate_stops_a_running_task(served: App) -> None:
    nap = served.send_task("proj.nap", (60,))
    wait_for(lambda: nap.id in [task["id"] for task in active(served)])

    nap.revoke(terminate=True)

    with pytest.raises(TaskRevokedError, match="terminated"):
        nap.get(timeout=60)
    assert served.send_task("proj.add", (1, 1)).get(timeout=60) == 2


def test_expired_tasks_are_not_run(app: App, url: str, processes: Processes, tmp_path: Path) -> None:
    log = tmp_path / "log"
    late = app.send_task("proj.log_start", (str(log), "late"), expires=0.05)
    time.sleep(0.1)

    processes.start_qcore_worker(url, "-c", "1")

    with pytest.raises(TaskRevokedError, match="expired"):
        late.get(timeout=60)
    assert lines(log) == []


def test_a_countdown_waits_in_the_broker(served: App) -> None:
    far = served.send_task("proj.add", (1, 1), countdown=3600)
    sent = time.time()
    near = served.send_task("proj.add", (1, 1), countdown=0.7)

    assert near.get(timeout=60) == 2
    assert time.time() - sent >= 0.69
    assert served.broker.administration.depth("celery").delayed == 1
    (scheduled,) = served.control.inspect(timeout=60).scheduled()["w1@test"]
    assert scheduled["request"]["id"] == far.id


def test_a_rate_limit_spreads_starts(served: App) -> None:
    answer = served.control.rate_limit("proj.mul", "10/s", reply=True)
    assert next(iter(answer[0].values())) == {"ok": "new rate limit set successfully"}

    started = time.monotonic()
    results = [served.send_task("proj.mul", (i, 1)) for i in range(10)]
    assert [r.get(timeout=60) for r in results] == list(range(10))

    assert time.monotonic() - started >= 0.85


def test_states_are_tracked_when_asked(url: str, processes: Processes) -> None:
    app = App("states", broker=url, set_as_current=False)
    result = app.send_task("tracked.nap", (1.0,))
    assert result.state == "PENDING"

    processes.start_qcore_worker(url, "-c", "1", app="tests.projects.tracked")

    wait_for(lambda: result.state == "STARTED")
    assert result.result["hostname"]
    assert result.get(timeout=60) == "rested"
    assert result.state == "SUCCESS"
    result.forget()
    assert app.AsyncResult(result.id).state == "PENDING"
    app.close()


def test_callbacks_and_chains_of_clients_run(served: App) -> None:
    final = "the-end-of-the-chain"
    step = {"task": "proj.mul", "args": [10], "kwargs": {}, "options": {"task_id": final}}
    middle = {"task": "proj.add", "args": [1], "kwargs": {}, "options": {}}

    served.send_task("proj.add", (1, 2), chain=[step, middle])

    assert served.AsyncResult(final).get(timeout=60) == 40


def test_early_acknowledged_tasks_store_their_results(url: str, processes: Processes) -> None:
    app = App("early", broker=url, set_as_current=False)
    processes.start_qcore_worker(url, "-c", "1", app="tests.projects.tracked")

    assert app.send_task("tracked.early", (2,)).get(timeout=60) == 4
    app.close()


# --- the broker goes away


def test_a_worker_outlives_its_redis(processes: Processes, redis_server: Any, tmp_path: Path) -> None:
    redis_server.client().config_set("appendonly", "yes")
    app = App("outage", broker=redis_server.url, set_as_current=False)
    worker = processes.start_qcore_worker(redis_server.url, "-c", "2", "-l", "WARNING")
    assert app.send_task("proj.add", (1, 1)).get(timeout=60) == 2

    for _ in range(3):
        redis_server.kill9()
        time.sleep(0.3)
        redis_server.restart()
        app.close()
        assert app.send_task("proj.add", (1, 1)).get(timeout=60) == 2

    assert worker.is_running
    assert "Traceback" not in worker.output()
    # Who reads of the outage reads of its end, at the same log level.
    assert (
        "connected to the broker again after" in worker.output().partition("the broker is unreachable: ")[2]
    )
    app.close()


def test_events_are_numbered_without_gaps(served: App) -> None:
    from qcore.events.receiver import listen

    seen: list[dict[str, Any]] = []
    with listen(served.broker) as batches:
        results = [served.send_task("proj.add", (i, 0)) for i in range(50)]
        assert [r.get(timeout=60) for r in results] == list(range(50))
        deadline = time.monotonic() + 60
        for batch in batches:
            seen += batch
            done = sum(e["type"] == "task-succeeded" for e in seen)
            if done == 50 or time.monotonic() > deadline:
                break

    kinds = {e["type"] for e in seen}
    assert {"task-received", "task-started", "task-succeeded"} <= kinds
    numbers = [e["seq"] for e in seen]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


# --- results kept elsewhere


@pytest.mark.parametrize("kind", ["redis", "rabbit"])
def test_results_can_be_kept_apart_from_the_broker(
    kind: str, request: pytest.FixtureRequest, processes: Processes, redis_url: str
) -> None:
    url: str = request.getfixturevalue(f"{kind}_url")
    backend = redis_url.rsplit("/", 1)[0] + "/9"
    app = App("apart", broker=url, backend=backend, set_as_current=False)
    worker = processes.start_qcore_worker(url, "-c", "1", backend=backend)

    result = app.send_task("proj.add", (2, 2))

    assert result.get(timeout=60) == 4
    assert backend in worker.output()
    assert App("bare", broker=redis_url, set_as_current=False).AsyncResult(result.id).state == "PENDING"
    app.close()


# --- when parts of the worker die


def test_when_the_fork_server_dies_another_one_is_started_and_what_ran_is_run_again(
    app: App, url: str, processes: Processes, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    worker = processes.start_qcore_worker(url, "-c", "1")
    app.send_task("proj.log_start", (str(log), "a", 1.0))
    wait_for(lambda: lines(log))
    template = next(iter(app.control.inspect(timeout=60).stats().values()))["pool"]["template"]

    os.kill(template, signal.SIGKILL)

    wait_for(lambda: "done a" in lines(log))
    assert app.send_task("proj.add", (1, 2)).get(timeout=10) == 3
    assert worker.is_running
    assert "the fork server (pid" in worker.output() and "Traceback" not in worker.output()
    assert [line.split()[1] for line in lines(log) if not line.startswith("done")] == ["False", "True"]


def test_a_worker_that_is_no_command_ends_with_its_fork_server(
    url: str, app: App, processes: Processes
) -> None:
    script = (
        "import sys; from tests.projects.proj import app; app.conf.broker_url = sys.argv[1];"
        "sys.exit(app.worker(concurrency=1).run())"
    )
    worker = processes.start(sys.executable, "-c", script, url)
    worker.wait_output("ready")
    template = next(iter(app.control.inspect(timeout=60).stats().values()))["pool"]["template"]

    os.kill(template, signal.SIGKILL)

    assert worker.wait(20) == 1
    assert "only a worker of a command or script can start another one" in worker.output()


def test_a_task_that_kills_the_fork_server_is_set_aside_and_the_worker_goes_on(
    app: App, url: str, processes: Processes
) -> None:
    worker = processes.start_qcore_worker(url, "-c", "2", app="tests.projects.odd")

    poison = app.send_task("odd.kill_server")
    with pytest.raises(WorkerLostError):
        poison.get(timeout=20)

    assert app.send_task("odd.early", ("/dev/null", 0.0)).get(timeout=10) == "early"
    assert worker.is_running


def test_a_fork_server_that_dies_again_and_again_ends_the_worker_with_a_sentence(
    app: App, url: str, processes: Processes
) -> None:
    worker = processes.start_qcore_worker(url, "-c", "1", app="tests.projects.odd")
    for _ in range(3):
        app.send_task("odd.kill_server")

    assert worker.wait(20) == 1
    assert "died, 6 times within 60 s" in worker.output() and "Traceback" not in worker.output()


def test_a_task_that_kills_its_process_is_set_aside_on_rabbitmq(
    rabbit_url: str, processes: Processes
) -> None:
    app = App("poison", broker=rabbit_url, set_as_current=False)
    worker = processes.start_qcore_worker(rabbit_url, "-c", "2", app="tests.projects.poison")

    app.send_task("poison.die")

    wait_for(lambda: [q.reason for q in app.broker.administration.quarantined()] == ["crashed_too_often"])
    # The line follows the settlement: what is set aside may be seen before it.
    wait_for(lambda: worker.output().count("the process running it ended") >= 3)
    assert worker.output().count("the process running it ended") == 3
    app.close()


def test_a_grandchild_does_not_hold_up_the_news_of_a_death(app: App, url: str, processes: Processes) -> None:
    processes.start_qcore_worker(url, "-c", "1", app="tests.projects.poison")

    started = time.monotonic()
    with pytest.raises(TimeLimitExceeded):
        app.send_task("poison.fork_and_hang", time_limit=0.5).get(timeout=60)

    assert time.monotonic() - started < SOON_S
    assert app.send_task("poison.add", (1, 1)).get(timeout=60) == 2


def test_any_exception_of_a_task_is_only_a_failure(app: App, url: str, processes: Processes) -> None:
    processes.start_qcore_worker(url, "-c", "1", app="tests.projects.poison")

    results = [app.send_task("poison.interrupt") for _ in range(3)]

    for result in results:
        with pytest.raises(BaseException, match="by hand"):
            result.get(timeout=60)
    assert not app.broker.administration.quarantined()


def test_stamped_tasks_can_be_revoked_by_stamp(served: App) -> None:
    answer = served.control.broadcast("revoke_by_stamped_headers", {"headers": {"batch": ["7"]}}, reply=True)
    assert "flagged as revoked" in next(iter((answer or [{}])[0].values()))["ok"]

    stamped = served.send_task("proj.add", (1, 1), stamped_headers=["batch"], stamps={"batch": 7})
    other = served.send_task("proj.add", (1, 1), stamped_headers=["batch"], stamps={"batch": 8})

    assert other.get(timeout=60) == 2
    with pytest.raises(TaskRevokedError, match="revoked"):
        stamped.get(timeout=60)


def test_the_pool_can_be_restarted_and_resized(app: App, url: str, processes: Processes) -> None:
    processes.start_qcore_worker(url, "-c", "2", name="w1@test")

    def pids() -> set[int]:
        return set((app.control.inspect(timeout=60).stats() or {})["w1@test"]["pool"]["processes"])

    before = pids()
    app.control.broadcast("pool_restart", reply=True)
    wait_for(lambda: len(pids()) == 2 and not pids() & before)
    app.control.pool_grow(1)
    wait_for(lambda: len(pids()) == 3)

    assert [app.send_task("proj.add", (i, 1)).get(timeout=60) for i in range(5)] == [1, 2, 3, 4, 5]


def test_modules_are_imported_and_reloaded_with_the_pool(
    app: App, url: str, processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "reloading.py").write_text(
        "from qcore import App\napp = App('reloading')\napp.conf.worker_pool_restarts = True\n"
        "app.conf.imports = ('reloaded',)\n"
    )
    tasks = tmp_path / "reloaded.py"
    text = "from reloading import app\n\n@app.task(name='reloaded.old')\ndef old():\n    return {}\n"
    tasks.write_text(text.format(1))
    (tmp_path / "imported.py").write_text(
        "from reloading import app\n\n@app.task(name='imported.new')\ndef new():\n    return 3\n"
    )
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    processes.start_qcore_worker(url, "-c", "1", name="w1@test", app="reloading", env=env)

    def restarted(**arguments: Any) -> Any:
        (answer,) = app.control.broadcast("pool_restart", arguments, reply=True, timeout=60) or []
        return answer["w1@test"]

    assert app.send_task("reloaded.old").get(timeout=60) == 1
    tasks.write_text(text.format(20))
    assert restarted(modules=["reloaded", "imported"], reload=True) == {"ok": "reload started"}
    wait_for(lambda: app.send_task("reloaded.old").get(timeout=60) == 20)
    assert app.send_task("imported.new").get(timeout=60) == 3

    tasks.write_text("raise ValueError('broken')\n")
    assert "ValueError: broken" in restarted(reload=True)["error"]
    assert app.send_task("reloaded.old").get(timeout=60) == 20
    assert "no_such_module" in restarted(modules=["no_such_module"])["error"]


def test_the_log_can_be_json(redis_url: str, processes: Processes) -> None:
    app = App("json", broker=redis_url, set_as_current=False)
    worker = processes.start_qcore_worker(redis_url, "-c", "1", env={"QCTL_LOG_FORMAT": "json"})
    app.send_task("proj.add", (1, 1)).get(timeout=60)
    worker.wait_output("succeeded")

    entries = [json.loads(line) for line in worker.output().splitlines() if line.startswith("{")]

    assert {"time", "level", "logger", "pid", "message"} <= set(entries[0])
    assert any("succeeded in" in e["message"] for e in entries)
    app.close()


def test_a_callback_that_cannot_be_sent_stops_nobody(
    redis_url: str, processes: Processes, redis_server: Any
) -> None:
    """A client may name any place for a callback, such as a key that is no list."""
    app = App("hostile", broker=redis_url, set_as_current=False)
    worker = processes.start_qcore_worker(redis_url, "-c", "1")
    app.send_task("proj.add", (1, 1)).get(timeout=60)
    redis_server.client().set("no-list", "text")
    bad = {"task": "proj.add", "args": [1], "kwargs": {}, "options": {"queue": "no-list"}}

    results = [app.send_task("proj.add", (i, 1), link=bad if i == 3 else None) for i in range(10)]

    assert [r.get(timeout=60) for r in results] == list(range(1, 11))
    worker.wait_output("was not sent")
    wait_for(lambda: app.broker.administration.depth("celery").in_flight == 0)
    app.close()


def test_a_worker_whose_slots_are_all_busy_sleeps(app: App, url: str, processes: Processes) -> None:
    worker = processes.start_qcore_worker(url, "-c", "1")
    for _ in range(5):
        app.send_task("proj.nap", (LONG_S,))
    wait_for(lambda: active(app))
    deadline = time.monotonic() + 1.0
    before = cpu_s(worker.pid)

    wait_for(lambda: time.monotonic() > deadline)

    assert cpu_s(worker.pid) - before < 0.3, "it looks for work it has no room for"


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
