"""What a caller does with results: the same lines on Celery and on qcore, each with its own worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.qcore.tasks.test_workflows_as_celery import NEAR, Kit, kit, kits
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow
__all__ = ["kit", "kits"]  # the fixtures


@pytest.mark.parametrize(("how", "found"), [("plainly", "RuntimeError"), ("asked", 2), ("allowed", 2)])
def test_a_task_waits_for_a_result_only_if_it_says_so(kit: Kit, how: str, found: Any) -> None:
    assert kit.s("waits", how).apply_async().get(**NEAR) == found


def test_hooks_about_names_and_replacements_are_called(kit: Kit, tmp_path: Path) -> None:
    log = tmp_path / "log"

    assert kit.s("observed", 1, str(log)).apply_async(shadow="given").get(**NEAR) == 2

    assert log.read_text().splitlines() == ["flows given", "replaced by flows.add"]


def test_the_children_of_a_result_are_those_that_it_keeps(kit: Kit) -> None:
    result = kit.s("parent").apply_async()
    bare = kit.s("without_trail").apply_async()

    result.get(**NEAR), bare.get(**NEAR)

    assert [child.id == "by hand" for child in result.children] == [False, True]
    assert not bare.children


def test_then_is_called_when_the_state_has_been_read(kit: Kit) -> None:
    called: list[Any] = []
    one, bad = kit.s("add", 1, 1).apply_async(), kit.s("fail").apply_async()
    several = kit.package.group(kit.s("add", 1, 1), kit.s("add", 2, 2)).apply_async()
    for result in (one, bad, several):
        result.then(lambda found: called.append(found.id))

    one.get(**NEAR)
    bad.get(propagate=False, **NEAR)
    several.get(**NEAR)

    assert sorted(called) == sorted([one.id, bad.id, several.id])


def test_get_tells_of_messages_and_intervals(kit: Kit) -> None:
    told: list[Any] = []
    called: list[int] = []
    result = kit.s("add", 1, 1).apply_async(countdown=2)

    value = result.get(on_message=told.append, on_interval=lambda: called.append(1), interval=0.2, **NEAR)

    assert value == 2
    assert (told[-1]["task_id"], told[-1]["status"], told[-1]["result"]) == (result.id, "SUCCESS", 2)
    assert called


def test_the_results_of_a_group_are_read_as_they_arrive(kit: Kit) -> None:
    late, soon = kit.s("add", 1, 1), kit.s("add", 2, 2)
    late.set(countdown=2)
    group = kit.package.group(late, soon).apply_async()

    found = [(task_id, meta["status"], meta["result"]) for task_id, meta in group.iter_native(**NEAR)]

    assert found == [(group[1].id, "SUCCESS", 4), (group[0].id, "SUCCESS", 2)]


def _tree(kit: Kit) -> Any:
    first = kit.s("add", 1, 1)
    first.link(kit.s("add", 5))
    result = first.apply_async()
    result.get(**NEAR)
    wait_for(lambda: all(child.ready() for child in result.children) and result.children, 30)
    return result


def test_a_result_lists_what_followed_from_it(kit: Kit) -> None:
    result = _tree(kit)
    child = result.children[0]

    graph = result.build_graph()

    assert list(result.iterdeps()) == [(None, result), (result, child)]
    assert list(result.collect()) == [(result, 2), (child, 7)]
    assert result.get_leaf() == 7
    assert graph.adjacent == result.graph.adjacent == {result: [child], child: []}
    assert graph.topsort() == [child, result]
    assert (list(graph.edges()), graph.valency_of(result), child in graph) == ([result], 1, True)


def test_a_result_that_is_not_ready_stops_the_list(kit: Kit) -> None:
    result = kit.s("add", 1, 1).apply_async(countdown=60)

    with pytest.raises(Exception) as stopped:
        list(result.iterdeps())

    assert type(stopped.value).__name__ == "IncompleteStream"
    assert list(result.iterdeps(intermediate=True)) == [(None, result)]


def test_maybe_throw_raises_what_failed(kit: Kit) -> None:
    bad, good = kit.s("fail").apply_async(), kit.s("add", 1, 1).apply_async()
    wait_for(lambda: bad.ready() and good.ready(), 30)

    with pytest.raises(ValueError, match="boom"):
        bad.maybe_throw()
    assert good.maybe_throw() == 2
    assert isinstance(bad.maybe_throw(propagate=False), ValueError)


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ("nothing", ["called back", "first", "last"]),
        ("no chain", ["called back"]),
        ("retry without chain", ["called back"]),
        ("shorter chain", ["called back", "last"]),
        ("other arguments", ["called back", "last", "other"]),
        ("no callbacks", ["first", "last"]),
        ("no errbacks", []),
    ],
)
def test_a_task_changes_what_follows(kit: Kit, what: str, found: list[str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    Path(f"{log}.other").touch()
    first = kit.s("changes_what_follows", what, str(log))
    first.link(kit.s("write", "called back", str(log), immutable=True))
    first.link_error(kit.s("write", "failed", str(log), immutable=True))
    last = kit.s("write", "last", str(log), immutable=True)
    kit.package.chain(first, kit.s("write", "first", str(log), immutable=True), last).apply_async()

    def seen() -> list[str]:
        lines = log.read_text().splitlines() if log.exists() else []
        return sorted(lines + ["other"] * bool(Path(f"{log}.other").read_text()))

    wait_for(lambda: len(seen()) >= len(found))
    kit.s("add", 1, 1).apply_async().get(**NEAR)
    assert seen() == found
