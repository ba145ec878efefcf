"""The caller's side of remote control: send a request to workers and gather the replies.

In:  a command and its recipients.  Out: Answers: the replies, the silent workers, the unknown names.
A request ends when every recipient has replied, or at its time-out. The number of recipients is what the
broker reports for the broadcast; their names are its members. Wire format: wire/control.py.
"""

from __future__ import annotations

import fnmatch
import importlib
import time
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from qcore.base.times import new_id
from qcore.brokers.contract.records import Member
from qcore.control.keys import signing_key
from qcore.control.requests import DEFAULT_TIMEOUT_S, Requests
from qcore.errors import Malformed
from qcore.settings.values import refuse_queue_kind
from qcore.tasks.current_app import current_app
from qcore.wire import control as wire
from qcore.wire import seal

if TYPE_CHECKING:
    from qcore.tasks.interface import ClientApp

#: validity of a signed request in seconds: the time-out of its caller, within these bounds
VALID_S, MOST_VALID_S = 60.0, 1800.0

#: begins the name of a scheduler that answers requests, unless it was given another
BEAT = "celerybeat@"


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
        """Names that more than one worker uses -> their processes and hosts, as announced; how many replied,
        of workers that announce nothing."""
        found: dict[str, list[str]] = {}
        for node in {*self.replies, *self.members}:
            member = self.members.get(node)
            info = member.info if member is not None and member.alive else {}
            twin = info.get("twin")
            if len(self.instances.get(node, ())) > 1 or isinstance(twin, dict):
                whose = [info, *([twin] if isinstance(twin, dict) else [])]
                places = [f"process {w.get('pid')} on {w.get('host')}" for w in whose if w.get("pid")]
                found[node] = places or [f"{len(self.instances.get(node, ()))} replied"]
        return dict(sorted(found.items()))


class Control(Requests):
    """Requests to the workers of an app's broker."""

    app: ClientApp

    def __init__(self, app: ClientApp | None = None) -> None:
        self.app = current_app() if app is None else app
        refuse_queue_kind(self.app.conf, "control")

    @property
    def Mailbox(self) -> Any:
        """The class of `mailbox`: that of kombu. A subclass may name another."""
        return importlib.import_module("kombu.pidbox").Mailbox

    @cached_property
    def mailbox(self) -> Any:
        """A mailbox of kombu, for programs that send requests with it: `mailbox(connection).call(…)`. Workers
        reply to it on Redis and RabbitMQ; requests of this class do not go through it, and only they are
        signed."""
        lazy, conf = importlib.import_module("kombu.utils.functional").lazy, self.app.conf
        app: Any = self.app
        return self.Mailbox(
            conf.control_exchange,
            type="fanout",
            accept=conf.accept_content,
            serializer=conf.task_serializer,
            producer_pool=lazy(lambda: app.producer_pool),
            queue_ttl=conf.control_queue_ttl,
            reply_queue_ttl=conf.control_queue_ttl,
            queue_expires=conf.control_queue_expires,
            queue_exclusive=conf.control_queue_exclusive,
            queue_durable=conf.control_queue_durable,
            reply_queue_expires=conf.control_queue_expires,
        )

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
        beats = {n for n in foreign if n.startswith(BEAT) and method != "ping" and destination is None}
        foreign -= beats  # schedulers reply to ping alone
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
                if beats and _all_but_beats(answers, len(beats), members, foreign):
                    answers.heard = answers.count
                    break
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
            instances = answers.instances.setdefault(reply.node, set())
            # A worker replies once. Celery's name no instance, so each reply is another worker of that name.
            instances.add(reply.instance or f"reply {len(instances) + 1}")
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


def _all_but_beats(answers: Answers, beats: int, members: dict[str, Member], foreign: set[str]) -> bool:
    """Whether only schedulers are left that received the request; some may have ended without a trace."""
    expected = [*(n for n, m in members.items() if m.alive), *foreign]
    heard = answers.heard
    return heard is not None and answers.count + beats >= heard and set(expected) <= answers.replies.keys()


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
