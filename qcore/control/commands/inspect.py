"""Commands that query a worker: its tasks, queues, settings and statistics."""

from __future__ import annotations

import gc
import importlib
import os
from collections import deque
from typing import Any

from msgspec import to_builtins

from qcore.base.process_facts import resident_kib
from qcore.control.commands.base import (
    MOST_IDS,
    Arg,
    Ids,
    Name,
    Slots,
    WorkerView,
    command,
    described,
    of_users,
)
from qcore.settings.config import masked


@command("active", kind="inspect", alias="dump_active")
def active(worker: WorkerView, safe: bool = False, **_: Any) -> Any:
    """Running tasks."""
    tasks = worker.active()
    if safe:
        return [{**t, "args": repr(t["args"]), "kwargs": repr(t["kwargs"])} for t in tasks]
    return tasks


@command("active_queues", kind="inspect")
def active_queues(worker: WorkerView, **_: Any) -> Any:
    """Queues that the worker consumes."""
    pauses = {pause.queue: pause for pause in worker.app.broker.administration.pauses()}
    queues = [(name, worker.app.queue_table.definition(name)) for name in worker.queues()]
    return [
        {
            "name": name,
            "exchange": {
                "name": found.own.exchange,
                "type": found.own.kind,
                "arguments": found.own.arguments,
                "durable": found.own.durable,
                "passive": False,
                "auto_delete": found.own.auto_delete,
                "delivery_mode": None,
                "no_declare": False,
            },
            "routing_key": found.own.routing_key,
            "queue_arguments": found.arguments or None,
            "binding_arguments": None,
            "consumer_arguments": None,
            "durable": found.durable,
            "exclusive": found.exclusive,
            "auto_delete": found.auto_delete,
            "no_ack": False,
            "alias": found.alias or None,
            "bindings": [],
            "no_declare": None,
            "expires": None,
            "message_ttl": None,
            "max_length": None,
            "max_length_bytes": None,
            "max_priority": None,
            "paused": name in pauses,
            "pause": to_builtins(pauses[name]) if name in pauses else None,
        }
        for name, found in queues
    ]


@command("clock", kind="inspect")
def clock(worker: WorkerView, **_: Any) -> Any:
    """The logical clock of the worker."""
    return {"clock": worker.clock()}


@command("commands", kind="inspect", visible=False)
def commands(worker: WorkerView, **_: Any) -> Any:
    """Control commands that the app of this worker defines."""
    return [described(found) for found in of_users()]


@command(
    "conf",
    kind="inspect",
    alias="dump_conf",
    args=(Arg("with_defaults", bool, False, False, "show every setting, not only the changed ones"),),
    signature="[include_defaults=False]",
)
def conf(worker: WorkerView, with_defaults: bool = False, **_: Any) -> Any:
    """Settings of the worker, secrets hidden."""
    conf = worker.app.conf
    return masked(dict(conf) if with_defaults else conf.changed())


@command("election", kind="control", visible=False)
def election(worker: WorkerView, id: Name, topic: Name, action: Any = None, **_: Any) -> Any:
    """Elect one of the workers; it publishes `action`, a signature, if the topic is "task"."""
    worker.hold_election(id, topic, action)


@command("hello", kind="inspect", visible=False)
def hello(
    worker: WorkerView, from_node: Name, revoked: list[Name] | dict[str, Any] | None = None, **_: Any
) -> Any:
    """Handshake of a worker that starts: exchange revoked ids and clocks."""
    if from_node == worker.node:
        return None
    if revoked:
        worker.revoke(task_ids=[str(i) for i in revoked], store=False)
    return {"revoked": worker.revoked(), "clock": worker.clock()}


@command("memsample", kind="inspect")
def memsample(worker: WorkerView, **_: Any) -> Any:
    """Resident memory of the worker."""
    sample = _resident()
    _samples.append(sample)
    return sample


#: what the last requests of `memsample` told, until memdump prints them
_samples: deque[str] = deque(maxlen=10_000)


def _resident() -> str:
    return f"{resident_kib(os.getpid()) / 1024:.1f}MB"


@command(
    "memdump",
    kind="inspect",
    args=(Arg("samples", int, False, 10, "how many samples to print"),),
    signature="[n_samples=10]",
)
def memdump(worker: WorkerView, samples: Slots = 10, **_: Any) -> Any:
    """Samples of memsample since the last dump, and the memory after a collection."""
    found = list(_samples)
    _samples.clear()
    chosen = found if len(found) <= samples else found[:: len(found) // samples][:samples]
    gc.collect()
    lines = ["- rss (sample):", *(f"-    > {one}," for one in chosen)] if chosen else []
    return "\n".join([*lines, f"- rss (end): {_resident()}.", ""])


@command(
    "objgraph",
    kind="inspect",
    args=(
        Arg("object_type", str, False, "Request", "a class; Request: tasks held"),
        Arg("num", int, False, 200, "how many objects at most"),
        Arg("max_depth", int, False, 10, "how many levels of references"),
    ),
    signature="[object_type=Request] [num=200 [max_depth=10]]",
    scope="operate",
)
def objgraph(
    worker: WorkerView,
    num: Slots = 200,
    max_depth: Slots = 10,
    type: Name = "Request",
    object_type: Name = "",
    **_: Any,
) -> Any:
    """Draw what refers to the objects of a class, in a file where the worker runs.

    It needs the package objgraph there.
    """
    try:
        graphs = importlib.import_module("objgraph")
    except ImportError:
        raise ValueError("the package objgraph is not installed where the worker runs") from None
    import tempfile  # each worker imports this file

    wanted = object_type or type
    objects = graphs.by_type("InFlight" if wanted == "Request" else wanted)[:num]
    with tempfile.NamedTemporaryFile(prefix="cobjg", suffix=".png", delete=False) as file:
        graphs.show_backrefs(
            objects, max_depth=max_depth, highlight=lambda one: one in objects, filename=file.name
        )
    return {"filename": file.name}


@command("ping", kind="inspect")
def ping(worker: WorkerView, **_: Any) -> Any:
    """Reply with pong."""
    return {"ok": "pong"}


@command("query_task", kind="inspect", variadic="ids", signature="<id1> [id2 [... [idN]]]")
def query_task(worker: WorkerView, ids: Ids = "", **_: Any) -> Any:
    """State of these tasks on the worker."""
    return where(worker, set(ids_of(ids)))


def ids_of(ids_or_id: str | list[str]) -> list[str]:
    """The ids of an argument, which is one id or a list; raises ValueError for more than MOST_IDS."""
    ids = [ids_or_id] if isinstance(ids_or_id, str) else ids_or_id
    if len(ids) > MOST_IDS:
        raise ValueError(f"at most {MOST_IDS:,} ids in one request, not {len(ids):,}")
    return [one for one in ids if one]


def where(worker: WorkerView, wanted: set[str]) -> dict[str, list[Any]]:
    """[state, task] by id, for those of these ids that the worker holds (reserved or active), or that are
    delayed on its queues (scheduled)."""
    found: dict[str, list[Any]] = {}
    for state, tasks in (("reserved", worker.reserved()), ("active", worker.active())):
        found.update({t["id"]: [state, t] for t in tasks if t["id"] in wanted})
    for entry in worker.scheduled():
        if entry["request"]["id"] in wanted:
            found[entry["request"]["id"]] = ["scheduled", entry["request"]]
    return found


@command(
    "registered",
    kind="inspect",
    alias="dump_tasks",
    variadic="taskinfoitems",
    signature="[attr1 [attr2 [... [attrN]]]]",
)
def registered(
    worker: WorkerView, taskinfoitems: list[str] | None = None, builtins: bool = False, **_: Any
) -> Any:
    """Registered tasks, with chosen attributes."""
    wanted = taskinfoitems or ["rate_limit"]

    def line(name: str, task: Any) -> str:
        found = [f"{a}={getattr(task, a)}" for a in wanted if getattr(task, a, None) is not None]
        return f"{name} [{' '.join(found)}]" if found else name

    tasks = worker.app.tasks
    return [line(n, tasks[n]) for n in sorted(tasks) if builtins or not n.startswith("celery.")]


@command("report", kind="inspect")
def report(worker: WorkerView, **_: Any) -> Any:
    """Versions, platform and settings of the worker, for bug reports."""
    return {"ok": worker.app.bugreport()}


@command("reserved", kind="inspect", alias="dump_reserved")
def reserved(worker: WorkerView, **_: Any) -> Any:
    """Tasks that the worker holds and has not started."""
    return worker.reserved()


@command("revoked", kind="inspect", alias="dump_revoked")
def revoked(worker: WorkerView, **_: Any) -> Any:
    """Ids of revoked tasks."""
    return worker.revoked()


@command("scheduled", kind="inspect", alias="dump_schedule")
def scheduled(worker: WorkerView, **_: Any) -> Any:
    """Tasks with an eta that wait in the worker's queues."""
    return worker.scheduled()


@command("stack", kind="inspect", variadic="ids", visible=False, signature="[id1 [id2 [... [idN]]]]")
def stack(worker: WorkerView, ids: Ids = "", **_: Any) -> Any:
    """Where running tasks are now: their Python stacks, without the values of variables.

    `qctl worker stack` and `qctl task stack` print them; docs/architecture.md has the format (control bus).
    """
    return worker.stacks(ids_of(ids))


@command("stats", kind="inspect")
def stats(worker: WorkerView, **_: Any) -> Any:
    """Statistics of the worker, its pool, its broker and its resources."""
    return worker.stats()
