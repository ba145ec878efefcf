"""Rules of signatures, results and eager runs: the same lines on Celery and on qcore, in one process."""

from __future__ import annotations

import copy
import pickle
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import celery
import celery.canvas
import celery.exceptions
import pytest

import qcore
import qcore.errors
from qcore.wire import task as task_wire


class Kit(NamedTuple):
    package: Any
    app: Any
    add: Any
    mul: Any
    errors: Any
    visitor: Any


def _kit(package: Any, app: Any, errors: Any, visitor: Any) -> Kit:
    @app.task(name="add", shared=False)  # Celery gives a shared one to the apps of other tests
    def add(x: Any, y: Any) -> Any:
        return x + y

    @app.task(name="mul", shared=False)
    def mul(x: Any, y: Any) -> Any:
        return x * y

    return Kit(package, app, add, mul, errors, visitor)


def kits() -> tuple[Kit, Kit]:
    theirs = celery.Celery("c", broker="memory://", backend="cache+memory://", set_as_current=False)
    ours = qcore.App("q", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
    return (
        _kit(celery, theirs, celery.exceptions, celery.canvas.StampingVisitor),
        _kit(qcore, ours, qcore.errors, qcore.StampingVisitor),
    )


def joined_in_place(k: Kit) -> Any:
    flow = k.add.s(1, 1)
    flow |= k.mul.s(2)
    return [(t.task, tuple(t.args)) for t in flow.tasks]


def keyword_set_later(k: Kit) -> Any:
    sig = k.add.s(1)
    sig.kwargs["y"] = 5
    return dict(sig)


def called_at_once(k: Kit) -> Any:
    k.app.conf.task_always_eager = True
    return ~k.add.s(1, 2)


def linked_twice(k: Kit) -> Any:
    sig = k.add.s(1, 1)
    for _ in range(2):
        sig.link(k.mul.s(2))
        sig.link_error(k.mul.s(3))
    return [list(sig.options[key]) for key in ("link", "link_error")]


def made_immutable(k: Kit) -> Any:
    flow = k.package.group(k.add.s(1), k.package.chain(k.mul.s(2), k.mul.s(3)))
    flow.set_immutable(True)
    return [t.immutable for t in flow.tasks]


def from_dict(k: Kit) -> Any:
    return repr(k.package.Signature.from_dict(dict(k.add.s(1, 2))))


def replaced(k: Kit) -> Any:
    return dict(k.add.s(1).replace(args=(5,))), dict(k.add.s(1).replace(options={"queue": "a"}))


def names(k: Kit) -> Any:
    sig = k.add.s(1)
    sig.link(k.mul.s(2))
    flow = k.package.chain(k.add.s(1), k.mul.s(2), app=k.app)
    return (
        *(sig.name, sig.subtask_type, flow.subtask_type, sig.type is k.app.tasks["add"]),
        *(sig.reprcall(2, y=3), len(sig.flatten_links()), len(flow.unchain_tasks()), k.add.__name__),
    )


def skewed(k: Kit) -> Any:
    group = k.package.group([k.add.s(i) for i in range(5)]).skew(1, 4)
    return [t.options.get("countdown") for t in group.tasks]


def prepared(k: Kit) -> Any:
    given = {"last_task_id": "last", "link_error": k.add.s(0), "group_id": "g", "group_index": 2}
    one, group = k.add.s(1), k.package.group(k.add.s(1, 1), k.add.s(2))
    found = []
    for tasks in ([one, k.package.chain(k.mul.s(2), k.add.s(3))], [group, k.mul.s(2), k.add.s(4)], []):
        chain = k.package.chain(one, app=k.app)
        steps, results = chain.prepare_steps((9,), {}, tasks, app=k.app, **given)
        shown = [(s.task, tuple(s.args), len(s.options.get("link_error", ()))) for s in steps]
        parents = [r.parent is not None and r.parent.id in [s.id for s in results] for r in results]
        places = [(s.options.get("group_id"), s.options.get("group_index")) for s in steps[:1]]
        found.append((shown, [r.id for r in results[:1]], parents, places, chain.id))
    frozen = k.package.chain(one, app=k.app).prepare_steps((), {}, [one, k.add.s(2)], app=k.app, clone=False)
    return found, one.id == frozen[1][-1].id


def copied(k: Kit) -> Any:
    flow = k.package.chain(k.add.s(1), k.mul.s(2), app=k.app)
    deep, pickled = copy.deepcopy(flow), pickle.loads(pickle.dumps(k.add.s(1, 2)))
    step = deep["kwargs"]["tasks"][1]
    return step == flow.tasks[1], dict(pickled)


def stamped(k: Kit) -> Any:
    class Visitor(k.visitor):  # type: ignore[misc,name-defined]
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {"by": sig.name}

        def on_group_start(self, group: Any, **headers: Any) -> dict[str, Any]:
            return {"in": "group"}

        def on_chain_start(self, chain: Any, **headers: Any) -> dict[str, Any]:
            return {"in": "chain", "not": 1, "stamped_headers": ["in"]}

    found = []
    plain, linked = k.add.s(1, 1), k.add.s(2, 2)
    plain.stamp(a="b")
    linked.link(k.mul.s(2))
    linked.stamp(a="c")
    group = k.package.group([k.add.s(1, 1), k.mul.s(2, 2)])
    group.stamp(Visitor())
    flow = k.package.chain(k.add.s(1, 1), k.mul.s(2), app=k.app)
    flow.stamp(Visitor(), a=1)
    for sig in (plain, linked, linked.options["link"][0], *group.tasks, *flow.tasks):
        found.append({n: sorted(v) if n == "stamped_headers" else v for n, v in sig.options.items()})
        found[-1].pop("link", None)
    return found


def result_names(k: Kit) -> Any:
    result = k.app.AsyncResult("a")
    result.parent = k.app.AsyncResult("b")
    id_ = uuid.UUID(int=5)
    return result.as_list(), result.task_id, result == "a", result == "b", str(k.app.AsyncResult(id_))


def result_sets(k: Kit) -> Any:
    found = k.app.ResultSet([k.app.AsyncResult("a")])
    found.update([k.app.AsyncResult("b"), k.app.AsyncResult("a")])
    found.discard(k.app.AsyncResult("z"))
    found.remove("a")
    rest = [str(r) for r in found.results]
    with pytest.raises(KeyError):
        found.remove("a")
    found.clear()
    return rest, len(found.results)


def eager(k: Kit) -> Any:
    @k.app.task(name="ignoring")
    def ignoring() -> None:
        raise k.errors.Ignore

    @k.app.task(name="rejecting")
    def rejecting() -> None:
        raise k.errors.Reject("no")

    @k.app.task(name="looking", bind=True)
    def looking(self: Any) -> Any:
        return self.request.is_eager

    @k.app.task(name="replacing", bind=True)
    def replacing(self: Any) -> Any:
        return self.replace(k.add.s(1, 2))

    return [t.apply().state for t in (ignoring, rejecting)], looking.apply().get(), replacing.apply().get()


def ids_of_workflows(k: Kit) -> Any:
    flows = [k.package.chord([k.add.s(1, 1)] * 2, k.mul.s(2)), k.add.s(1, 1) | k.mul.s(2)]
    return [flow.set(task_id=str(n)).apply_async().id for n, flow in enumerate(flows)]


def state_without_a_task(k: Kit) -> Any:
    with pytest.raises(ValueError, match="task_id"):
        k.add.update_state(state="X")


def event_of_no_worker(k: Kit) -> Any:
    k.app.events.State().event({"type": "worker-x", "timestamp": 1, "clock": 1})


RULES: tuple[Callable[[Kit], Any], ...] = (
    joined_in_place,
    keyword_set_later,
    called_at_once,
    linked_twice,
    made_immutable,
    from_dict,
    replaced,
    names,
    skewed,
    prepared,
    copied,
    stamped,
    result_names,
    result_sets,
    eager,
    ids_of_workflows,
    state_without_a_task,
    event_of_no_worker,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_same_lines_give_the_same(rule: Callable[[Kit], Any]) -> None:
    theirs, ours = kits()

    assert rule(ours) == rule(theirs)


def test_stamps_travel_as_headers() -> None:
    _, ours = kits()
    sig = ours.add.s(1, 1)
    sig.stamp(customer="c-7")

    message = ours.app.message("add", sig.args, sig.kwargs, "some-id", sig.options)

    headers = task_wire.read(message.raw).headers
    assert headers["stamps"] == {"customer": "c-7"}
    assert headers["stamped_headers"] == ["customer"]
