"""RabbitMQ: who is there, who is silent, and what was revoked while nobody was."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from qcore import App
from qcore.brokers.contract.records import Message
from qcore.control.client import Answers
from qcore.errors import BrokerDown
from qcore.wire import task
from tests.faults import size
from tests.faults.fleet import Fleet, fleet
from tests.support.processes import Processes, run_python
from tests.support.rabbit_server import RabbitServer
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

__all__ = ["fleet"]

#: a time-out that nothing sits out, and how soon a request that all answer ends, however busy the machine is
LONG_S, REQUEST_S = 60.0, 30.0


@pytest.fixture
def app(rabbit_url: str) -> Iterator[App]:
    made = App("asks", broker=rabbit_url, set_as_current=False)
    yield made
    made.close()


@pytest.fixture
def three(processes: Processes, rabbit_url: str) -> list[str]:
    for name in "abc":
        processes.start_qcore_worker(rabbit_url, "-P", "solo", name=f"{name}@test", ready=False)
    for process in processes._all:
        process.wait_output(r"\bready\b")
    return ["a@test", "b@test", "c@test"]


def ping(app: App, whom: list[str] | None = None, timeout_s: float = LONG_S) -> Answers:
    return app.control.ask("ping", None, whom, timeout_s)


def test_a_request_ends_when_all_have_answered(app: App, three: list[str]) -> None:
    ping(app)  # connects

    answers = ping(app)
    some = ping(app, ["[ab]@*"])

    assert sorted(answers.replies) == three
    assert (answers.heard, answers.silent) == (3, [])
    assert answers.took_s < REQUEST_S
    assert sorted(some.replies) == three[:2] and some.took_s < REQUEST_S
    print(f"three workers answered after {answers.took_s:.3f} s")


def test_nobody_is_known_to_be_there_at_once(app: App) -> None:
    answers = ping(app)

    assert (answers.heard, answers.replies) == (0, {})
    assert answers.took_s < REQUEST_S


def test_who_is_stopped_is_silent_and_who_was_killed_is_not_waited_for(
    app: App, three: list[str], processes: Processes
) -> None:
    processes._all[1].stop()
    processes._all[2].kill9()
    wait_for(lambda: ping(app, timeout_s=1.0).heard == 2)

    for timeout_s in (1.0, 4.0, 15.0):  # on a busy machine the first may be too short for a@test
        answers = ping(app, timeout_s=timeout_s)
        if answers.replies:
            break

    assert list(answers.replies) == ["a@test"]
    assert three[1] in [one.node for one in answers.silent]
    assert answers.took_s >= timeout_s
    processes._all[1].cont()
    processes._all[1].term()
    processes._all[1].wait(60)
    wait_for(lambda: ping(app, timeout_s=1.0).heard == 1)
    assert ping(app).took_s < REQUEST_S


def test_a_restarted_worker_is_there_again_and_one_that_left_is_forgotten(
    app: App, three: list[str], processes: Processes, rabbit_url: str
) -> None:
    processes._all[0].term()
    processes._all[1].term()
    assert [p.wait(60) for p in processes._all[:2]] == [0, 0]
    processes.start_qcore_worker(rabbit_url, "-P", "solo", name=three[0])

    answers = ping(app)

    assert (sorted(answers.replies), answers.silent) == ([three[0], three[2]], [])
    assert [m.node for m in app.control.known()] == [three[0], three[2]]


def test_celerys_workers_are_found_as_well(app: App, processes: Processes, rabbit_url: str) -> None:
    processes.start_qcore_worker(rabbit_url, "-P", "solo", name="ours@test")
    processes.start_celery_worker(rabbit_url, "rpc://", "-P", "solo", name="theirs@test")

    answers = ping(app, timeout_s=5.0)
    by_name = ping(app, ["theirs@test"])
    words = ("-b", rabbit_url, "inspect", "ping", "-j", "--timeout", "5")
    with_celery = run_python("-m", "celery", *words)

    assert sorted(answers.replies) == ["ours@test", "theirs@test"]
    assert answers.heard is None  # so it was waited for those who might come
    assert list(by_name.replies) == ["theirs@test"] and by_name.took_s < REQUEST_S
    assert sorted(json.loads(with_celery.stdout)) == ["ours@test", "theirs@test"]


def test_a_user_who_may_only_do_what_celery_does_is_answered_at_the_time_out(
    processes: Processes, rabbit_url: str, rabbit_server: RabbitServer
) -> None:
    vhost = rabbit_url.rpartition("/")[2]
    rabbit_server.ask('rabbit_auth_backend_internal:add_user(<<"plain">>, <<"plain">>, <<"qcore">>)')
    rabbit_server.ask(
        f'rabbit_auth_backend_internal:set_permissions(<<"plain">>, <<"{vhost}">>, '
        '<<"^(?!qcore).*">>, <<"^(?!qcore).*">>, <<"^(?!qcore).*">>, <<"qcore">>)'
    )
    url = rabbit_url.replace("guest:guest", "plain:plain")
    processes.start_qcore_worker(url, "-P", "solo", name="ours@test")
    app = App("asks", broker=url, set_as_current=False)

    answers = ping(app, timeout_s=5.0)

    assert list(answers.replies) == ["ours@test"]
    assert answers.heard is None
    app.close()
    rabbit_server.ask('rabbit_auth_backend_internal:delete_user(<<"plain">>, <<"qcore">>)')


@pytest.mark.own_rabbit
def test_workers_are_found_again_after_their_broker_was_restarted(
    app: App, three: list[str], rabbit_server: RabbitServer
) -> None:
    rabbit_server.restart()

    def found() -> bool:
        try:
            return sorted(ping(app, timeout_s=2.0).replies) == three
        except BrokerDown:
            return False

    wait_for(found, 60)
    wait_for(lambda: ping(app, timeout_s=2.0).heard == 3, 60)  # the broker has dropped the old queues
    assert ping(app).took_s < REQUEST_S


@pytest.mark.parametrize("fleet", ["rabbit"], indirect=True)
def test_what_was_revoked_while_no_worker_ran_never_runs(fleet: Fleet) -> None:
    count, restarts = size(500, 5000), size(1, 5)
    queued = {f"q{i}": fleet.work(f"q{i}") for i in range(count // 2)}
    delayed = {f"d{i}": fleet.work(f"d{i}", countdown=2.0) for i in range(count // 2)}
    messages = {**queued, **delayed}
    fleet.app.broker.publish(list(messages.values()))
    revoked = list(messages)[::5]
    fleet.expect(name for name in messages if name not in revoked)

    fleet.app.control.revoke([task_id_of(messages[name]) for name in revoked])
    for _ in range(restarts):
        worker = fleet.worker()
        worker.term()
        assert worker.wait(60) == 0
    fleet.worker()
    fleet.wait_done()

    assert len(revoked) == count // 5
    assert not [name for name in revoked if name in fleet.history.tasks]
    fleet.verdict().require(0)


def task_id_of(message: Message) -> str:
    return task.read(message.raw).id
