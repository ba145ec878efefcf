"""The result store contract: where results are stored until they are read.

In:  StoredResult records.  Out: ResultMeta records.
When the broker stores results itself (features.results) and no other store is configured, the store
is the broker: results/broker.py, and the worker stores in the same step as the acknowledgement.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from qcore.brokers.contract.records import FullChord, Message, StoredResult
from qcore.brokers.contract.result_watch import PolledWatch, ResultWatch
from qcore.errors import Unsupported
from qcore.wire.outcome import ChordPart
from qcore.wire.result import ResultMeta
from qcore.wire.result_form import JSON, ResultForm

CANNOT_COUNT = "count the members of a chord; use redis://, sqlite:// or memory:// results"
CANNOT_SAVE = "save groups; choose a result backend that stores results"


class ResultStore(ABC):
    """One URL. Safe to use from several threads."""

    #: whether results are stored; False for the store that means "none configured"
    keeps: bool = True
    #: whether it is the broker that tasks come from, so that result and acknowledgement are one step
    in_broker: bool = False
    #: whether a result that any process stored can be read by any other
    shared: bool = True
    #: whether results stay until cleanup() deletes them (the task celery.backend_cleanup)
    expires_by_cleanup: bool = False
    #: tells coroutines of results: tasks/asynchronous.py, which sets it
    watcher: Any = None
    #: a ResultCache, with the setting result_cache_max
    cache: Any = None

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        self.url, self.options = url, dict(options or {})
        #: how results are written and read: the option `result_form`
        self.form: ResultForm = self.options.get("result_form") or JSON

    @abstractmethod
    def store(self, results: Sequence[StoredResult]) -> None:
        """Store results; durable when this returns. Raises BrokerDown."""

    @abstractmethod
    def get(self, task_ids: Sequence[str]) -> list[ResultMeta | None]:
        """The stored result of each id, None where there is none."""

    def stored(self, task_ids: Sequence[str]) -> list[ResultMeta | None]:
        """As get(), but never what was read before."""
        found: list[ResultMeta | None] = (self.get if self.cache is None else self.cache.stored)(task_ids)
        return found

    @abstractmethod
    def wait(self, task_id: str, timeout_s: float | None) -> ResultMeta | None:
        """The meta once the task is in a ready state; None after timeout_s seconds (None: for ever)."""

    def ids(self, after: str = "", limit: int = 1000) -> tuple[list[str], str]:
        """Some ids of stored results and the cursor of the next page: Broker.result_ids(). Raises Unsupported
        in stores that cannot list them."""
        raise Unsupported(f"'{self.url.partition(':')[0]}' result", "list results")

    def watch(self) -> ResultWatch:
        """Watch many results at once: see brokers/contract/result_watch.py."""
        return PolledWatch(self.get)

    @abstractmethod
    def forget(self, task_ids: Sequence[str]) -> int: ...

    def chord_sizes(self, sizes: Sequence[tuple[str, int]], ttl_s: float | None) -> None:
        """This and the following methods as in brokers/base.py; for stores that count chord members."""
        raise Unsupported(f"'{self.url.partition(':')[0]}' result", CANNOT_COUNT)

    def chord_headers(self, headers: Sequence[tuple[str, list[Any]]]) -> None:
        """(group, members as GroupResult.as_tuple() has them) of chords, for stores with needs_headers."""

    def chord_parts(self, parts: Sequence[ChordPart], ttl_s: float | None) -> list[FullChord | None]:
        raise Unsupported(f"'{self.url.partition(':')[0]}' result", CANNOT_COUNT)

    def chord_grows(self, group: str) -> None:
        raise NotImplementedError(f"{self.url.partition(':')[0]} results cannot add a member to a chord")

    def chord_done(self, full: FullChord, messages: Sequence[Message] = ()) -> bool:
        raise Unsupported(f"'{self.url.partition(':')[0]}' result", CANNOT_COUNT)

    def chord_failed(self, group: str) -> None:
        raise Unsupported(f"'{self.url.partition(':')[0]}' result", CANNOT_COUNT)

    def save_group(self, group_id: str, results: Any, ttl_s: float | None) -> None:
        """Store the results of a group, as GroupResult.as_tuple() has them, until delete_group()."""
        raise Unsupported(f"'{self.url.partition(':')[0]}' result", CANNOT_SAVE)

    def restore_group(self, group_id: str) -> Any:
        """What was saved; None if nothing was."""
        raise Unsupported(f"'{self.url.partition(':')[0]}' result", CANNOT_SAVE)

    def delete_group(self, group_id: str) -> None:
        raise Unsupported(f"'{self.url.partition(':')[0]}' result", CANNOT_SAVE)

    def cleanup(self, older_than_s: float) -> int:
        """Delete what is older, in a store where nothing expires by itself. Returns how much that was."""
        return 0

    def reply_to(self) -> str | None:
        """The `reply_to` that messages must carry so that results are sent here (rpc)."""
        return None

    def reply(self, result: StoredResult, reply_to: str, correlation_id: str) -> Message | None:
        """The result as a message to its caller, for stores that send results instead (rpc)."""
        return None

    def close(self) -> None: ...
