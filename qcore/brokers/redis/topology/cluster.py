"""Find the node of a Redis cluster that owns the slot of the fleet, and follow the slot.

In:  `redis+cluster://h1:7000,h2:7000` or `rediss+cluster://…`, and connections to single nodes.
Out: the owner's connection, and what the nodes report of the cluster.
All keys of a fleet are in one slot, since every step that must be atomic is one script: the prefix of the
keys has a hash tag, and gets one when it has none.
Next: brokers/redis/servers.py.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import hiredis

from qcore.brokers.redis.socket_tcp import DEFAULT_PORT, CannotConnect
from qcore.brokers.shared.endpoints import CLUSTER, split_urls
from qcore.errors import ConfigError, mask_url

SLOTS = 16_384
DEFAULT_PREFIX = "{qcore}"


def slot_of(key: str) -> int:
    """The slot of a key: a checksum of its hash tag, or of the whole key when it has none."""
    return binascii.crc_hqx((hash_tag(key) or key).encode(), 0) % SLOTS


def hash_tag(key: str) -> str:
    """The text in the first braces of a key; '' when there is none."""
    _, brace, rest = key.partition("{")
    tag, end, _ = rest.partition("}")
    return tag if brace and end else ""


def key_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options with prefixes that put all keys into one slot: `shop:` becomes `{shop:}`.

    Raises ConfigError when the prefix of the results has a hash tag of another slot.
    """
    prefix = str(options.get("global_keyprefix") or "")
    results = str(options.get("result_prefix") or "")
    one = prefix or results or DEFAULT_PREFIX
    tagged = one if hash_tag(one) else f"{{{one}}}"
    if results in ("", one):
        results = tagged
    elif not hash_tag(results):
        results = tagged + results
    elif slot_of(results) != slot_of(tagged):
        raise ConfigError(
            f"in a Redis cluster all keys of a fleet are in one slot: the prefix of the results '{results}' "
            f"and that of the broker '{tagged}' must have the same text in braces (global_keyprefix)"
        )
    return {**options, "global_keyprefix": tagged, "result_prefix": results}


class Node(NamedTuple):
    """The address of a node."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Range(NamedTuple):
    """Consecutive slots of one primary."""

    first: int
    last: int
    owner: Node
    replicas: tuple[Node, ...]


class Cluster:
    """The nodes of one URL, and the owner of the fleet's slot, which is looked up when it is unknown.

    Used from several threads without a lock: each step is one assignment, and the worst case of a race is one
    extra look.
    """

    def __init__(self, url: str, prefix: str, open_node: Callable[[str], Any]) -> None:
        """open_node opens a connection to a single URL and logs in; it raises CannotConnect."""
        self.prefix, self.slot = prefix, slot_of(prefix)
        #: Keys that never exist. While the slot moves, a node refuses a script before it runs when a key that
        #: the request names is missing; so no script stops half-way because a key has moved.
        self.guards = (f"{prefix}qcore.whole.1", f"{prefix}qcore.whole.2")
        #: A node that answers with one of these has not executed the request.
        self._refusals = (f"MOVED {self.slot} ", f"ASK {self.slot} ", "TRYAGAIN", "CLUSTERDOWN", "READONLY")
        self._open_node = open_node
        urls = split_urls(url)
        if not all(CLUSTER in one for one in urls):
            raise ConfigError(f"a list of cluster nodes contains only cluster URLs: {mask_url(url)}")
        parts = [urlsplit(one) for one in urls]
        first = parts[0]
        scheme = first.scheme.removesuffix("+cluster")
        if scheme not in ("redis", "rediss"):
            raise ConfigError(
                f"a cluster URL begins with redis+cluster:// or rediss+cluster://: {mask_url(url)}"
            )
        self.scheme = scheme
        self._head = f"{scheme}://{first.netloc.rpartition('@')[0]}{'@' if '@' in first.netloc else ''}"
        self._tail = (first.path.rstrip("/") or "/0") + (f"?{first.query}" if first.query else "")
        self.seeds = [Node(p.hostname or "localhost", p.port or DEFAULT_PORT) for p in parts]
        self._known: tuple[Node, ...] = ()  # those of the last answer
        self._last: Node | None = None  # the node that answered last
        self._doubted: Node | None = None  # an owner that refused: others are asked about the slot before it
        self.owner: Node | None = None

    def url_of(self, node: Node) -> str:
        """The URL of a single node, with the user, the database and the options of the first URL."""
        return f"{self._head}{node}{self._tail}"

    # --- the owner

    def connect(self) -> tuple[Any, Node]:
        """A connection to the owner of the slot. Raises CannotConnect with what each node said."""
        owner, reasons = self.owner, dict[str, None]()
        failed = set[Node]()
        for found in self._owners(owner, failed, reasons):
            try:
                made = self._open_primary(found)
            except CannotConnect as exc:
                # The node that named it may not know yet which replica has taken over.
                failed.add(found)
                reasons[f"the owner of slot {self.slot}, {found}: {exc}"] = None
                self.owner = None
                continue
            self.owner = found
            return made, found
        raise CannotConnect("; ".join(reasons))

    def _owners(self, owner: Node | None, failed: set[Node], reasons: dict[str, None]) -> Iterator[Node]:
        """The owner that is known, then those that the nodes name, without those that failed."""
        if owner is not None:
            yield owner
        nodes = dict.fromkeys([*([self._last] if self._last else []), *self.seeds, *self._known])
        for node in sorted(nodes, key=lambda one: one == self._doubted):
            if node in failed:
                continue
            try:
                ranges = self.ranges(node)
            except CannotConnect as exc:
                failed.add(node)
                reasons[str(exc) if str(node) in str(exc) else f"{node}: {exc}"] = None
                continue
            mine = self.range_of(ranges)
            if mine is None:
                reasons[f"no node owns slot {self.slot}, that of the prefix {self.prefix}, says {node}"] = (
                    None
                )
            elif mine.owner not in failed:
                yield mine.owner
            else:
                reasons[f"{node} names {mine.owner} as the owner of slot {self.slot}"] = None

    def _open_primary(self, node: Node) -> Any:
        made = self._open_node(self.url_of(node))
        try:
            if made.role() not in ("master", ""):
                raise CannotConnect("it is a replica")
        except BaseException:
            made.disconnect()
            raise
        return made

    def refuses(self, reply: object) -> bool:
        """Whether this reply means that the node has not executed the request: the slot is elsewhere, is
        being moved, or is not served now."""
        return isinstance(reply, hiredis.ReplyError) and str(reply).startswith(self._refusals)

    def learn(self, reply: object) -> bool:
        """Note what a refusal says; returns whether the owner is known now. If not, the caller waits."""
        words, asked = str(reply).split(), self.owner
        if words[0] == "MOVED":
            host, _, port = words[2].rpartition(":")
            # A node that does not know the address of another one gives only the port.
            self.owner = Node(host.strip("[]") or (asked.host if asked else "localhost"), int(port))
            return True
        if words[0] in ("READONLY", "CLUSTERDOWN"):
            self.owner, self._doubted = None, asked
        return False

    # --- what the nodes report

    def ranges(self, node: Node | None = None) -> list[Range]:
        """Who owns which slots, as this node knows it (or the owner). Raises CannotConnect."""
        asked = node or self.owner or self._last or self.seeds[0]
        answer = self._ask(asked, "CLUSTER", "SLOTS")
        found = []
        for first, last, owner, *replicas in answer:
            own, *others = [_address(one, asked) for one in (owner, *replicas)]
            found.append(Range(int(first), int(last), own, tuple(others)))
        self._known = tuple(dict.fromkeys(n for r in found for n in (r.owner, *r.replicas)))
        self._last = asked
        return sorted(found)

    def range_of(self, ranges: list[Range]) -> Range | None:
        """The one with the fleet's slot."""
        return next((one for one in ranges if one.first <= self.slot <= one.last), None)

    @staticmethod
    def gaps(ranges: list[Range]) -> str:
        """The slots without an owner, `0-5, 7`; '' when there are none."""
        ends = [-1, *(one.last for one in ranges)]
        starts = [*(one.first for one in ranges), SLOTS]
        missing = [(a + 1, b - 1) for a, b in zip(ends, starts, strict=True) if b - a > 1]
        return ", ".join(f"{a}-{b}" if a < b else str(a) for a, b in missing)

    def _ask(self, node: Node, *command: str) -> Any:
        """One command on a connection of its own."""
        made, reader = self._open_node(self.url_of(node)), hiredis.Reader()
        try:
            made.sock.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]  # any tuple will do
            while (answer := reader.gets()) is False:
                if not (data := made.sock.recv(65_536)):
                    raise CannotConnect(f"{node} closed the connection")
                reader.feed(data)
        except OSError as exc:
            raise CannotConnect(f"{node}: {str(exc) or 'it did not answer in time'}") from exc
        finally:
            made.disconnect()
        if isinstance(answer, hiredis.ReplyError):
            if "cluster support disabled" in str(answer):
                raise ConfigError(f"the Redis at {node} is not in cluster mode: write redis:// in the URL")
            raise CannotConnect(f"{node}: {answer}")
        return answer


def _address(entry: list[Any], asked: Node) -> Node:
    """The address in an entry of CLUSTER SLOTS; a node that does not know its own host leaves it out."""
    host = (entry[0] or b"").decode()
    return Node(asked.host if host in ("", "?") else host, int(entry[1]))
