"""`app.backend` of an app whose results are in one of qcore's stores.

In:  calls as Celery's backends take them.  Out: the same of the app's result store, in Celery's form.
Before this: connections.py.  After this: results/X.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from qcore.app.backends import Backend
from qcore.brokers.contract.records import StoredResult
from qcore.errors import TimeoutError, Unsupported
from qcore.results.base import ResultStore
from qcore.results.rpc import RpcStore
from qcore.tasks.result import result_from_tuple
from qcore.wire import result as wire


class StoreBackend(Backend):
    """`app.backend` of an app whose results are in one of qcore's stores."""

    def __init__(self, app: Any, url: str | None = None, **kwargs: Any) -> None:
        self.store: ResultStore = app.results
        self.supports_autoexpire = self.store.keeps and not self.store.expires_by_cleanup
        self.supports_failure_expires = self.supports_autoexpire and not isinstance(self.store, RpcStore)
        super().__init__(app, url=url or app.conf.result_backend or self.store.url, **kwargs)

    def _ttl_s(self) -> float | None:
        found: float | None = self.app.conf.seconds("result_expires")
        return found

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        meta = self._get_result_meta(result, state, traceback, request)
        meta["task_id"] = task_id
        (known,) = self.store.get([task_id])
        if known is None or known.status != wire.SUCCESS:
            self.store.store(
                [StoredResult(task_id, self.store.form.dumps(meta), self.app.conf.result_ttl_s(state))]
            )
        return result

    def _get_task_meta_for(self, task_id: str, cache: bool = False) -> Any:
        (found,) = (self.store.get if cache else self.store.stored)([task_id])
        if found is None:
            return {"status": wire.PENDING, "result": None}
        return self.meta_from_decoded(
            {k: v for k, v in msgspec.structs.asdict(found).items() if v is not None or k in _ALWAYS}
        )

    def get_task_meta(self, task_id: str, cache: bool = True) -> Any:
        return self._ensure_retryable(self._get_task_meta_for, task_id, cache)

    def reload_task_result(self, task_id: str) -> None:
        if self.store.cache is not None:
            self.store.cache.read_again(task_id)

    def is_cached(self, task_id: str) -> bool:
        return self.store.cache is not None and task_id in self.store.cache

    def prepare_exception(self, exc: BaseException, serializer: str | None = None) -> Any:
        return self.store.form.exception(exc, wire.exception_data(exc))

    def encode(self, data: Any) -> Any:
        return self.store.form.dumps(data)

    def decode(self, payload: Any) -> Any:
        if payload is None:
            return None
        return self.store.form.loads(payload.encode() if isinstance(payload, str) else bytes(payload))

    def task_result_exists(self, task_id: str) -> bool:
        return self.store.stored([task_id])[0] is not None

    def wait_for(
        self, task_id: str, timeout: float | None = None, interval: float = 0.5, **options: Any
    ) -> Any:
        if self.store.wait(task_id, timeout) is None:
            raise TimeoutError(f"no result of {task_id} within {timeout} s")
        return self.get_task_meta(task_id)

    def mget(self, keys: Iterable[Any]) -> list[bytes | None]:
        """The stored metas of these keys or ids, as they are stored; None where there is none."""
        ids = [str(k.decode() if isinstance(k, bytes) else k).rpartition(wire.KEY_PREFIX)[2] for k in keys]
        return [
            None if m is None else self.store.form.dumps(msgspec.structs.asdict(m))
            for m in self.store.get(ids)
        ]

    def get(self, key: Any) -> bytes | None:
        return self.mget([key])[0]

    def get_key_for_task(self, task_id: Any, key: Any = "") -> bytes:
        prefix = str(self.app.conf.result_backend_transport_options.get("global_keyprefix") or "")
        prefix += "_" if prefix and prefix[-1] not in ":_-." else ""
        return f"{prefix}{wire.KEY_PREFIX}{task_id}{key}".encode()

    @property
    def client(self) -> Any:
        """A client of the package redis, where the results are in Redis."""
        if not self.store.url.startswith(("redis", "unix")):
            raise Unsupported(
                f"'{self.store.url.partition(':')[0]}' result", "be used with a client of Redis"
            )
        if "_client" not in vars(self):
            import redis

            kind: Any = redis.Redis
            url = self.store.url
            if "+cluster://" in url:
                url, kind = url.partition(";")[0].replace("+cluster://", "://"), redis.RedisCluster
            self._client = kind.from_url(url)
        return self._client

    def add_to_chord(self, chord_id: str, result: Any) -> None:
        self.store.chord_grows(chord_id)

    def _forget(self, task_id: str) -> Any:
        self.store.forget([task_id])

    def _save_group(self, group_id: str, result: Any) -> Any:
        self.store.save_group(group_id, result.as_tuple(), self._ttl_s())
        return result

    def _restore_group(self, group_id: str) -> Any:
        found = self.store.restore_group(group_id)
        return None if found is None else {"result": result_from_tuple(found, self.app)}

    def _delete_group(self, group_id: str) -> Any:
        self.store.delete_group(group_id)

    def cleanup(self) -> int:
        ttl_s = self._ttl_s()
        return self.store.cleanup(ttl_s) if ttl_s else 0


#: keys that Celery's metas have also without a value
_ALWAYS = ("task_id", "status", "result", "traceback", "children", "date_done")
