"""What programs for Celery read of one worker and of one task: the objects in `app.events.State`.

In:  event mappings, one at a time.  Out: attributes. After this: cluster.py keeps them by name and id.
Source: the public members and rules of celery/events/state.py of Celery 5.7.
"""

from __future__ import annotations

import bisect
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, ClassVar
from weakref import WeakSet

from qcore.tasks.states import PENDING, READY_STATES, RECEIVED, RETRY, precedence

log = logging.getLogger("qcore.events")

#: the part of the interval of heartbeats, in per cent, after which a worker counts as offline
HEARTBEAT_EXPIRE_WINDOW = 200
#: seconds by which the clock of a worker may differ before a warning
HEARTBEAT_DRIFT_MAX = 16
#: event -> state of a task; any other event is a state of its own
TASK_EVENT_TO_STATE = {
    "sent": PENDING,
    "received": RECEIVED,
    "started": "STARTED",
    "failed": "FAILURE",
    "retried": RETRY,
    "succeeded": "SUCCESS",
    "revoked": "REVOKED",
    "rejected": "REJECTED",
}


def heartbeat_expires(
    timestamp: float, freq: float = 60, expire_window: float = HEARTBEAT_EXPIRE_WINDOW
) -> float:
    """When a worker counts as offline, whose last heartbeat was at `timestamp`."""
    return float(timestamp) + float(freq) * expire_window / 100


class Bounded(OrderedDict[str, Any]):
    """At most `limit` entries; the one that was read or set longest ago is dropped."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def __getitem__(self, key: str) -> Any:
        found = super().__getitem__(key)
        self.move_to_end(key)
        return found

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        while len(self) > self.limit:
            self.popitem(last=False)

    def get(self, key: str, default: Any = None) -> Any:
        """The entry, without counting as a read."""
        return super().get(key, default)

    def values(self) -> Any:
        return [self.get(key) for key in self]

    def items(self) -> Any:
        return [(key, self.get(key)) for key in self]

    def __reduce__(self) -> Any:
        return type(self), (self.limit,), None, None, iter(self.items())

    @property
    def data(self) -> Bounded:
        """The same, as Celery's mapping is read without counting it."""
        return self


class Worker:
    """One worker: what its events say. Equal to one of the same hostname."""

    heartbeat_max = 4
    expire_window = HEARTBEAT_EXPIRE_WINDOW
    _warned: ClassVar[set[str | None]] = set()

    def __init__(
        self,
        hostname: str | None = None,
        pid: int | None = None,
        freq: float = 60,
        heartbeats: list[float] | None = None,
        clock: int = 0,
        active: int | None = None,
        processed: int | None = None,
        loadavg: Any = None,
        sw_ident: str | None = None,
        sw_ver: str | None = None,
        sw_sys: str | None = None,
    ) -> None:
        self.hostname, self.pid, self.freq, self.clock = hostname, pid, freq, clock or 0
        self.heartbeats: list[float] = [] if heartbeats is None else heartbeats
        self.active, self.processed, self.loadavg = active, processed, loadavg
        self.sw_ident, self.sw_ver, self.sw_sys = sw_ident, sw_ver, sw_sys

    def event(
        self,
        type_: str | None,
        timestamp: float | None = None,
        local_received: float | None = None,
        fields: dict[str, Any] | None = None,
        max_drift: float = HEARTBEAT_DRIFT_MAX,
    ) -> None:
        """Apply an event: its fields become attributes, and it counts as a heartbeat."""
        self.update(fields or {})
        if type_ == "offline":
            self.heartbeats.clear()
        elif local_received and timestamp:
            drift = abs(int(local_received) - int(timestamp))
            if drift > max_drift and self.hostname not in self._warned:
                self._warned.add(self.hostname)
                log.warning("the clock of %s differs by %d s from ours; set both", self.hostname, drift)
            if len(self.heartbeats) >= self.heartbeat_max:
                self.heartbeats.pop(0)
            bisect.insort(self.heartbeats, local_received)

    def update(self, f: dict[str, Any] | None = None, **kw: Any) -> None:
        """Set attributes."""
        for name, value in {**(f or {}), **kw}.items():
            # An event's `id` and the like are no attributes that can be set.
            self.__dict__[name] = value

    @property
    def heartbeat_expires(self) -> float:
        return heartbeat_expires(self.heartbeats[-1], self.freq, self.expire_window)

    @property
    def alive(self) -> bool:
        """Whether a heartbeat came within its time."""
        return bool(self.heartbeats) and time.time() < self.heartbeat_expires

    @property
    def status_string(self) -> str:
        return "ONLINE" if self.alive else "OFFLINE"

    @property
    def id(self) -> str:
        return f"{self.hostname}.{self.pid}"

    def __eq__(self, other: object) -> bool:
        return self.hostname == other.hostname if isinstance(other, Worker) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.hostname)

    def __repr__(self) -> str:
        return f"<Worker: {self.hostname} ({self.status_string} clock:{self.clock})"


_OF_TASK = (
    "uuid name state received sent started rejected succeeded failed retried revoked args kwargs eta expires "
    "retries worker result exception timestamp runtime traceback exchange routing_key clock client root "
    "root_id parent parent_id children"
).split()
_INFO = (
    "args kwargs retries result eta runtime expires exception exchange routing_key root_id parent_id"
).split()


class Task:
    """One task: what its events say, and when they were (`received`, `started`, …). Equal to one of the same
    uuid."""

    name = received = sent = started = succeeded = failed = retried = revoked = rejected = None
    args = kwargs = eta = expires = retries = worker = result = exception = timestamp = runtime = None
    traceback = exchange = routing_key = root_id = parent_id = client = None
    state: str = PENDING
    clock = 0
    #: state -> the fields that an event of it may set when a later state is known already
    merge_rules: ClassVar[dict[str, tuple[str, ...]]] = {
        RECEIVED: ("name", "args", "kwargs", "parent_id", "root_id", "retries", "eta", "expires")
    }

    def __init__(
        self, uuid: str | None = None, cluster_state: Any = None, children: Any = None, **kwargs: Any
    ) -> None:
        self.uuid, self.cluster_state = uuid, cluster_state
        tasks = {} if cluster_state is None else cluster_state.tasks
        self.children: WeakSet[Task] = WeakSet(tasks[one] for one in children or () if one in tasks)
        self.__dict__.update(kwargs)

    def event(
        self,
        type_: str,
        timestamp: float | None = None,
        local_received: float | None = None,
        fields: dict[str, Any] | None = None,
    ) -> None:
        """Apply an event. One that is older than what is known only adds what it alone has (merge_rules)."""
        fields = fields if fields is not None else {}
        state = TASK_EVENT_TO_STATE.get(type_)
        if state is None:
            state = type_.upper()
        else:
            self.__dict__[type_] = timestamp
        is_retry = RETRY in (state, self.state)
        if not is_retry and precedence(state) > precedence(self.state):
            kept = self.merge_rules.get(state)
            if kept is not None:
                fields = {name: value for name, value in fields.items() if name in kept}
        else:
            fields.update(state=state, timestamp=timestamp)
        self.__dict__.update(fields)

    def info(self, fields: Iterable[str] | None = None, extra: Iterable[str] = ()) -> dict[str, Any]:
        """What is known of these fields, and of `extra`."""
        names = [*(_INFO if fields is None else fields), *(extra or ())]
        return {name: value for name in names if (value := getattr(self, name, None)) is not None}

    def as_dict(self) -> dict[str, Any]:
        """All fields; other tasks as their ids."""
        others = {
            "children": [task.id for task in self.children],
            "root": self.root_id,
            "parent": self.parent_id,
        }
        return {name: others[name] if name in others else getattr(self, name) for name in _OF_TASK}

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_of, (type(self), self.as_dict())

    @property
    def id(self) -> str | None:
        return self.uuid

    @property
    def origin(self) -> Any:
        """The worker's id; the name of the client before there is one."""
        worker: Any = self.worker
        return self.client if worker is None else worker.id

    @property
    def ready(self) -> bool:
        return self.state in READY_STATES

    @property
    def parent(self) -> Any:
        return self._other(self.parent_id)

    @property
    def root(self) -> Any:
        return self._other(self.root_id)

    def _other(self, uuid: str | None) -> Any:
        return uuid and self.cluster_state and self.cluster_state.tasks.get(uuid)

    def __eq__(self, other: object) -> bool:
        return self.uuid == other.uuid if isinstance(other, Task) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.uuid)

    def __repr__(self) -> str:
        return f"<Task: {self.name}({self.uuid}) {self.state} clock:{self.clock}>"


def _made_of(kind: type[Task], fields: dict[str, Any]) -> Task:
    """A task of the fields of as_dict(), without its state of the fleet."""
    return kind(**{name: value for name, value in fields.items() if name not in ("root", "parent")})
