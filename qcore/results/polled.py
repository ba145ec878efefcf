"""What the stores share that only answer questions: waiting by polling, keys as in Celery, chords by keys.

In:  a store with get(), or with four operations on keys.  Out: the rest of the contract of base.py.
Before this: files.py, cache.py, database.py.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from qcore.brokers.contract.records import FullChord, Message, StoredResult
from qcore.errors import Malformed, Unsupported
from qcore.results.base import ResultStore
from qcore.wire.outcome import ChordPart
from qcore.wire.result import GROUP_PREFIX, KEY_PREFIX, SUCCESS, ResultMeta, decode
from qcore.wire.result_form import ResultForm, is_refused

#: seconds between two questions of a caller that waits: the first, and the longest, which is Celery's
FIRST_POLL_S, POLL_S = 0.02, 0.5
CHORD_PREFIX = "qcore-chord-"


class PolledResults(ResultStore):
    """A store that cannot tell a caller that a result has come. Option: `polling_interval`, in seconds."""

    def wait(self, task_id: str, timeout_s: float | None) -> ResultMeta | None:
        longest = float(self.options.get("polling_interval") or POLL_S)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        pause = min(FIRST_POLL_S, longest)
        while True:
            (found,) = self.get([task_id])
            if found is not None and found.is_ready:
                return found
            left = pause if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, longest)


class KeyedChords(PolledResults):
    """A store that counts the members of chords in keys of its own: the size, and an entry for each member.

    A member that finds all entries claims the body. The claim carries the id of the member, so that the
    member gets it again when it is delivered again, and no other member does.
    """

    @abstractmethod
    def read_keys(self, keys: Sequence[str]) -> list[bytes | None]:
        """The value of each key, None where there is none. Raises BrokerDown, as all four do."""

    @abstractmethod
    def write_key(self, key: str, value: bytes, ttl_s: float | None) -> None: ...

    @abstractmethod
    def add_key(self, key: str, value: bytes, ttl_s: float | None) -> bool:
        """Write a key that does not exist; False if it exists. Of several processes one succeeds."""

    @abstractmethod
    def delete_keys(self, keys: Sequence[str]) -> int:
        """How many existed."""

    def chord_sizes(self, sizes: Sequence[tuple[str, int]], ttl_s: float | None) -> None:
        for group, size in sizes:
            self.write_key(_chord(group, "size"), b"%d" % size, ttl_s)

    def chord_parts(self, parts: Sequence[ChordPart], ttl_s: float | None) -> list[FullChord | None]:
        return [self._count(part, ttl_s) for part in parts]

    def _count(self, part: ChordPart, ttl_s: float | None) -> FullChord | None:
        (size,) = self.read_keys([_chord(part.group, "size")])
        if size is None or size == b"done":
            return None  # the client counts in another way, or the body was sent
        if part.index is None:
            raise Unsupported(
                f"'{self.url.partition(':')[0]}' result", "count a member without a group index"
            )
        self.write_key(_chord(part.group, str(part.index)), part.entry, ttl_s)
        entries = self.read_keys([_chord(part.group, str(i)) for i in range(int(size))])
        complete = [entry for entry in entries if entry is not None]
        if len(complete) < len(entries):
            return None
        claim, token = _chord(part.group, "body"), part.task_id
        if not self.add_key(claim, token.encode(), ttl_s) and self.read_keys([claim]) != [token.encode()]:
            return None
        return FullChord(part.group, token, complete)

    def chord_done(self, full: FullChord, messages: Sequence[Message] = ()) -> bool:
        self._end(full.group, len(full.entries))
        return True

    def chord_failed(self, group: str) -> None:
        (size,) = self.read_keys([_chord(group, "size")])
        self._end(group, int(size) if size and size.isdigit() else 0)

    def _end(self, group: str, size: int) -> None:
        """A mark stays until it expires, so that a member that is delivered again starts nothing."""
        self.write_key(_chord(group, "size"), b"done", self.options.get("result_expires_s"))
        self.delete_keys([_chord(group, str(i)) for i in range(size)] + [_chord(group, "body")])


def _chord(group: str, what: str) -> str:
    return f"{CHORD_PREFIX}{group}.{what}"


class KeyedResults(KeyedChords):
    """A store of keys and values, Celery's. Option: `result_prefix`, before each key."""

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        super().__init__(url, options)
        prefix = str(self.options.get("result_prefix") or "")
        if prefix and not prefix.endswith((":", "_", "-", ".")):
            prefix += "_"  # Celery's rule for global_keyprefix
        self._task_prefix, self._group_prefix = prefix + KEY_PREFIX, prefix + GROUP_PREFIX

    def store(self, results: Sequence[StoredResult]) -> None:
        """As in Celery, nothing replaces a success."""
        found = self.get([r.task_id for r in results])
        for result, known in zip(results, found, strict=True):
            if known is None or known.status != SUCCESS:
                self.write_key(self._task_prefix + result.task_id, result.meta, result.ttl_s)

    def get(self, task_ids: Sequence[str]) -> list[ResultMeta | None]:
        found = self.read_keys([self._task_prefix + task_id for task_id in task_ids])
        return [read_meta(raw, task_id, self.form) for raw, task_id in zip(found, task_ids, strict=True)]

    def forget(self, task_ids: Sequence[str]) -> int:
        return self.delete_keys([self._task_prefix + task_id for task_id in task_ids])

    def save_group(self, group_id: str, results: Any, ttl_s: float | None) -> None:
        self.write_key(self._group_prefix + group_id, self.form.dumps({"result": results}), ttl_s)

    def restore_group(self, group_id: str) -> Any:
        (found,) = self.read_keys([self._group_prefix + group_id])
        return self.form.loads(found)["result"] if found else None

    def delete_group(self, group_id: str) -> None:
        self.delete_keys([self._group_prefix + group_id])


def read_meta(raw: bytes | None, task_id: str, form: ResultForm) -> ResultMeta | None:
    """The meta; None where nothing is stored, or what is stored is no result. Raises Malformed for one that
    is not accepted here."""
    if not raw:
        return None  # Celery's file backend creates a file and then writes it
    try:
        return decode(raw, task_id, form)
    except Malformed as exc:
        if is_refused(exc):
            raise
        return None
