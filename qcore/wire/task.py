"""Task messages: Celery's protocols 2 and 1, written and read.

In:  a call (name, args, kwargs, options) or message bytes.  Out: message bytes, or a TaskMessage.
Before this: task.py builds one.  After this: brokers/X transport the bytes; worker/loop.py reads
the head, execution/run.py reads the body in the process that runs the task.
Format: parity with celery 5.7, `headers` and the `[args, kwargs, embed]` body.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from qcore.base.times import epoch
from qcore.errors import ConfigError, Malformed, MessageTooLarge
from qcore.wire import content, envelope, usual
from qcore.wire.compression import compress
from qcore.wire.content import AsRead
from qcore.wire.envelope import Envelope, Properties
from qcore.wire.reprs import short_repr
from qcore.wire.usual import Usual

ORIGIN_HOST = socket.gethostname()
NAME_LIMIT = 255
HEADERS_LIMIT = 1000
STRING_LIMIT = 4096
CHAIN_LIMIT = 10_000
RETRIES_LIMIT = 1_000_000
_DIGITS = re.compile(r"[0-9]{1,9}")
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,255}")

#: headers that Celery's clients write; all others are the caller's own
KNOWN_HEADERS = frozenset(
    "lang task id shadow eta expires group group_index retries timelimit root_id parent_id argsrepr "
    "kwargsrepr origin ignore_result replaced_task_nesting stamped_headers stamps compression "
    "redelivered".split()
)


class TaskMessage(msgspec.Struct):
    """A task message whose envelope and headers have been checked; the body is still bytes."""

    id: str
    task: str
    whole: Envelope | None = None  # None: not decoded completely yet
    raw: bytes = b""  # the message, where `whole` may be None
    eta: float | None = None  # epoch seconds, None: at once
    expires: float | None = None  # epoch seconds, None: never
    retries: int = 0
    hard_s: float | None = None  # hard time limit of this message
    soft_s: float | None = None
    ignore_result: bool | None = None  # None: the task's own setting applies
    root_id: str | None = None
    parent_id: str | None = None
    group: str | None = None
    shadow: str | None = None  # a name to display instead of the task's
    reply_to: str | None = None
    priority: int = 0
    protocol: int = 2
    usual: Usual | None = None  # what read() has decoded of a usual message

    @property
    def envelope(self) -> Envelope:
        if self.whole is None:
            self.whole = envelope.decode(self.raw)
        return self.whole

    @property
    def properties(self) -> Properties:
        return self.usual.properties if self.usual is not None else self.envelope.properties

    @property
    def headers(self) -> dict[str, Any]:
        return self.envelope.headers

    @property
    def shown_name(self) -> str:
        return self.shadow or self.task

    @property
    def correlation_id(self) -> str:
        return self.properties.correlation_id or self.id


class Body(NamedTuple):
    """The arguments of the call, and the signatures that follow it."""

    args: list[Any]
    kwargs: dict[str, Any]
    embed: dict[str, Any]  # callbacks, errbacks, chain, chord: each absent or data


def build(
    task: str,
    args: tuple[Any, ...] | list[Any],
    kwargs: dict[str, Any],
    *,
    task_id: str,
    exchange: str = "",
    routing_key: str = "",
    serializer: str = "json",
    compression: str | None = None,
    priority: int = 0,
    eta: str | None = None,
    expires: str | None = None,
    expiration_ms: str | None = None,
    retries: int = 0,
    time_limit: float | None = None,
    soft_time_limit: float | None = None,
    root_id: str | None = None,
    parent_id: str | None = None,
    group_id: str | None = None,
    group_index: int | None = None,
    shadow: str | None = None,
    ignore_result: bool | None = False,
    reply_to: str | None = None,
    embed: dict[str, Any] | None = None,
    headers: dict[str, Any] | None = None,
    stamped_headers: list[str] | None = None,
    stamps: dict[str, Any] | None = None,
    replaced_task_nesting: int = 0,
    delivery_mode: int = 2,
    argsrepr: str | None = None,
    kwargsrepr: str | None = None,
    properties: dict[str, Any] | None = None,
    before: Callable[[dict[str, Any], Any, dict[str, Any]], None] | None = None,
    protocol: int = 2,
    repr_levels: int | None = None,
) -> bytes:
    """One call as message bytes; raises TypeError for arguments that the serializer cannot represent, and
    ConfigError for a protocol that is neither 2 nor 1.

    properties: more properties of the message, which cannot replace those that the transport needs.
    repr_levels: as in short_repr(), for the texts of the arguments.
    before: gets headers, body and properties before they are encoded, and may change them.
    """
    links = _NO_LINKS if not embed else {**_NO_LINKS, **embed}
    head: dict[str, Any] = {
        "lang": "py",
        "task": task,
        "id": task_id,
        "shadow": shadow,
        "eta": eta,
        "expires": expires,
        "group": group_id,
        "group_index": group_index,
        "retries": retries,
        "timelimit": (time_limit, soft_time_limit),
        "root_id": root_id or task_id,
        "parent_id": parent_id,
        "argsrepr": argsrepr if argsrepr is not None else short_repr(tuple(args), repr_levels),
        "kwargsrepr": kwargsrepr if kwargsrepr is not None else short_repr(kwargs, repr_levels),
        "origin": origin(),
        "ignore_result": ignore_result,
        "replaced_task_nesting": replaced_task_nesting,
        "stamped_headers": stamped_headers,
        "stamps": stamps or {},
    }
    if headers:
        head.update({k: v for k, v in headers.items() if k not in KNOWN_HEADERS})
    call: Any = (args, kwargs, links)
    if protocol != 2:
        head, call = _as_protocol_1(protocol, head, args, kwargs, links)
    if type(links["chain"]) is AsRead and (before is not None or not content.is_own_json(serializer)):
        links["chain"] = [*links["chain"]]
    if before is not None:
        properties = dict(properties or {})
        before(head, call, properties)
    mime, encoding, body = content.dumps(call, serializer)
    if compression:
        packed, body = compress(body, compression)
        if packed is not None:
            head["compression"] = packed
    raw = envelope.wrap(
        body,
        exchange=exchange,
        routing_key=routing_key,
        content_type=mime,
        content_encoding=encoding,
        headers=head,
        priority=priority,
        delivery_mode=delivery_mode,
        correlation_id=task_id,
        reply_to=reply_to,
        expiration=expiration_ms,
        more=properties,
    )
    if len(raw) > content.MAX_WIRE_BYTES:
        raise MessageTooLarge(f"the message of {task}[{task_id}]", len(raw), content.MAX_WIRE_BYTES)
    return raw


#: of protocol 2: what a message of protocol 1 has in its body
_FIELDS_1 = ("task", "id", "group", "group_index", "retries", "eta", "expires", "timelimit")


def _as_protocol_1(
    protocol: int, head: dict[str, Any], args: Any, kwargs: Any, links: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The headers, which are the caller's own, and the body. As in Celery, each step of a chain is a callback
    of the step before it."""
    if protocol != 1:
        raise ConfigError(f"task_protocol is {protocol!r}; it must be 2 or 1")
    callbacks, after = links["callbacks"], None
    for step in links["chain"] or ():
        options = dict(step.get("options") or {})
        if after is not None:
            old = options.get("link") or []
            options["link"] = [*(old if isinstance(old, list | tuple) else [old]), after]
        after = {**step, "options": options}
    if after is not None:
        callbacks = [*(callbacks or ()), after]
    body = {
        **{key: head[key] for key in _FIELDS_1},
        "args": args,
        "kwargs": kwargs,
        "utc": True,
        "callbacks": callbacks,
        "errbacks": links["errbacks"],
        "chord": links["chord"],
        "taskset": head["group"],
    }
    return {key: value for key, value in head.items() if key not in KNOWN_HEADERS}, body


_NO_LINKS: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


_origin: tuple[int, str] = (0, "")


def origin() -> str:
    """`gen<pid>@<host>`: the sender of a message."""
    global _origin
    pid = os.getpid()
    if _origin[0] != pid:
        _origin = (pid, f"gen{pid}@{ORIGIN_HOST}")
    return _origin[1]


# --- reading -----------------------------------------------------------------------------------


#: a message this small has at most HEADERS_LIMIT headers, and none longer than allowed
_USUAL_BYTES = 4096


def read(raw: bytes, accept: frozenset[str] | None = None) -> TaskMessage:
    """The task in `raw`, head checked, body untouched; raises Malformed and nothing else. accept: what the
    body of a message of protocol 1 may be, which has to be read."""
    if len(raw) <= _USUAL_BYTES:
        try:
            found = usual.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return check(envelope.decode(raw), accept)  # which finds the reason
        head, retries = found.headers, found.headers.retries or 0
        sound = _PRINTABLE.fullmatch(head.id) and _PRINTABLE.fullmatch(head.task)
        if sound and 0 <= retries <= RETRIES_LIMIT:
            priority = found.properties.priority or 0
            return TaskMessage(
                head.id,
                head.task,
                raw=raw,
                retries=retries,
                ignore_result=head.ignore_result,
                root_id=head.root_id,
                parent_id=head.parent_id,
                group=head.group,
                shadow=head.shadow,
                reply_to=found.properties.reply_to,
                priority=min(max(priority, 0), 9),
                usual=found,
            )
    return check(envelope.decode(raw), accept)


def check(found: Envelope, accept: frozenset[str] | None = None) -> TaskMessage:
    """The task in an envelope; raises Malformed and nothing else."""
    headers = found.headers
    if "task" not in headers and "id" not in headers:
        return _protocol_1(found, accept)
    name, task_id = headers.get("task"), headers.get("id")
    if not isinstance(task_id, str) or not _PRINTABLE.fullmatch(task_id):
        raise Malformed("no_id" if task_id is None else "bad_id", f"id {task_id!r:.80}")
    return _checked(found, name, task_id, headers, 2)


def _checked(found: Envelope, name: Any, task_id: str, fields: dict[str, Any], protocol: int) -> TaskMessage:
    def wrong(reason: str, field: str) -> Malformed:
        return Malformed(reason, f"{field} {fields.get(field)!r:.80}", task_id)

    if not isinstance(name, str) or not _PRINTABLE.fullmatch(name):
        raise wrong("no_task" if name is None else "bad_task", "task")
    if len(fields) > HEADERS_LIMIT:
        raise Malformed("too_many_headers", f"{len(fields)} headers", task_id)
    try:
        eta = _moment(fields.get("eta"))
    except (ValueError, TypeError, OverflowError):
        raise wrong("bad_eta", "eta") from None
    try:
        expires = _moment(fields.get("expires"))
    except (ValueError, TypeError, OverflowError):
        raise wrong("bad_expires", "expires") from None
    hard, soft = _limits(fields, wrong)
    retries = fields.get("retries") or 0
    if isinstance(retries, str) and _DIGITS.fullmatch(retries):
        retries = int(retries)  # as clients of other languages write it
    if type(retries) is not int or not 0 <= retries <= RETRIES_LIMIT:
        raise wrong("bad_retries", "retries")
    for key in ("root_id", "parent_id", "group"):
        if not (fields.get(key) is None or isinstance(fields[key], str)):
            raise wrong(f"bad_{key}", key)
    for key in ("stamps", "stamped_headers"):
        if not (fields.get(key) is None or isinstance(fields[key], dict if key == "stamps" else list)):
            raise wrong("bad_stamps", key)
    ignore = fields.get("ignore_result")
    if not (ignore is None or isinstance(ignore, bool)):
        raise wrong("bad_ignore_result", "ignore_result")
    priority = found.properties.priority
    shadow = fields.get("shadow")
    return TaskMessage(
        id=task_id,
        task=name,
        whole=found,
        eta=eta,
        expires=expires,
        retries=retries,
        hard_s=hard,
        soft_s=soft,
        ignore_result=ignore,
        root_id=fields.get("root_id"),
        parent_id=fields.get("parent_id"),
        group=fields.get("group"),
        shadow=shadow if isinstance(shadow, str) else None,
        reply_to=found.properties.reply_to,
        priority=min(max(priority, 0), 9) if priority is not None else 0,
        protocol=protocol,
    )


def _protocol_1(found: Envelope, accept: frozenset[str] | None) -> TaskMessage:
    """Celery's older format: all fields are in the body, an object."""
    if not found.body:
        raise Malformed("no_id", "neither the headers nor the body name the task")
    fields = envelope.body_value(found, accept)
    if not isinstance(fields, dict):
        raise Malformed("no_id", "the headers have no id and the body is not a protocol 1 object")
    task_id = fields.get("id")
    if not isinstance(task_id, str) or not _PRINTABLE.fullmatch(task_id):
        raise Malformed("no_id" if task_id is None else "bad_id", f"id {task_id!r:.80}")
    args = fields.get("args") or []
    # A protocol 1 message has no such headers; the important ones are copied so that
    # requests look alike to the task.
    found.headers = {
        **found.headers,
        "id": task_id,
        "task": fields.get("task"),
        "group": fields.get("taskset") or fields.get("group"),
        "group_index": fields.get("group_index"),
        "retries": fields.get("retries"),
        "eta": fields.get("eta"),
        "expires": fields.get("expires"),
        "timelimit": fields.get("timelimit"),
        "root_id": task_id,
        "argsrepr": short_repr(tuple(args) if isinstance(args, list) else args),
        "kwargsrepr": short_repr(fields.get("kwargs") or {}),
    }
    return _checked(found, fields.get("task"), task_id, found.headers, 1)


def read_body(message: TaskMessage, accept: frozenset[str] | None = None) -> Body:
    """args, kwargs and the following signatures; raises Malformed and nothing else."""
    if (
        message.usual is not None
        and (call := usual.arguments(message.usual, message.raw, accept)) is not None
    ):
        return Body(*call, {})

    def wrong(detail: str) -> Malformed:
        return Malformed("bad_body", detail, message.id)

    try:
        found = message.envelope
        raw = envelope.body_bytes(found)
        value: Any = None
        if message.protocol == 2:
            value = usual.linked(raw, found.content_type, accept)
        if value is None:
            value = content.loads(raw, found.content_type, accept, found.content_encoding)
    except Malformed as exc:
        raise Malformed(exc.reason, exc.detail, message.id) from None
    if message.protocol == 1:
        embed = {k: value.get(k) for k in ("callbacks", "errbacks", "chain", "chord")}
        args, kwargs = value.get("args") or [], value.get("kwargs") or {}
    else:
        if not isinstance(value, list | tuple) or len(value) != 3:
            raise wrong("the body is not [args, kwargs, embed]")
        args, kwargs, embed = value
    if not isinstance(args, list | tuple):
        raise wrong("args is not a list")
    if not isinstance(kwargs, dict) or (kwargs and not all(isinstance(k, str) for k in kwargs)):
        raise wrong("kwargs is not an object with text keys")
    if not (embed is None or isinstance(embed, dict)):
        raise wrong("embed is neither null nor an object")
    embed = embed or {}
    for key in ("callbacks", "errbacks", "chain"):
        links = embed.get(key)
        if links is None:
            continue
        if not isinstance(links, list) or len(links) > CHAIN_LIMIT:
            raise wrong(f"{key} is not a list of at most {CHAIN_LIMIT} signatures")
        for link in links[-1:] if type(links) is AsRead else links:
            if not is_signature(link):
                raise wrong(f"{key} contains something that is not a signature")
    chord = embed.get("chord")
    if chord is not None and not (isinstance(chord, dict) and isinstance(chord.get("task"), str)):
        raise wrong("chord is not a signature")
    return Body(list(args), kwargs, embed)


def is_signature(link: Any) -> bool:
    """Whether a link of a body can be one."""
    return type(link) is dict and type(link.get("task")) is str


def call_of(message: TaskMessage, accept: frozenset[str] | None = None) -> Any:
    """The body as its protocol has it: (args, kwargs, embed), or a mapping. Raises Malformed."""
    if message.protocol == 1:
        return envelope.body_value(message.envelope, accept)
    return tuple(read_body(message, accept))


def _moment(value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(value)
    return epoch(value)


def _limits(fields: dict[str, Any], wrong: Any) -> tuple[float | None, float | None]:
    pair = fields.get("timelimit")
    if pair is None:
        return None, None
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise wrong("bad_timelimit", "timelimit")
    for limit in pair:
        if limit is None:
            continue
        if type(limit) not in (int, float) or not 0 <= limit < 1e10:
            raise wrong("bad_timelimit", "timelimit")
    return pair[0] or None, pair[1] or None
