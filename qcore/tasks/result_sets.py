"""What results have beside waiting: they can be revoked, the members of a set can change, and a group can be
stored by its id.

In:  handles of result.py.  Out: the same set, or a group that another process restores.
After this: results/X stores the group, app/backends.py calls it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Self

from qcore.tasks.current_app import current_app
from qcore.wire import result as states


class Revocable:
    """One result or several, whose tasks can be revoked."""

    __slots__ = ()

    @property
    def app(self) -> Any:
        raise NotImplementedError

    def _ids(self) -> list[str]:
        raise NotImplementedError

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Do not run it, or any of them; with terminate stop what runs. wait: until the workers replied, at
        most timeout seconds. connection is accepted for compatibility with Celery."""
        self.app.control.revoke(self._ids(), **_options(terminate, signal, wait, timeout))

    def revoke_by_stamped_headers(
        self,
        headers: dict[str, Any],
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Do not run any task that has one of these stamps; the other arguments are those of revoke()."""
        options = _options(terminate, signal, wait, timeout)
        self.app.control.revoke_by_stamped_headers(headers, **options)


def _options(terminate: bool, signal: str | None, wait: bool, timeout: float | None) -> dict[str, Any]:
    options = {"terminate": terminate, "signal": signal or "SIGTERM", "reply": wait}
    return options if timeout is None else {**options, "timeout": timeout}


class Members:
    """A set with a list of results."""

    results: list[Any]
    _on_full: Any = None

    def add(self, result: Any) -> None:
        if result not in self.results:
            self.results.append(result)
            if self._on_full is not None:
                self._on_full.add(result)

    def update(self, results: Iterable[Any]) -> None:
        """Add those that are not in the set."""
        for result in results:
            self.add(result)

    def remove(self, result: Any) -> None:
        """Remove a result, or the one with an id. Raises KeyError."""
        found = next((r for r in self.results if str(r) == str(result)), None)
        if found is None:
            raise KeyError(str(result))
        self.results.remove(found)

    def discard(self, result: Any) -> None:
        """As remove(), without an error if it is not in the set."""
        if any(str(r) == str(result) for r in self.results):
            self.remove(result)

    def clear(self) -> None:
        self.results.clear()

    @property
    def supports_native_join(self) -> bool:
        """Whether one round trip can read all; join() and join_native() are the same."""
        return True

    def _failed_join_report(self) -> Iterator[Any]:
        """The results that have failed, for backends of other packages; as in Celery those that the backend
        has cached."""
        cached = (r for r in self.results if r.backend.is_cached(r.id))
        return (r for r in cached if r.state in states.PROPAGATE_STATES)


class Saved:
    """A group that can be stored."""

    id: str
    app: Any

    def save(self, backend: Any = None) -> Any:
        """Store which results are in the group; restore() reads it. backend: another `app.backend`."""
        return (backend or self.app.backend).save_group(self.id, self)

    def delete(self, backend: Any = None) -> None:
        """Delete what save() has stored."""
        (backend or self.app.backend).delete_group(self.id)

    @classmethod
    def restore(cls, id: str, backend: Any = None, app: Any = None) -> Self | None:
        """The group that save() has stored, or None."""
        found: Self | None = (backend or (app or current_app()).backend).restore_group(id)
        return found
