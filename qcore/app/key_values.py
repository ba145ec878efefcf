"""The base of Celery's result backends that are stores of keys and values, and how these count chords.

In:  calls as Celery's backends take them.  Out: get(), set(), delete() and incr() of a subclass, with
Celery's keys. Before this: backends.py, foreign_results.py.  After this: a class of another package.
Source: the public methods and keys of celery/backends/base.py of Celery 5.7.
"""

from __future__ import annotations

import logging
from typing import Any

from qcore.app.backends import Backend, SyncBackendMixin
from qcore.errors import ChordError
from qcore.tasks.canvas import signature
from qcore.tasks.joins import allow_join_result
from qcore.tasks.result import GroupResult, result_from_tuple
from qcore.wire import result as wire

log = logging.getLogger("qcore.results")


class KeyValueStoreBackend(Backend, SyncBackendMixin):
    """Backends of keys and values: a subclass implements get(), set(), delete(), and mget() and incr() if it
    can."""

    task_keyprefix: Any = wire.KEY_PREFIX
    group_keyprefix: Any = wire.GROUP_PREFIX
    chord_keyprefix: Any = "chord-unlock-"
    implements_incr = False

    @staticmethod
    def key_t(value: Any) -> Any:
        return value.encode() if isinstance(value, str) else value

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        prefix = str(self.app.conf.result_backend_transport_options.get("global_keyprefix") or "")
        if prefix and prefix[-1] not in ":_-.":
            prefix += "_"
        for name in ("task_keyprefix", "group_keyprefix", "chord_keyprefix"):
            own = getattr(type(self), name)
            setattr(self, name, self.key_t(prefix + (own.decode() if isinstance(own, bytes) else own)))

    get = set = delete = incr = mget = Backend._cannot

    def expire(self, key: Any, value: Any) -> Any: ...

    def _set_with_state(self, key: Any, value: Any, state: str) -> Any:
        return self.set(key, value)

    def get_key_for_task(self, task_id: Any, key: Any = "") -> Any:
        return self._get_key_for(self.task_keyprefix, task_id, key)

    def get_key_for_group(self, group_id: Any, key: Any = "") -> Any:
        return self._get_key_for(self.group_keyprefix, group_id, key)

    def get_key_for_chord(self, group_id: Any, key: Any = "") -> Any:
        return self._get_key_for(self.chord_keyprefix, group_id, key)

    def _get_key_for(self, prefix: Any, id: Any, key: Any = "") -> Any:
        if not id:
            raise ValueError(f"a key needs an id, not {id!r}")
        return prefix + self.key_t(str(id)) + self.key_t(key)

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        """As in Celery, nothing replaces a success."""
        meta = self._get_result_meta(result, state, traceback, request)
        meta["task_id"] = task_id
        if self._get_task_meta_for(task_id)["status"] != wire.SUCCESS:
            self._set_with_state(self.get_key_for_task(task_id), self.encode(meta), state)
        return result

    def _get_task_meta_for(self, task_id: str) -> Any:
        meta = self.get(self.get_key_for_task(task_id))
        return self.decode_result(meta) if meta else {"status": wire.PENDING, "result": None}

    def _forget(self, task_id: str) -> Any:
        self.delete(self.get_key_for_task(task_id))

    def _save_group(self, group_id: str, result: Any) -> Any:
        self._set_with_state(
            self.get_key_for_group(group_id), self.encode({"result": result.as_tuple()}), wire.SUCCESS
        )
        return result

    def _restore_group(self, group_id: str) -> Any:
        found = self.get(self.get_key_for_group(group_id))
        if not found:
            return None
        meta = self.decode(found)
        meta["result"] = result_from_tuple(meta["result"], self.app)
        return meta

    def _delete_group(self, group_id: str) -> Any:
        self.delete(self.get_key_for_group(group_id))

    # --- chords: a saved group and a counter, where implements_incr says so

    @property
    def chord_expires(self) -> Any:
        """Seconds until the counter of a chord expires."""
        own = self.app.conf.result_chord_expires
        return self.expires if own is None else self.prepare_expires(own, int)

    def apply_chord(self, header_result_args: Any, body: Any, **kwargs: Any) -> Any:
        if self.implements_incr:
            self._apply_chord_incr(header_result_args, body, **kwargs)

    def _apply_chord_incr(self, header_result_args: Any, body: Any, **kwargs: Any) -> Any:
        group_id, results = header_result_args
        group = GroupResult(group_id, results, app=self.app)
        self.save_group(group.id, group)
        self.expire(self.get_key_for_group(group.id), self._group_expires())

    def _group_expires(self) -> Any:
        """A group is also read by users, so it stays for result_expires at least; 0: for ever."""
        both = (self.chord_expires, self.expires)
        return max(both) if all(both) else 0

    def on_chord_part_return(self, request: Any, state: str, result: Any, **kwargs: Any) -> Any:
        """Count a member that has ended, in the counter that Celery's workers count in; the last one
        publishes the body, or fails it. A member that is delivered again is counted again."""
        group_id = request.group
        if not self.implements_incr or not group_id:
            return
        members = self.restore_group(group_id)
        if members is None:
            log.warning("the chord %s has no saved group: it is complete, or has expired", group_id)
            return
        key = self.get_key_for_chord(group_id)
        count, size = self.incr(key), request.chord.get("chord_size")
        if size is None:
            size = len(members)
        if count > size:
            log.warning("%d members of the chord %s were counted, and it has %d", count, group_id, size)
        elif count == size:
            self._complete(request.chord, members, key)
        else:
            self.expire(key, self.chord_expires)
            for kept in (self.get_key_for_group(group_id), self.get_key_for_task(request.id)):
                self.expire(kept, self._group_expires())

    def _complete(self, body: Any, members: Any, key: Any) -> None:
        """Publish the body of a chord, or fail it where a member has failed, and delete the counter."""
        try:
            with allow_join_result():
                values = members.join(timeout=self.app.conf.result_chord_join_timeout)
            signature(body, app=self.app).apply_async((values,))
        except Exception as exc:
            failed = next((one.id for one in members.results if one.failed()), None)
            text = f"Dependency {failed} raised {exc!r}" if failed else repr(exc)
            log.error("the chord %s failed: %s", members.id, text)
            self.chord_error_from_stack(body, chord_error(text, exc))
        finally:
            self.delete_group(members.id)
            getattr(self, "_delete_chord_key", self.delete)(key)
            for one in members.results:
                self.expire(self.get_key_for_task(one.id), self.expires)


BaseKeyValueStoreBackend = KeyValueStoreBackend


def chord_error(message: str, original_exc: BaseException | None = None) -> ChordError:
    """The error of a chord's body, with what a member raised as its cause."""
    found = ChordError(message)
    found.__cause__ = original_exc
    return found


_create_chord_error_with_cause = chord_error
