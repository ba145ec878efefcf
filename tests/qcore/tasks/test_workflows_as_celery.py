"""The same lines of a client on Celery and on qcore, each with its own worker, come to the same values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import celery
import pytest

import qcore
from tests.support.processes import Processes
from tests.support.redis_server import RedisServer, require_server
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

FLOWS = "tests.projects.flows"
NEAR = {"timeout": 30}


class Kit(NamedTuple):
    """A package, an app of it that only sends, and s(): a signature of the project of its worker."""

    package: Any
    app: Any

    def s(self, name: str, *args: Any, **options: Any) -> Any:
        return self.package.signature(f"flows.{name}", args=args, app=self.app, **options)


@pytest.fixture(scope="session")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Kit]]:
    """The kit of each kind, made at its first use: a worker of Celery's takes long to start."""
    running = Processes(tmp_path_factory.mktemp("kits"))
    servers: list[RedisServer] = []

    @cache
    def made(kind: str) -> Kit:
        servers.append(RedisServer(require_server()))
        url = servers[-1].url
        if kind == "celery":
            with pytest.MonkeyPatch.context() as patched:
                patched.setenv("FLOWS_CELERY", "1")
                running.start_celery_worker(url, url, "-c", "2", app=FLOWS)
            return Kit(celery, celery.Celery("client", broker=url, backend=url, set_as_current=False))
        running.start_qcore_worker(url, "-c", "2", app=FLOWS)
        return Kit(qcore, qcore.App("client", broker=url, backend=url, set_as_current=False))

    yield made
    running.close()
    for server in servers:
        server.stop()


@pytest.fixture(params=["celery", "qcore"])
def kit(request: pytest.FixtureRequest, kits: Callable[[str], Kit]) -> Iterator[Kit]:
    found = kits(request.param)
    yield found
    found.app.close()  # it connects again


def _values(kit: Kit) -> Iterator[tuple[Any, Any]]:
    p, s = kit.package, kit.s
    three = p.chain(
        p.group(s("add", 1, 1), s("add", 2, 2)),
        p.group(s("total"), s("total", 1), s("total", 2)),
        p.group(s("total"), s("total", 1), s("total", 2)),
        s("total"),
    )
    yield three, 66
    inner = p.chord([s("add", 1, 2)], s("total") | s("listed"))
    yield p.chord([inner, s("add", 1, 1)], s("total")), 5
    yield p.chord([p.chord([s("add", 1, 2), s("add", 3, 4)], s("total") | s("listed"))], s("total")), 10
    two = [s("add", 1, 1), s("add", 2, 2)]
    yield p.chain(p.group(s("add", 1, 1)), s("add", 1)), 3
    yield p.chain(s("add", 1, 1), p.group(s("add", 1))), 3
    yield p.chain(p.group(two), p.group(s("total"))), [6]
    yield p.group(s("add", 1, 2) | p.group(s("add", 1), s("add", 2))), [4, 5]


def test_nested_workflows_come_to_the_same_values(kit: Kit) -> None:
    for number, (flow, value) in enumerate(_values(kit)):
        assert flow.apply_async().get(**NEAR) == value, number


def test_a_step_behind_three_groups_runs_once(kit: Kit, tmp_path: Path) -> None:
    p, s, log = kit.package, kit.s, tmp_path / "log"
    groups = [p.group(*(s("listed") for _ in range(n))) for n in (3, 3)]
    last = s("note_sent", str(log), immutable=True)

    result = p.chain(p.group(s("add", 1, 1), s("add", 2, 2)), *groups, last).apply_async()
    result.get(**NEAR)
    p.chain(s("add", 1, 1), s("add", 1)).apply_async().get(**NEAR)

    assert log.read_text().splitlines() == ["sent"]


def test_get_of_a_chord_raises_the_error_of_its_member(kit: Kit) -> None:
    p, s = kit.package, kit.s

    with pytest.raises(ValueError, match="boom"):
        p.chord([s("add", 1, 1), s("fail")], s("total")).apply_async().get(**NEAR)


def test_a_chords_errback_gets_the_request_and_the_error(kit: Kit, tmp_path: Path) -> None:
    p, s, log = kit.package, kit.s, tmp_path / "log"
    body = s("total").on_error(s("told", str(log)))

    result = p.chord([s("add", 1, 1), s("fail")], body).apply_async()

    wait_for(lambda: log.exists() and log.read_text(), 30)
    assert log.read_text().splitlines() == [f"{result.id} ChordError"]


def test_the_callback_of_a_chain_follows_its_own_last_step(kit: Kit, tmp_path: Path) -> None:
    p, s, log = kit.package, kit.s, tmp_path / "log"
    first = p.chain(s("add", 1, 1), s("add", 1))
    first.link(s("write", str(log)))

    with pytest.raises(ValueError, match="boom"):
        (first | s("fail")).apply_async().get(**NEAR)

    wait_for(lambda: log.exists() and log.read_text(), 30)
    assert log.read_text().splitlines() == ["3"]


def test_the_callback_of_a_chain_that_ends_in_a_group_follows_every_member(kit: Kit, tmp_path: Path) -> None:
    p, s, log = kit.package, kit.s, tmp_path / "log"
    flow = p.chain(s("add", 1, 1), p.group(s("add", 1), s("add", 2)))
    flow.link(s("write", str(log)))

    assert flow.apply_async().get(**NEAR) == [3, 4]

    wait_for(lambda: log.exists() and sorted(log.read_text().splitlines()) == ["3", "4"], 30)


def test_a_chord_completes_whose_member_is_replaced_twice_and_fails(kit: Kit) -> None:
    p, s = kit.package, kit.s
    inner = p.chain(s("replaced_by", p.chain(s("add", 1, 1), s("fail"))), s("add", 1))

    result = p.chord([s("add", 1, 1), s("replaced_by", inner)], s("total")).apply_async()

    with pytest.raises(Exception) as failed:
        result.get(follow_parents=False, **NEAR)
    assert type(failed.value).__name__ == "ChordError"


def test_a_body_that_is_a_group_fails_with_what_its_member_raised(kit: Kit, tmp_path: Path) -> None:
    p, s, log = kit.package, kit.s, tmp_path / "log"
    body = p.group(s("total"), s("listed"))
    body.link_error(s("told", str(log)))

    result = p.chord([s("add", 1, 1), s("fail")], body).apply_async()

    wait_for(lambda: log.exists() and len(log.read_text().splitlines()) == 2, 30)
    ids = {one.id for one in result.results}
    assert {tuple(line.split()) for line in log.read_text().splitlines()} == {(i, "ValueError") for i in ids}


def test_a_callback_that_is_linked_twice_is_called_once(kit: Kit, tmp_path: Path) -> None:
    s, log = kit.s, tmp_path / "log"
    call, note = s("add", 1, 1), s("note_sent", str(log), immutable=True)
    call.link(note)
    call.link(note)

    result = call.apply_async()

    assert result.get(**NEAR) == 2
    wait_for(lambda: [c.get(**NEAR) for c in result.children], 30)
    assert len(result.children) == 1
    assert log.read_text().splitlines() == ["sent"]


def test_a_groups_callback_follows_its_first_task(kit: Kit, tmp_path: Path) -> None:
    log = tmp_path / "log"
    group = kit.package.group(kit.s("add", 1, 1), kit.s("add", 2, 2))
    group.link(kit.s("note_sent", str(log)))

    assert group.apply_async().get(**NEAR) == [2, 4]
    wait_for(lambda: log.exists() and log.read_text() == "sent\n", 30)


@pytest.mark.parametrize("how", ["returned", "raised"])
def test_a_retry_that_is_not_thrown_runs_again(kit: Kit, tmp_path: Path, how: str) -> None:
    log = tmp_path / "log"

    kit.s("retried_without_throw", how, str(log)).apply_async()

    wait_for(lambda: log.exists() and "run 2" in log.read_text(), 30)
    kit.s("add", 1, 1).apply_async().get(**NEAR)
    assert log.read_text().splitlines() == ["run 0", "run 1", "run 2"]


def test_the_limit_that_retry_is_given_holds_for_autoretry_too(kit: Kit, tmp_path: Path) -> None:
    log = tmp_path / "log"

    result = kit.s("no_more_retries", str(log)).apply_async()

    with pytest.raises(ValueError, match="enough"):
        result.get(**NEAR)
    assert log.read_text().splitlines() == ["run 0"]


def test_get_of_an_ignored_result_is_none_at_once(kit: Kit) -> None:
    assert kit.s("add", 1, 1).apply_async(ignore_result=True).get(timeout=20) is None
    result = kit.s("add", 1, 1).apply_async()
    assert result.get(**NEAR) == 2
    result.forget()
    assert result.get(timeout=20) is None


def test_a_task_may_return_a_handle(kit: Kit) -> None:
    found = kit.s("returns_a_handle").apply_async().get(**NEAR)

    assert found == [["abc", None], None]


def test_rules_of_signatures_and_results(kit: Kit) -> None:
    p, s = kit.package, kit.s
    header = [s("add", 1, 1), s("add", 2, 2)]
    made: Callable[..., Any] = p.chord
    flow = p.chain(s("add", 1, 1), s("add", 1))
    frozen = flow.freeze("the-id")

    assert list(made(header, s("total")).tasks) == header
    assert flow.id == frozen.id == "the-id"
    assert kit.app.AsyncResult("abc") == "abc"
    assert p.chain(app=kit.app).apply_async() is None


def test_a_soft_limit_above_the_hard_one_is_refused(kit: Kit) -> None:
    @kit.app.task(soft_time_limit=9, time_limit=3)
    def limited() -> None: ...

    with pytest.raises(ValueError, match="soft_time_limit"):
        limited.apply_async()


def test_get_calls_back_with_the_id_and_the_value(kit: Kit) -> None:
    one = kit.s("add", 1, 1).apply_async()
    two = kit.package.group(kit.s("add", 1, 1), kit.s("add", 2, 2)).apply_async()
    called: list[tuple[str, Any]] = []

    one.get(callback=lambda *seen: called.append(seen), **NEAR)
    two.get(callback=lambda *seen: called.append(seen), **NEAR)

    assert called[0] == (one.id, 2)
    assert sorted(called[1:]) == sorted([(two[0].id, 2), (two[1].id, 4)])
    assert (datetime.now(UTC) - one.date_done.replace(tzinfo=UTC)).total_seconds() < 600


def test_the_text_of_hidden_arguments_travels(kit: Kit, tmp_path: Path) -> None:
    log = tmp_path / "log"

    kit.s("notes_its_text", str(log)).apply_async(argsrepr="<secret>", kwargsrepr="<none>").get(**NEAR)

    assert log.read_text().splitlines()[0] == "<secret> <none>"


def test_the_text_of_hidden_arguments_outlives_a_retry(
    redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    processes.start_qcore_worker(redis_url, "-c", "1", app=FLOWS)
    app = qcore.App("client", broker=redis_url, backend=redis_url, set_as_current=False)

    app.send_task("flows.notes_its_text", (str(log),), argsrepr="<secret>", kwargsrepr="<none>").get(**NEAR)

    assert log.read_text().splitlines() == ["<secret> <none>"] * 2
    app.close()


def test_a_replaced_body_keeps_the_place_of_what_follows_it_in_an_outer_chord(kit: Kit) -> None:
    p, s = kit.package, kit.s
    inner = p.chord([s("add", 1, 2)], s("replaced_by", s("add", 1, 2), immutable=True))

    assert p.chord([p.chain(inner, s("add", 1))], s("total")).apply_async().get(**NEAR) == 4


def test_an_errback_of_a_chord_is_one_of_a_chord_in_its_header_too(kit: Kit, tmp_path: Path) -> None:
    p, s, log = kit.package, kit.s, tmp_path / "log"
    flow = p.chord([p.chain(p.group(s("add", 1, 1), s("add", 2, 2)), s("fail"))], s("total"))
    flow.link_error(s("failed", str(log)))

    result = flow.apply_async()

    with pytest.raises(Exception, match=r"boom|raised"):
        result.get(**NEAR)
    wait_for(lambda: log.exists() and len(log.read_text().splitlines()) == 2)
