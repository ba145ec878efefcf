"""Messages that are no tasks, or hardly: what a broker may hand to a worker.

Each entry has its bytes and what must come of it:
  quarantine  kept byte for byte and listed
  runs        odd, and yet a task: it is run
  delayed     held by the broker for its time
In every case the worker lives on and serves the next good task at once.
"""

from __future__ import annotations

import base64
import bz2
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import brotli
import zstandard

TASK = "proj.add"
NO_LINKS: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


class Entry(NamedTuple):
    id: str
    what: str
    make: Callable[[], bytes]  # some take a second, which the collection of the tests need not take
    expect: str

    @property
    def raw(self) -> bytes:
        return self.make()


def good(number: int = 0, **changes: Any) -> dict[str, Any]:
    """A valid message as Celery writes it, with parts replaced: body=…, headers=…, properties=…."""
    task_id = f"corpus-{number:04d}"
    headers: dict[str, Any] = {
        "lang": "py",
        "task": TASK,
        "id": task_id,
        "eta": None,
        "expires": None,
        "group": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": task_id,
        "parent_id": None,
        "argsrepr": "(2, 2)",
        "kwargsrepr": "{}",
        "origin": "gen1@test",
        "ignore_result": False,
    }
    properties: dict[str, Any] = {
        "correlation_id": task_id,
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": "celery"},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": f"tag-{task_id}",
    }
    message: dict[str, Any] = {
        "body": b64(json.dumps([[2, 2], {}, NO_LINKS]).encode()),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": properties,
    }
    for part, value in changes.items():
        key = part.replace("_", "-")
        if part in ("headers", "properties") and isinstance(value, dict):
            message[part].update(value)
        else:
            message[key] = value
    return message


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def without(message: dict[str, Any], *path: str) -> dict[str, Any]:
    holder: Any = message
    for key in path[:-1]:
        holder = holder[key]
    del holder[path[-1]]
    return message


def body(value: Any) -> str:
    return b64(json.dumps(value).encode())


def entries() -> Iterator[Entry]:
    """All of them; ids T01 to T78, with a letter where one number covers several bytes."""
    number = 0

    def entry(id: str, what: str, message: Any, expect: str = "quarantine") -> Entry:
        @cache
        def make() -> bytes:
            found = message() if callable(message) else message
            return found if isinstance(found, bytes) else json.dumps(found).encode()

        return Entry(id, what, make, expect)

    def m(**changes: Any) -> dict[str, Any]:
        nonlocal number
        number += 1
        return good(number, **changes)

    def h(**headers: Any) -> dict[str, Any]:
        return m(headers=headers)

    def p(**properties: Any) -> dict[str, Any]:
        return m(properties=properties)

    yield entry("T01", "empty string", b"")
    yield entry("T02", "plain text", b"hello there")
    yield entry("T03", "null", b"null")
    yield entry("T04", "a number", b"42")
    yield entry("T05", "a list", b"[1, 2, 3]")
    yield entry("T06", "an empty object", b"{}")
    yield entry("T07", "invalid UTF-8", b'{"body": "\xff\xfe"}')
    yield entry("T08", "truncated JSON", json.dumps(m()).encode()[:-20])
    yield entry("T09", "a 100,000-deep envelope", b'{"body": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    twice = json.dumps(m()).encode()
    yield entry("T10", "duplicate keys", twice[:-1] + b', "content-type": "application/json"}', "runs")
    yield entry("T11", "a byte order mark", b"\xef\xbb\xbf" + json.dumps(m()).encode())
    yield entry("T12", "UTF-16", json.dumps(m()).encode("utf-16"))
    yield entry("T13", "NaN and Infinity", json.dumps(h(retries=float("nan"), x=float("inf"))).encode())
    huge = json.dumps(h(retries=0)).replace('"retries": 0', '"retries": 1' + "0" * 4000)
    yield entry("T14", "an integer of 4,000 digits", huge.encode())
    yield entry("T15", "a lone surrogate in the name", json.dumps(h(task="proj.\ud800add")).encode())
    yield entry("T16", "NUL bytes in the name", h(task="proj.\x00add"))
    yield entry("T17", "no properties", without(m(), "properties"))
    yield entry("T18", "no delivery tag", without(m(), "properties", "delivery_tag"), "runs")
    yield entry("T19", "no delivery info", without(m(), "properties", "delivery_info"), "runs")
    yield entry("T20", "the delivery tag is a list", p(delivery_tag=["a"]))
    yield entry("T21", "the delivery tag of another message", p(delivery_tag="tag-corpus-0001"), "runs")
    yield entry("T22", "the priority is text", p(priority="high"), "runs")
    yield entry("T23a", "priority -1", p(priority=-1), "runs")
    yield entry("T23b", "priority a billion", p(priority=10**9), "runs")
    yield entry("T24", "reply_to is an object", p(reply_to={"a": 1}))
    yield entry("T25", "no headers", without(m(), "headers"))
    yield entry("T26", "headers are null", m() | {"headers": None})
    yield entry("T27", "headers are a list", m() | {"headers": ["task", "id"]})
    latin = json.dumps(h(note="x-y"))
    yield entry("T28", "a header that is not UTF-8", latin.encode().replace(b"x-y", b"\xe9"))
    yield entry("T29", "10,000 headers", h(**{f"x{i}": i for i in range(10_000)}))
    yield entry("T30", "no task", without(m(), "headers", "task"))
    yield entry("T31", "no id", without(m(), "headers", "id"))
    yield entry("T32", "the task is a number", h(task=42))
    yield entry("T33", "the task is a list", h(task=["proj.add"]))
    yield entry("T34", "the id is an object", h(id={"a": 1}))
    yield entry("T35", "an id of 1 MB", h(id="x" * 1_000_000))
    yield entry("T36", "an id like a path and a glob", h(id="../../etc/*[a-z]?"), "runs")
    yield entry("T37", "an unknown task", h(task="proj.nosuch"))
    yield entry("T38", "eta is garbage", h(eta="tomorrow"))
    yield entry("T39", "eta is a number", h(eta=1234567890))
    yield entry("T40a", "eta in the year 9999", h(eta="9999-12-31T23:59:59+00:00"), "delayed")
    yield entry("T40b", "eta before the first year", h(eta="0001-01-01T00:00:00+14:00"), "runs")
    yield entry("T41", "a local eta inside a gap", h(eta="2026-03-29T02:30:00"), "runs")
    yield entry("T42", "expires is garbage", h(expires="soon"))
    yield entry("T43", "expires is an object", h(expires={"a": 1}))
    yield entry("T44", "the time limit is text", h(timelimit="60"))
    yield entry("T45", "a time limit of length 1", h(timelimit=[60]))
    yield entry("T46a", "a negative time limit", h(timelimit=[-5, None]))
    yield entry(
        "T46b", "a time limit that is no number", json.dumps(h(timelimit=[float("nan"), None])).encode()
    )
    yield entry("T47a", "retries is text", h(retries="three"))
    yield entry("T47b", "a billion retries", h(retries=10**9))
    yield entry("T48", "a body that is not base64", m(body="*** not base64 ***"))
    yield entry("T49", "base64 of garbage", m(body=b64(b"\x00\xff\x13garbage")))
    yield entry("T50", "a body of the wrong shape", m(body=body({"a": 1})))
    yield entry("T51", "a body of two elements", m(body=body([[2, 2], {}])))
    yield entry("T52", "args is not a list", m(body=body([42, {}, NO_LINKS])))
    yield entry("T53", "kwargs is a list", m(body=body([[2, 2], [], NO_LINKS])))
    packed = b"\x93\x92\x02\x02\x81\x01\x02\xc0"  # [[2, 2], {1: 2}, nil]
    yield entry(
        "T54", "kwargs with keys that are no text", m(body=b64(packed), content_type="application/x-msgpack")
    )
    yield entry("T55", "embed is null", m(body=body([[2, 2], {}, None])), "runs")
    yield entry("T56", "the body is a number", m(body=42))
    yield entry("T57", "the body is null", m(body=None))
    yield entry("T58", "a 100,000-deep body", m(body=b64(b"[" * 100_000 + b"]" * 100_000)))
    almost = m(body=b64(json.dumps([[2, 2], {}, {"x": "y" * 11_000_000}]).encode()))
    yield entry("T59a", "just below the cap", almost, "runs")
    over = m(body=b64(json.dumps([[2, 2], {}, {"x": "y" * 12_700_000}]).encode()))
    yield entry("T59b", "just above the cap", over)
    pickle = base64.b64decode("gASVIAAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAVmYWxzZZSFlFKULg==")
    yield entry("T60", "pickle", m(body=b64(pickle), content_type="application/x-python-serialize"))
    yield entry("T61", "an unknown content type", m(content_type="application/x-nobody"))
    yield entry("T62", "the content type is null", m(content_type=None))
    yield entry("T63", "an unknown content encoding", m(content_encoding="klingon"), "runs")
    yield entry("T64", "the content encoding is null", m(content_encoding=None))
    yield entry("T65", "an unknown body encoding", p(body_encoding="rot13"))
    yield entry("T66", "a compression header on a plain body", h(compression="application/x-gzip"))
    yield entry("T67", "an unknown compression", h(compression="application/x-nobody"))
    yield from _bombs(m)
    cut = zlib.compress(json.dumps([[2, 2], {}, NO_LINKS]).encode())[:-6]
    yield entry(
        "T69", "a truncated compressed body", m(body=b64(cut), headers={"compression": "application/x-gzip"})
    )
    chain = {"chain": [{"task": None, "args": [], "kwargs": {}, "options": {}}]}
    yield entry("T70", "a chain with a null task", m(body=body([[2, 2], {}, chain])))
    link = {"task": TASK, "args": [1], "kwargs": {}, "options": {}}
    many, links = m(), [[2, 2], {}, {"chain": [link] * 100_000}]
    yield entry("T71", "a chain of 100,000 links", lambda: many | {"body": body(links)})
    yield entry("T72", "callbacks are text", m(body=body([[2, 2], {}, {"callbacks": "proj.add"}])))
    chord = {"chord": {"task": TASK, "args": [], "kwargs": {}, "options": {}}}
    yield entry("T73", "a chord without a group", m(body=body([[2, 2], {}, chord])), "runs")
    own: dict[str, Any] = {"task": TASK, "args": [1], "kwargs": {}, "options": {}}
    own["options"] = {"link": [dict(own)]}
    yield entry(
        "T74", "a signature that holds itself", m(body=body([[2, 2], {}, {"callbacks": [own]}])), "runs"
    )
    old = {"task": TASK, "id": "corpus-old", "args": [2, 2], "kwargs": {}}
    yield entry("T75", "protocol 1 with protocol 2 headers", m(body=body(old)))
    yield entry("T76", "stamps of the wrong type", h(stamps=["a"], stamped_headers="a"))
    tagged = b"!!python/object/apply:os.system ['false']"
    yield entry("T77", "YAML with tags", m(body=b64(tagged), content_type="application/x-yaml"))
    extended = b"\xc7\x05\x01abc"
    yield entry(
        "T78", "msgpack with wrong lengths", m(body=b64(extended), content_type="application/x-msgpack")
    )


_SQUEEZE: dict[str, Callable[[bytes], bytes]] = {
    "application/x-gzip": zlib.compress,
    "application/x-bz2": bz2.compress,
    "application/x-lzma": partial(lzma.compress, preset=0),
    "application/x-brotli": partial(brotli.compress, quality=1),
    "application/zstd": zstandard.ZstdCompressor().compress,
}


@cache  # each takes half a second, and several tests of a process need them
def _squeezed(mime: str) -> str:
    return b64(_SQUEEZE[mime](b"[[" + b" " * 100_000_000 + b"2, 2], {}, null]"))


def _bomb(mime: str, message: dict[str, Any]) -> bytes:
    return json.dumps({**message, "body": _squeezed(mime)}).encode()


def _bombs(m: Callable[..., dict[str, Any]]) -> Iterator[Entry]:
    """Small messages that inflate to far more than anybody wants."""

    for letter, mime in zip("abcde", _SQUEEZE, strict=True):
        make = partial(_bomb, mime, m(headers={"compression": mime}))
        yield Entry(f"T68{letter}", f"a bomb ({mime})", make, "quarantine")
