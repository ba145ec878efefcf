"""The caller's side of remote control: send a request to workers and gather the replies.

In:  a command and its recipients.  Out: Answers: the replies, the silent workers, the unknown names.
A request ends when every recipient has replied, or at its time-out. The number of recipients is what the
broker reports for the broadcast; their names are its members. Wire format: wire/control.py.
"""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from qcore.base.times import new_id
from qcore.brokers.contract.records import Member
from qcore.control.commands.registry import find
from qcore.control.keys import signing_key
from qcore.errors import Malformed, UnknownName
from qcore.tasks.current_app import current_app
from qcore.wire import control as wire
from qcore.wire import seal

if TYPE_CHECKING:
    from qcore.tasks.interface import ClientApp

DEFAULT_TIMEOUT_S = 1.0
#: validity of a signed request in seconds: the time-out of its caller, within these bounds
VALID_S, MOST_VALID_S = 60.0, 1800.0


class SilentWorker(msgspec.Struct, frozen=True):
    """A recipient that did not reply before the time-out."""

    node: str
    age_s: float | None = None  # since its last announcement; None: it never announced itself


class Answers(msgspec.Struct):
    """The replies to one request, and the workers that did not reply."""

    replies: dict[str, Any]
    silent: list[SilentWorker]
    unknown: list[str]  # names or globs in the destination that match no worker
    known: list[str]  # every node that the broker lists, for near misses
    heard: int | None  # how many subscribers received the request; None if the broker does not report it
    took_s: float
    malformed: int = 0  # replies that are malformed, or belong to another request
    members: dict[str, Member] = {}  # announced workers, by node
    instances: dict[str, set[str]] = {}  # node -> instances that replied under that name
    #: The name of a Celery worker may outlive it. If more such names did not reply than workers are missing,
    #: all of these names are listed here and none of them in `silent`.
    possibly_silent: list[str] = []

    @property
    def now(self) -> float:
        """Epoch seconds; at least the time of the latest announcement, if this host's clock is behind."""
        return max(time.time(), *(m.seen_at for m in self.members.values()), 0.0)

    @property
    def count(self) -> int:
        """How many workers replied; several workers of one name count separately."""
        return sum(map(len, self.instances.values()))

    @property
    def twins(self) -> dict[str, list[str]]:
        """Names that more than one worker uses -> their processes and hosts, as announced."""
        found: dict[str, list[str]] = {}
        for node in {*self.replies, *self.members}:
            member = self.members.get(node)
            info = member.info if member is not None and member.alive else {}
            twin = info.get("twin")
            if len(self.instances.get(node, ())) > 1 or isinstance(twin, dict):
                whose = [info, *([twin] if isinstance(twin, dict) else [])]
                found[node] = [f"process {w.get('pid')} on {w.get('host')}" for w in whose if w.get("pid")]
        return dict(sorted(found.items()))


class Control:
    """Requests to the workers of an app's broker."""

    def __init__(self, app: ClientApp) -> None:
        self.app = app

    @property
    def exchange(self) -> str:
        return f"{self.app.conf.control_exchange}.pidbox"

    @property
    def reply_exchange(self) -> str:
        return f"reply.{self.exchange}"

    def known(self) -> list[Member]:
        """Workers that announced themselves to the broker; Celery's workers do not."""
        return self.app.broker.members()

    def ask(
        self,
        method: str,
        arguments: dict[str, Any] | None = None,
        destination: Sequence[str] | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> Answers:
        """Publish a request and gather the replies until all recipients have replied or timeout_s has passed.

        destination holds node names, or globs of them; None means all workers. Raises BrokerDown, and
        ConfigError for a malformed signing key.
        """
        started = time.monotonic()
        broker = self.app.broker
        announced, others = broker.roster()
        members = {m.node: m for m in announced}
        foreign = set(others) - set(members)
        features = broker.features
        recipients = Recipients.of(
            destination, members, foreign, features.members_known and features.foreign_known
        )
        key, ticket = new_id(), new_id()
        inbox = broker.inbox(self.reply_exchange, key)
        try:
            heard: int | None = 0
            sealer = self._sealer(timeout_s)
            if recipients.names is None or recipients.names:
                request = wire.Request(
                    method=method,
                    arguments=arguments or {},
                    destination=recipients.names,
                    pattern=recipients.pattern or pattern,
                    matcher="glob" if recipients.pattern else matcher,
                    ticket=ticket,
                    reply_exchange=self.reply_exchange,
                    reply_key=key,
                    clock=self.app.tick_clock(),
                    expires=time.time() + timeout_s,
                )
                raw = wire.encode_request(request, sealer, self.app.conf.task_serializer)
                heard = broker.broadcast(self.exchange, "", raw)
            answers = Answers(
                {}, [], recipients.unknown, sorted({*members, *foreign}), heard, 0.0, 0, members
            )
            deadline = started + timeout_s
            while not _is_done(answers, recipients, heard, members):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                for raw in inbox.take(left):
                    self._take(raw, ticket, answers)
        finally:
            inbox.close()
        answers.silent, answers.possibly_silent = _silent(answers, recipients, members, foreign)
        answers.took_s = time.monotonic() - started
        return answers

    def _take(self, raw: bytes, ticket: str, answers: Answers) -> None:
        try:
            # Celery's workers reply with the serializer of their tasks.
            replies = wire.decode_replies(raw, wire.accepted(self.app.conf.accept_content))
        except Malformed:
            answers.malformed += 1
            return
        for reply in replies:
            if reply.ticket != ticket:
                answers.malformed += 1
                continue
            answers.replies[reply.node] = reply.value
            answers.instances.setdefault(reply.node, set()).add(reply.instance)
            self.app.tick_clock(reply.clock)

    def tell(
        self,
        method: str,
        arguments: dict[str, Any] | None = None,
        destination: Sequence[str] | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> int | None:
        """Publish a request without replies. Returns how many subscribers received it; None if the broker
        does not report it. Raises BrokerDown, and ConfigError for a malformed signing key."""
        request = wire.Request(
            method=method,
            arguments=arguments or {},
            destination=list(destination) if destination is not None else None,
            pattern=pattern,
            matcher=matcher,
            clock=self.app.tick_clock(),
        )
        raw = wire.encode_request(request, self._sealer(), self.app.conf.task_serializer)
        return self.app.broker.broadcast(self.exchange, "", raw)

    def _sealer(self, timeout_s: float = 0.0) -> wire.Sealer | None:
        """The function that signs a request, None without a signing key; raises ConfigError."""
        key = signing_key(self.app.conf)
        if key is None:
            return None

        def header(body: bytes, recipients: str) -> str:
            now = time.time()
            until = now + min(max(timeout_s, VALID_S), MOST_VALID_S)
            return seal.make(key.id, key.secret, new_id(), now, until, recipients, body).text()

        return header

    # --- Celery's API

    def broadcast(
        self,
        command: str,
        arguments: dict[str, Any] | None = None,
        destination: Sequence[str] | None = None,
        reply: bool = False,
        timeout: float = DEFAULT_TIMEOUT_S,
        pattern: str | None = None,
        matcher: str | None = None,
        connection: Any = None,
        channel: Any = None,
        limit: int | None = None,
        callback: Callable[[dict[str, Any]], object] | None = None,
        **more_arguments: Any,
    ) -> list[dict[str, Any]] | None:
        """Send a command; with reply the list of {node: value}, at most `limit` of them, each given to
        `callback`. Other keywords are arguments of the command, as in Celery; connection and channel are
        accepted for its sake."""
        arguments = {**(arguments or {}), **more_arguments}
        if not reply:
            self.tell(command, arguments, destination, pattern, matcher)
            return None
        answers = self.ask(command, arguments, destination, timeout, pattern, matcher)
        found = [{node: value} for node, value in answers.replies.items()][:limit]
        for one in found:
            if callback is not None:
                callback(one)
        return found

    def inspect(
        self,
        destination: Sequence[str] | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        callback: Callable[[dict[str, Any]], object] | None = None,
        connection: Any = None,
        app: Any = None,
        limit: int | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> Inspect:
        """Requests with answers; the arguments are those of Inspect, in Celery's order."""
        return Inspect(destination, timeout, callback, connection, self.app, limit, pattern, matcher)

    def purge(self, connection: Any = None) -> int:
        """Delete the messages that wait in the app's queues. Returns how many there were."""
        conf = self.app.conf
        queues = [str(getattr(queue, "name", queue)) for queue in conf.task_queues or ()]
        purge = self.app.broker.administration.purge
        return sum(purge(queue) for queue in queues or [conf.task_default_queue])

    discard_all = purge

    def ping(
        self, destination: Sequence[str] | None = None, timeout: float = DEFAULT_TIMEOUT_S
    ) -> list[dict[str, Any]]:
        return self.broadcast("ping", destination=destination, reply=True, timeout=timeout) or []

    def revoke(
        self, task_id: str | Sequence[str], terminate: bool = False, signal: str = "TERM", **options: Any
    ) -> list[dict[str, Any]] | None:
        """Store the revoked ids in the broker, then publish the request to the workers."""
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        self.app.broker.revoke(ids)
        arguments = {"task_id": ids, "terminate": terminate, "signal": signal}
        return self.broadcast("revoke", arguments, **options)

    def terminate(self, task_id: str | Sequence[str], signal: str = "TERM", **options: Any) -> Any:
        return self.revoke(task_id, terminate=True, signal=signal, **options)

    def revoke_by_stamped_headers(
        self, headers: dict[str, Any], terminate: bool = False, signal: str = "TERM", **options: Any
    ) -> Any:
        """Revoke the tasks that have one of these stamps, {header: value or values}."""
        arguments = {"headers": headers, "terminate": terminate, "signal": signal}
        return self.broadcast("revoke_by_stamped_headers", arguments, **options)

    def rate_limit(self, task_name: str, rate_limit: str | float, **options: Any) -> Any:
        return self.broadcast("rate_limit", {"task_name": task_name, "rate_limit": rate_limit}, **options)

    def time_limit(
        self, task_name: str, soft: float | None = None, hard: float | None = None, **options: Any
    ) -> Any:
        return self.broadcast("time_limit", {"task_name": task_name, "soft": soft, "hard": hard}, **options)

    def enable_events(self, **options: Any) -> Any:
        return self.broadcast("enable_events", **options)

    def disable_events(self, **options: Any) -> Any:
        return self.broadcast("disable_events", **options)

    def autoscale(self, max: int, min: int, **options: Any) -> Any:
        """Set the bounds of autoscaled pools."""
        return self.broadcast("autoscale", {"max": max, "min": min}, **options)

    def pool_grow(self, n: int = 1, **options: Any) -> Any:
        return self.broadcast("pool_grow", {"n": n}, **options)

    def pool_shrink(self, n: int = 1, **options: Any) -> Any:
        return self.broadcast("pool_shrink", {"n": n}, **options)

    def pool_restart(
        self, modules: Sequence[str] | None = None, reload: bool = False, reloader: Any = None, **options: Any
    ) -> Any:
        """Replace the processes of the pools; workers refuse modules and reload."""
        return self.broadcast("pool_restart", {"modules": modules, "reload": reload}, **options)

    def election(self, id: str, topic: str, action: Any = None, **options: Any) -> Any:
        """Ask the workers which of them does something."""
        return self.broadcast("election", {"id": id, "topic": topic, "action": action}, **options)

    def add_consumer(self, queue: str, **options: Any) -> Any:
        return self.broadcast("add_consumer", {"queue": queue}, **options)

    def cancel_consumer(self, queue: str, **options: Any) -> Any:
        return self.broadcast("cancel_consumer", {"queue": queue}, **options)

    def heartbeat(self, **options: Any) -> Any:
        return self.broadcast("heartbeat", **options)

    def shutdown(self, **options: Any) -> Any:
        return self.broadcast("shutdown", **options)


class Inspect:
    """`app.control.inspect().active()`: one method for each inspect command; {node: value} or None.

    destination: a node name or several; limit: at most so many answers; callback gets each {node: value};
    connection is accepted for Celery's sake; app: the current one by default.
    """

    def __init__(
        self,
        destination: str | Sequence[str] | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        callback: Callable[[dict[str, Any]], object] | None = None,
        connection: Any = None,
        app: Any = None,
        limit: int | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> None:
        self.app = current_app() if app is None else app
        self.destination = [destination] if isinstance(destination, str) else destination
        self.timeout, self.callback, self.limit = timeout, callback, limit
        self.pattern, self.matcher = pattern, matcher

    def __getattr__(self, name: str) -> Any:
        try:
            command = find("registered" if name == "registered_tasks" else name)
        except UnknownName as exc:
            raise AttributeError(str(exc)) from None

        def ask(*words: Any, **arguments: Any) -> dict[str, Any] | None:
            found = self.app.control.broadcast(
                command.name,
                {**command.arguments([str(w) for w in words]), **arguments},
                destination=self.destination,
                reply=True,
                timeout=self.timeout,
                pattern=self.pattern,
                matcher=self.matcher,
                limit=self.limit,
                callback=self.callback,
            )
            answers: dict[str, Any] = {}
            for one in found or ():
                answers |= one
            return answers or None

        return ask


class Recipients(msgspec.Struct):
    """The recipients of a request, as far as they are known before it is published."""

    names: list[str] | None  # exact node names; None: all workers
    pattern: str | None = None  # a glob that the workers match themselves, if the broker lists no members
    unknown: list[str] = []

    def includes(self, node: str) -> bool:
        """Whether this node replies to a request without exact names."""
        return self.pattern is None or fnmatch.fnmatchcase(node, self.pattern)

    @classmethod
    def of(
        cls, wanted: Sequence[str] | None, members: dict[str, Member], foreign: set[str], roster: bool
    ) -> Recipients:
        if wanted is None:
            return cls(None)
        there = {*(n for n, m in members.items() if m.alive), *foreign}
        names: list[str] = []
        unknown: list[str] = []
        globs = [w for w in wanted if set(w) & set("*?[")]
        if globs and not roster:
            return cls(None, pattern=globs[0]) if len(wanted) == 1 else cls(None)
        for want in wanted:
            if want in globs:
                found = sorted(n for n in there if fnmatch.fnmatchcase(n, want))
            else:
                found = [want] if want in there or not roster else []
            names.extend(n for n in found if n not in names)
            if not found:
                unknown.append(want)
        return cls(names, unknown=unknown)


def _is_done(answers: Answers, recipients: Recipients, heard: int | None, members: dict[str, Member]) -> bool:
    if recipients.names is not None:
        return all(n in answers.replies for n in recipients.names)
    if heard is not None and recipients.pattern:
        return all(n in answers.replies for n, m in members.items() if m.alive and recipients.includes(n))
    return heard is not None and answers.count >= heard


def _silent(
    answers: Answers, recipients: Recipients, members: dict[str, Member], foreign: set[str]
) -> tuple[list[SilentWorker], list[str]]:
    """The silent workers; and, if they cannot be determined, the names that may be silent."""
    now = answers.now

    def silent(node: str) -> SilentWorker:
        member = members.get(node)
        return SilentWorker(node, max(now - member.seen_at, 0.0) if member else None)

    if recipients.names is not None:
        return [silent(n) for n in recipients.names if n not in answers.replies], []
    asked = [n for n, m in sorted(members.items()) if m.alive and recipients.includes(n)]
    missing = [silent(n) for n in asked if n not in answers.replies]
    # Bindings of Celery's workers outlive them: only as many are silent as received the request and did not
    # reply.
    lacking = (answers.heard or 0) - answers.count - len(missing)
    others = sorted(foreign - set(answers.replies))
    if 0 < lacking < len(others):
        return missing, others
    return missing + [silent(n) for n in others if lacking > 0], []
