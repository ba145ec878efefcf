"""Celery's result backends as classes: the base of those of other packages, and `app.backend`.

In:  calls as Celery's backends take them.  Out: the same of a class of another package, which implements
_store_result() and the like, or of the app's result store. Imported when such a class is, or `app.backend`.
Source: the public methods of celery/backends/base.py of Celery 5.7.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from kombu import serialization

from qcore.brokers.contract.records import StoredResult
from qcore.errors import (
    ChordError,
    TimeoutError,
    mask_url,
)
from qcore.execution import continuations
from qcore.tasks.request import current_task as get_current_task
from qcore.tasks.result import GroupResult, ResultSet
from qcore.tasks.signature import Signature
from qcore.wire import result as wire
from qcore.wire.compression import compress_stored, decompress_stored

__all__ = ["BackendGetMetaError", "BackendStoreError", "get_current_task"]

log = logging.getLogger("qcore.results")
kombu: Any = serialization


class BackendError(Exception): ...


class BackendGetMetaError(BackendError): ...


class BackendStoreError(BackendError): ...


class Backend:
    """What all backends have. A subclass implements _store_result(), _get_task_meta_for(), _forget(),
    _save_group(), _restore_group(), _delete_group(), and what else it can."""

    READY_STATES = wire.READY_STATES
    UNREADY_STATES = wire.UNREADY_STATES
    EXCEPTION_STATES = wire.EXCEPTION_STATES
    TimeoutError = TimeoutError
    subpolling_interval: float | None = None
    supports_native_join = supports_autoexpire = supports_result_compression = False
    supports_failure_expires = False
    persistent = True

    def __init__(
        self,
        app: Any,
        serializer: str | None = None,
        max_cached_results: int | None = None,
        accept: Any = None,
        expires: Any = None,
        expires_type: Any = None,
        url: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.app, self.url, conf = app, url, app.conf
        self.serializer = serializer or conf.result_serializer
        encoder = kombu.registry._encoders[self.serializer]
        self.content_type, self.content_encoding, self.encoder = encoder
        self.compression = (conf.result_compression or None) if self.supports_result_compression else None
        self.expires = self.prepare_expires(expires, expires_type)
        given = accept if accept is not None else conf.result_accept_content
        self.accept = kombu.prepare_accept_content(conf.accept_content if given is None else given)
        self.always_retry = conf.result_backend_always_retry
        self.max_retries = conf.result_backend_max_retries
        self.base_sleep_between_retries_ms = conf.result_backend_base_sleep_between_retries_ms
        self.max_sleep_between_retries_ms = conf.result_backend_max_sleep_between_retries_ms
        self.thread_safe = conf.result_backend_thread_safe

    def as_uri(self, include_password: bool = False) -> str:
        """The URL, without the password unless it is asked for."""
        url = str(self.url or "")
        return url if include_password else mask_url(url)

    # --- what a worker stores

    def mark_as_started(self, task_id: str, **meta: Any) -> Any:
        return self.store_result(task_id, meta, wire.STARTED)

    def mark_as_done(
        self,
        task_id: str,
        result: Any,
        request: Any = None,
        store_result: bool = True,
        state: str = wire.SUCCESS,
    ) -> None:
        if store_result:
            self.store_result(task_id, result, state, request=request)
        if request and getattr(request, "chord", None):
            self.on_chord_part_return(request, state, result)

    def mark_as_failure(
        self,
        task_id: str,
        exc: Any,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = wire.FAILURE,
    ) -> None:
        """As in Celery, but the tasks of a chain that follow are not marked: a worker does that."""
        if store_result:
            self.store_result(task_id, exc, state, traceback=traceback, request=request)
        if request and getattr(request, "chord", None):
            self.on_chord_part_return(request, state, exc)
        for errback in (getattr(request, "errbacks", None) or ()) if call_errbacks else ():
            Signature(errback, app=self.app).apply_async((task_id,))

    def mark_as_revoked(
        self,
        task_id: str,
        reason: str = "",
        request: Any = None,
        store_result: bool = True,
        state: str = wire.REVOKED,
    ) -> None:
        from qcore.errors import TaskRevokedError

        self.mark_as_failure(task_id, TaskRevokedError(reason), None, request, store_result, False, state)

    def mark_as_retry(
        self,
        task_id: str,
        exc: Any,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        state: str = wire.RETRY,
    ) -> Any:
        return self.store_result(task_id, exc, state, traceback=traceback, request=request)

    def fail_from_current_stack(self, task_id: str, exc: Any = None) -> Any:
        import sys
        import traceback

        error = sys.exc_info()[1] if exc is None else exc
        self.mark_as_failure(task_id, error, traceback.format_exc())
        return error

    def chord_error_from_stack(self, callback: Any, exc: Any = None) -> None:
        """Fail the body of a chord, and what follows it, with this error; call the errbacks."""
        error = wire.exception_data(exc or ChordError("the chord failed"))
        found = continuations.body_failed(
            dict(callback), self.app, error, f"{type(exc).__name__}: {exc}\n", None
        )
        if found.before is not None:
            ttl_s = self.app.conf.seconds("result_expires")
            self.app.results.store([StoredResult(i, meta, ttl_s) for i, meta in found.before.results])
            if found.before.parts:
                self.app.results.chord_parts(found.before.parts, self.app.chord_ttl_s())
        if found.messages:
            self.app.broker.publish(found.messages)

    def store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        result = self.encode_result(result, state)
        self._ensure_retryable(
            self._store_result, task_id, result, state, traceback, request=request, **kwargs
        )
        return result

    # --- formats

    def prepare_exception(self, exc: BaseException, serializer: str | None = None) -> Any:
        return wire.exception_data(exc)

    def exception_to_python(self, exc: Any) -> Any:
        if not exc or isinstance(exc, BaseException):
            return exc or None
        return wire.exception_from(exc)

    def prepare_value(self, result: Any) -> Any:
        return result.as_tuple() if hasattr(result, "as_tuple") and hasattr(result, "id") else result

    def encode_result(self, result: Any, state: str) -> Any:
        if state in self.EXCEPTION_STATES and isinstance(result, BaseException):
            return self.prepare_exception(result)
        return self.prepare_value(result)

    def encode(self, data: Any) -> Any:
        found = self._encode(data)[2]
        return found if self.compression is None else compress_stored(_as_bytes(found), self.compression)

    def _encode(self, data: Any) -> Any:
        return kombu.dumps(data, serializer=self.serializer)

    def decode(self, payload: Any) -> Any:
        if payload is None:
            return None
        if isinstance(payload, bytes | bytearray | memoryview):
            payload = decompress_stored(bytes(payload))
        return kombu.loads(
            payload or str(payload), self.content_type, self.content_encoding, accept=self.accept
        )

    def decode_result(self, payload: Any) -> Any:
        return self.meta_from_decoded(self.decode(payload))

    def meta_from_decoded(self, meta: Any) -> Any:
        if meta["status"] in self.EXCEPTION_STATES:
            meta["result"] = self.exception_to_python(meta["result"])
        return meta

    def prepare_expires(self, value: Any, type: Any = None) -> Any:
        """Seconds; None is the setting result_expires."""
        found = self.app.conf.result_expires if value is None else value
        if isinstance(found, timedelta):
            found = found.total_seconds()
        return type(found) if found is not None and type else found

    def current_task_children(self, request: Any = None) -> Any:
        request = request or getattr(get_current_task(), "request", None)
        return [r.as_tuple() for r in getattr(request, "children", None) or ()] if request else None

    def _get_result_meta(
        self,
        result: Any,
        state: str,
        traceback: Any,
        request: Any,
        format_date: bool = True,
        encode: bool = False,
    ) -> dict[str, Any]:
        done = self.app.now() if state in self.READY_STATES else None
        meta = {
            "status": state,
            "result": result,
            "traceback": traceback,
            "children": self.current_task_children(request),
            "date_done": done.isoformat() if done is not None and format_date else done,
        }
        for key, name in (("group_id", "group"), ("parent_id", "parent_id")):
            if getattr(request, name, None):
                meta[key] = getattr(request, name)
        if request and self.app.conf.result_extended:
            names = {
                "name": "task",
                "args": "args",
                "kwargs": "kwargs",
                "worker": "hostname",
                "retries": "retries",
            }
            meta.update((key, getattr(request, name, None)) for key, name in names.items())
            meta["queue"] = (getattr(request, "delivery_info", None) or {}).get("routing_key")
            for field in ("args", "kwargs") if encode else ():
                found = self.encode(meta[field])
                meta[field] = found.encode() if isinstance(found, str) else found
        return meta

    # --- what a caller reads

    def get_task_meta(self, task_id: str, cache: bool = True) -> Any:
        return self._ensure_retryable(self._get_task_meta_for, task_id)

    def reload_task_result(self, task_id: str) -> None:
        """Nothing is kept in the process, so nothing is read again."""

    def task_result_exists(self, task_id: str) -> bool:
        return bool(self._get_task_meta_for(task_id)["status"] != wire.PENDING)

    def is_cached(self, task_id: str) -> bool:
        return False

    def get_state(self, task_id: str) -> Any:
        return self.get_task_meta(task_id)["status"]

    get_status = get_state

    def get_traceback(self, task_id: str) -> Any:
        return self.get_task_meta(task_id).get("traceback")

    def get_result(self, task_id: str) -> Any:
        return self.get_task_meta(task_id).get("result")

    def get_children(self, task_id: str) -> Any:
        return self.get_task_meta(task_id).get("children")

    def wait_for(
        self, task_id: str, timeout: float | None = None, interval: float = 0.5, **options: Any
    ) -> dict[str, Any]:
        """The meta of a task once it is ready. Raises TimeoutError."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            meta: dict[str, Any] = self.get_task_meta(task_id)
            if meta["status"] in self.READY_STATES:
                return meta
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"no result of {task_id} within {timeout} s")
            time.sleep(interval if until is None else max(0.0, min(interval, until - time.monotonic())))

    def wait_for_pending(
        self,
        result: Any,
        timeout: float | None = None,
        interval: float = 0.5,
        propagate: bool = True,
        **more: Any,
    ) -> Any:
        """The value of a result; with propagate its exception is raised."""
        return result.get(timeout=timeout, propagate=propagate)

    def iter_native(
        self, result: Any, timeout: float | None = None, interval: float = 0.5, **o: Any
    ) -> Iterator[Any]:
        """(id, meta) of each result of a set, as they become ready."""
        ids = [r.id for r in result.results if not isinstance(r, ResultSet)]
        yield from ((r.id, r.results) for r in result.results if isinstance(r, GroupResult))
        yield from self.get_many(ids, timeout=timeout, interval=interval)

    def get_many(
        self, task_ids: Iterable[str], timeout: float | None = None, interval: float = 0.5, **options: Any
    ) -> Iterator[tuple[str, Any]]:
        """(id, meta) of each task, as they become ready. Raises TimeoutError."""
        left, until = list(task_ids), None if timeout is None else time.monotonic() + timeout
        while left:
            metas = {task_id: self.get_task_meta(task_id) for task_id in left}
            ready = {task_id: m for task_id, m in metas.items() if m["status"] in self.READY_STATES}
            yield from ready.items()
            left = [task_id for task_id in left if task_id not in ready]
            if left and until is not None and time.monotonic() >= until:
                raise TimeoutError(f"{len(left)} results not there within {timeout} s")
            if left:
                time.sleep(interval)

    # --- groups, and the end

    def get_group_meta(self, group_id: str, cache: bool = True) -> Any:
        return self._ensure_retryable(self._restore_group, group_id)

    def restore_group(self, group_id: str, cache: bool = True) -> Any:
        meta = self.get_group_meta(group_id)
        return meta["result"] if meta else None

    def save_group(self, group_id: str, result: Any) -> Any:
        return self._ensure_retryable(self._save_group, group_id, result)

    def delete_group(self, group_id: str) -> None:
        self._ensure_retryable(self._delete_group, group_id)

    def forget(self, task_id: str) -> None:
        self._ensure_retryable(self._forget, task_id)

    def _cannot(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(
            f"the result backend {type(self).__name__} does not implement this operation"
        )

    _store_result = _get_task_meta_for = _forget = _save_group = _restore_group = _delete_group = _cannot
    add_to_chord = _cannot

    def cleanup(self) -> Any: ...

    def process_cleanup(self) -> None: ...

    def on_task_call(self, producer: Any, task_id: str) -> dict[str, Any]:
        return {}

    def on_chord_part_return(self, request: Any, state: str, result: Any, **kwargs: Any) -> Any: ...

    def apply_chord(self, header_result_args: Any, body: Any, **kwargs: Any) -> Any: ...

    def ensure_chords_allowed(self) -> None: ...

    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        return False

    def on_backend_retryable_error(self, exc: BaseException) -> None: ...

    def _ensure_retryable(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a method of a subclass; again after an error that it calls safe to retry, with
        result_backend_always_retry."""
        tries = 0
        while True:
            try:
                return function(*args, **kwargs)
            except Exception as exc:
                tries += 1
                if not (
                    self.always_retry and self.exception_safe_to_retry(exc) and tries <= self.max_retries
                ):
                    raise
                log.warning("an operation of the result backend failed and is tried again: %r", exc)
                self.on_backend_retryable_error(exc)
                longest = self.base_sleep_between_retries_ms * 2 ** min(tries - 1, 30)
                time.sleep(random.uniform(0, min(self.max_sleep_between_retries_ms, longest)) / 1000)


class SyncBackendMixin:
    """Celery splits its base in two; all of it is in Backend."""


class BaseBackend(Backend, SyncBackendMixin): ...


BaseDictBackend = BaseBackend


class DisabledBackend(BaseBackend):
    """Stores nothing."""

    def store_result(self, *args: Any, **kwargs: Any) -> Any: ...


def _as_bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
