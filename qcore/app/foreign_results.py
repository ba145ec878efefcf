"""The result store around a backend class of another package, such as django-db.

In:  a class with the methods of Celery's backends.  Out: a ResultStore, which calls them. Chords are counted
by the backend where it can (apply_chord and on_chord_part_return), else by the broker.
Before this: connections.py.  After this: backends.py, the base of such a class.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any, TypeVar

from qcore.brokers.contract.records import FullChord, Message, StoredResult
from qcore.errors import BrokerDown, QcoreError
from qcore.results.polled import PolledResults
from qcore.tasks.result import result_from_tuple
from qcore.wire import result as wire
from qcore.wire.content import from_json
from qcore.wire.outcome import ChordPart
from qcore.wire.result import ResultMeta

T = TypeVar("T")


class CallbackPublisher:
    """The part of `app.amqp` that Celery's classes use: they publish the body of a chord with it."""

    def _retry_publish(self, publish: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Publish; every publish here is tried again as its retry policy says."""
        return publish(*args, **kwargs)


class ForeignResults(PolledResults):
    """A backend object for each thread. Options: `app` and `backend`, its class."""

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        super().__init__(url, options)
        self._app = self.options["app"]
        if not hasattr(type(self._app), "amqp"):
            self._app.amqp = CallbackPublisher()
        made = self._make(self.options["backend"])
        self._shared = made if getattr(made, "thread_safe", False) else None
        self._of_thread = threading.local()
        self._of_thread.backend = made
        self.expires_by_cleanup = not self.backend.supports_autoexpire
        self._counts = getattr(self.backend, "implements_incr", False) or any(
            "on_chord_part_return" in vars(kind) and not kind.__module__.startswith("qcore.")
            for kind in type(self.backend).__mro__
        )

    @property
    def backend(self) -> Any:
        """The object of this thread, or that of all if it may be shared: result_backend_thread_safe."""
        if self._shared is not None:
            return self._shared
        if not hasattr(self._of_thread, "backend"):
            self._of_thread.backend = self._make(self.options["backend"])
        return self._of_thread.backend

    def _make(self, kind: Any) -> Any:
        """The object. As in Celery it gets what follows a `+` in the scheme (mongodb+srv), without it the
        whole URL. Raises ConfigError where its client library or a setting is missing."""
        scheme, separator, rest = self.url.partition("://")
        return kind(
            app=self._app, url=f"{scheme.partition('+')[2] or scheme}://{rest}" if separator else None
        )

    def _call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call the backend. Raises BrokerDown for whatever it raises: it may work again."""
        try:
            return function(*args, **kwargs)
        except QcoreError:
            raise
        except Exception as exc:
            raise BrokerDown(self.url, repr(exc)) from exc
        finally:
            if "django.db" in sys.modules and sys.modules["django.conf"].settings.configured:
                # As after each request in Django: no connection that is too old, none in a child by default.
                sys.modules["django.db"].close_old_connections()

    # --- results

    def store(self, results: Sequence[StoredResult]) -> None:
        for result in results:
            meta = self.form.own(result.meta)
            self._call(
                self.backend.store_result,
                result.task_id,
                meta.get("result"),
                meta["status"],
                meta.get("traceback"),
                request=_request(meta, result.task_id),
            )

    def get(self, task_ids: Sequence[str]) -> list[ResultMeta | None]:
        return [self._get(task_id) for task_id in task_ids]

    def _get(self, task_id: str) -> ResultMeta | None:
        found = self._call(self.backend.get_task_meta, task_id, cache=False)
        if found["status"] == wire.PENDING and not found.get("date_done"):
            return None
        if found["status"] == wire.PENDING and not self._call(self.backend.task_result_exists, task_id):
            return None
        result, done = found.get("result"), found.get("date_done")
        if isinstance(result, BaseException):
            result = wire.exception_data(result)
        keys = {
            k: found[k]
            for k in ("traceback", "children", "name", "worker", "retries")
            if found.get(k) is not None
        }
        keys["name"] = found.get("name") or found.get("task_name")
        return ResultMeta(
            task_id,
            found["status"],
            result,
            args=found.get("args"),
            kwargs=found.get("kwargs"),
            date_done=done.isoformat() if isinstance(done, datetime) else done,
            queue=found.get("queue"),
            **keys,
        )

    def forget(self, task_ids: Sequence[str]) -> int:
        there = [i for i in task_ids if self._get(i) is not None]
        for task_id in there:
            self._call(self.backend.forget, task_id)
        return len(there)

    def cleanup(self, older_than_s: float) -> int:
        """The backend has its own time, from result_expires, and does not say how much it deleted."""
        self._call(self.backend.cleanup)
        return 0

    def save_group(self, group_id: str, results: Any, ttl_s: float | None) -> None:
        self._call(self.backend.save_group, group_id, result_from_tuple(results, self._app))

    def restore_group(self, group_id: str) -> Any:
        found = self._call(self.backend.restore_group, group_id)
        return found.as_tuple() if found else None

    def delete_group(self, group_id: str) -> None:
        self._call(self.backend.delete_group, group_id)

    # --- chords

    def chord_sizes(self, sizes: Sequence[tuple[str, int]], ttl_s: float | None) -> None:
        if not self._counts:  # else chord_headers() creates the chord
            self._app.broker.chords.create(sizes, ttl_s)

    def chord_headers(self, headers: Sequence[tuple[str, list[Any]]]) -> None:
        for group, members in headers if self._counts else ():
            results = [result_from_tuple(member, self._app) for member in members]
            self._call(self.backend.apply_chord, (group, results), {"chord_size": len(results)})

    def chord_parts(self, parts: Sequence[ChordPart], ttl_s: float | None) -> list[FullChord | None]:
        if not self._counts:
            found: list[FullChord | None] = self._app.broker.chords.count(parts, ttl_s)
            return found
        for part in parts:
            _, task_id, state, result = self.form.own(part.entry)
            request = SimpleNamespace(
                id=task_id, group=part.group, chord=from_json(part.body), root_id=part.root_id, chain=None
            )
            self._call(self.backend.on_chord_part_return, request, state, result)
        return [None] * len(parts)

    def chord_done(self, full: FullChord, messages: Sequence[Message] = ()) -> bool:
        done: bool = self._app.broker.chords.finish(full, messages)
        return done

    def chord_failed(self, group: str) -> None:
        if not self._counts:
            self._app.broker.chords.fail(group)

    def close(self) -> None:
        self._call(self.backend.process_cleanup)


def _request(meta: dict[str, Any], task_id: str) -> SimpleNamespace:
    """The request of a task as a backend reads it, from what is stored with the result."""
    return SimpleNamespace(
        id=task_id,
        task=meta.get("name"),
        args=meta.get("args"),
        kwargs=meta.get("kwargs"),
        hostname=meta.get("worker"),
        retries=meta.get("retries"),
        delivery_info={"routing_key": meta.get("queue")},
        group=meta.get("group_id"),
        parent_id=meta.get("parent_id"),
        children=[result_from_tuple(child) for child in meta.get("children") or ()],
        chord=None,
        errbacks=None,
        stamps=None,
        stamped_headers=None,
        **{key: meta.get(key) for key in wire.REQUEST_KEYS},
    )
