"""Every method of Celery's AsyncResult, control and inspect, and of Flower's buttons: here as there.

A Celery client says the same to a Celery worker and to a worker of ours, each on a Redis database of its
own. A row is a method; what comes back has the same shape, or the row names the difference, which
docs/celery.md explains under that name.
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import celery
import kombu.pools
import pytest
from celery.exceptions import TaskRevokedError
from kombu import Exchange

from qcore.base.times import new_id
from qcore.celery.app import Celery
from tests.support.processes import ROOT, Process, Processes, celery_env
from tests.support.rabbit_server import free_port
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

NODE = "w@same"


class Side(NamedTuple):
    """One worker and a Celery client of it."""

    url: str
    app: celery.Celery
    worker: Process

    @property
    def control(self) -> Any:
        return self.app.control

    @property
    def inspect(self) -> Any:
        return self.app.control.inspect(timeout=10, destination=[NODE])

    def told(self, method: str, *words: Any, **options: Any) -> Any:
        """What a method of app.control brings from the worker."""
        found = getattr(self.control, method)(
            *words, reply=True, destination=[NODE], timeout=10, limit=1, **options
        )
        return found[0][NODE]

    def sent(self, name: str = "proj.add", args: tuple[Any, ...] = (1, 2), **options: Any) -> Any:
        return self.app.send_task(name, args, **options)

    def running(self) -> Any:
        """A task that runs."""
        result = self.sent("proj.nap", (300,))
        wait_for(lambda: any(t["id"] == result.id for t in (self.inspect.active() or {}).get(NODE, ())), 30)
        return result

    def stop(self, result: Any) -> None:
        self.control.revoke(result.id, terminate=True, signal="KILL")
        wait_for(lambda: not self.inspect.active()[NODE], 30)


@pytest.fixture(scope="module")
def sides(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    if redis_server.process is None:
        redis_server.start()
    with redis_server.client() as client:
        client.flushall()
    processes = Processes(tmp_path_factory.mktemp("same"))
    urls = [redis_server.url.removesuffix("/0") + f"/{number}" for number in (3, 4)]
    made = []
    theirs = processes.start_celery_worker(
        urls[0], urls[0], "-c", "2", "--without-gossip", "--without-mingle", name=NODE
    )
    ours = processes.start_qcore_worker(urls[1], "-c", "2", name=NODE, backend=urls[1])
    for url, worker in zip(urls, (theirs, ours), strict=True):
        app = celery.Celery("client", broker=url, backend=url, set_as_current=False)
        made.append(Side(url, app, worker))
    yield made[0], made[1]
    for side in made:
        side.app.close()
    kombu.pools.reset()  # Celery's connections: another test may restart their server
    processes.close()


def shape(value: Any, depth: int = 3) -> Any:
    """Names of fields and kinds of values; texts that say how it went stay as they are."""
    if isinstance(value, dict):
        if set(value) in ({"ok"}, {"error"}):
            return value
        return {k: shape(v, depth - 1) if depth else "..." for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [shape(value[0], depth)] if value else []
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    return type(value).__name__


# --- the table


def attributes(side: Side) -> Any:
    result = side.sent()
    result.get(timeout=20)
    return {
        name: shape(getattr(result, name))
        for name in "state status result info traceback children ignored date_done task_id name args".split()
    }


def ended(result: Any) -> Any:
    return wait_for(lambda: result.ready() and result.state, 30)


def revoked_waiting(side: Side) -> Any:
    """Revoked before it could start."""
    result = side.sent(countdown=3600)
    result.revoke(wait=True, timeout=5)
    return result.id in side.inspect.revoked()[NODE]


def revoked_running(side: Side, **options: Any) -> Any:
    result = side.running()
    result.revoke(terminate=True, **options)
    state = ended(result)
    return state, isinstance(result.result, TaskRevokedError)


def soft(side: Side) -> Any:
    result = side.running()
    result.revoke(terminate=True, signal="SIGUSR1")
    # A Celery worker stores REVOKED, and its process what the task made of the signal, in either order.
    side.worker.wait_output(rf"{result.id}\] raised unexpected: SoftTimeLimitExceeded", 60)
    return wait_for(lambda: result.state in ("FAILURE", "REVOKED"), 60)


def failed(side: Side) -> Any:
    result = side.sent("proj.fail", ())
    try:
        result.get(timeout=20)
    except ValueError as exc:
        return str(exc), result.failed(), result.successful(), result.maybe_throw(propagate=False) is not None
    return None


def forgotten(side: Side) -> Any:
    result = side.sent()
    result.get(timeout=20)
    result.forget()
    return side.app.AsyncResult(result.id).state


def collected(side: Side) -> Any:
    result = side.sent()
    return [value for _, value in result.collect(timeout=20)], result.get_leaf(), result.exists()


def while_running(ask: Callable[[Side, Any], Any]) -> Callable[[Side], Any]:
    def row(side: Side) -> Any:
        result = side.running()
        try:
            return shape(ask(side, result))
        finally:
            side.stop(result)

    return row


def with_args(side: Side, result: Any) -> Any:
    """The fields of a running task."""
    return side.inspect.active()[NODE][0]


def purged(side: Side) -> Any:
    """Of a queue that no worker consumes."""
    app = celery.Celery("purging", broker=side.url, set_as_current=False, task_default_queue="idle")
    for _ in range(2):
        app.send_task("proj.add", (1, 2))
    count = app.control.purge()
    app.close()
    return count


def names(queues: list[dict[str, Any]]) -> list[str]:
    return [queue["name"] for queue in queues]


def routed(side: Side) -> Any:
    """A queue bound to an exchange of its own name and key gets what is sent there."""
    said = side.told("add_consumer", "mails", exchange="post", exchange_type="direct", routing_key="in.mail")
    wait_for(lambda: "mails" in names(side.inspect.active_queues()[NODE]), 30)
    (queue,) = [one for one in side.inspect.active_queues()[NODE] if one["name"] == "mails"]
    shown = queue["exchange"]["name"], queue["exchange"]["type"], queue["routing_key"]
    result = side.sent(exchange=Exchange("post", "direct"), routing_key="in.mail")
    return said, shown, result.get(timeout=20), shape(side.told("cancel_consumer", "mails"))


def topical(side: Side) -> Any:
    said = side.told("add_consumer", "news", exchange="world", exchange_type="topic", routing_key="news.#")
    wait_for(lambda: "news" in names(side.inspect.active_queues()[NODE]), 30)
    exchange = Exchange("world", "topic", durable=True)
    result = side.sent(exchange=exchange, routing_key="news.of.today", declare=[exchange])
    return said, result.get(timeout=20), shape(side.told("cancel_consumer", "news"))


def stamped(side: Side, terminate: bool) -> Any:
    answer = side.told("revoke_by_stamped_headers", {"visit": ["v1"]}, terminate=terminate)
    return set(answer), shape(answer) == answer


def raw(side: Side, **changes: Any) -> Any:
    """A message as other clients write it: does it run?"""
    task_id = new_id()
    properties = {
        "correlation_id": task_id,
        "delivery_mode": 2,
        "body_encoding": "base64",
        "delivery_tag": new_id(),
        "delivery_info": {"exchange": "", "routing_key": "celery"},
        **changes.pop("properties", {}),
    }
    old = changes.pop("protocol_1", None)
    body = [[1, 2], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    headers = {"lang": "py", "task": "proj.add", "id": task_id, "retries": 0, "root_id": task_id, **changes}
    if old is not None:
        body, headers = {"task": "proj.add", "id": task_id, "args": [1, 2], "kwargs": {}, **old}, {}  # type: ignore[assignment]
    message = {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": properties,
    }
    with side.app.connection_for_write() as connection:
        connection.default_channel.client.lpush("celery", json.dumps(message))
    return side.app.AsyncResult(task_id).get(timeout=10)


class Row(NamedTuple):
    name: str
    do: Callable[[Side], Any]
    differs: str = ""  # the name of the difference in docs/celery.md
    more: bool = False  # ours has further fields, beside all of theirs


ROWS = [
    # AsyncResult
    Row("AsyncResult: attributes", attributes),
    Row("AsyncResult.get, failed, successful, throw", failed),
    Row("AsyncResult.forget", forgotten),
    Row("AsyncResult.collect, get_leaf, exists", collected),
    Row("AsyncResult.revoke of what waits", revoked_waiting),
    Row("AsyncResult.revoke(terminate=True)", revoked_running),
    Row("AsyncResult.revoke(terminate=True, signal='KILL')", lambda s: revoked_running(s, signal="KILL")),
    Row("AsyncResult.revoke(terminate=True, signal='SIGUSR1')", soft),
    Row("AsyncResult.as_tuple", lambda s: shape(s.sent().as_tuple())),
    # app.control
    Row("control.ping", lambda s: s.control.ping([NODE], timeout=10, limit=1)),
    Row("control.enable_events", lambda s: [s.told("disable_events"), s.told("enable_events")]),
    Row("control.enable_events, again", lambda s: s.told("enable_events")),
    Row("control.rate_limit", lambda s: s.told("rate_limit", "proj.mul", "10/m")),
    Row("control.rate_limit, off", lambda s: s.told("rate_limit", "proj.mul", 0)),
    Row("control.rate_limit of an unknown task", lambda s: s.told("rate_limit", "no.such", "1/s")),
    Row("control.rate_limit, wrong", lambda s: set(s.told("rate_limit", "proj.mul", "often"))),
    Row("control.time_limit", lambda s: s.told("time_limit", "proj.mul", soft=10, hard=20)),
    Row("control.time_limit of an unknown task", lambda s: s.told("time_limit", "no.such", soft=10)),
    Row("control.add_consumer", lambda s: s.told("add_consumer", "plain")),
    Row("control.cancel_consumer", lambda s: s.told("cancel_consumer", "plain")),
    Row("control.cancel_consumer of an unknown queue", lambda s: s.told("cancel_consumer", "unknown")),
    Row("control.add_consumer with an exchange", routed),
    Row("control.add_consumer with a topic", topical),
    Row("control.purge", purged),
    Row("control.pool_grow", lambda s: s.told("pool_grow", 1)),
    Row("control.pool_shrink", lambda s: s.told("pool_shrink", 1)),
    Row("control.autoscale", lambda s: set(s.told("autoscale", 3, 1))),
    Row("control.pool_restart", lambda s: set(s.told("pool_restart")), "pool_restart"),
    Row("control.pool_restart(reload=True)", lambda s: set(s.told("pool_restart", reload=True))),
    Row("control.pool_restart(modules=…)", lambda s: set(s.told("pool_restart", modules=["json"]))),
    Row("control.revoke", lambda s: s.told("revoke", ["nobody"]), more=True),
    Row("control.terminate of an unknown task", lambda s: s.told("terminate", ["nobody"], signal="KILL")),
    Row("control.revoke_by_stamped_headers", lambda s: stamped(s, False)),
    Row("control.revoke_by_stamped_headers, terminate", lambda s: stamped(s, True)),
    Row("control.heartbeat", lambda s: s.told("heartbeat")),
    Row("control.broadcast of an unknown command", lambda s: set(s.told("broadcast", "no_such_command"))),
    # app.control.inspect
    Row("inspect.active", while_running(with_args)),
    Row("inspect.active(safe=True)", while_running(lambda s, r: s.inspect.active(safe=True)[NODE][0])),
    Row(
        "inspect.query_task of a running one",
        while_running(lambda s, r: s.inspect.query_task(r.id)[NODE][r.id]),
    ),
    Row("inspect.query_task of an unknown one", lambda s: s.inspect.query_task("nobody")),
    Row("inspect.reserved", lambda s: s.inspect.reserved()),
    Row("inspect.scheduled", lambda s: scheduled(s)),
    Row("inspect.revoked", lambda s: shape(s.inspect.revoked())),
    Row("inspect.registered", lambda s: "proj.add" in s.inspect.registered()[NODE]),
    Row(
        "inspect.registered(…)", lambda s: [t for t in s.inspect.registered("name")[NODE] if "proj.add" in t]
    ),
    Row("inspect.stats", lambda s: shape(s.inspect.stats()[NODE]), more=True),
    Row("inspect.clock", lambda s: shape(s.inspect.clock())),
    Row("inspect.conf", lambda s: type(s.inspect.conf()[NODE])),
    Row("inspect.report", lambda s: set(s.inspect.report()[NODE])),
    Row("inspect.memsample", lambda s: set(s.inspect.memsample())),
    Row("inspect.memdump", lambda s: shape(s.inspect.memdump())),
    Row("inspect.objgraph", lambda s: set(s.inspect.objgraph()[NODE])),
    Row("inspect.active_queues", lambda s: shape(s.inspect.active_queues()[NODE][0]), more=True),
    Row("inspect.hello", lambda s: set(s.inspect.hello("other@host")[NODE])),
    Row("inspect.ping", lambda s: s.inspect.ping()),
    # messages of other clients
    Row("a message with priority '5'", lambda s: raw(s, properties={"priority": "5"})),
    Row("a message with priority 3.5", lambda s: raw(s, properties={"priority": 3.5})),
    Row("a message with priority 'high'", lambda s: raw(s, properties={"priority": "high"})),
    Row("protocol 1, retries '0'", lambda s: raw(s, protocol_1={"retries": "0"})),
    Row("protocol 1, retries 0", lambda s: raw(s, protocol_1={"retries": 0})),
]


def within(theirs: Any, ours: Any) -> Any:
    """What `ours` has under the keys of `theirs`, at every level."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return {key: within(value, ours[key]) for key, value in theirs.items() if key in ours}
    return ours


def scheduled(side: Side) -> Any:
    result = side.sent(countdown=3600)
    entry = wait_for(
        lambda: [e for e in side.inspect.scheduled()[NODE] if e["request"]["id"] == result.id], 30
    )
    side.control.revoke(result.id)
    return shape(entry)


def test_a_mailbox_of_kombu_reaches_workers(sides: tuple[Side, Side]) -> None:
    for side in sides:
        own = Celery("client", broker=side.url, backend=side.url, set_as_current=False)
        for app in (side.app, own):
            with app.connection() as connection:
                box = app.control.mailbox(connection)
                replies = box.multi_call("ping", timeout=10, limit=1)
            assert isinstance(box, app.control.Mailbox)
            assert replies == [{NODE: {"ok": "pong"}}]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_method_does_here_what_it_does_there(sides: tuple[Side, Side], row: Row) -> None:
    theirs, ours = (row.do(side) for side in sides)

    if row.differs:
        assert ours != theirs, "the difference is gone: take it out of the table and of docs/celery.md"
        assert f"| `{row.differs}` |" in (ROOT / "docs/celery.md").read_text()
    else:
        assert (within(theirs, ours) if row.more else ours) == theirs


# --- Flower's buttons

BUTTONS: dict[str, tuple[str, dict[str, Any]]] = {
    "refresh": ("workers", {"refresh": 1}),
    "pool grow": (f"worker/pool/grow/{NODE}", {"n": 1}),
    "pool shrink": (f"worker/pool/shrink/{NODE}", {"n": 1}),
    "autoscale": (f"worker/pool/autoscale/{NODE}", {"min": 1, "max": 3}),
    "add a queue": (f"worker/queue/add-consumer/{NODE}", {"queue": "flowers"}),
    "cancel a queue": (f"worker/queue/cancel-consumer/{NODE}", {"queue": "flowers"}),
    "cancel an unknown queue": (f"worker/queue/cancel-consumer/{NODE}", {"queue": "unknown"}),
    "time limit": ("task/timeout/proj.mul", {"workername": NODE, "soft": 10, "hard": 20}),
    "time limit of an unknown task": ("task/timeout/no.such", {"workername": NODE, "soft": 10}),
    "rate limit": ("task/rate-limit/proj.mul", {"workername": NODE, "ratelimit": "10/m"}),
    "wrong rate limit": ("task/rate-limit/proj.mul", {"workername": NODE, "ratelimit": "often"}),
    "revoke": ("task/revoke/nobody", {}),
    "revoke and terminate": ("task/revoke/nobody", {"terminate": "true"}),
    "pool restart": (f"worker/pool/restart/{NODE}", {}),
    "shut down": (f"worker/shutdown/{NODE}", {}),  # the last
}
#: Celery refuses unless worker_pool_restarts is set; a wrong rate and autoscaling are refused in other words
OTHER_WORDS = {"pool restart", "wrong rate limit", "autoscale"}


def test_flowers_buttons_do_here_what_they_do_there(
    sides: tuple[Side, Side], tmp_path_factory: pytest.TempPathFactory
) -> None:
    processes = Processes(tmp_path_factory.mktemp("flower"))
    found: list[dict[str, Any]] = []
    for side in sides:
        port = free_port()
        env = {**celery_env(side.url, side.url), "FLOWER_UNAUTHENTICATED_API": "true"}
        flower = processes.celery(
            "-A", "tests.projects.celeryproj", "flower", f"--port={port}", "--address=127.0.0.1", env=env
        )
        flower.wait_output(r"Visit me|Connected to", 60)

        def press(path: str, fields: dict[str, Any], port: int = port) -> Any:
            url = f"http://127.0.0.1:{port}/api/{path}"
            data = urllib.parse.urlencode(fields).encode()
            if path == "workers":
                url, data = f"{url}?{data.decode()}", None  # type: ignore[assignment]
            try:
                with urllib.request.urlopen(url, data=data, timeout=30) as answer:
                    said = json.load(answer)
                    return NODE in said if path == "workers" else (answer.status, said)
            except urllib.error.HTTPError as exc:
                return exc.code, exc.reason
            except OSError:
                return None

        wait_for(lambda press=press: press("workers", {"refresh": 1}), 60, "flower lists the worker")
        found.append({name: press(*said) for name, said in BUTTONS.items()})
        side.worker.wait(30)
    processes.close()

    theirs, ours = found
    same = set(BUTTONS) - OTHER_WORDS
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}
    assert {name: ours[name][0] for name in OTHER_WORDS - {"pool restart"}} == {
        name: theirs[name][0] for name in OTHER_WORDS - {"pool restart"}
    }
    assert ours["pool restart"][0] == 200
