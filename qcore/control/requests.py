"""Requests to workers as Celery's API has them: `app.control.revoke(id)`, `app.control.inspect().active()`.

In:  arguments of methods.  Out: what broadcast() and Inspect return: nothing, or {node: value}.
After this: client.py, whose Control is built on this, sends the request and gathers the replies.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qcore.control.commands.registry import find
from qcore.errors import UnknownName
from qcore.tasks.current_app import current_app

DEFAULT_TIMEOUT_S = 1.0
log = logging.getLogger("qcore.control")


class Requests:
    """The part of Control with a method for each request."""

    app: Any

    def ask(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError

    def tell(self, *args: Any, **options: Any) -> int | None:
        raise NotImplementedError

    def broadcast(
        self,
        command: str,
        arguments: dict[str, Any] | None = None,
        destination: Sequence[str] | None = None,
        connection: Any = None,
        reply: bool = False,
        timeout: float = DEFAULT_TIMEOUT_S,
        limit: int | None = None,
        callback: Callable[[dict[str, Any]], object] | None = None,
        channel: Any = None,
        pattern: str | None = None,
        matcher: str | None = None,
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
        self,
        destination: Sequence[str] | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        **options: Any,
    ) -> list[dict[str, Any]]:
        found = self.broadcast("ping", destination=destination, reply=True, timeout=timeout, **options)
        return found or []

    def revoke(
        self,
        task_id: str | Sequence[str],
        destination: Sequence[str] | None = None,
        terminate: bool = False,
        signal: str = "SIGTERM",
        **options: Any,
    ) -> list[dict[str, Any]] | None:
        """Store the revoked ids in the broker, then publish the request to the workers."""
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        self.app.broker.revoke(ids)
        arguments = {"task_id": ids, "terminate": terminate, "signal": signal}
        return self.broadcast("revoke", arguments, destination, **options)

    def terminate(
        self,
        task_id: str | Sequence[str],
        destination: Sequence[str] | None = None,
        signal: str = "SIGTERM",
        **options: Any,
    ) -> Any:
        return self.revoke(task_id, destination, terminate=True, signal=signal, **options)

    def revoke_by_stamped_headers(
        self,
        headers: dict[str, Any],
        destination: Sequence[str] | None = None,
        terminate: bool = False,
        signal: str = "SIGTERM",
        **options: Any,
    ) -> Any:
        """Revoke the tasks that have one of these stamps, {header: value or values}."""
        arguments = {"headers": headers, "terminate": terminate, "signal": signal}
        return self.broadcast("revoke_by_stamped_headers", arguments, destination, **options)

    def rate_limit(
        self,
        task_name: str,
        rate_limit: str | float,
        destination: Sequence[str] | None = None,
        **options: Any,
    ) -> Any:
        arguments = {"task_name": task_name, "rate_limit": rate_limit}
        return self.broadcast("rate_limit", arguments, destination, **options)

    def time_limit(
        self,
        task_name: str,
        soft: float | None = None,
        hard: float | None = None,
        destination: Sequence[str] | None = None,
        **options: Any,
    ) -> Any:
        arguments = {"task_name": task_name, "soft": soft, "hard": hard}
        return self.broadcast("time_limit", arguments, destination, **options)

    def enable_events(self, destination: Sequence[str] | None = None, **options: Any) -> Any:
        return self.broadcast("enable_events", destination=destination, **options)

    def disable_events(self, destination: Sequence[str] | None = None, **options: Any) -> Any:
        return self.broadcast("disable_events", destination=destination, **options)

    def autoscale(self, max: int, min: int, destination: Sequence[str] | None = None, **options: Any) -> Any:
        """Set the bounds of autoscaled pools."""
        return self.broadcast("autoscale", {"max": max, "min": min}, destination, **options)

    def pool_grow(self, n: int = 1, destination: Sequence[str] | None = None, **options: Any) -> Any:
        return self.broadcast("pool_grow", {"n": n}, destination, **options)

    def pool_shrink(self, n: int = 1, destination: Sequence[str] | None = None, **options: Any) -> Any:
        return self.broadcast("pool_shrink", {"n": n}, destination, **options)

    def pool_restart(
        self,
        modules: Sequence[str] | None = None,
        reload: bool = False,
        reloader: Any = None,
        destination: Sequence[str] | None = None,
        **options: Any,
    ) -> Any:
        """Replace the processes of the pools; workers refuse modules and reload."""
        return self.broadcast("pool_restart", {"modules": modules, "reload": reload}, destination, **options)

    def election(
        self, id: str, topic: str, action: Any = None, connection: Any = None, **options: Any
    ) -> Any:
        """Have the workers elect one of them, which handles the topic; action: what its handler gets, for the
        topic "task" a signature to publish. id: of this election."""
        return self.broadcast("election", {"id": id, "topic": topic, "action": action}, **options)

    def add_consumer(
        self,
        queue: str,
        exchange: str | None = None,
        exchange_type: str = "direct",
        routing_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        destination: Sequence[str] | None = None,
        **more: Any,
    ) -> Any:
        """Have workers consume a queue; options: further arguments of the request. exchange_type counts with
        an exchange."""
        arguments: dict[str, Any] = {"queue": queue, **(options or {})}
        if exchange is not None:
            arguments |= {"exchange": exchange, "exchange_type": exchange_type}
        if routing_key is not None:
            arguments["routing_key"] = routing_key
        return self.broadcast("add_consumer", arguments, destination, **more)

    def cancel_consumer(self, queue: str, destination: Sequence[str] | None = None, **options: Any) -> Any:
        return self.broadcast("cancel_consumer", {"queue": queue}, destination, **options)

    def heartbeat(self, destination: Sequence[str] | None = None, **options: Any) -> Any:
        return self.broadcast("heartbeat", destination=destination, **options)

    def shutdown(self, destination: Sequence[str] | None = None, **options: Any) -> Any:
        return self.broadcast("shutdown", destination=destination, **options)


def flatten_reply(reply: list[dict[str, Any]]) -> dict[str, Any]:
    """{node: value} of what broadcast() returns. A warning where several workers have one name."""
    found: dict[str, Any] = {}
    for one in reply:
        for node, value in one.items():
            if node in found:
                log.warning("more than one worker replied as %s; give each worker a name of its own", node)
            found[node] = value
    return found


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
        self.node = destination if isinstance(destination, str) else None
        self.destination = [destination] if isinstance(destination, str) else destination
        self.timeout, self.callback, self.limit = timeout, callback, limit
        self.connection = connection
        self.pattern, self.matcher = pattern, matcher

    def __getattr__(self, name: str) -> Any:
        try:
            command = find("registered" if name == "registered_tasks" else name)
        except UnknownName as exc:
            raise AttributeError(str(exc)) from None

        def ask(*words: Any, **arguments: Any) -> Any:
            given = {**command.arguments([str(w) for w in words]), **arguments}
            return self._request(command.name, **given)

        return ask

    def _request(self, command: str, **arguments: Any) -> Any:
        found = self.app.control.broadcast(
            command,
            arguments,
            destination=self.destination,
            reply=True,
            timeout=self.timeout,
            pattern=self.pattern,
            matcher=self.matcher,
            limit=self.limit,
            callback=self.callback,
        )
        return self._by_node(found or [])

    def _by_node(self, found: list[dict[str, Any]]) -> Any:
        """{node: value}, or None; with one node name as the destination its value."""
        answers = flatten_reply(found)
        return answers.get(self.node) if self.node else answers or None

    def memdump(self, samples: int = 10) -> Any:
        """What Celery's workers say of their memory; qcore's do not know the request."""
        return self._request("memdump", samples=samples)

    def objgraph(self, type: str = "Request", n: int = 200, max_depth: int = 10) -> Any:
        """The file in which Celery's workers draw their objects; qcore's do not know the request."""
        return self._request("objgraph", num=n, max_depth=max_depth, type=type)
